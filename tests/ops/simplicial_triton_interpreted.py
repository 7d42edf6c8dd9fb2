"""The Triton kernels of 2-simplicial attention, run on the CPU by triton's interpreter.

``test_simplicial_triton.py`` runs this file in a process with ``TRITON_INTERPRET=1``, which triton reads when
it is imported. Operands of products are float32 there: what bfloat16 loses in them is seen on a GPU alone.
"""

import pytest
import torch

from openfoldpp.ops import simplicial_attention, simplicial_triton

NAMES = ("q", "k", "k2", "v", "v2", "bias")


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 16: a short sequence, which the interpreter can do, then has several blocks each way."""
    monkeypatch.setattr(simplicial_triton, "_tiles", lambda *_: simplicial_triton._Tiles(16, 16, 1))


def with_gradients(attend, inputs, bias, grad_out, dtype, **keywords):
    leaves = [None if x is None else x.detach().to(dtype).requires_grad_() for x in (*inputs, bias)]
    out = attend(*leaves[:5], bias=leaves[5], **keywords)
    given = [leaf for leaf in leaves if leaf is not None]
    gradients = torch.autograd.grad(out, given, grad_out.to(dtype))
    return {"out": out.detach()} | dict(zip(NAMES, gradients, strict=False))


@pytest.fixture
def assert_as_exact_as_torch(environment, draw, simplicial_attention_by_definition, assert_as_exact_as):
    """Check output and gradients against the loops; the reference is torch's best form, ours in torch."""

    def check(inputs, mask=None, bias=None, window=None, dtype=torch.float32):
        inputs, grad_out = [x.to(dtype) for x in inputs], draw(*inputs[0].shape).to(dtype)
        bias = None if bias is None else bias.to(dtype)
        given = {"inputs": inputs, "bias": bias, "grad_out": grad_out, "window": window}
        given["mask"] = None if mask is None else mask.to(dtype)
        found = {}
        for backend in ("triton", "torch"):
            environment(OPENFOLDPP_BACKEND=backend)
            found[backend] = with_gradients(simplicial_attention, **given, dtype=dtype)
        exact = with_gradients(simplicial_attention_by_definition, **given, dtype=torch.float64)
        for name in exact:
            assert found["triton"][name].dtype == dtype
            assert_as_exact_as(found["triton"][name], found["torch"][name], exact[name])

    return check


@pytest.fixture
def draw_inputs(draw):
    """Return a function that draws q, k, k2, v and v2, evenly: see ``test_simplicial_attention.py``."""

    def inputs(n, channels, batch=1, heads=1, kv_heads=1):
        counts = (heads, kv_heads, kv_heads, kv_heads, kv_heads)
        return [3**0.5 * torch.erf(draw(batch, count, n, channels) / 2**0.5) for count in counts]

    return inputs


@pytest.mark.parametrize(
    ("n", "channels", "dtype"), [(1, 16, torch.float32), (2, 32, torch.bfloat16), (7, 128, torch.float32)]
)
def test_one_tile(n, channels, dtype, draw_inputs, assert_as_exact_as_torch):
    assert_as_exact_as_torch(draw_inputs(n, channels, batch=2, heads=2, kv_heads=2), dtype=dtype)


SLOW_WINDOWS = [
    pytest.param(window, marks=pytest.mark.slow) for window in (None, (0, 0), (1, None), (None, 2), (3, 1000))
]


@pytest.mark.parametrize("window", [(1, 5), *SLOW_WINDOWS])
def test_windows_masks_biases_and_shared_keys(
    window, small_tiles, draw, draw_mask, draw_inputs, assert_as_exact_as_torch
):
    inputs = draw_inputs(18, 20, batch=2, heads=2)
    mask = draw_mask(2, 18)
    mask[0] = 0  # nothing to attend to
    assert_as_exact_as_torch(inputs, mask, draw(2, 2, 18, 18), window)


@pytest.mark.slow
def test_blocks_and_parts_in_bfloat16(small_tiles, draw, draw_inputs, assert_as_exact_as_torch):
    assert_as_exact_as_torch(draw_inputs(35, 16), bias=draw(1, 1, 35, 35), dtype=torch.bfloat16)


