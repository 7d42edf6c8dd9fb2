"""Motifs through the command: OpenFold 0.0.1, a small model, a library's hits."""

import json
import re

import numpy as np
import pytest

from openfoldpp.files import read_pickle

PRESET = "model_1_ptm"
HEAVY, LIGHT = "EVQLVESGGGLVQPGGSLRLSCAAS", "DIQMTQSPSSLSASVGDR"


@pytest.fixture(scope="module")
def motif_weights(tmp_path_factory):
    """Projections that somebody might have trained: drawn at random."""
    import torch

    from openfoldpp.motifs.projections import MotifProjections

    made = MotifProjections(c_m=256, c_z=128, preset=PRESET)
    for number, parameter in enumerate(made.parameters()):
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
    path = tmp_path_factory.mktemp("motifs") / "motifs.safetensors"
    made.save(path)
    return path


@pytest.fixture
def found(monkeypatch):
    """The hits that every search finds, by the query."""
    from openfoldpp.adapters import motif_adapter
    from openfoldpp.motifs import retriever
    from openfoldpp.motifs.hits import MotifHit

    def hit(offset, length, sequence):
        steps = np.random.default_rng(offset).normal(size=(length, 1, 3))
        ca = np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=-1, keepdims=True), 0)
        coords = (ca + np.random.default_rng(1).normal(size=(length, 4, 3))).astype(np.float32)
        sequence = sequence.replace(":", "")[offset : offset + length]
        return MotifHit(offset, length, "1abc_A", "5", sequence, 0.9, 0.4, 0.8, coords, 0, 0)

    spans = {HEAVY: [(2, 20)], f"{HEAVY}:{LIGHT}": [(2, 20), (26, 16)]}

    class Found:
        def search(self, sequences, *, top):
            return [[hit(*span, sequences[0]) for span in spans.get(sequences[0], [])]]

    monkeypatch.setattr(retriever, "load", lambda library, *, max_identity: Found())
    monkeypatch.setattr(motif_adapter.plugin, "_opened", None)  # another test's
    return spans


@pytest.fixture
def run(run_program, vanilla, tmp_path, plugin_folder, monkeypatch, found):
    """Run the command on FASTA texts with the small model; returns its exit code."""
    source = "from openfoldpp.adapters.motif_adapter import plugin"
    monkeypatch.syspath_prepend(plugin_folder("motif_plugin", source, "motif_plugin:plugin"))

    def command(*fastas, arguments=(), plugins="motif_plugin", folder="out", weights=True):
        (tmp_path / folder / "fasta").mkdir(parents=True)
        for number, text in enumerate(fastas):
            (tmp_path / folder / "fasta" / f"{number}.fasta").write_text(text)
        given = ["--openfold_checkpoint_path", vanilla["one"].checkpoint] if weights else []
        return run_program(
            tmp_path / folder / "fasta", *given, *arguments, "--data_random_seed", 3, "--skip_relaxation",
            "--plugins", f"openfoldpp.recycling,shrink,{plugins}", "--save_outputs",
            *(["--recycling_iters", 2] if weights else []), "--output_dir", tmp_path / folder,
        )  # fmt: skip

    return command


def read(folder, tag):
    return read_pickle(folder / "predictions" / f"{tag}_{PRESET}_output_dict.pkl")


def told(folder, tag):
    return json.loads((folder / f"predictions/{tag}_{PRESET}_provenance.json").read_text()).get("features_by")


def test_without_the_flags_the_plugin_changes_nothing(run, vanilla, tmp_path, assert_same_bits):
    assert run(vanilla["one"].fasta.read_text()) == 0
    assert_same_bits(read(tmp_path / "out", "1ABC_A"), read_pickle(vanilla["one"].output_dict))
    assert told(tmp_path / "out", "1ABC_A") is None


