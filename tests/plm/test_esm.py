import warnings

import numpy as np
import pytest
import torch

from openfoldpp import plm
from openfoldpp.errors import InputError, WeightsError
from openfoldpp.plm import esm as ours
from openfoldpp.plm.esm import ESM1B_MAX_RESIDUES, NAMES, SIZES

# Everything that the alphabet has; at J fair-esm's own converter ends.
LETTERS = "LAGVSERTIDPKQNFYMHWCXBUZO-."


def random_sequence(rng, length):
    return "".join(rng.choice(list(LETTERS), length))


def fair_esm(model, sequences, layer):
    """Embeddings by fair-esm's own tokens, padding and model."""
    import esm

    converter = esm.Alphabet.from_architecture("ESM-1b").get_batch_converter()
    tokens = converter([(str(i), sequence) for i, sequence in enumerate(sequences)])[2]
    with torch.no_grad():
        out = model(tokens, repr_layers=[layer])["representations"][layer]
    return [out[i, 1 : 1 + len(sequence)] for i, sequence in enumerate(sequences)]


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == torch.float32
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_every_length_alone_and_in_a_batch_equals_fair_esm(small_esm):
    name, reference, path = small_esm
    rng = np.random.default_rng(1)
    sequences = [random_sequence(rng, length) for length in range(1, 71)]
    model = plm.load(name, path)
    for sequence in sequences:
        assert_equal(model.embed([sequence]), fair_esm(reference, [sequence], 3))
    rng.shuffle(sequences)
    assert_equal(model.embed(sequences), fair_esm(reference, sequences, 3))
    assert_equal(model.embed(sequences, batch_tokens=100), fair_esm(reference, sequences, 3))


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_every_layer_equals_fair_esm(small_esm, layer):
    name, reference, path = small_esm
    sequences = ["ACDEFGHIKLMNPQRSTVWY", "MKV"]
    assert_equal(plm.load(name, path, layer=layer).embed(sequences), fair_esm(reference, sequences, layer))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["esm2_t30_150M_UR50D"])
def test_a_model_of_the_real_size_equals_fair_esm(name, tmp_path, esm_file):
    reference, path = esm_file(name, SIZES[name])
    rng = np.random.default_rng(2)
    sequences = [random_sequence(rng, length) for length in (70, 31, 1)]
    found = plm.load(name, path).embed(sequences)
    assert_equal(found, fair_esm(reference, sequences, SIZES[name][0]))


def test_the_names_and_sizes_are_those_of_fair_esm():
    import esm.pretrained

    theirs = {name for name in dir(esm.pretrained) if name.startswith("esm2_")}
    assert theirs == set(NAMES) - {"esm1b"}


@pytest.mark.parametrize("small_esm", ["esm2_t6_8M_UR50D"], indirect=True)
def test_a_long_sequence_is_embedded_whole_where_nothing_limits_it(small_esm):
    name, reference, path = small_esm
    sequence = random_sequence(np.random.default_rng(3), ESM1B_MAX_RESIDUES + 200)
    assert_equal(plm.load(name, path).embed([sequence]), fair_esm(reference, [sequence], 3))


@pytest.mark.parametrize("small_esm", ["esm1b"], indirect=True)
def test_a_long_sequence_is_windowed_and_blended_where_positions_are_learned(small_esm):
    name, reference, path = small_esm
    sequence = random_sequence(np.random.default_rng(3), ESM1B_MAX_RESIDUES + 200)
    with pytest.warns(plm.LongSequenceWarning, match=r"1,022 residues that esm1b takes.*up to 1,222"):
        [found, short] = plm.load(name, path).embed([sequence, "ACD"])
    assert found.shape == (len(sequence), 40)
    pieces = sequence[:ESM1B_MAX_RESIDUES], sequence[-ESM1B_MAX_RESIDUES:]
    first, last = (fair_esm(reference, [piece], 3)[0] for piece in pieces)
    assert_equal([found[:200], found[-200:]], [first[:200], last[-200:]])
    assert_equal([short], fair_esm(reference, ["ACD"], 3))
    middle, left, right = found[200:ESM1B_MAX_RESIDUES], first[200:], last[:-200]
    assert (middle >= torch.minimum(left, right) - 1e-4).all()
    assert (middle <= torch.maximum(left, right) + 1e-4).all()


def test_half_precision_computes_near_the_same(small_esm):
    name, reference, path = small_esm
    [found] = plm.load(name, path, dtype="bfloat16").embed(["ACDEFGHIKLMNPQRSTVWY"])
    [expected] = fair_esm(reference, ["ACDEFGHIKLMNPQRSTVWY"], 3)
    difference = (found - expected).abs().max() / expected.abs().max()
    assert 1e-6 < difference < 0.1


