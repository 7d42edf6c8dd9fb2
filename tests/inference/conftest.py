"""Fixtures: a structure to write; a small model, what vanilla makes with it, and the command that runs it."""

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from openfoldpp.geometry.residues import ATOM37_EXISTS
from openfoldpp.inference.structure import Structure


@pytest.fixture
def structure():
    """Two equal chains H and L of all 21 residue types, and a short one, A, with atoms missing."""
    random = np.random.default_rng(0)
    aatype = np.concatenate([np.arange(21), np.arange(21), np.arange(5)])
    mask = ATOM37_EXISTS[aatype].copy()
    mask[44, 1] = mask[45, 4] = False
    plddt = random.uniform(0, 100, 47)
    return Structure(
        aatype=aatype,
        atom_positions=random.normal(0, 20, (47, 37, 3)),
        atom_mask=mask,
        residue_number=np.concatenate([np.arange(1, 22), np.arange(1, 22), np.arange(1, 6)]),
        b_factors=plddt,
        chain_index=np.repeat([0, 1, 2], [21, 21, 5]),
        chain_ids=("H", "L", "A"),
        plddt=plddt,
    )


HEAVY = "EVQLVESGGGLVQPGGSLRLSCAAS"
LIGHT = "DIQMTQSPSSLSASVGDR"
SEED = 3
# What follows the template's sequence in the target that has one.
TAIL = "LKKELAL"

# Every kind of block, once; the number of sequences cut so that a run takes a second.
SMALL = {
    "model.evoformer_stack.no_blocks": 2,
    "model.extra_msa.extra_msa_stack.no_blocks": 1,
    "model.template.template_pair_stack.no_blocks": 1,
    "data.predict.max_extra_msa": 16,
    "data.predict.max_msa_clusters": 20,
}

SHRINK = f"""
from openfoldpp.plugins.hookspecs import hookimpl

@hookimpl
def openfoldpp_configure(config, options):
    config.update_from_flattened_dict({SMALL!r})
"""

PREPARES = """
import random

import numpy
import torch

from openfoldpp.plugins.hookspecs import hookimpl

SEEN = []

@hookimpl
def openfoldpp_prepare_model(model, options):
    random.random(), numpy.random.rand(3), torch.rand(3)
    bias = float(model.evoformer.linear.bias.detach().abs().sum())
    SEEN.append((model.training, bias, options.model_device))
    return "prepared by a test"
"""
RAISES = """
from openfoldpp.plugins.hookspecs import hookimpl

@hookimpl
def openfoldpp_prepare_model(model):
    raise KeyError("no such layer")
"""


@pytest.fixture(scope="session")
def inputs(tmp_path_factory, write_template, hhr, template_sequence):
    """Alignments and templates: ``query`` has homologs, ``templated`` a hit in the folder of mmCIF files."""
    folder = tmp_path_factory.mktemp("inputs")
    found = SimpleNamespace(alignments=folder / "alignments", templates=folder / "templates")
    (found.alignments / "query").mkdir(parents=True)
    homologs = [HEAVY.replace("G", "A"), HEAVY.replace("L", "-"), HEAVY[:9] + "kk" + HEAVY[9:]]
    text = "".join(f">{i}\n{seq}\n" for i, seq in enumerate([HEAVY, *homologs]))
    (found.alignments / "query" / "uniref90_hits.a3m").write_text(text)
    (found.alignments / "light").mkdir()
    (found.alignments / "templated").mkdir()
    (found.alignments / "templated" / "pdb70_hits.hhr").write_text(
        hhr(template_sequence, template_sequence + TAIL)
    )
    found.templates.mkdir()
    write_template(found.templates / "1ay7.cif")
    return found


@pytest.fixture(scope="session")
def vanilla(run_vanilla_jobs, inputs, template_sequence, tmp_path_factory):
    """What upstream's own code alone makes of some targets, with one small random model."""
    checkpoint = tmp_path_factory.mktemp("weights") / "random.pt"
    with_templates = {"alignments": inputs.alignments, "templates": inputs.templates}
    jobs = {
        "one": {"sequences": [HEAVY], "tags": ["1ABC_A"]},
        "two": {"sequences": [HEAVY, LIGHT], "tags": ["heavy", "light"]},
        "gap": {"sequences": [HEAVY, LIGHT], "tags": ["heavy", "light"], "gap": 20},
        "query": {"sequences": [HEAVY], "tags": ["query"], "alignments": inputs.alignments},
        "templated": {"sequences": [template_sequence + TAIL], "tags": ["templated"]} | with_templates,
        "templated pair": {
            "sequences": [LIGHT, template_sequence + TAIL],
            "tags": ["light", "templated"],
        }
        | with_templates,
    }
    shared = {
        "overrides": SMALL | {"data.common.max_recycling_iters": 2},
        "seed": SEED,
        "checkpoint": checkpoint,
    }
    return dict(zip(jobs, run_vanilla_jobs([job | shared for job in jobs.values()]), strict=True))


