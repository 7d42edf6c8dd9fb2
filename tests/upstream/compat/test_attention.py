"""The compiled softmax: supplied on the CPU, left alone on CUDA."""

import sys

import pytest
import torch


@pytest.mark.parametrize("bias_shape", [None, (2, 1, 1, 7), (1, 3, 5, 7)])
def test_attention_core_on_cpu(bias_shape, imported):
    with imported("openfold.utils.kernel.attention_core", "attn_core_inplace_cuda") as module:
        generator = torch.Generator().manual_seed(7)
        shapes = [(2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4)] + ([bias_shape] if bias_shape else [])
        tensors = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
        q, k, v, *bias = tensors
        out = module.attention_core(*tensors)
        logits = q @ k.transpose(-1, -2) + sum(bias)
        expected = torch.softmax(logits, dim=-1) @ v
        torch.testing.assert_close(out, expected)
        weights = torch.randn(out.shape, generator=generator)
        given = torch.autograd.grad((out * weights).sum(), tensors)
        wanted = torch.autograd.grad((expected * weights).sum(), tensors)
        for ours, theirs in zip(given, wanted, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert "attn_core_inplace_cuda" not in sys.modules


def test_without_the_extension_attention_cannot_be_imported(imported):
    with pytest.raises(ModuleNotFoundError, match="attn_core"), imported("openfold.model.structure_module"):
        pass


def test_an_extension_built_without_cuda_is_not_used(monkeypatch):
    from openfoldpp.upstream.compat import attention

    class Logits:  # only what dispatch looks at: there is no CUDA tensor on a machine without CUDA
        device = torch.device("cuda", 0)

    class Built:
        def __init__(self, message):
            self.message = message

        def forward_(self, *args):
            raise RuntimeError(self.message)

    used = []
    monkeypatch.setattr("openfoldpp.ops.attn_core_inplace.forward_", lambda *args: used.append(args))
    attention._either("forward_", Built("attn_softmax_inplace_forward_ not implemented on CPU"))(Logits, 1, 2)
    assert used == [(Logits, 1, 2)]
    with pytest.raises(RuntimeError, match="out of memory"):
        attention._either("forward_", Built("CUDA out of memory"))(Logits, 1, 2)