def test_an_embedding_that_is_not_finite_is_refused(small_esm, tmp_path):
    name, _, path = small_esm
    data = torch.load(path, weights_only=False)
    _first(data, "fc1.bias").fill_(6e4)  # finite in float16; what the layer behind it makes of that is not
    torch.save(data, tmp_path / "large.pt")
    plm.load(name, tmp_path / "large.pt").embed(["ACD"])
    with pytest.raises(
        InputError, match=r"NaN or infinity, computed in torch.float16; give --plm_dtype float32"
    ):
        plm.load(name, tmp_path / "large.pt", dtype="float16").embed(["ACD"])
    model = plm.load(name, path)
    model.encoder.blocks[0].expand.bias[0] = torch.nan
    with pytest.raises(InputError, match="its weights are damaged"):
        model.embed(["ACD"])


def test_one_text_is_no_list_of_sequences(small_esm):
    name, _, path = small_esm
    with pytest.raises(
        InputError, match=r"sequences is the text 'EVQLV': expected a list, such as \['EVQLV'\]"
    ):
        plm.load(name, path).embed("EVQLV")


def test_the_fingerprint_tells_weights_layers_and_dtypes_apart(small_esm, tmp_path, esm_file):
    name, _, path = small_esm
    other = esm_file(name, ours.SIZES[name], seed=1)[1]
    models = [
        plm.load(name, path),
        plm.load(name, path, layer=1),
        plm.load(name, path, dtype="bfloat16"),
        plm.load(name, other),
    ]
    assert len({model.fingerprint for model in models}) == 4
    assert models[0].fingerprint == plm.load(name, path, layer=3, dtype="float32").fingerprint


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda data: data.pop("model"), "has no 'model'"),
        (lambda data: _first(data, "fc1.weight").fill_(float("nan")), "holds NaN"),
        (lambda data: _first(data, "fc1.weight")[0].fill_(float("inf")), "holds NaN"),
        (
            lambda data: data["model"].pop(_key(data, "layers.1.fc1.bias")),
            r"blocks\.1\.expand\.bias is missing",
        ),
        (lambda data: data["model"].pop(_key(data, "layers.1.self_attn.k_proj.bias")), "lacks a part"),
        (lambda data: data["model"].pop(_key(data, "embed_tokens.weight")), "no token embedding"),
    ],
    ids=["model", "nan", "inf", "missing", "projection", "tokens"],
)
def test_a_broken_file_is_an_error_that_says_what_is_wrong(small_esm, tmp_path, break_it, message):
    name, _, path = small_esm
    data = torch.load(path, weights_only=False)
    break_it(data)
    broken = tmp_path / "broken.pt"
    torch.save(data, broken)
    with pytest.raises(WeightsError, match=message) as caught:
        plm.load(name, broken)
    assert "broken.pt" in str(caught.value)


def _key(data, end):
    return next(key for key in data["model"] if key.endswith(end))


def _first(data, end):
    return data["model"][_key(data, end)]


def test_another_models_file_is_named(small_esm, esm_file):
    name, _, path = small_esm
    with pytest.raises(WeightsError, match=rf"the file of {name}, expected esm2_t12_35M_UR50D"):
        plm.load("esm2_t12_35M_UR50D", path)
    _, other = esm_file("esm2_t6_8M_UR50D", (2, 24, 2))
    with pytest.raises(WeightsError, match=rf"a model of 2 layers, 24 channels, expected {name}"):
        plm.load(name, other)


@pytest.mark.parametrize("small_esm", ["esm2_t6_8M_UR50D"], indirect=True)
def test_a_file_with_different_rotary_frequencies_in_its_layers_is_refused(small_esm):
    name, _, path = small_esm
    data = torch.load(path, weights_only=False)
    _first(data, "layers.1.self_attn.rot_emb.inv_freq").mul_(2)
    torch.save(data, path)
    with pytest.raises(WeightsError, match="rotary frequencies differ"):
        plm.load(name, path)


def test_a_missing_file_is_said_with_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        plm.load("esm1b")
    for words in ("esm1b_t33_650M_UR50S.pt", str(tmp_path), "fair-esm/models", "--plm_weights"):
        assert words in str(caught.value)


def test_the_cache_of_fair_esm_is_used(small_esm, tmp_path, monkeypatch):
    name, reference, path = small_esm
    (tmp_path / "checkpoints").mkdir()
    file = "esm1b_t33_650M_UR50S" if name == "esm1b" else name
    path.rename(tmp_path / "checkpoints" / f"{file}.pt")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert_equal(plm.load(name).embed(["ACD"]), fair_esm(reference, ["ACD"], 3))


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_that_is_not_there_is_refused(small_esm, layer):
    name, _, path = small_esm
    with pytest.raises(InputError, match=rf"layer {layer}: {name} has layers 0 \(its input\) to 3"):
        plm.load(name, path, layer=layer)


def test_no_warning_is_given_for_short_sequences(small_esm):
    name, _, path = small_esm
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plm.load(name, path).embed(["ACD"])
