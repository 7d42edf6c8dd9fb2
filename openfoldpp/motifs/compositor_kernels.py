"""The compositor's kernels: what a module's parameters become for them, and who can be computed by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from openfoldpp import _native
from openfoldpp.ops.arrays import Weights, refuse_unless_native, run_native
from openfoldpp.ops.dispatch import refuse_gradient, refuse_kind, refuse_transform, threads

if TYPE_CHECKING:
    from openfoldpp.motifs.compositor import Compositor


class Kernels(Weights):
    """A module's parameters, as the ops' checks take them, and the kernels that were made of them.

    Parameters
    ----------
    module : Compositor
        Whose parameters they are; a kernel is made again after they have changed.
    """

    def __init__(self, module: Compositor):
        self._module = module
        self._seen: list[tuple[Tensor, int, int]] = []
        self._native: _native.Compositor | None = None
        self._cuda: dict[torch.device, tuple[Any, Tensor]] = {}

    def tensors(self) -> dict[str, Tensor]:
        """Return the parameters by name."""
        return dict(self._module.named_parameters())

    @property
    def packed(self) -> _native.Compositor:
        """The native kernel."""
        self._forget_if_changed()
        if self._native is None:
            self._native = _native.Compositor(self._module.pack())
        return self._native

    def cuda(self, device: torch.device) -> tuple[Any, Tensor]:
        """Return the CUDA kernels, and the memory of a GPU that they read.

        Parameters
        ----------
        device : torch.device
            The GPU.

        Returns
        -------
        kernels : openfoldpp._native.CudaCompositor
            To be given the address of the image.
        image : torch.Tensor
            int32.
        """
        self._forget_if_changed()
        if device not in self._cuda:
            kernels = _native.CudaCompositor(self._module.pack())
            self._cuda[device] = kernels, torch.from_numpy(kernels.image()).to(device)
        return self._cuda[device]

    def _forget_if_changed(self) -> None:
        tensors = self.tensors().values()
        now = [(x, x.data_ptr(), 0 if x.is_inference() else x._version) for x in tensors]
        same = len(now) == len(self._seen) and all(
            tensor is seen and state == then
            for (tensor, *state), (seen, *then) in zip(now, self._seen, strict=True)
        )
        if not same:
            self._seen, self._native, self._cuda = now, None, {}


def pair_shape(module: Compositor, embedding: Tensor) -> tuple[int, ...]:
    """Return the shape of a module's pairs, ``[*, L, L, pair_channels]``, for an embedding."""
    return (*embedding.shape[:-1], embedding.shape[-2], module.sizes.pair_channels)


def refuse_native(module: Compositor, embedding: Tensor) -> str | None:
    """Why the native kernel cannot take this module and embedding; None where it can."""
    return refuse_transform() or refuse_unless_native(module.kernels, embedding)


def compose_native(module: Compositor, embedding: Tensor) -> Tensor:
    """Run a module's native kernel on each batch element of ``embedding``."""
    kernel = module.kernels.packed
    out = embedding.new_empty(pair_shape(module, embedding))
    return run_native(lambda x, pair: kernel(x, pair, threads()), (embedding, 2), (out, 3))


def refuse_cuda(module: Compositor, embedding: Tensor) -> str | None:
    """Why the CUDA kernels cannot take this module and embedding; None where they can."""
    if not hasattr(_native, "CudaCompositor"):
        return "this build has no CUDA kernels; build with -C cmake.define.OPENFOLDPP_CUDA=ON"
    if reason := refuse_transform():
        return reason
    for tensor in (embedding, *module.parameters()):
        if reason := refuse_kind(tensor, "cuda") or refuse_gradient(tensor):
            return reason
    names = ("channels", "heads", "head_channels", "hidden", "rank")
    sizes = {name: getattr(module.sizes, name) for name in names}
    return _native.cuda_compositor_refusal(**sizes, device=embedding.device.index)


def compose_cuda(module: Compositor, embedding: Tensor) -> Tensor:
    """Queue a module's CUDA kernels for each batch element of ``embedding``."""
    kernels, image = module.kernels.cuda(embedding.device)
    length, channels = embedding.shape[-2:]
    out = embedding.new_empty(pair_shape(module, embedding))
    if not out.numel():
        return out
    workspace = embedding.new_empty(kernels.workspace_floats(length))
    batch = embedding.reshape(-1, length, channels).contiguous()
    with torch.cuda.device(embedding.device):
        stream = torch.cuda.current_stream().cuda_stream
        # One after the other on one stream: they can share the workspace.
        for x, pair in zip(batch, out.view(-1, *out.shape[-3:]), strict=True):
            kernels(image.data_ptr(), x.data_ptr(), pair.data_ptr(), length, workspace.data_ptr(), stream)
    return out
