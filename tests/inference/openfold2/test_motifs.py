"""Motifs with OpenFold 2's own script.

``OPENFOLD_HOME=CHECKOUT pytest -m upstream``, once for each tag.
"""

import json

import numpy as np
import pytest

from openfoldpp.files import read_pickle

pytestmark = pytest.mark.upstream

PTM = "model_1_ptm"
PLUGIN = "from openfoldpp.adapters.motif_adapter import plugin"
PLUGINS = "shrink2,motif_plugin"


@pytest.fixture(scope="module")
def motif_weights(tmp_path_factory):
    import torch

    from openfoldpp.motifs.projections import MotifProjections

    made = MotifProjections(c_m=256, c_z=128, preset=PTM)
    for number, parameter in enumerate(made.parameters()):
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
    path = tmp_path_factory.mktemp("motifs") / "motifs.safetensors"
    made.save(path)
    return path


@pytest.fixture
def spans(monkeypatch, plugin_folder):
    """Where every search finds a hit; the plugin is installed."""
    from openfoldpp.adapters import motif_adapter
    from openfoldpp.motifs import retriever
    from openfoldpp.motifs.hits import MotifHit

    monkeypatch.syspath_prepend(plugin_folder("motif_plugin", PLUGIN, "motif_plugin:plugin"))
    found = [(1, 12)]

    def hit(offset, length, sequence):
        steps = np.random.default_rng(offset).normal(size=(length, 1, 3))
        ca = np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=-1, keepdims=True), 0)
        coords = (ca + np.random.default_rng(1).normal(size=(length, 4, 3))).astype(np.float32)
        sequence = sequence[offset : offset + length]
        return MotifHit(offset, length, "1abc_A", "5", sequence, 0.9, 0.4, 0.8, coords, 0, 0)

    class Found:
        def search(self, sequences, *, top):
            return [[hit(*span, sequences[0]) for span in found]]

    monkeypatch.setattr(retriever, "load", lambda library, *, max_identity: Found())
    monkeypatch.setattr(motif_adapter.plugin, "_opened", None)  # another test's
    return found


def given(uses, motif_weights):
    flags = {"weights": ["--motif_weights", motif_weights], "templates": ["--motif_templates"]}
    return ["--motif_library", "lib", "--skip_relaxation", *(flag for use in uses for flag in flags[use])]


def read(folder, preset=PTM):
    return read_pickle(folder / f"predictions/query_{preset}_output_dict.pkl")


def test_without_flags_or_hits_every_file_is_as_before(
    vanilla, run, arguments, spans, motif_weights, assert_same_files
):
    code, out = run(*arguments("monomer", PTM, "--skip_relaxation"), plugins=PLUGINS, folder="without")
    assert code == 0
    assert_same_files(out, vanilla["monomer"])
    spans.clear()
    code, out = run(
        *arguments("monomer", PTM, *given(["weights", "templates"], motif_weights)), plugins=PLUGINS
    )
    assert code == 0
    assert_same_files(out, vanilla["monomer"])


@pytest.mark.parametrize("use", ["weights", "templates"])
def test_hits_change_the_prediction_and_are_told(vanilla, run, arguments, spans, motif_weights, use):
    code, out = run(*arguments("monomer", PTM, *given([use], motif_weights)), plugins=PLUGINS)
    assert code == 0
    ours, plain = read(out), read(vanilla["monomer"])
    for key in ("pair", "final_atom_positions", "plddt"):
        assert ours[key].shape == plain[key].shape
        assert not np.allclose(ours[key], plain[key], atol=1e-3), key
    told = json.loads((out / f"predictions/query_{PTM}_provenance.json").read_text())["features_by"]
    assert told.startswith("motifs: 1 of lib cover 12 of ")
    assert told.endswith("; templates: 1abc_A:5 for 2-13 (score 0.90)") == (use == "templates")


def test_soloseq_takes_motifs_as_templates(vanilla, run, arguments, spans, motif_weights):
    preset = "seq_model_esm1b_ptm"
    more = given(["templates"], motif_weights)
    code, out = run(*arguments("monomer", preset, *more), plugins=PLUGINS)
    assert code == 0
    assert not np.allclose(read(out, preset)["pair"], read(vanilla["soloseq"], preset)["pair"], atol=1e-3)


def test_templates_of_the_alignments_come_first(vanilla, run, arguments, spans, motif_weights):
    code, out = run(*arguments("templated", PTM, *given(["templates"], motif_weights)), plugins=PLUGINS)
    assert code == 0
    [ours] = [read_pickle(file) for file in (out / "predictions").glob("*output_dict.pkl")]
    [plain] = [read_pickle(file) for file in (vanilla["templated"] / "predictions").glob("*output_dict.pkl")]
    assert not np.allclose(ours["pair"], plain["pair"], atol=1e-3)


def test_a_multimer_preset_is_refused(vanilla, run, inputs, weights, spans, motif_weights, capsys):
    preset = "model_1_multimer_v3"
    code, _ = run(
        inputs.dimer, "--jax_param_path", weights(preset), "--config_preset", preset,
        *given(["templates"], motif_weights), plugins=PLUGINS,
    )  # fmt: skip
    assert code == 1
    assert "motifs are pieces of one chain" in " ".join(capsys.readouterr().err.split())
