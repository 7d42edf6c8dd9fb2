"""A folder of embeddings in place of a language model."""

import pytest
import torch

from openfoldpp import plm
from openfoldpp.errors import InputError, WeightsError
from openfoldpp.plm import extract_shards, precomputed
from openfoldpp.plm.extract import extract
from openfoldpp.plm.extract_fasta import Record

RECORDS = [Record("a", "EVQLVESGGG"), Record("b", "DIQMT"), Record("c", "DIQMT")]
FASTA = "".join(f">{tag} chain\n{sequence}\n" for tag, sequence in RECORDS)


@pytest.fixture
def esm1b(esm_file, monkeypatch):
    """A small ESM-1b with random weights."""
    monkeypatch.setitem(plm.esm.SIZES, "esm1b", (3, 40, 4))
    return plm.load("esm1b", esm_file("esm1b", (3, 40, 4))[1])


def representations(folder, layers=(33,), *, flat=False, rows=None):
    """Write files as upstream's script does; flat and with more layers, as fair-esm's does."""
    for tag, sequence in RECORDS:
        path = folder / f"{tag}.pt" if flat else folder / tag / f"{tag}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        found = {layer: torch.full((rows or len(sequence), 8), float(layer)) for layer in layers}
        torch.save({"label": tag, "representations": found}, path)


@pytest.mark.parametrize("layout", ["tokens", "soloseq", "safetensors"])
def test_what_embed_wrote_is_read(layout, esm1b, tmp_path):
    extract(RECORDS, esm1b, tmp_path, layout)
    model = precomputed.load(weights=tmp_path)
    assert isinstance(model, plm.Embedder)
    assert (model.channels, model.max_residues, model.model, len(model)) == (40, None, "esm1b", 2)
    assert model.layer == 3
    sequences = ["DIQMT", "EVQLVESGGG", "DIQMT"]
    for found, expected in zip(model.embed(sequences), esm1b.embed(sequences), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
    assert esm1b.fingerprint in model.fingerprint


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("how", ["one file", "a file each", "openfold 2's names"])
def test_soloseqs_files_are_found_by_a_fasta_file(how, flat, tmp_path):
    representations(tmp_path, flat=flat)
    if how == "one file":
        (tmp_path / "all.fasta").write_text(FASTA)
    elif how == "a file each":
        for tag, sequence in RECORDS:
            (tmp_path / f"{tag}.fa").write_text(f">another name\n{sequence}\n")
    else:
        (tmp_path / "all.fasta").write_text(FASTA.replace(" ", "|"))
    model = precomputed.load(weights=tmp_path)
    assert model.model is None
    [found] = model.embed(["EVQLVESGGG"])
    assert torch.equal(found, torch.full((10, 8), 33.0))


def test_a_file_that_says_its_sequence_needs_no_fasta(tmp_path):
    torch.save({"seq": "ACD", "tokens": torch.zeros(3), "repr": torch.ones(3, 4).half()}, tmp_path / "x.pt")
    model = precomputed.load(weights=tmp_path)
    assert torch.equal(model.embed(["ACD"])[0], torch.ones(3, 4))
    assert (model.model, model.layer) == (None, None)
    with pytest.raises(InputError, match="expected a list"):
        model.embed("ACD")


def test_layers_are_told_apart(tmp_path):
    representations(tmp_path, layers=(12, 33), flat=True)
    (tmp_path / "all.fasta").write_text(FASTA)
    models = {layer: precomputed.load(weights=tmp_path, layer=layer) for layer in (None, 12, 33)}
    assert [int(model.embed(["DIQMT"])[0][0, 0]) for model in models.values()] == [33, 12, 33]
    assert [model.layer for model in models.values()] == [33, 12, 33]
    assert models[12].fingerprint != models[33].fingerprint
    with pytest.raises(WeightsError, match="has no layer 3; it has 12, 33"):
        precomputed.load(weights=tmp_path, layer=3)


def test_a_file_without_the_layer_of_the_others_is_refused(tmp_path):
    representations(tmp_path, flat=True)
    torch.save({"representations": {12: torch.ones(5, 8)}}, tmp_path / "b.pt")
    (tmp_path / "all.fasta").write_text(FASTA)
    with pytest.raises(WeightsError, match=r"b\.pt: has no layer 33; it has 12"):
        precomputed.load(weights=tmp_path).embed(["DIQMT"])


def test_another_content_is_another_fingerprint(tmp_path):
    representations(tmp_path)
    (tmp_path / "all.fasta").write_text(FASTA)
    before = precomputed.load(weights=tmp_path).fingerprint
    assert precomputed.load(weights=tmp_path).fingerprint == before
    representations(tmp_path, layers=(33, 34))
    assert precomputed.load(weights=tmp_path).fingerprint != before


def test_what_is_not_there_is_named(esm1b, tmp_path):
    extract(RECORDS, esm1b, tmp_path, "tokens")
    model = precomputed.load(weights=tmp_path)
    with pytest.raises(
        InputError, match=r"none of its 2 embeddings is of the sequence ACDEFGHIKLMNPQRSTVWY\.\.\. \(30"
    ):
        model.embed(["DIQMT", "ACDEFGHIKLMNPQRSTVWYACDEFGHIKL"])


def test_another_length_is_refused(tmp_path):
    representations(tmp_path, rows=10)
    (tmp_path / "all.fasta").write_text(FASTA)
    model = precomputed.load(weights=tmp_path)
    assert len(model.embed(["EVQLVESGGG"])[0]) == 10
    with pytest.raises(WeightsError, match=r"b\.pt: has 10 rows and the sequence DIQMT\.\.\. 5 residues"):
        model.embed(["DIQMT"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"seq": "ACD", "repr": torch.full((3, 4), torch.nan)}, "holds NaN or infinity"),
        ({"seq": "ACD", "repr": torch.ones(3, 4, 4)}, "no matrix of floating-point numbers"),
        ({"seq": "ACD", "repr": [1, 2, 3]}, "no matrix of floating-point numbers"),
        ({"seq": "ACD"}, "do not say their sequences"),
        ([1], "expected a dictionary"),
    ],
)
def test_a_file_of_something_else_is_refused(content, said, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=said):
        precomputed.load(weights=tmp_path)


