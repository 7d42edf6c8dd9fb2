"""Which predictions a folder holds."""

import pytest

from openfoldpp.errors import InputError
from openfoldpp.inference import results


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "is not there"),
        ("empty", "--save_outputs"),
        ("any_output_dict.pkl", "TAG_PRESET_output_dict.pkl"),
        ("x_model_1_protein.pkl", "TAG_PRESET_output_dict.pkl"),
    ],
)
def test_paths_without_a_prediction_are_refused(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "any_output_dict.pkl").touch()
    (tmp_path / "x_model_1_protein.pkl").touch()
    with pytest.raises(InputError, match=message):
        results.find([tmp_path / name])


@pytest.mark.parametrize(
    ("name", "target", "preset"),
    [
        ("1ABC_A_model_1_ptm", "1ABC_A", "model_1_ptm"),
        ("1ABC_A_model_1_ptm_run_2", "1ABC_A", "model_1_ptm"),
        ("my_model_1_model_3", "my_model_1", "model_3"),
        ("x_model_4_multimer_v2", "x", "model_4_multimer_v2"),
        ("x_seq_model_esm1b_ptm", "x", "seq_model_esm1b_ptm"),
        ("x_finetuning_no_templ_ptm_a", "x", "finetuning_no_templ_ptm"),
    ],
)
def test_target_and_preset_are_read_from_the_name(tmp_path, name, target, preset):
    file = tmp_path / f"{name}_output_dict.pkl"
    file.touch()
    (result,) = results.find([file])
    assert (result.target, result.preset) == (target, preset)


def test_models_folders_are_searched_and_hidden_ones_are_not(tmp_path):
    """A hidden folder is that of a run that has not ended."""
    wanted = [
        tmp_path / "predictions" / name
        for name in ("x_model_1_output_dict.pkl", "m/x_model_2_output_dict.pkl")
    ]
    for file in (
        *wanted,
        tmp_path / "predictions" / ".run" / "x_model_3_output_dict.pkl",
        tmp_path / "x_model_4_output_dict.pkl",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert [result.output_dict for result in results.find([tmp_path])] == wanted
    assert [result.output_dict for result in results.find([tmp_path / "predictions" / "m"])] == wanted[1:]


def test_a_file_of_another_name_fails_alone_where_its_folder_is_given(tmp_path):
    for name in ("x_model_1_output_dict.pkl", "x_output_dict.pkl", "y_model_1_output_dict.pkl"):
        (tmp_path / name).touch()
    (tmp_path / "y_model_1_provenance.json").write_text("no JSON")
    found = {result.output_dict.name: result for result in results.find([tmp_path])}
    good = found.pop("x_model_1_output_dict.pkl")
    assert (good.target, good.problem) == ("x", None)
    for name, words in (
        ("x_output_dict.pkl", "OpenFold's name back"),
        ("y_model_1_output_dict.pkl", "JSON|read"),
    ):
        assert found[name].target == name
        with pytest.raises(InputError, match=words):
            found[name].read()
