"""Which compositors the CUDA kernels are asked about, without a GPU: stubs of the bindings run here."""

from types import SimpleNamespace

import pytest
import torch

from openfoldpp.motifs import CompositorSizes, compositor_kernels


class OnGPU(torch.Tensor):
    """A tensor that says that it is on the second GPU."""

    @property
    def device(self):
        return torch.device("cuda", 1)


@pytest.fixture
def asked(monkeypatch):
    """Replace the bindings of a CUDA build; return what they are asked."""
    questions = []

    def refusal(*, channels, heads, head_channels, hidden, rank, device):
        questions.append((channels, heads, head_channels, hidden, rank, device))
        return "rank 128 needs 197632 bytes" if rank == 128 else None

    bindings = SimpleNamespace(CudaCompositor=None, cuda_compositor_refusal=refusal)
    monkeypatch.setattr(compositor_kernels, "_native", bindings)
    return questions


@pytest.mark.parametrize(("rank", "reason"), [(16, None), (128, "rank 128 needs 197632 bytes")])
def test_sizes_that_a_gpu_has_no_room_for_are_refused(asked, rank, reason):
    sizes = CompositorSizes(channels=512, heads=3, head_channels=16, hidden=2048, rank=rank)
    embedding = torch.zeros(4, 512).as_subclass(OnGPU)
    module = SimpleNamespace(sizes=sizes, parameters=lambda: iter([embedding]))
    assert compositor_kernels.refuse_cuda(module, embedding) == reason
    assert asked == [(512, 3, 16, 2048, rank, 1)]
