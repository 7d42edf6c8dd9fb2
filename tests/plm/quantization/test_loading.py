import pytest
import torch

from openfoldpp.errors import InputError, WeightsError
from openfoldpp.plm.quantization import QuantisationWarning, linear, load_quantised, loading, quantise, save

needs_bytes = pytest.mark.skipif(linear.why_no_bytes() is not None, reason=str(linear.why_no_bytes()))


@pytest.fixture
def file(model, description, tmp_path):
    def make(bits, **changes):
        path = tmp_path / f"{bits}.safetensors"
        tensors = quantise(model.encoder, [], bits, method="nearest")
        save(path, tensors | changes, description(bits, "nearest"))
        return path

    return make


@needs_bytes
def test_bytes_and_expanded_weights_agree(file, sequences, monkeypatch):
    path = file(8)
    fast = load_quantised(path, "tiny")
    assert fast.way.name == "bytes"
    monkeypatch.setattr(loading, "why_no_bytes", lambda: "there is none of it")
    with pytest.warns(QuantisationWarning, match="there is none of it.*no faster"):
        slow = load_quantised(path, "tiny")
    assert slow.way.name == "once"
    assert fast.fingerprint != slow.fingerprint
    for a, b in zip(fast.embed(sequences), slow.embed(sequences), strict=True):
        assert torch.cosine_similarity(a, b, dim=-1).min() > 0.999


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.filterwarnings("ignore::openfoldpp.plm.quantization.QuantisationWarning")
def test_weights_expanded_at_each_call_and_once_agree(file, sequences, monkeypatch, bits):
    monkeypatch.setattr(loading, "why_no_bytes", lambda: "not here")
    path = file(bits)
    once = load_quantised(path, "tiny")
    monkeypatch.setattr(loading, "_FEW_WEIGHTS", 0)
    each = load_quantised(path, "tiny")
    assert (once.way.name, each.way.name) == ("once", "each call")
    for a, b in zip(once.embed(sequences), each.embed(sequences), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.filterwarnings("ignore::openfoldpp.plm.quantization.QuantisationWarning")
def test_a_sequence_does_not_depend_on_its_batch(file, sequences, bits):
    model = load_quantised(file(bits), "tiny")
    together = model.embed(sequences)
    for sequence, expected in zip(sequences, together, strict=True):
        # Attention and norms round otherwise in another batch; a byte may then become its neighbour.
        torch.testing.assert_close(model.embed([sequence])[0], expected, atol=0.02, rtol=0.02)


def test_a_layer_a_dtype_and_the_limit_are_heeded(model, file, sequences):
    path = file(4)
    assert torch.equal(
        load_quantised(path, "tiny", layer=0).embed(sequences)[0],
        loaded_at(model, 0, sequences),
    )
    half = load_quantised(path, "tiny", dtype="bfloat16")
    assert half.encoder.blocks[0].expand.weight.dtype == torch.bfloat16
    assert half.max_residues == model.max_residues
    assert half.fingerprint != load_quantised(path, "tiny").fingerprint
    with pytest.raises(InputError, match="layer 3"):
        load_quantised(path, "tiny", layer=3)


def loaded_at(model, layer, sequences):
    model.layer = layer
    return model.embed(sequences)[0]


def test_the_file_may_go_away(file, sequences):
    path = file(4)
    model = load_quantised(path, "tiny")
    expected = model.embed(sequences)
    path.write_bytes(bytes(path.stat().st_size))
    for a, b in zip(model.embed(sequences), expected, strict=True):
        assert torch.equal(a, b)


def test_another_models_file_is_refused(file):
    with pytest.raises(WeightsError, match="a quantised tiny, expected antiberty"):
        load_quantised(file(8), "antiberty")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("blocks.1.expand.scales", lambda t: t * torch.nan, "blocks.1.expand.scales holds NaN"),
        ("blocks.0.attention.qkv.bias", lambda t: t + torch.inf, "qkv.bias holds NaN, infinity"),
        ("blocks.0.contract.divisors", lambda t: t * 0, "contract.divisors holds NaN, infinity or zero"),
        (
            "blocks.0.contract.codes",
            lambda t: t[:, 1:],
            r"contract.codes is .* expected torch.int8 \[40, 144\]",
        ),
        ("blocks.0.norm_attention.weight", lambda t: t * torch.nan, "norm_attention.weight holds NaN"),
        ("tokens.weight", lambda t: t[1:], "tokens.weight has shape"),
    ],
)
def test_bad_values_are_named(model, file, name, change, message):
    tensors = quantise(model.encoder, [], 8, method="nearest")
    with pytest.raises(WeightsError, match=message):
        load_quantised(file(8, **{name: change(tensors[name])}), "tiny")


def test_a_missing_layer_is_named(model, description, tmp_path):
    tensors = quantise(model.encoder, [], 8, method="nearest")
    del tensors["blocks.1.expand.divisors"]
    save(tmp_path / "f", tensors, description(8))
    with pytest.raises(WeightsError, match=r"blocks\.1\.expand\.divisors is missing"):
        load_quantised(tmp_path / "f", "tiny")
