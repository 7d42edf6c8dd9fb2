"""Features added to upstream's representations: in every recycle, nothing where there are none, and undone.

Run for OpenFold 2 as well: ``OPENFOLD_HOME=CHECKOUT pytest tests/upstream/test_added_features.py``.
"""

import copy
from argparse import Namespace

import pytest
import torch

from openfoldpp.errors import InputError
from openfoldpp.motifs.features import PAIR_CHANNELS
from openfoldpp.motifs.projections import MotifProjections
from openfoldpp.types import Chain, Target
from openfoldpp.upstream import acceleration, added_features, single_row
from openfoldpp.upstream.single_row_features import single_row_features

PRESET = "model_1_ptm"
SEQUENCE = "EVQLVESGGGLVQPGGSLRLS"
RECYCLES = 3
SMALL = {
    "model.evoformer_stack.no_blocks": 1,
    "model.extra_msa.extra_msa_stack.no_blocks": 1,
    "model.extra_msa.extra_msa_stack.ckpt": False,
    "model.template.template_pair_stack.no_blocks": 1,
    "model.structure_module.no_blocks": 1,
    "data.common.max_recycling_iters": RECYCLES - 1,
    "data.predict.masked_msa_replace_fraction": 0.0,
    "data.predict.max_msa_clusters": 3,
    "data.predict.max_extra_msa": 2,
}
KEYS = ("msa", "pair", "single", "plddt", "final_atom_positions", "distogram_logits")


@pytest.fixture(scope="module")
def config():
    from openfoldpp.upstream import activate

    activate()
    from openfold.config import model_config

    config = model_config(PRESET)
    config.update_from_flattened_dict(SMALL)
    return config


@pytest.fixture(scope="module")
def drawn(config):
    """A small model whose every parameter is random."""
    from openfold.model.model import AlphaFold

    draw = torch.Generator().manual_seed(0)
    model = AlphaFold(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.05)
    return model


@pytest.fixture
def model(drawn):
    yield drawn
    added_features.undo(drawn)
    single_row.undo(drawn)
    acceleration.undo(drawn)


@pytest.fixture(scope="module")
def batch(config):
    from openfoldpp.upstream.model import process_features

    plain = dict.fromkeys(("openfold_home", "template_mmcif_dir", "use_precomputed_alignments"))
    options = Namespace(**plain, config_preset=PRESET, multimer_ri_gap=200)
    return process_features(single_row_features(Target("t", (Chain("A", SEQUENCE),)), options), config, "cpu")


@pytest.fixture
def projections():
    """Projections whose every weight is random."""
    made = MotifProjections(c_m=256, c_z=128, preset=PRESET)
    for number, parameter in enumerate(made.parameters()):
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
    return made


def features(recycles=range(RECYCLES)):
    """Random features, in these recycles."""
    draw = torch.Generator().manual_seed(3)
    n = len(SEQUENCE)
    found = {
        added_features.SINGLE: torch.randn(n, 256, RECYCLES, generator=draw),
        added_features.PAIR: torch.randn(n, n, PAIR_CHANNELS, RECYCLES, generator=draw),
    }
    mask = torch.tensor([float(recycle in recycles) for recycle in range(RECYCLES)])
    return {name: value * mask for name, value in found.items()}


def predict(model, batch):
    with torch.no_grad():
        return model({key: value.clone() for key, value in batch.items()})


def bits(output):
    return {key: output[key].numpy().tobytes() for key in KEYS}


def test_without_features_every_bit_is_as_before(model, batch, projections):
    """Also with features of zero, which is what no hits give."""
    expected = bits(predict(model, batch))
    added_features.attach(model, projections)
    assert bits(predict(model, batch)) == expected
    assert bits(predict(model, batch | features(recycles=()))) == expected


def test_zero_projections_change_nothing(model, batch):
    expected = bits(predict(model, batch))
    added_features.attach(model, MotifProjections(c_m=256, c_z=128, preset=PRESET))
    assert bits(predict(model, batch | features())) == expected


@pytest.mark.parametrize("recycle", range(RECYCLES))
def test_features_change_every_recycle(model, batch, projections, recycle):
    expected = predict(model, batch)
    added_features.attach(model, projections)
    found = predict(model, batch | features(recycles=[recycle]))
    for key in ("pair", "msa", "plddt", "final_atom_positions"):
        assert not torch.equal(found[key], expected[key]), key


