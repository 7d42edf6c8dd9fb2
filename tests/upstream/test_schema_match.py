"""Telling release and preset of an output by its contents and by its file's name."""

import numpy as np
import pytest

from openfoldpp.errors import SchemaError
from openfoldpp.upstream import schema
from openfoldpp.upstream.schema_match import closest, preset_in_name, symbolic


def make(version, preset, n_res=5, n_seq=2):
    """An output that fits the schema."""
    sizes = {"N_res": n_res, "N_seq": n_seq}
    leaves = schema.load(version, preset).leaves
    return {p: np.zeros([sizes.get(d, d) for d in leaf.dims], leaf.dtype) for p, leaf in leaves.items()}


def nested(leaves):
    return schema.unflatten(leaves)


@pytest.mark.parametrize(("version", "preset"), schema.available())
def test_an_output_fits_its_own_schema(version, preset):
    match = closest(nested(make(version, preset)))
    assert match.problems == ()
    assert (version, preset) in [(match.schema.version, match.schema.preset), *match.same]


@pytest.mark.parametrize(
    ("version", "preset", "taken"),
    [
        ("0.0.1", "model_4", ("0.0.1", "model_1")),
        ("2.0.0", "finetuning_ptm", ("2.2.0", "model_1_ptm")),
        ("2.1.0", "model_5_multimer_v2", ("2.2.0", "model_1_multimer")),
    ],
)
def test_of_equals_the_newest_release_and_model_1_are_taken(version, preset, taken):
    match = closest(nested(make(version, preset)))
    assert (match.schema.version, match.schema.preset) == taken


def test_what_is_asked_about_narrows_the_choice():
    output = nested(make("2.2.0", "model_2_ptm"))
    match = closest(output, preset="model_2_ptm")
    assert match.schema.preset == "model_2_ptm"
    assert match.same == (("2.1.0", "model_2_ptm"), ("2.0.0", "model_2_ptm"))
    match = closest(output, version="0.0.1")
    assert (match.schema.version, match.schema.preset) == ("0.0.1", "model_1_ptm")
    assert [problem.split(":")[0] for problem in match.problems] == [
        "predicted_tm_score",
        "num_recycles",
        "ptm_score",
    ]


def test_an_output_that_fits_none_has_the_nearest():
    leaves = make("2.2.0", "model_1_multimer_v3")
    del leaves["sm/angles"]
    match = closest(nested(leaves))
    assert match.schema.preset == "model_1_multimer"
    assert match.problems == ("sm/angles: missing, expected float32 [8, N_res, 7, 2]",)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"preset": "model_9"}, "'model_9' of OpenFold 2.2.0"),
        ({"version": "0.0.1", "preset": "model_1_multimer"}, "'model_1_multimer' of OpenFold 0.0.1"),
        ({"version": "3.0"}, "no output schema of OpenFold 3.0"),
        ({"version": "3.0", "preset": "model_1"}, "no output schema of OpenFold 3.0"),
    ],
)
def test_what_there_is_none_of_is_an_error(asked, message):
    with pytest.raises(SchemaError, match=message):
        closest({}, **asked)


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("1ABC_A_model_1_ptm_output_dict.pkl", "model_1_ptm"),
        ("1ABC_A_model_1_output_dict.pkl", "model_1"),
        ("one-two_model_3_multimer_v3_run2_output_dict.pkl", "model_3_multimer_v3"),
        ("x_seq_model_esm1b_ptm_output_dict.pkl", "seq_model_esm1b_ptm"),
        ("x_finetuning_no_templ_output_dict.pkl", "finetuning_no_templ"),
        ("x_model_11_output_dict.pkl", None),
        ("a_model_2_model_1_ptm_output_dict.pkl", None),
        ("output_dict.pkl", None),
    ],
)
def test_preset_in_the_name_of_a_file(name, preset):
    assert preset_in_name(name) == preset


def test_sizes_become_symbols_where_they_are_one_size():
    leaves = make("2.2.0", "model_1_ptm", n_res=37, n_seq=128)
    leaves["plddt"] = np.zeros(36, np.float32)
    leaves["single"] = np.zeros(37, np.float32)
    leaves["new"] = np.zeros((37, 2), np.float32)
    found, sizes = symbolic(nested(leaves), schema.load("2.2.0", "model_1_ptm"))
    assert sizes == {"N_seq": 128, "N_res": 37}
    assert found["final_atom_mask"].dims == ("N_res", 37)
    assert found["pair"].dims == ("N_res", "N_res", 128)
    assert found["plddt"].dims == (36,)
    assert found["single"].dims == (37,)
    assert found["new"].dims == (37, 2)
