"""A language model instead of alignments, through the command: OpenFold 0.0.1, AntiBERTy's own weights."""

import json

import numpy as np
import pytest

from openfoldpp.files import read_pickle

PRESET = "model_1_ptm"
HEAVY, LIGHT = "EVQLVESGGGLVQPGGSLRLSCAAS", "DIQMTQSPSSLSASVGDR"


@pytest.fixture(scope="module")
def projector_file(tmp_path_factory):
    """A projector that somebody might have trained: its weights are drawn at random."""
    import torch

    from openfoldpp.plm.projector import TokenProjector

    projector = TokenProjector("antiberty", layer=8, c_plm=512, c_m=256, preset=PRESET)
    torch.nn.init.normal_(projector.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("projector") / "antiberty.safetensors"
    projector.save(path)
    return path


@pytest.fixture
def run(run_program, vanilla, tmp_path):
    """Run the command on FASTA texts with the small model; returns its exit code."""

    def command(*fastas, arguments=(), templates=(), plugins="openfoldpp.plm", folder="out", recycles=1):
        (tmp_path / folder / "fasta").mkdir(parents=True)
        for number, text in enumerate(fastas):
            (tmp_path / folder / "fasta" / f"{number}.fasta").write_text(text)
        return run_program(
            tmp_path / folder / "fasta", *templates, "--openfold_checkpoint_path", vanilla["one"].checkpoint,
            *arguments, "--plugins", f"openfoldpp.recycling,shrink,{plugins}", "--recycling_iters", recycles,
            "--data_random_seed", 3, "--skip_relaxation", "--save_outputs", "--output_dir", tmp_path / folder,
        )  # fmt: skip

    return command


@pytest.fixture
def bridged(projector_file):
    return ("--plm", "antiberty", "--projector_weights", projector_file)


def read(folder, tag):
    return read_pickle(folder / "predictions" / f"{tag}_{PRESET}_output_dict.pkl")


def test_every_target_gets_its_own_embedding(run, bridged, projector_file, tmp_path, capsys):
    """Two targets and one of two chains; the second is what it is alone."""
    texts = [f">one\n{HEAVY}\n", f">two\n{LIGHT}\n", f">H\n{HEAVY}\n>L\n{LIGHT}\n"]
    assert run(*texts, arguments=bridged) == 0
    said = capsys.readouterr().err
    assert said.count(f"language model: antiberty, projected by {projector_file} in place of the MSA") == 1
    assert run(texts[1], arguments=bridged, folder="alone") == 0
    for tag, n_res in (("one", 25), ("two", 18), ("H-L", 43)):
        output = read(tmp_path / "out", tag)
        assert output["msa"].shape == (1, n_res, 256)
        told = json.loads((tmp_path / f"out/predictions/{tag}_{PRESET}_provenance.json").read_text())
        assert told["features_by"].startswith(
            "single row in place of the MSA by the language model antiberty ("
        )
        assert told["features_by"].endswith(f", projected by {projector_file}")
        assert told["predicted_by"].startswith("OpenFold 0.0.1 ")
    np.testing.assert_array_equal(
        read(tmp_path / "alone", "two")["final_atom_positions"],
        read(tmp_path / "out", "two")["final_atom_positions"],
    )


def test_without_the_flag_the_plugin_changes_nothing(run, vanilla, tmp_path, assert_same_bits):
    assert run(vanilla["one"].fasta.read_text(), recycles=2) == 0
    assert_same_bits(read(tmp_path / "out", "1ABC_A"), read_pickle(vanilla["one"].output_dict))


def test_template_hits_are_used_and_the_alignment_is_not(run, bridged, inputs, template_sequence, tmp_path):
    query = f"{template_sequence}LKKELAL"
    folder = tmp_path / "alignments/templated"
    folder.mkdir(parents=True)
    (folder / "hits.hhr").symlink_to(inputs.alignments / "templated/pdb70_hits.hhr")
    given = {
        "arguments": [*bridged, "--use_precomputed_alignments", folder.parent],
        "templates": [inputs.templates],
    }
    assert run(f">templated\n{query}\n", arguments=bridged, folder="plain") == 0
    assert run(f">templated\n{query}\n", folder="hits", **given) == 0
    (folder / "a.a3m").write_text(f">a\n{query}\n>b\n{query[::-1]}\n")
    assert run(f">templated\n{query}\n", folder="alignment", **given) == 0
    plain, hits, alignment = (
        read(tmp_path / name, "templated")["pair"] for name in ("plain", "hits", "alignment")
    )
    assert not np.allclose(plain, hits, atol=1e-3)
    np.testing.assert_array_equal(hits, alignment)


def test_the_kernels_change_nothing_but_the_rounding(run, bridged, tmp_path, monkeypatch):
    from openfoldpp.ops import dispatch

    assert run(f">one\n{HEAVY}\n", arguments=bridged) == 0
    monkeypatch.setenv("OPENFOLDPP_BACKEND", "auto")
    dispatch.settings.cache_clear()
    assert (
        run(f">one\n{HEAVY}\n", arguments=bridged, plugins="openfoldpp.plm,openfoldpp.kernels", folder="k")
        == 0
    )
    ours, plain = read(tmp_path / "k", "one"), read(tmp_path / "out", "one")
    assert not np.array_equal(ours["pair"], plain["pair"])
    np.testing.assert_allclose(ours["pair"], plain["pair"], atol=1e-4 * np.abs(plain["pair"]).max())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plm", "antiberty"], "an untrained one would predict nonsense"),
        (["--plm", "antibert", "--projector_weights", "FILE"], "did you mean antiberty?"),
        (["--plm", "antiberty", "--projector_weights", "none"], "weights none: there is no such file"),
        (
            ["--plm", "antiberty", "--projector_weights", "FILE", "--config_preset", "model_3"],
            "for preset model_1_ptm",
        ),
        (["--plm", "esm1b", "--projector_weights", "FILE"], "Download it from"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_ends_the_run_with_one_error(
    run, projector_file, monkeypatch, tmp_path, capsys, arguments, said
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    given = [projector_file if text == "FILE" else text for text in arguments]
    assert run(f">one\n{HEAVY}\n", f">two\n{LIGHT}\n", arguments=given) == 1
    error = capsys.readouterr()
    assert (error.out + error.err).count(said) == 1
    assert not list(tmp_path.rglob("*.pdb"))
