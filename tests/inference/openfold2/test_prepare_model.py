"""Plugins that change OpenFold 2's model after the script has loaded its weights: the kernels, and others."""

import sys

import numpy as np
import pytest

from openfoldpp.files import read_pickle
from openfoldpp.upstream import schema

pytestmark = pytest.mark.upstream

SKIP = "--skip_relaxation"
PLUGIN = """
import random

import numpy
import torch

from openfoldpp.plugins.hookspecs import hookimpl

SEEN = []

@hookimpl
def openfoldpp_prepare_model(model, options):
    random.random(), numpy.random.rand(3), torch.rand(3)
    SEEN.append(float(model.evoformer.linear.bias.detach().abs().sum()))
"""
BAD = """
from openfoldpp.plugins.hookspecs import hookimpl

@hookimpl
def openfoldpp_prepare_model(model):
    raise KeyError("no such layer")
"""


@pytest.fixture
def plugin(plugin_folder, monkeypatch):
    """Install a plugin for one test, by its name and source; returns its module once it is imported."""

    def install(name, source):
        monkeypatch.syspath_prepend(plugin_folder(name, source))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return lambda: sys.modules[name]

    return install


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


def assert_close(ours, vanillas, *, different="pair"):
    (file,) = (vanillas / "predictions").glob("*.pkl")
    actual = dict(schema.flatten(read_pickle(ours / file.relative_to(vanillas))))
    expected = dict(schema.flatten(read_pickle(file)))
    assert list(actual) == list(expected)
    assert not np.array_equal(actual[different], expected[different])
    for path in ("msa", "pair", "single", "plddt", "final_atom_positions"):
        scale = np.abs(expected[path]).max()
        np.testing.assert_allclose(actual[path] / scale, expected[path] / scale, atol=1e-4, err_msg=path)


@pytest.mark.parametrize("name", ["monomer", "templated", "soloseq", "dimer"])
def test_with_the_kernels_the_prediction_is_vanillas_but_for_rounding(
    name, runs, vanilla, with_kernels, arguments
):
    target, preset, more = runs[name]
    assert_close(with_kernels(*arguments(target, preset, *more)), vanilla[name])


def test_offloading_goes_with_the_kernels(vanilla, with_kernels, arguments):
    preset = "seq_model_esm1b_ptm"
    out = with_kernels(*arguments("monomer", preset, SKIP, "--long_sequence_inference"))
    assert_close(out, vanilla["soloseq"])


@pytest.mark.slow
def test_tracing_goes_with_the_kernels(vanilla, with_kernels, arguments):
    """Two lengths: what is traced for the first is accelerated again, and traced for the second."""
    out = with_kernels(*arguments("pair", "model_1_ptm", SKIP, "--trace_model"))
    assert_close(out, vanilla["monomer"])


def test_once_for_each_model_and_no_random_number_is_missed(
    plugin, vanilla, run, arguments, assert_same_files
):
    module = plugin("prepares2", PLUGIN)
    code, out = run(*arguments("pair", "model_1_ptm", SKIP), plugins="shrink2,prepares2")
    assert code == 0
    (weights,) = module().SEEN
    assert weights > 0
    assert_same_files(out, vanilla["monomer"])
    code, out = run(*arguments("monomer", "model_1_ptm", SKIP), plugins="shrink2,prepares2", folder="first")
    assert code == 0
    assert_same_files(out, vanilla["monomer"])


def test_a_plugin_that_raises_is_named(plugin, run, arguments, capsys):
    plugin("spoils2", BAD)
    code, _ = run(*arguments("pair", "model_1_ptm", SKIP), plugins="shrink2,spoils2")
    assert code == 1
    said = capsys.readouterr()
    words = "plugin 'spoils2', hook openfoldpp_prepare_model: KeyError: 'no such layer'"
    assert (said.out + said.err).count(words) == 2  # each target fails for it
