"""Plugins that change OpenFold 2's model after the script has loaded its weights: the kernels, and others."""

import pytest

pytestmark = pytest.mark.upstream

SKIP = "--skip_relaxation"


@pytest.fixture
def with_kernels(run, monkeypatch):
    """Run the command with the native kernels; returns the output folder."""
    from openfoldpp.ops import dispatch

    monkeypatch.delenv("OPENFOLDPP_BACKEND")
    dispatch.settings.cache_clear()

    def command(*arguments):
        code, out = run(*arguments, plugins="openfoldpp.kernels,shrink2")
        assert code == 0
        return out

    return command


@pytest.fixture
def assert_close(assert_close_but_not_same):
    """Compare the one pickle of a run with vanilla's."""

    def check(ours, vanillas):
        (file,) = (vanillas / "predictions").glob("*.pkl")
        assert_close_but_not_same(ours / file.relative_to(vanillas), file)

    return check


@pytest.mark.parametrize("name", ["monomer", "templated", "soloseq", "dimer"])
def test_with_the_kernels_the_prediction_is_vanillas_but_for_rounding(
    name, runs, vanilla, with_kernels, arguments, assert_close
):
    target, preset, more = runs[name]
    assert_close(with_kernels(*arguments(target, preset, *more)), vanilla[name])


def test_offloading_goes_with_the_kernels(vanilla, with_kernels, arguments, assert_close):
    preset = "seq_model_esm1b_ptm"
    out = with_kernels(*arguments("monomer", preset, SKIP, "--long_sequence_inference"))
    assert_close(out, vanilla["soloseq"])


@pytest.mark.slow
def test_tracing_goes_with_the_kernels(vanilla, with_kernels, arguments, assert_close):
    """Two lengths: what is traced for the first is accelerated again, and traced for the second."""
    out = with_kernels(*arguments("pair", "model_1_ptm", SKIP, "--trace_model"))
    assert_close(out, vanilla["monomer"])


def test_once_for_each_model_and_no_random_number_is_missed(
    prepares, vanilla, run, arguments, assert_same_files
):
    code, out = run(*arguments("pair", "model_1_ptm", SKIP), plugins="shrink2,prepares")
    assert code == 0
    ((training, weights, device),) = prepares()
    assert weights > 0
    assert not training
    assert device == "cpu"
    assert_same_files(out, vanilla["monomer"])
    code, out = run(*arguments("monomer", "model_1_ptm", SKIP), plugins="shrink2,prepares", folder="first")
    assert code == 0
    assert_same_files(out, vanilla["monomer"])


@pytest.mark.usefixtures("spoils")
def test_a_plugin_that_raises_is_named(run, arguments, capsys):
    code, _ = run(*arguments("pair", "model_1_ptm", SKIP), plugins="shrink2,spoils")
    assert code == 1
    said = capsys.readouterr()
    words = "plugin 'spoils', hook openfoldpp_prepare_model: KeyError: 'no such layer'"
    assert (said.out + said.err).count(words) == 2  # each target fails for it