@pytest.mark.slow
def test_a_large_bias_and_logits_that_overflow(small_tiles, draw, draw_inputs, assert_as_exact_as_torch):
    inputs = draw_inputs(18, 16)
    assert_as_exact_as_torch(inputs, bias=draw(1, 1, 18, 18, mean=1e4))
    assert_as_exact_as_torch([30 * inputs[0], *inputs[1:]])  # e^logit is infinite


@pytest.mark.slow
def test_strides_of_every_kind(small_tiles, draw, assert_as_exact_as_torch):
    n, channels = 17, 8
    inputs = [
        draw(2, n, 2, channels).transpose(1, 2),  # heads inside positions
        draw(2, 1, channels, n).mT,  # channels apart
        draw(2, 1, 2 * n, channels)[:, :, ::2],  # every second row
        draw(1, 1, n, channels).expand(2, 1, n, channels),  # one row for both
        draw(2, 1, 1, channels).expand(2, 1, n, channels),  # one vector for all positions
    ]
    mask = (draw(n, 2) > -0.5).float().T
    assert_as_exact_as_torch(inputs, mask, draw(n, 2, 2, n).permute(1, 2, 3, 0))


def test_what_a_masked_key_holds_does_not_matter(environment, draw_inputs):
    environment(OPENFOLDPP_BACKEND="triton")
    inputs = draw_inputs(16, 16)  # in two parts
    mask = torch.ones(1, 16)
    out = [0, 5, 15]
    mask[:, out] = 0
    given = {"bias": None, "grad_out": torch.ones(1, 1, 16, 16), "dtype": torch.float32, "mask": mask}
    expected = with_gradients(simplicial_attention, inputs, **given)
    for tensor in inputs[1:]:
        tensor[:, :, out] = torch.nan
    found = with_gradients(simplicial_attention, inputs, **given)
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def test_a_query_without_pairs_gets_zeros_and_gives_no_gradient(environment, draw, draw_inputs):
    environment(OPENFOLDPP_BACKEND="triton")
    inputs = draw_inputs(12, 16)
    mask = torch.ones(1, 12)
    mask[:, :6] = 0
    bias = draw(1, 1, 12, 12)
    bias[:, :, 11] = -torch.inf
    given = {"grad_out": torch.ones(1, 1, 12, 16), "dtype": torch.float32, "mask": mask, "window": (2, 3)}
    found = {name: x[0, 0] for name, x in with_gradients(simplicial_attention, inputs, bias, **given).items()}
    nothing = [0, 1, 2, 3, 11]  # too far from the keys, and shut out by the bias
    assert (found["out"].abs().sum(dim=-1) == 0).nonzero().flatten().tolist() == nothing
    for name in ("q", "bias"):
        assert not found[name][nothing].any()
    for name in ("k", "k2", "v", "v2"):
        assert not found[name][:6].any()
        assert found[name].isfinite().all()


def test_one_pair_has_all_the_weight_and_its_logit_no_gradient(environment, draw_inputs):
    environment(OPENFOLDPP_BACKEND="triton")
    inputs = draw_inputs(5, 32, heads=2)
    grad_out = torch.ones(1, 2, 5, 32)
    for dtype in (torch.float32, torch.bfloat16):
        found = with_gradients(simplicial_attention, inputs, None, grad_out, dtype, window=(0, 0))
        for name in ("q", "k", "k2"):
            assert not found[name].any(), (dtype, name)


def test_empty_tensors_stay_empty(environment):
    environment(OPENFOLDPP_BACKEND="triton")
    for shape in ((0, 2, 5, 16), (2, 2, 0, 16)):
        q = torch.zeros(shape, requires_grad=True)
        bias = torch.zeros(*shape[:3], shape[2], requires_grad=True)
        out = simplicial_attention(*(q,) * 5, bias=bias)
        assert out.shape == shape
        out.sum().backward()
        assert (q.grad.shape, bias.grad.shape) == (shape, bias.shape)


@pytest.mark.slow
def test_the_tiles_of_a_gpu(draw_inputs, assert_as_exact_as_torch):
    assert_as_exact_as_torch(draw_inputs(70, 64))
