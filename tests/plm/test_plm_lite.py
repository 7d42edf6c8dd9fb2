"""The shipped model against AntiBERTy, and its file: what is stored comes back, damage is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import openfoldpp
from openfoldpp.errors import WeightsError
from openfoldpp.plm import antiberty, plm_lite
from openfoldpp.plm.quantization import nf4
from openfoldpp.plm.transformer import Architecture

SHIPPED = Path(openfoldpp.__file__).parent / "weights" / "plm_lite.safetensors"
# Generated with a seed that no training used, 12 to 25 substitutions away from the germline genes.
SEQUENCES = [
    "EIVLTWSPGTLSLSPGERATLSCRASQSVEEMDLAWYMQKPHQEPRLLIYGNESTATGIPPRQSGSGSDPDFTLTISRLEPEDKAVYYCQRYGSSPWEFGQGTKIEIK",
    "AIRMTESPFSLSASVGDKVTITCWASQGISEYLAWYQQKPAKAPKSFIYYALSLQSGVPSRTSGSGSATDTTLTIESLQPEIFATYHCEYYYSTNTFGGGTKVEIK",
    "QSVLTQPPSVSAAMGQKVTIQCSGSSSNIPSRFVSWYQMLPGTYPKLLIYDNNKRPIGKPDRFSGSKAGTSATLGITGYQTGDEADYYCGMWLSSLSAGKVFGGGTKLTVL",
    "QVKGQQSGPGTVKPSQTLRLTCAISGDSLSSALKAWNWIRQSPSRGLEWLGRTYYKYKWYNDYAVSVKGKITINPDTSKNQFSLQLNSVTPEDTATYYCVGAKRFTVATEVDYWGQVQLVTVSS",
    "KVQLVRSGAEVKKPGASVKVSCQASSWTFTSYDINWVRQATGQGVEWMSWEFPNSGNTNYAPKFQGRVTLTRNEGISTAYMELSSLRSEDTAAYYCARLHSYTVINYWGQSTLITVGS",
    "QVQLVQSLAEVKKPHASWKVVCKASGYTFRGFYMHWVRQPPRQGLKWMGWINPNSDGTNYAQKFQGWVTMTRDTHISTAYLELSKLRMDDTLVYYCAREERCSVTSCLRMEVWGQGTTLTVSS",
    "QSLLRQPASVSGSPGQSITISCTGTSSDLSSWNLISWYDQHPGKAPKLMIYEGLKRPSGVSNRFSGYKSGNTASLTISGLQAEDEADYYCVSYAGRVFGGGTKFTPL",
    "QTLVDQKDSLTVSPGGTVTLTCAESIGGLTSGYYPNWFQQKPGQAPRALLYSTSNKHSWLPARFSGSLLGGKAALTLSGVIPEDEAEYYCLLLGVFQGGTWLTVM",
]
SETTINGS = {
    "architecture": Architecture(
        2, 16, 2, 32, 25, positions=12, norm_first=False, norm_embedding=True
    ).to_dict(),
    "channels": 16,
    "alphabet": "antiberty",
    "max_residues": 10,
}


@pytest.fixture(scope="module")
def shipped():
    return plm_lite.load()


@pytest.fixture(scope="module")
def embeddings(shipped):
    pytest.importorskip("antiberty")
    return antiberty.load().embed(SEQUENCES), shipped.embed(SEQUENCES)


@pytest.fixture
def small(tmp_path):
    """Write a small random model; return its path, encoder and head."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder, head = plm_lite.make_encoder(SETTINGS), nn.Linear(16, 64)
    path = tmp_path / "small.safetensors"
    plm_lite.write(path, encoder, head, SETTINGS)
    return path, encoder, head


def test_the_shipped_model_stands_in_for_antiberty(embeddings):
    cosines = [torch.cosine_similarity(*pair, dim=-1).mean() for pair in zip(*embeddings, strict=True)]
    # What docs/reports/plm_lite.md gives for held-out human domains, and its worst of these eight.
    assert torch.stack(cosines).mean() > 0.955
    assert min(cosines) > 0.93


def test_the_head_keeps_distances_between_residues(shipped, embeddings):
    teacher, ours = (torch.cat(side) for side in embeddings)
    short = shipped.project(ours)
    assert short.shape == (len(ours), 64)
    assert short.dtype == torch.float32
    both = torch.stack([torch.pdist(short), torch.pdist(teacher)])
    assert torch.corrcoef(both)[0, 1] > 0.8


def test_the_shipped_file_is_small_and_described():
    assert SHIPPED.stat().st_size <= 8e6
    description = json.loads(SHIPPED.with_suffix(".json").read_text())
    assert description["file"] == SHIPPED.name
    assert description["bytes"] == SHIPPED.stat().st_size
    assert description["teacher"]["licence"] == "MIT"
    assert description["held_out"]["cosine"] > 0.9 > description["held_out"]["cosine_untrained"]