def test_files_without_sequences_ask_for_a_fasta(tmp_path):
    representations(tmp_path)
    (tmp_path / "others.fasta").write_text(">elsewhere\nACD\n")
    with pytest.raises(WeightsError, match=r"a\.pt, \.\.\.\) do not say their sequences, .* copy the FASTA"):
        precomputed.load(weights=tmp_path)


def test_embeddings_of_two_models_are_not_mixed(tmp_path):
    torch.save({"seq": "ACD", "repr": torch.ones(3, 4)}, tmp_path / "x.pt")
    torch.save({"seq": "ACDE", "repr": torch.ones(4, 5)}, tmp_path / "y.pt")
    with pytest.raises(WeightsError, match=r"y\.pt: has 5 channels and others .* 4"):
        precomputed.load(weights=tmp_path).embed(["ACD", "ACDE"])


def test_a_foreign_shard_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.ones(3, 4)}, tmp_path / "embeddings-00001.safetensors")
    with pytest.raises(WeightsError, match="does not say its sequences"):
        precomputed.load(weights=tmp_path)
    (tmp_path / "embeddings-00001.safetensors").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="cannot be read"):
        extract_shards.tags_and_sequences(tmp_path / "embeddings-00001.safetensors")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({}, WeightsError, "no folder is given; .* --plm_weights FOLDER"),
        ({"weights": "file"}, WeightsError, "file is no folder"),
        ({"weights": "empty"}, WeightsError, "has no embeddings: neither"),
        ({"weights": "full", "dtype": "bfloat16"}, InputError, "leave out --plm_dtype bfloat16"),
        ({"weights": "full", "layer": 3}, InputError, "one layer each; leave out --plm_layer 3"),
    ],
)
def test_a_wrong_call_says_what_to_do(options, error, said, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    torch.save({"seq": "ACD", "repr": torch.ones(3, 4)}, tmp_path / "full" / "x.pt")
    if "weights" in options:
        options = options | {"weights": tmp_path / options["weights"]}
    with pytest.raises(error, match=said):
        precomputed.load(**options)
