"""What a kernel passes over is looked at before each call: patches, hooks, tangents, numbers."""

import copy
import functools

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from openfoldpp.errors import InputError
from openfoldpp.upstream.acceleration import accelerate, explain
from openfoldpp.upstream.acceleration.layers import replaced


@pytest.fixture
def attention(build):
    return build("triangular_attention", "TriangleAttention")


@pytest.fixture
def transition(build):
    return build("pair_transition", "PairTransition")


def patch(kind, monkeypatch, form):
    """Replace the forward of a class by one that counts its calls; returns them."""
    calls, original = [], kind.forward

    def counted(self, *given, **named):
        calls.append(1)
        return original(self, *given, **named)

    forms = {
        "function": counted,
        "wrapper": functools.wraps(original)(counted),
        "partial method": functools.partialmethod(counted),
    }
    monkeypatch.setattr(kind, "forward", forms[form])
    return calls


@torch.no_grad()
@pytest.mark.parametrize("form", ["wrapper", "function", "partial method"])
@pytest.mark.parametrize("layer", [None, "mha", "linear", "layer_norm"], ids=str)
def test_a_patch_on_a_class_is_called_and_named(layer, form, attention, draw, monkeypatch):
    kind = type(attention if layer is None else getattr(attention, layer))
    calls = patch(kind, monkeypatch, form)
    with pytest.raises(InputError, match=f"TriangleAttention: another package has replaced {kind.__name__}"):
        accelerate(attention)
    attention(draw(5, 5, 12))
    assert calls


@torch.no_grad()
@pytest.mark.parametrize("form", ["wrapper", "function", "partial method"])
@pytest.mark.parametrize("layer", [None, "mha", "linear", "layer_norm"], ids=str)
def test_a_later_patch_on_a_class_is_called(layer, form, attention, draw, monkeypatch):
    z = draw(5, 5, 12)
    expected = accelerate(attention)(z)
    with monkeypatch.context() as patched:
        kind = type(attention if layer is None else getattr(attention, layer))
        calls = patch(kind, patched, form)
        assert not torch.equal(attention(z), expected)
        assert calls
        assert f"replaced {kind.__name__}.forward" in explain(attention)
    assert torch.equal(attention(z), expected)


@torch.no_grad()
def test_a_patch_is_called_by_a_copy_that_was_made_under_it(attention, draw, monkeypatch):
    calls = patch(type(accelerate(attention)), monkeypatch, "wrapper")
    copy.deepcopy(attention)(draw(5, 5, 12))
    assert calls


@torch.no_grad()
@pytest.mark.parametrize("kind", ["part", "dropout"])
def test_a_patch_on_a_class_in_a_block_is_called(kind, build, draw, monkeypatch, release):
    place, name = ("evoformer", "EvoformerBlockCore") if release == "0.0.1" else ("evoformer", "PairStack")
    block = accelerate(build(place, name))
    z, mask = draw(5, 5, 12), draw(5, 5, mask=True)
    part = block.tri_att_start if kind == "part" else block.ps_dropout_row_layer
    calls = patch(type(part), monkeypatch, "wrapper")
    if name == "PairStack":
        block(z, mask)
    else:
        block((draw(3, 5, 18), z), draw(3, 5, mask=True), mask)
    assert calls


def test_no_method_of_upstreams_seems_replaced(build):
    stack = build("evoformer", "EvoformerStack")
    assert {replaced(type(part)) for part in stack.modules()} == {None}
    assert replaced(type(stack.chunk_size_tuner)) is None


@torch.no_grad()
@pytest.mark.parametrize("listen", [register_module_forward_hook, register_module_forward_pre_hook])
def test_a_hook_on_every_module_is_called(listen, attention, draw):
    heard = []
    handle = listen(lambda module, *given: heard.append(module))
    try:
        accelerate(attention)(draw(5, 5, 12))
    finally:
        handle.remove()
    assert attention.mha.linear_q in heard


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, of its derivatives
@pytest.mark.parametrize("of", ["input", "parameter"])
def test_a_tangent_is_carried_forward(of, attention, draw):
    z, weight = draw(5, 5, 12), attention.mha.linear_o.weight.detach()
    directions = draw(5, 5, 12), draw(*weight.shape)

    def tangent(module):
        with forward_ad.dual_level():
            if of == "input":
                result = module(forward_ad.make_dual(z, directions[0]))
            else:
                dual = {"mha.linear_o.weight": forward_ad.make_dual(weight, directions[1])}
                result = torch.func.functional_call(module, dual, (z,))
            return forward_ad.unpack_dual(result).tangent

    attention.requires_grad_(False)
    expected = tangent(copy.deepcopy(attention))
    assert expected.abs().max() > 0
    assert torch.equal(tangent(accelerate(attention)), expected)


@torch.no_grad()
def test_a_transform_of_torch_func_is_upstreams(transition, draw):
    z = draw(2, 5, 5, 12)
    expected = torch.func.vmap(copy.deepcopy(transition))(z)
    assert torch.equal(torch.func.vmap(accelerate(transition))(z), expected)


@torch.no_grad()
@pytest.mark.parametrize("numbers", [{"eps": 1.0}, {"no_heads": 5, "c_hidden": 3}, {"no_heads": 5}], ids=str)
def test_a_changed_number_counts_at_once(numbers, build, draw):
    attention, m = build("msa", "MSAColumnAttention"), draw(5, 5, 18)
    accelerated = accelerate(copy.deepcopy(attention))
    before = accelerated(m)
    for module in (attention, accelerated):
        part = module._msa_att
        for name, value in numbers.items():
            setattr(part.layer_norm_m if name == "eps" else part.mha, name, value)
    ours = accelerated(m)
    assert not torch.allclose(ours, before, atol=1e-3)
    torch.testing.assert_close(ours, attention(m), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_packed_weights_go_when_the_module_leaves_float32(transition, draw):
    accelerate(transition)(draw(5, 5, 12))
    swap = transition.forward
    with torch.enable_grad():
        transition(draw(5, 5, 12))
    assert swap._weights is not None  # a gradient is asked for now and then
    transition.double()(draw(5, 5, 12).double())
    assert swap._weights is None
    assert not swap._held