def test_a_sequence_alone_and_in_a_batch_has_the_same_embedding(shipped):
    together = shipped.embed(SEQUENCES[:3])
    for sequence, embedding in zip(SEQUENCES[:3], together, strict=True):
        assert embedding.shape == (len(sequence), 512)
        assert torch.allclose(shipped.embed([sequence])[0], embedding, atol=1e-4)


def test_layers_and_dtypes(shipped):
    [sequence] = SEQUENCES[:1]
    assert shipped.layer == 4
    first = plm_lite.load(layer=0)
    assert torch.equal(first.embed([sequence])[0], plm_lite.load(layer=0).embed([sequence])[0])
    half = plm_lite.load(dtype="bfloat16")
    assert half.encoder.tokens.weight.dtype == torch.bfloat16
    cosine = torch.cosine_similarity(half.embed([sequence])[0], shipped.embed([sequence])[0], dim=-1)
    assert cosine.mean() > 0.999
    assert len({first.fingerprint, half.fingerprint, shipped.fingerprint}) == 3


def test_what_is_written_comes_back_rounded_as_training_rounds_it(small):
    path, encoder, head = small
    model = plm_lite.load(weights=path)
    for (name, ours), theirs in zip(
        model.encoder.state_dict().items(), encoder.state_dict().values(), strict=True
    ):
        linear = name.endswith("weight") and "blocks" in name and "norm" not in name
        assert torch.equal(ours, plm_lite.stored(theirs) if linear else theirs.half().float()), name
    assert torch.equal(model.head.weight, head.weight.half().float())


def test_the_same_model_is_the_same_file(small, tmp_path):
    path, encoder, head = small
    for number in range(3):
        plm_lite.write(tmp_path / f"{number}", encoder, head, SETTINGS)
        assert (tmp_path / f"{number}").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("shape", [(64, 64), (3, 5), (1, 1), (13, 70)])
def test_training_rounds_to_the_grid_of_the_file(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    rounded = plm_lite.stored(weight)
    scales = nf4.scales_of(weight)
    assert torch.equal(nf4.decode(nf4.encode(rounded, scales), scales, shape[1]), rounded)
    assert torch.equal(plm_lite.stored(rounded), rounded)
    best = nf4.decode(nf4.encode(weight, scales), scales, shape[1])
    # Levels are looked up by steps of a 127th of the scale, and half a step either way decides between two.
    slack = scales.float().repeat_interleave(64, 1)[:, : shape[1]] * 1.01 / 127
    assert ((rounded - weight).abs() <= (best - weight).abs() + slack).all()


def test_weights_of_zero_stay_zero():
    assert not plm_lite.stored(torch.zeros(64, 2)).any()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cannot be read"),
        (lambda path: path.write_bytes(b"nothing of that kind"), "cannot be read"),
        (lambda path: save_file(load_file(path), path), "not a file of"),
        (lambda path: _describe(path, "{"), "description is damaged .JSONDecodeError"),
        (lambda path: _describe(path, "{}"), "description is damaged .KeyError: 'alphabet'"),
        (
            lambda path: _describe(path, SETTINGS | {"alphabet": "rna"}),
            "description is damaged .KeyError: 'rna'",
        ),
        (
            lambda path: _describe(path, SETTINGS | {"architecture": {"x": 1}}),
            "description is damaged .TypeError",
        ),
        (lambda path: _change(path, "encoder.tokens.weight", torch.nan), "NaN"),
        (lambda path: _change(path, "encoder.blocks.0.expand.weight.scales", torch.nan), "NaN"),
        (lambda path: _change(path, "head.bias", None), "head|bias is missing"),
        (lambda path: _change(path, "encoder.blocks.1.expand.weight.scales", None), "expand.weight"),
    ],
)
def test_a_damaged_file_is_named_with_the_reason(small, damage, message):
    path, _, _ = small
    damage(path)
    with pytest.raises(WeightsError, match=message) as caught:
        plm_lite.load(weights=path)
    assert str(path) in str(caught.value)


def _describe(path, settings):
    """Give a file another description."""
    text = settings if isinstance(settings, str) else json.dumps(settings)
    save_file(load_file(path), path, {plm_lite.FORMAT: text})


def _change(path, key, value):
    """Set all of a tensor of a file to a value, or leave it out."""
    tensors = load_file(path)
    if value is None:
        del tensors[key]
    else:
        tensors[key] = torch.full_like(tensors[key], value)
    save_file(tensors, path, {plm_lite.FORMAT: json.dumps(SETTINGS)})
