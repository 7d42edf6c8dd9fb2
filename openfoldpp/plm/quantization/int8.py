"""The 8-bit grid: whole numbers from -127 to 127, and a scale for each output channel."""

from __future__ import annotations

import torch
from torch import Tensor

#: -128 is left out: the grid is symmetric.
LARGEST = 127


def scales_of(weight: Tensor) -> Tensor:
    """Return the scale of each output channel, ``[out]``, float32, of a `weight` ``[out, in]``."""
    largest = weight.float().abs().amax(1) / LARGEST
    # A channel of zeros has any scale.
    return torch.where(largest > 0, largest, 1.0)


def nearest(column: Tensor, scales: Tensor) -> Tensor:
    """Return the value on the grid nearest to each weight of a `column`, by its `scales`; both ``[out]``."""
    return (column / scales).round().clamp(-LARGEST, LARGEST) * scales


def encode(weight: Tensor, scales: Tensor) -> Tensor:
    """Return the whole numbers nearest to a `weight` ``[out, in]``, int8, by its `scales` ``[out]``."""
    return (weight / scales[:, None]).round().clamp(-LARGEST, LARGEST).to(torch.int8)


def decode(codes: Tensor, scales: Tensor) -> Tensor:
    """Return the weights, float32, that are stored as `codes` ``[out, in]`` with `scales` ``[out]``."""
    return codes.float() * scales[:, None]