@pytest.fixture(scope="session")
def small_config():
    """Upstream's configuration of the small model."""
    from openfoldpp.upstream import activate

    activate()
    from openfold.config import model_config

    config = model_config("model_1_ptm")
    config.update_from_flattened_dict(SMALL)
    return config


@pytest.fixture(scope="session")
def shrink(plugin_folder):
    """Folder of an installed plugin, ``shrink``, that makes the model small."""
    return plugin_folder("shrink", SHRINK)


@pytest.fixture
def run_program(monkeypatch, shrink):
    """Run the command in this process, its softmax by torch; returns the exit code."""
    from openfoldpp.inference import driver
    from openfoldpp.ops import dispatch

    monkeypatch.syspath_prepend(shrink)
    monkeypatch.setenv("OPENFOLDPP_BACKEND", "torch")
    dispatch.settings.cache_clear()
    yield lambda *arguments: driver.main([*map(str, arguments)], program="run_pretrained_openfold.py")
    monkeypatch.undo()
    dispatch.settings.cache_clear()


@pytest.fixture
def predict(tmp_path, run_program, vanilla):
    """Run the command on FASTA texts with the small random model; returns its folder of predictions."""
    calls = itertools.count()

    def run(*fastas, arguments=(), weights=None, recycles=2):
        folder = tmp_path / f"run{next(calls)}"
        (folder / "fasta").mkdir(parents=True)
        for number, text in enumerate(fastas):
            (folder / "fasta" / f"{number}.fasta").write_text(text)
        weights = weights or ["--openfold_checkpoint_path", vanilla["one"].checkpoint]
        returned = run_program(
            folder / "fasta", *arguments, *weights, "--plugins", "openfoldpp.recycling,shrink",
            "--recycling_iters", recycles, "--data_random_seed", SEED, "--skip_relaxation",
            "--save_outputs", "--quiet", "--output_dir", folder,
        )  # fmt: skip
        assert returned == 0
        return folder / "predictions"

    return run


@pytest.fixture(scope="session")
def assert_same_bits():
    """Compare two output dictionaries: paths in their order, dtypes, and every bit."""
    from openfoldpp.upstream import schema

    def check(actual, expected):
        actual, expected = dict(schema.flatten(actual)), dict(schema.flatten(expected))
        assert list(actual) == list(expected)
        for path, value in expected.items():
            assert actual[path].dtype == value.dtype, path
            np.testing.assert_array_equal(actual[path], value, err_msg=path)

    return check


@pytest.fixture
def install_plugin(plugin_folder, monkeypatch):
    """Install a plugin for one test, by its name and source; returns its module once it is imported."""

    def install(name, source):
        monkeypatch.syspath_prepend(plugin_folder(name, source))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return lambda: sys.modules[name]

    return install


@pytest.fixture
def prepares(install_plugin):
    """Install the plugin ``prepares``; returns a function that returns what its hook has seen.

    That is for each model whether it is in training, a sum over its weights, and the device asked for. The
    hook draws from every generator of random numbers.
    """
    module = install_plugin("prepares", PREPARES)
    return lambda: module().SEEN


@pytest.fixture
def spoils(install_plugin):
    """Install the plugin ``spoils``, whose hook raises a ``KeyError``."""
    install_plugin("spoils", RAISES)


@pytest.fixture(scope="session")
def assert_close_but_not_same():
    """Compare pickles of results, one of a run with the native kernels: the same but for rounding."""
    from openfoldpp.files import read_pickle
    from openfoldpp.upstream import schema

    def check(ours, vanillas):
        actual, expected = (dict(schema.flatten(read_pickle(file))) for file in (ours, vanillas))
        assert list(actual) == list(expected)
        assert not np.array_equal(actual["pair"], expected["pair"])
        for path in ("msa", "pair", "single", "plddt", "final_atom_positions"):
            scale = np.abs(expected[path]).max()
            # Seen: up to 1.5e-6, after recycling. The rest is for other CPUs: recycling sorts distances into
            # bins, so that a last bit can put a pair of residues into the next one.
            np.testing.assert_allclose(actual[path] / scale, expected[path] / scale, atol=1e-4, err_msg=path)

    return check
