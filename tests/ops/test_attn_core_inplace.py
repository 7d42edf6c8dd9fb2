"""The stand-in for upstream's extension, alone and under upstream's own attention core."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from openfoldpp.errors import InputError
from openfoldpp.ops import attn_core_inplace


def attention(q, k, v, bias_1, bias_2):
    return torch.softmax(q @ k.transpose(-1, -2) + bias_1 + bias_2, dim=-1) @ v


def draw(queries, keys, dtype=torch.float32):
    """Tensors shaped as upstream's: [*, H, Q, C] with a mask bias and a pair bias."""
    generator = torch.Generator().manual_seed(queries)
    shapes = [
        (2, 3, 4, queries, 8),
        (2, 3, 4, keys, 8),
        (2, 3, 4, keys, 8),
        (2, 3, 1, 1, keys),
        (2, 1, 4, queries, keys),
    ]
    tensors = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    tensors[3] = torch.where(tensors[3] > 1, -1e9, 0.0).to(dtype)
    return tensors


@pytest.mark.parametrize(("queries", "keys"), [(17, 17), (5, 30)])
def test_gradient_of_the_logits(queries, keys):
    q, k, v, bias_1, bias_2 = draw(queries, keys)
    logits = (q @ k.transpose(-1, -2) + bias_1 + bias_2).requires_grad_()
    grad_out = torch.randn(2, 3, 4, queries, 8, generator=torch.Generator().manual_seed(1))
    (expected,) = torch.autograd.grad(torch.softmax(logits, dim=-1) @ v, logits, grad_out)

    p = logits.detach().clone()
    attn_core_inplace.forward_(p, 2 * 3 * 4 * queries, keys)
    assert torch.allclose(p, torch.softmax(logits, dim=-1), atol=1e-6)
    attn_core_inplace.backward_(p, grad_out, v, 2 * 3 * 4 * queries, keys, 8)
    assert torch.allclose(p, expected, atol=2e-6)


@pytest.mark.parametrize(("rows", "cols"), [(-1, 5), (3, 5), (4, 4), (5, 4)])
def test_sizes_must_be_those_of_the_tensor(rows, cols):
    with pytest.raises(InputError, match=f"logits has shape .*, expected {rows} rows of {cols}"):
        attn_core_inplace.forward_(torch.zeros(4, 5), rows, cols)
    with pytest.raises(InputError, match="output has shape"):
        attn_core_inplace.backward_(torch.zeros(4, 5), torch.zeros(4, 2), torch.zeros(5, 2), rows, cols, 2)


@pytest.fixture
def upstream_attention_core(monkeypatch):
    """Load upstream's attention_core.py alone, as importing ``openfold`` imports everything."""
    spec = importlib.util.find_spec("openfold")
    if spec is None:
        pytest.skip("OpenFold is not installed; `openfoldpp install-openfold` installs it")
    path = Path(spec.submodule_search_locations[0], "utils", "kernel", "attention_core.py")
    monkeypatch.setitem(sys.modules, "attn_core_inplace_cuda", attn_core_inplace)
    spec = importlib.util.spec_from_file_location("upstream_attention_core", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.attention_core


def test_upstreams_attention_core_forward_and_backward(upstream_attention_core):
    inputs = [tensor.requires_grad_() for tensor in draw(21, 21)]
    grad_out = torch.randn(2, 3, 4, 21, 8, generator=torch.Generator().manual_seed(1))
    expected_out = attention(*inputs)
    expected = torch.autograd.grad(expected_out, inputs, grad_out)
    out = upstream_attention_core(*inputs)
    gradients = torch.autograd.grad(out, inputs, grad_out)
    assert torch.allclose(out, expected_out, atol=2e-6)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5, rtol=1e-5)
