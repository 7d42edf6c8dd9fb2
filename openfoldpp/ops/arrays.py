"""What the ops share: checks of tensors, refusals of the native backend, and the loop over a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from openfoldpp.errors import InputError
from openfoldpp.ops.dispatch import Backend, Op, refuse_gradient, refuse_kind


class Weights:
    """Base of the ops' frozen dataclasses of weights: their tensors, and what the kernels make of these."""

    @property
    def packed(self) -> Any:
        """The native kernel with its own packed copy; made at first use, and again after a change in place.

        A write through ``tensor.data``, which torch does not count, is not seen.
        """
        versions = tuple(
            0 if tensor.is_inference() else tensor._version for tensor in self.tensors().values()
        )
        kept = vars(self).get("_packed")
        if kept is None or kept[0] != versions:
            kept = vars(self)["_packed"] = (versions, self._pack())
        return kept[1]

    def _pack(self) -> Any:
        raise NotImplementedError

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the fields that are tensors, by name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the fields that are tensors as contiguous arrays, without a copy where they are that."""
        return {name: tensor.detach().contiguous().numpy() for name, tensor in self.tensors().items()}

    def _require_shapes(self, **shapes: tuple[int, ...]) -> None:
        first = getattr(self, next(iter(shapes)))
        for name, shape in shapes.items():
            require_like(name, getattr(self, name), first, shape)


def require_floating(name: str, tensor: torch.Tensor, symbols: Sequence[str]) -> None:
    """Refuse what is not a floating-point tensor with the dimensions ``[*, *symbols]``; errors tell its name.

    Raises
    ------
    InputError
        Naming the tensor, its kind or shape, and what was expected.
    """
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        kind = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise InputError(f"{name} is {kind}; expected a floating-point tensor")
    if tensor.ndim < len(symbols):
        expected = ", ".join(("*", *symbols))
        raise InputError(f"{name} has shape {list(tensor.shape)}; expected [{expected}]")


def require_like(name: str, tensor: torch.Tensor, like: torch.Tensor, shape: Sequence[int]) -> None:
    """Refuse a tensor that has not this shape, or not the dtype and device of ``like``; errors tell its name.

    Raises
    ------
    InputError
        Naming the tensor, what it is and what was expected.
    """
    require_floating(name, tensor, ())
    if tuple(tensor.shape) != tuple(shape):
        raise InputError(f"{name} has shape {list(tensor.shape)}; expected {list(shape)}")
    if tensor.dtype != like.dtype or tensor.device != like.device:
        raise InputError(
            f"{name} is {tensor.dtype} on {tensor.device}; "
            f"expected {like.dtype} on {like.device}, as the other tensors are"
        )


def require_channels(name: str, tensor: torch.Tensor, weight: torch.Tensor) -> None:
    """Refuse a tensor that a linear layer's weight ``[outputs, C]`` does not fit: channels, dtype or device.

    Raises
    ------
    InputError
        With the tensor's name, what it is and what was expected.
    """
    if tensor.shape[-1] != weight.shape[-1]:
        raise InputError(
            f"{name} has shape {list(tensor.shape)}; expected {weight.shape[-1]} channels as in its weights"
        )
    if tensor.dtype != weight.dtype or tensor.device != weight.device:
        raise InputError(
            f"{name} is {tensor.dtype} on {tensor.device}; "
            f"expected {weight.dtype} on {weight.device}, as its weights are"
        )


def require_out(
    out: torch.Tensor | None, like: torch.Tensor, shape: Sequence[int], *inputs: torch.Tensor | None
) -> None:
    """Refuse an ``out`` that cannot be written: of another kind or shape, or sharing memory the wrong way.

    Parameters
    ----------
    out : torch.Tensor or None
        None is right: the op makes a new tensor.
    like : torch.Tensor
        Has the dtype and device expected.
    shape : sequence of int
        Expected.
    *inputs : torch.Tensor or None
        ``out`` may be one of them, which then is changed in place, but not a part of one.

    Raises
    ------
    InputError
        Naming what ``out`` is and what was expected.
    """
    if out is None:
        return
    require_like("out", out, like, shape)
    leaf = out if out._base is None else out._base  # a view of a leaf cannot be written either
    if torch.is_grad_enabled() and leaf.requires_grad and leaf.is_leaf:
        raise InputError("out requires grad; write into it under torch.no_grad(), or leave out away")
    if any(stride == 0 and size > 1 for stride, size in zip(out.stride(), out.shape, strict=True)):
        raise InputError(f"out has strides {out.stride()}: its elements share memory; pass out.contiguous()")
    for tensor in inputs:
        if tensor is not None and not _is_same(out, tensor) and _overlap(out, tensor):
            raise InputError("out shares memory with an input but is not that input; pass another tensor")


def refuse_unless_native(
    weights: Weights, *tensors: torch.Tensor | None, mask: torch.Tensor | None = None
) -> str | None:
    """Why a native kernel cannot take these tensors; None where it can.

    Parameters
    ----------
    weights : Weights
        With any strides.
    *tensors : torch.Tensor or None
        Inputs and ``out``, the last dimension contiguous; None is passed over.
    mask : torch.Tensor, optional
        With any strides.

    Returns
    -------
    str or None
        The first reason: device, dtype, a need for autograd (in backward or in forward mode), or a last
        dimension that is not contiguous.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    for tensor in [*given, *weights.tensors().values(), *([] if mask is None else [mask])]:
        if reason := refuse_kind(tensor, "cpu") or refuse_gradient(tensor):
            return reason
    for tensor in given:
        if tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
            return "the last dimension of a tensor is not contiguous"
    return None


