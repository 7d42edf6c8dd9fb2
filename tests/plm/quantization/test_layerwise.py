import pytest
import torch

from openfoldpp import plm
from openfoldpp.errors import InputError
from openfoldpp.plm.quantization import Description, load_quantised, quantise, save
from openfoldpp.plm.quantization.layerwise import smoothing_divisors
from openfoldpp.plm.quantization.report import compare
from openfoldpp.plm.quantization.sequences import sequence_set


def cosine(found, expected):
    return min(
        float(torch.cosine_similarity(a, b, dim=-1).mean()) for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize(("bits", "least"), [(8, 0.9995), (4, 0.97)])
def test_embeddings_stay_close_and_closer_than_rounded_to_nearest(
    model, sequences, calibration, description, tmp_path, bits, least
):
    expected = model.embed(sequences)
    found = {}
    for method in ("gptq", "nearest"):
        save(
            tmp_path / method,
            quantise(model.encoder, calibration, bits, method=method),
            description(bits, method),
        )
        found[method] = load_quantised(tmp_path / method, "tiny").embed(sequences)
    assert cosine(found["gptq"], expected) > max(least, cosine(found["nearest"], expected))


def test_the_encoder_is_not_changed_and_all_that_is_no_linear_layer_is_kept(model, calibration):
    before = {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}
    found = quantise(model.encoder, calibration, 4)
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, before[name])
        if name in found:
            assert torch.equal(tensor, found[name])
    # All weights of the blocks but those of the two norms.
    left_out = set(before) - set(found)
    assert left_out == {
        f"blocks.{i}.{name}.weight"
        for i in (0, 1)
        for name in ("attention.qkv", "attention.output", "expand", "contract")
    }


def test_how_sequences_are_grouped_changes_nothing_but_rounding(model, calibration, monkeypatch):
    monkeypatch.setattr("openfoldpp.plm.quantization.layerwise._BATCH_TOKENS", 100)
    in_parts = quantise(model.encoder, calibration, 8)
    monkeypatch.undo()
    at_once = quantise(model.encoder, calibration, 8)
    for name, tensor in at_once.items():
        close = (in_parts[name].float() - tensor.float()).abs() <= 1e-4
        assert close.float().mean() > 0.98, name


def test_progress_counts_blocks(model, calibration):
    seen = []
    quantise(model.encoder, calibration[:2], 8, progress=seen.append)
    assert seen == [1, 2]


def test_smoothing_shares_the_spread_between_inputs_and_weights():
    weight = torch.tensor([[1.0, -4.0, 0.0, 2.0]])
    divisors = smoothing_divisors(torch.tensor([4.0, 1.0, 5.0, 0.0]), weight)
    assert divisors.tolist() == [2.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("bits", "sequences", "method", "message"),
    [(5, 1, "gptq", "5 bits"), (8, 0, "gptq", "--calibration"), (8, 1, "awq", "method 'awq'")],
)
def test_what_cannot_be_done_is_said(model, calibration, bits, sequences, method, message):
    with pytest.raises(InputError, match=message):
        quantise(model.encoder, calibration[:sequences], bits, method=method)


def test_half_precision_is_refused(model, calibration):
    with pytest.raises(InputError, match="load it in float32"):
        quantise(model.encoder.half(), calibration, 8)


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "least"), [(8, 0.9995), (4, 0.985)])
def test_antiberty_reaches_its_figures_on_other_sequences(tmp_path, bits, least):
    antiberty = plm.load("antiberty")
    shipped = sequence_set(antiberty.alphabet)
    expected = antiberty.embed(shipped.held_out)
    tokens = [torch.tensor(antiberty.alphabet.encode(sequence)) for sequence in shipped.calibration]
    means = {}
    for method in ("gptq", "nearest"):
        description = Description(
            model=antiberty.name,
            bits=bits,
            method=method,
            architecture=antiberty.encoder.architecture,
            alphabet=antiberty.alphabet,
            max_residues=antiberty.max_residues,
            source=antiberty.fingerprint,
            calibration="shipped",
        )
        tensors = quantise(antiberty.encoder, tokens, bits, method=method)
        save(tmp_path / method, tensors, description)
        quantised = load_quantised(tmp_path / method, antiberty.name)
        means[method] = compare(quantised, shipped.held_out, expected).mean
    assert means["gptq"] > max(least, means["nearest"])
