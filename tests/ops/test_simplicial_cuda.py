"""What the CUDA backend hands to its kernels, without a GPU: bindings of the same signature run here."""

import contextlib
import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from openfoldpp import _native
from openfoldpp.ops import dispatch, simplicial_attention, simplicial_cuda
from openfoldpp.ops.simplicial_inputs import Inputs

STREAM = 7


def array(view, rows, length):
    """Return the memory behind an address and the strides of batch, head and row."""
    address, *strides = view
    if not address:
        return None
    shape = (*rows, length)
    count = sum((size - 1) * stride for size, stride in zip(shape, (*strides, 1), strict=True)) + 1
    floats = np.frombuffer((ctypes.c_float * count).from_address(address), dtype=np.float32)
    return np.lib.stride_tricks.as_strided(
        floats, shape, [4 * stride for stride in (*strides, 1)], writeable=True
    )


class Bindings:
    """The bindings of a CUDA build; `seen` has the addresses that each call was given."""

    def __init__(self):
        self.seen = []

    def _inputs(self, bfloat16, sizes, window, q, k, k2, v, v2, mask, bias):
        assert not bfloat16
        self.seen += [q, k, k2, v, v2]
        batch, heads, kv_heads, n, channels = sizes
        self.queries, self.keys = (batch, heads, n), (batch, kv_heads, n)
        arrays = [array(q, self.queries, channels)]
        arrays += [array(view, self.keys, channels) for view in (k, k2, v, v2)]
        arrays.append(None if not mask else array((mask, 0, 0, n), (1, 1, batch), n)[0, 0])
        arrays.append(array(bias, self.queries, n))
        return arrays, tuple(None if reach < 0 else reach for reach in window)

    def cuda_simplicial_attention_forward(self, *arguments):
        *inputs, out, statistics, stream = arguments
        assert stream == STREAM
        arrays, window = self._inputs(*inputs)
        kept = array((statistics, *torch.empty(*self.queries, 2).stride()[:3]), self.queries, 2)
        out = array(out, self.queries, arrays[0].shape[-1])
        _native.simplicial_attention_forward(*arrays, window, out, kept, 1)

    def cuda_simplicial_workspace(self, bfloat16, sizes, window):
        assert not bfloat16
        assert len(sizes) == 5
        assert len(window) == 2
        return 48

    def cuda_simplicial_attention_backward(self, *arguments):
        *inputs, _, statistics, d_out, d_q, d_k, d_k2, d_v, d_v2, d_bias, workspace, stream = arguments
        assert stream == STREAM
        assert workspace
        arrays, window = self._inputs(*inputs)
        channels = arrays[0].shape[-1]
        kept = array((statistics, *torch.empty(*self.queries, 2).stride()[:3]), self.queries, 2)
        self.seen.append(d_out)
        gradients = [array(d_q, self.queries, channels)]
        gradients += [array(view, self.keys, channels) for view in (d_k, d_k2, d_v, d_v2)]
        gradients.append(array(d_bias, self.queries, self.queries[-1]))
        given = array(d_out, self.queries, channels)
        _native.simplicial_attention_backward(*arrays, window, kept, given, *gradients, 1)


@pytest.fixture
def bindings(monkeypatch):
    """Let the backend run on the CPU."""
    stubs = Bindings()
    monkeypatch.setattr(simplicial_cuda, "_native", stubs)
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=STREAM))
    return stubs


@pytest.mark.parametrize("with_bias", [False, True])
def test_every_argument_arrives(with_bias, bindings, draw):
    q = draw(2, 6, 4, 16).transpose(1, 2)  # heads inside positions
    k = draw(2, 2, 6, 17)[..., :16]  # rows at odd addresses
    k2 = draw(2, 2, 16, 6).mT  # channels apart
    v, v2 = draw(1, 2, 6, 16).expand(2, 2, 6, 16), draw(2 * 2 * 6 * 16 + 1)[1:].view(2, 2, 6, 16)
    mask = torch.tensor([[1.0, 1, 0, 1, 1, 1], [1, 0, 1, 1, 1, 1]])
    bias = draw(2, 4, 6, 6).mT if with_bias else None
    grad_out = draw(1, 1, 1, 16).expand(2, 4, 6, 16)
    window = (4, None)

    leaves = [x.clone().requires_grad_() for x in (q, k, k2, v, v2, *([bias] if with_bias else []))]
    expected = simplicial_attention(*leaves[:5], mask, leaves[5] if with_bias else None, window)
    inputs = Inputs(q, k, k2, v, v2, mask, bias, window)
    out, statistics = simplicial_cuda.forward(inputs)
    assert torch.equal(out, expected)
    found = simplicial_cuda.backward(grad_out, out, statistics, inputs)
    assert (found[5] is None) == (not with_bias)
    for ours, exact in zip(found, torch.autograd.grad(expected, leaves, grad_out), strict=False):
        assert torch.equal(ours, exact)
    for address, *strides in bindings.seen:
        assert not any(offset % 16 for offset in (address, *(4 * stride for stride in strides)))


@pytest.mark.parametrize(
    ("capability", "channels", "taken"), [((8, 0), 128, True), ((8, 6), 128, False), ((8, 6), 64, True)]
)
def test_a_gpu_with_little_shared_memory_has_no_wide_heads(
    capability, channels, taken, bindings, monkeypatch
):
    monkeypatch.setattr(dispatch, "refuse_tangent", lambda _: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    shape, device = (1, 1, 4, channels), torch.device("cuda")
    tensors = [SimpleNamespace(device=device, dtype=torch.float32, shape=shape)] * 5
    refusal = simplicial_cuda.refuse(Inputs(*tensors, None, None, (None, None)))
    assert refusal == (None if taken else "a head of 128 channels needs more shared memory than cuda has")


def test_what_there_is_no_kernel_for_is_refused(bindings):
    tensors = [torch.zeros(1, 1, 4, 16)] * 5
    assert (
        simplicial_cuda.refuse(Inputs(*tensors, None, None, (None, None)))
        == "a tensor is on cpu, expected cuda"
    )
    monkey = [SimpleNamespace(device=torch.device("cuda"), dtype=torch.float16)] * 5
    assert "float16, expected float32 or bfloat16" in simplicial_cuda.refuse(
        Inputs(*monkey, None, None, (None, None))
    )