def native_or_torch(
    name: str, refuse: Callable[..., str | None], native: Callable[..., Any], reference: Callable[..., Any]
) -> Op:
    """Return the op of this name: the native kernel, or the torch reference where ``refuse`` has a reason."""
    return Op(name, (Backend("native", refuse, native), Backend("torch", lambda *_: None, reference)))


def run_native(kernel: Callable[..., Any], *tensors: tuple[torch.Tensor | None, int]) -> torch.Tensor:
    """Run a kernel on each batch element, and return the tensor that it has written.

    Parameters
    ----------
    kernel : callable
        Given for each of ``tensors`` a numpy view of its memory, or None. It is not called where nothing is
        to be written.
    *tensors : tuple of (torch.Tensor or None, int)
        Tensors on the CPU with the same leading batch dimensions, each with how many of its last dimensions
        the kernel takes. The last one receives the result.

    Returns
    -------
    torch.Tensor
        The last of ``tensors``.
    """
    out, kept = tensors[-1]
    if out.numel():
        arrays = [None if tensor is None else tensor.detach().numpy() for tensor, _ in tensors]
        for index in np.ndindex(*out.shape[: out.ndim - kept]):
            kernel(*(None if array is None else array[index] for array in arrays))
        mark_changed(out)
    return out


def new_or(out: torch.Tensor | None, like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return ``out``, or where it is None a new contiguous tensor of this shape, else like ``like``."""
    return torch.empty(tuple(shape), dtype=like.dtype, device=like.device) if out is None else out


def finish(update: torch.Tensor, residual: torch.Tensor | None, out: torch.Tensor | None) -> torch.Tensor:
    """End of a torch reference: add the residual to the update, and write it to ``out`` if that is given."""
    result = update if residual is None else residual + update
    return result if out is None else out.copy_(result)


def mark_changed(tensor: torch.Tensor) -> None:
    """Tell autograd of a write that it cannot see: it then reports a saved tensor that was changed."""
    if not tensor.is_inference():
        torch.autograd.graph.increment_version(tensor)


def _is_same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()


def _overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.device != b.device or a.is_meta or not a.numel() or not b.numel():
        return False
    (begin_a, end_a), (begin_b, end_b) = (_extent(tensor) for tensor in (a, b))
    return begin_a < end_b and begin_b < end_a


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the first and past-the-last address that the tensor reaches; torch has no negative strides."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()