def test_each_recycle_gets_its_own_and_both_representations_change(model, batch, projections):
    """What leaves the input embedder, in each recycle, is what it was with the projections added."""
    seen = []
    handle = model.input_embedder.register_forward_hook(
        lambda module, args, output: seen.append([value.clone() for value in output])
    )
    predict(model, batch)
    handle.remove()
    added_features.attach(model, projections)
    plain, seen = seen, []
    handle = model.input_embedder.register_forward_hook(
        lambda module, args, output: seen.append([value.clone() for value in output])
    )
    given = features()
    predict(model, batch | given)
    handle.remove()
    assert len(seen) == len(plain) == RECYCLES
    for recycle, ((m, z), (m_plain, z_plain)) in enumerate(zip(seen, plain, strict=True)):
        single = given[added_features.SINGLE][..., recycle] @ projections.single.T
        pair = given[added_features.PAIR][..., recycle] @ projections.pair.T
        torch.testing.assert_close(m[0], m_plain[0] + single)
        assert torch.equal(m[1:], m_plain[1:])
        torch.testing.assert_close(z, z_plain + pair)


def test_gradients_reach_the_projections_alone(model, batch, projections):
    added_features.attach(model, projections)
    given = features()
    for value in given.values():
        value.requires_grad_(True)
    one = {key: value[..., :1] for key, value in (batch | given).items()}
    model(one)["distogram_logits"].square().mean().backward()
    assert projections.single.grad.abs().max() > 0
    assert projections.pair.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(value.grad is None for value in given.values())


def test_training_and_prediction_compute_the_same(model, batch, projections):
    added_features.attach(model, projections)
    given = {key: value[..., :1] for key, value in (batch | features()).items()}
    with torch.no_grad():
        expected = model(dict(given))
    found = model(dict(given))
    torch.testing.assert_close(found["pair"].detach(), expected["pair"], rtol=1e-4, atol=1e-4)


def test_leaves_names_and_can_be_undone(model, batch, projections):
    expected = bits(predict(model, batch))
    names, asking = list(model.state_dict()), [p.requires_grad for p in model.parameters()]
    assert all(asking)
    for _ in range(2):
        added_features.attach(model, projections)
    assert list(model.state_dict()) == names
    assert len(model._forward_pre_hooks) == len(model._forward_hooks) == 1
    assert len(model.input_embedder._forward_hooks) == 1
    assert added_features.undo(model) is model
    assert not any((model._forward_pre_hooks, model._forward_hooks, model.input_embedder._forward_hooks))
    assert [p.requires_grad for p in model.parameters()] == asking
    assert bits(predict(model, batch)) == expected


def test_features_are_let_go_after_the_run_and_after_an_error(model, batch, projections):
    added_features.attach(model, projections)
    [hook] = model._forward_pre_hooks.values()
    predict(model, batch | features())
    assert hook.__self__.features is None
    broken = batch | features()
    del broken["msa_mask"]
    with pytest.raises(KeyError):
        predict(model, broken)
    assert hook.__self__.features is None


def test_works_with_the_native_kernels_and_a_single_row(model, batch, projections):
    added_features.attach(model, projections)
    expected = predict(model, batch | features())
    acceleration.accelerate(model)
    found = predict(model, batch | features())
    scale = expected["pair"].abs().max()
    torch.testing.assert_close(found["pair"] / scale, expected["pair"] / scale, rtol=0, atol=1e-4)


def test_a_copy_predicts_the_same_and_has_projections_of_its_own(model, batch, projections):
    added_features.attach(model, projections)
    expected = predict(model, batch | features())["pair"]
    copied = copy.deepcopy(model)
    assert torch.equal(predict(copied, batch | features())["pair"], expected)
    [hook] = copied._forward_pre_hooks.values()
    hook.__self__.projections.pair.data.zero_()
    assert not torch.equal(predict(copied, batch | features())["pair"], expected)
    assert torch.equal(predict(model, batch | features())["pair"], expected)


def test_one_feature_alone_is_refused(model, batch, projections):
    added_features.attach(model, projections)
    given = features()
    del given[added_features.PAIR]
    with pytest.raises(InputError, match="one of motif_single and motif_pair"):
        predict(model, batch | given)


def test_another_embedder_is_refused(projections):
    other = torch.nn.Module()
    other.input_embedder = torch.nn.Linear(1, 1)
    with pytest.raises(InputError, match=r"input_embedder is a Linear: .* presets for one chain"):
        added_features.attach(other, projections)
