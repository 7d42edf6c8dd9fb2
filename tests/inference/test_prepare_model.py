"""Plugins that change the model after its weights are loaded: OpenFold 0.0.1, with the kernels and others."""

import pytest

from openfoldpp.files import read_pickle

PICKLE = "model_1_ptm_output_dict.pkl"
RUN = ("--recycling_iters", 2, "--data_random_seed", 3, "--skip_relaxation", "--save_outputs")


@pytest.fixture
def run(run_program, vanilla, tmp_path):
    """Run the command on two targets, with the small model's plugin and others."""

    def command(plugins, *arguments, weights=None):
        (tmp_path / "fasta").mkdir()
        for name in ("one", "two"):
            (tmp_path / "fasta" / f"{name}.fasta").write_text(vanilla[name].fasta.read_text())
        return run_program(
            tmp_path / "fasta", "--openfold_checkpoint_path", weights or vanilla["one"].checkpoint,
            "--plugins", f"openfoldpp.recycling,shrink,{plugins}", *RUN, *arguments, "--output_dir", tmp_path,
        )  # fmt: skip

    return command


def test_once_for_each_model_and_no_random_number_is_missed(
    prepares, run, vanilla, tmp_path, capsys, assert_same_bits
):
    again = tmp_path / "again.pt"
    again.symlink_to(vanilla["one"].checkpoint)
    assert run("prepares", weights=f"{vanilla['one'].checkpoint},{again}") == 0
    seen = prepares()
    assert len(seen) == 2
    assert all(not training and device == "cpu" for training, _, device in seen)
    assert seen[0][1] == seen[1][1] > 0  # the weights are in
    assert capsys.readouterr().err.count("prepared by a test") == 1
    for weights in (vanilla["one"].checkpoint.stem, "again"):
        for name, tag in (("one", "1ABC_A"), ("two", "heavy-light")):
            ours = read_pickle(tmp_path / "predictions" / weights / f"{tag}_{PICKLE}")
            assert_same_bits(ours, read_pickle(vanilla[name].output_dict))


@pytest.mark.usefixtures("spoils")
def test_a_plugin_that_raises_is_named(run, capsys):
    assert run("spoils") == 1
    said = capsys.readouterr().err
    assert "plugin 'spoils', hook openfoldpp_prepare_model: KeyError: 'no such layer'" in said


def test_the_torch_backend_is_bit_for_bit_vanilla_with_the_kernels_plugin(
    run, vanilla, tmp_path, capsys, assert_same_bits
):
    assert run("openfoldpp.kernels") == 0
    ours = read_pickle(tmp_path / "predictions" / f"1ABC_A_{PICKLE}")
    assert_same_bits(ours, read_pickle(vanilla["one"].output_dict))
    assert "native kernels: not used, as OPENFOLDPP_BACKEND=torch" in capsys.readouterr().err


def test_with_the_kernels_the_prediction_is_vanillas_but_for_rounding(
    vanilla, run_command, shrink, tmp_path, inputs, assert_close_but_not_same
):
    """From the command line, with templates; tests/upstream/acceleration compare with float64."""
    files = vanilla["templated"]
    done = run_command(
        "run_pretrained_openfold.py", files.fasta.parent, inputs.templates, "--openfold_checkpoint_path",
        files.checkpoint, "--use_precomputed_alignments", inputs.alignments,
        "--plugins", "openfoldpp.recycling,openfoldpp.kernels,shrink", *RUN,
        cwd=tmp_path, path=shrink, OPENFOLDPP_NUM_THREADS="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("native kernels: ") == 1
    assert ", 1 thread" in done.stderr
    assert_close_but_not_same(tmp_path / "predictions" / f"templated_{PICKLE}", files.output_dict)
