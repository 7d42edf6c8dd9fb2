"""A language model instead of alignments, with OpenFold 2's own script.

``OPENFOLD_HOME=CHECKOUT pytest -m upstream``, once for each tag.
"""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from openfoldpp.files import read_pickle

pytestmark = pytest.mark.upstream

SOLO, PTM = "seq_model_esm1b_ptm", "model_1_ptm"
SKIP = "--skip_relaxation"
# Layers, channels and heads of an ESM-1b of random weights; SoloSeq's model is made to read as many channels.
SIZE = (2, 40, 4)
NARROW = {"model.preembedding_embedder.preembedding_dim": SIZE[1]}
NARROWS = f"""
from openfoldpp.plugins.hookspecs import hookimpl

@hookimpl
def openfoldpp_configure(config, options):
    config.update_from_flattened_dict({NARROW!r})
"""
MADE = runpy.run_path(str(Path(__file__).parents[2] / "plm/conftest.py"))


@pytest.fixture(scope="module")
def esm_file(tmp_path_factory):
    """A small ESM-1b of random weights, written as fair-esm writes its own."""
    path = tmp_path_factory.mktemp("esm") / "esm1b_t33_650M_UR50S.pt"
    return MADE["write_as_fair_esm"](MADE["reference"]("esm1b", SIZE), "esm1b", path)


@pytest.fixture
def small_esm(esm_file, monkeypatch, install_plugin):
    """Let it be the esm1b of this process, and SoloSeq's model read as many channels."""
    from openfoldpp.plm import esm

    monkeypatch.setitem(esm.SIZES, "esm1b", SIZE)
    install_plugin("narrows", NARROWS)
    return esm_file


@pytest.fixture(scope="module")
def embedded(inputs, esm_file, tmp_path_factory):
    """Alignments as SoloSeq's users make them: the embedding of each chain in a file, and template hits."""
    import torch

    from openfoldpp import plm
    from openfoldpp.plm import esm

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(esm.SIZES, "esm1b", SIZE)
        model = plm.load("esm1b", esm_file)
    folder = tmp_path_factory.mktemp("embedded")
    for records in inputs.sequences.values():
        for tag, sequence in records.items():
            (folder / tag).mkdir(exist_ok=True)
            [embedding] = model.embed([sequence])
            torch.save({"label": tag, "representations": {33: embedding}}, folder / tag / f"{tag}.pt")
    (folder / "templated/hits.hhr").symlink_to(inputs.alignments / "templated/pdb70_hits.hhr")
    return folder


