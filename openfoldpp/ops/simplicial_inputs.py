"""What the kernels of 2-simplicial attention are given."""

from __future__ import annotations

from typing import NamedTuple

import torch

Window = tuple[int | None, int | None]


class Inputs(NamedTuple):
    """Tensors of any strides, on one device and of one dtype, as ``simplicial_attention`` has checked them.

    Attributes
    ----------
    q : torch.Tensor
        ``[B, H, N, d]``.
    k, k2, v, v2 : torch.Tensor
        ``[B, H_kv, N, d]``; ``H`` is a multiple of ``H_kv``.
    mask : torch.Tensor or None
        ``[B, N]``, 0 for the keys that are out.
    bias : torch.Tensor or None
        ``[B, H, N, N]``, added on (i, j).
    window : tuple of (int or None, int or None)
        Largest ``|i - j|`` and ``|i - k|``.
    """

    q: torch.Tensor
    k: torch.Tensor
    k2: torch.Tensor
    v: torch.Tensor
    v2: torch.Tensor
    mask: torch.Tensor | None
    bias: torch.Tensor | None
    window: Window

    def tensors(self) -> list[torch.Tensor]:
        """Return the tensors that are given."""
        return [tensor for tensor in self[:-1] if tensor is not None]