def test_without_hits_every_bit_is_as_before(
    run, found, vanilla, motif_weights, tmp_path, assert_same_bits, capsys
):
    found.clear()
    arguments = ["--motif_library", "lib", "--motif_weights", motif_weights, "--motif_templates"]
    assert run(vanilla["one"].fasta.read_text(), arguments=arguments) == 0
    assert_same_bits(read(tmp_path / "out", "1ABC_A"), read_pickle(vanilla["one"].output_dict))
    assert told(tmp_path / "out", "1ABC_A") == "motifs: none found in lib"
    assert "target '1ABC_A': motifs: none found in lib" in capsys.readouterr().err


@pytest.mark.parametrize("use", ["weights", "templates"])
def test_hits_change_the_prediction_and_are_told(run, motif_weights, tmp_path, capsys, use):
    """Two targets, the second of two chains; what it gets does not depend on the first."""
    flags = {"weights": ["--motif_weights", motif_weights], "templates": ["--motif_templates"]}[use]
    arguments = ["--motif_library", "lib", *flags]
    texts = [f">one\n{HEAVY}\n", f">H\n{HEAVY}\n>L\n{LIGHT}\n"]
    assert run(*texts, arguments=arguments) == 0
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert said.count("motifs of lib: ") == 1
    assert run(*texts, folder="plain") == 0
    assert run(texts[1], arguments=arguments, folder="alone") == 0
    for tag in ("one", "H-L"):
        ours, plain = (read(tmp_path / folder, tag) for folder in ("out", "plain"))
        for key in ("pair", "final_atom_positions", "plddt"):
            assert ours[key].shape == plain[key].shape
            assert not np.allclose(ours[key], plain[key], atol=1e-3), key
    np.testing.assert_array_equal(
        read(tmp_path / "alone", "H-L")["pair"], read(tmp_path / "out", "H-L")["pair"]
    )
    expected = "motifs: 2 of lib cover 36 of 43 residues"
    if use == "templates":
        expected += "; templates: 1abc_A:5 for 3-22 (score 0.90), 1abc_A:5 for 27-42 (score 0.90)"
    assert told(tmp_path / "out", "H-L") == expected
    assert f"target 'H-L': {expected}" in said


def test_templates_go_with_a_language_model(run, tmp_path):
    """Whose single row leaves the templates' part of the model out where there are none."""
    import torch

    from openfoldpp.plm.projector import TokenProjector

    projector = TokenProjector("antiberty", layer=8, c_plm=512, c_m=256, preset=PRESET)
    torch.nn.init.normal_(projector.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    projector.save(tmp_path / "p.safetensors")
    bridged = ["--plm", "antiberty", "--projector_weights", tmp_path / "p.safetensors"]
    motifs = ["--motif_library", "lib", "--motif_templates"]
    plugins = "openfoldpp.plm,motif_plugin"
    assert run(f">one\n{HEAVY}\n", arguments=bridged, plugins=plugins, folder="plain") == 0
    assert run(f">one\n{HEAVY}\n", arguments=bridged + motifs, plugins=plugins) == 0
    ours, plain = read(tmp_path / "out", "one"), read(tmp_path / "plain", "one")
    assert not np.allclose(ours["pair"], plain["pair"], atol=1e-3)
    by = told(tmp_path / "out", "one")
    assert by.startswith("single row in place of the MSA by the language model antiberty (")
    assert by.endswith("templates: 1abc_A:5 for 3-22 (score 0.90)")


@pytest.mark.parametrize(
    ("arguments", "weights", "said"),
    [
        (["--motif_library", "lib"], True, "--motif_library lib has no effect without --motif_weights FILE"),
        (["--motif_library", "lib", "--motif_templates"], False, "no weights are given"),
        (
            ["--motif_library", "lib", "--motif_templates", "--config_preset", "model_3_ptm"],
            True,
            "its model reads no templates; those of",
        ),
    ],
)
def test_what_does_not_fit_ends_the_run(run, capsys, arguments, weights, said):
    assert run(f">one\n{HEAVY}\n", arguments=arguments, weights=weights) == 1
    assert said in re.sub(r"\s+", " ", capsys.readouterr().err)
