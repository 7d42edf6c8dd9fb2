"""2-simplicial attention on a GPU, by both of its backends: as exact as torch in the same dtype."""

import pytest
import torch

from openfoldpp.errors import BackendError
from openfoldpp.ops import simplicial_attention

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

DEVICE = "cuda"
NAMES = ("out", "q", "k", "k2", "v", "v2", "bias")


def in_torch(q, k, k2, v, v2, mask, bias, window):
    """Attend in the dtype of the inputs, which the op's own torch form does not."""
    n = q.shape[-2]

    def pairs(first, second):
        return (first.unsqueeze(-2) * second.unsqueeze(-3)).flatten(-3, -2)

    place = torch.arange(n, device=q.device)
    far = (place[:, None] - place).abs()
    kept = mask[:, None, None, :] != 0
    near_j, near_k = (kept & (far <= (n if reach is None else reach)) for reach in window)
    logits = (q * q.shape[-1] ** -0.5) @ pairs(k, k2).mT
    logits = logits.unflatten(-1, (n, n)) + bias.unsqueeze(-1)
    logits = logits.masked_fill(~(near_j.unsqueeze(-1) & near_k.unsqueeze(-2)), -torch.inf).flatten(-2)
    return logits.softmax(dim=-1) @ pairs(v, v2)


def with_gradients(attend, tensors, mask, window, grad_out, dtype):
    leaves = [x.to(DEVICE, dtype, copy=True).requires_grad_() for x in tensors]
    *qkv, bias = leaves
    out = attend(*qkv, mask.to(DEVICE, dtype), bias, window)
    gradients = torch.autograd.grad(out, leaves, grad_out.to(DEVICE, dtype))
    return dict(zip(NAMES, (x.detach().double() for x in (out, *gradients)), strict=True))


@pytest.mark.parametrize("backend", ["cuda", "triton"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("n", "channels", "window"), [(33, 16, (None, None)), (100, 64, (5, 40)), (129, 128, (None, 3))]
)
def test_as_exact_as_torch(backend, dtype, n, channels, window, environment, draw):
    environment(OPENFOLDPP_BACKEND=backend)
    # Rounded first: what is compared is the computing.
    tensors = [draw(2, 2, n, channels).to(dtype).double() for _ in range(5)]
    tensors.append(draw(2, 2, n, n).to(dtype).double())
    mask = (draw(2, n) > -1).double()
    mask[:, ::5] = 1  # every query has a pair in its window
    given = (tensors, mask, window, draw(2, 2, n, channels).to(dtype).double())
    try:
        found = with_gradients(simplicial_attention, *given, dtype)
    except BackendError as error:
        pytest.skip(str(error))
    torchs = with_gradients(in_torch, *given, dtype)
    exact = with_gradients(in_torch, *given, torch.float64)
    for name in NAMES:
        error, allowed = ((x[name] - exact[name]).norm() for x in (found, torchs))
        assert error <= 2 * allowed + 2 * torch.finfo(dtype).eps * exact[name].abs().max(), name


@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_what_a_masked_key_holds_does_not_matter(backend, environment, draw):
    environment(OPENFOLDPP_BACKEND=backend)
    tensors = [draw(1, 2, 40, 16) for _ in range(5)] + [draw(1, 2, 40, 40)]
    mask = torch.ones(1, 40)
    mask[:, ::3] = 0
    given = (mask, (None, None), draw(1, 2, 40, 16), torch.float32)
    try:
        expected = with_gradients(simplicial_attention, tensors, *given)
    except BackendError as error:
        pytest.skip(str(error))
    for tensor in tensors[1:5]:
        tensor[:, :, ::3] = torch.nan
    found = with_gradients(simplicial_attention, tensors, *given)
    for name in NAMES:
        assert torch.equal(found[name], expected[name]), name