def solo(inputs, weights, target, *more, templates=()):
    return [
        getattr(inputs, target), *templates, "--openfold_checkpoint_path", weights(SOLO, "narrow"),
        "--config_preset", SOLO, "--data_random_seed", 3, "--save_outputs", SKIP, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def soloseq(run_vanilla_script, inputs, weights, embedded):
    """What upstream's own script makes of embeddings in files."""
    targets = ("monomer", "templated")
    given = {"templates": [inputs.templates]}
    more = ("--use_precomputed_alignments", embedded)
    jobs = [(solo(inputs, weights, target, *more, **given), SOLO, NARROW) for target in targets]
    return dict(zip(targets, run_vanilla_script(*jobs), strict=True))


PLUGINS = "shrink2,narrows,openfoldpp.plm"


def test_soloseq_is_bit_for_bit_what_it_is_with_the_embedding_in_a_file(
    soloseq, run, small_esm, inputs, weights, assert_same_files, tmp_path
):
    """No alignment folder, no template files; and nothing is left behind."""
    before = set(tmp_path.rglob("*"))
    code, out = run(*solo(inputs, weights, "monomer", "--plm_weights", small_esm), plugins=PLUGINS)
    assert code == 0
    assert_same_files(out, soloseq["monomer"])
    assert not [
        path for path in tmp_path.rglob("*") if path not in before and out not in (path, *path.parents)
    ]
    assert not list(out.rglob("*.pt"))
    assert not (out / "alignments").exists()
    told = json.loads((out / f"predictions/query_{SOLO}_provenance.json").read_text())
    assert told["features_by"].startswith("sequence embedding by the language model esm1b (")


def test_soloseq_takes_template_hits_of_alignments_without_an_embedding(
    soloseq, run, small_esm, inputs, weights, embedded, assert_same_files, tmp_path
):
    folder = tmp_path / "alignments/templated"
    folder.mkdir(parents=True)
    (folder / "hits.hhr").symlink_to(embedded / "templated/hits.hhr")
    more = ("--use_precomputed_alignments", folder.parent, "--plm_weights", small_esm)
    given = solo(inputs, weights, "templated", *more, templates=[inputs.templates])
    code, out = run(*given, plugins=PLUGINS)
    assert code == 0
    assert_same_files(out, soloseq["templated"])


def test_soloseq_uses_embeddings_that_are_given(
    vanilla, run, arguments, assert_same_files, monkeypatch, tmp_path
):
    """As without the plugin; ESM-1b's file is not looked for."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    code, out = run(*arguments("monomer", SOLO, SKIP), plugins="shrink2,openfoldpp")
    assert code == 0
    assert (out / f"predictions/query_{SOLO}_output_dict.pkl").is_file()


def test_soloseq_without_the_weights_of_esm1b_says_where_they_come_from(
    soloseq, run, inputs, weights, monkeypatch, tmp_path, capsys, install_plugin
):
    install_plugin("narrows", NARROWS)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    code, _ = run(*solo(inputs, weights, "pair"), plugins=PLUGINS)
    assert code == 1
    said = capsys.readouterr()
    assert (said.out + said.err).count("esm1b_t33_650M_UR50S.pt is not in fair-esm's cache") == 1
    assert "--plm_weights FILE" in said.out + said.err


@pytest.fixture(scope="module")
def projector_file(tmp_path_factory):
    import torch

    from openfoldpp.plm.projector import TokenProjector

    projector = TokenProjector("antiberty", layer=8, c_plm=512, c_m=256, preset=PTM)
    torch.nn.init.normal_(projector.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("projector") / "antiberty.safetensors"
    projector.save(path)
    return path


def projected(inputs, weights, target, projector_file, *more):
    return [
        getattr(inputs, target), *more, "--openfold_checkpoint_path", weights(PTM), "--config_preset", PTM,
        "--data_random_seed", 3, "--save_outputs", SKIP, "--plm", "antiberty", "--projector_weights",
        projector_file,
    ]  # fmt: skip


def test_another_presets_model_gets_one_row(vanilla, run, inputs, weights, projector_file):
    """Two targets; the model is kept, the second result is what it is alone."""
    code, out = run(*projected(inputs, weights, "pair", projector_file), plugins="shrink2,openfoldpp.plm")
    assert code == 0
    code, alone = run(
        *projected(inputs, weights, "monomer", projector_file),
        plugins="shrink2,openfoldpp.plm",
        folder="alone",
    )
    assert code == 0
    name = f"predictions/query_{PTM}_output_dict.pkl"
    ours, expected = read_pickle(out / name), read_pickle(alone / name)
    assert ours["msa"].shape[0] == 1
    for key in ("pair", "plddt", "final_atom_positions"):
        np.testing.assert_array_equal(ours[key], expected[key])
    assert not np.allclose(ours["pair"], read_pickle(vanilla["monomer"] / name)["pair"], atol=1e-2)


def test_a_multimer_preset_is_refused(vanilla, run, inputs, weights, projector_file, capsys):
    preset = "model_1_multimer_v3"
    code, _ = run(
        inputs.dimer, "--jax_param_path", weights(preset), "--config_preset", preset, SKIP,
        "--plm", "antiberty", "--projector_weights", projector_file, plugins="shrink2,openfoldpp.plm",
    )  # fmt: skip
    assert code == 1
    assert "pair chains by their alignments" in capsys.readouterr().err


@pytest.mark.slow
def test_a_traced_model_predicts_what_the_model_predicts(vanilla, run, inputs, weights, projector_file):
    plugins = "shrink2,openfoldpp.plm"
    given = projected(inputs, weights, "pair", projector_file)
    code, out = run(*given, plugins=plugins)
    assert code == 0
    code, traced = run(*given, "--trace_model", plugins=plugins, folder="traced")
    assert code == 0
    for tag in ("query", "light"):
        name = f"predictions/{tag}_{PTM}_output_dict.pkl"
        ours, expected = read_pickle(traced / name), read_pickle(out / name)
        for key in ("final_atom_positions", "plddt", "predicted_aligned_error"):
            # TorchScript may fuse and reorder; the result is within float32's rounding over two blocks.
            np.testing.assert_allclose(ours[key], expected[key], rtol=1e-3, atol=1e-3)
