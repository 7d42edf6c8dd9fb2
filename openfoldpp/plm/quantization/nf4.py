"""The 4-bit grid NF4 (QLoRA, arXiv 2305.14314): 16 levels, and a scale for each 64 weights of a row."""

from __future__ import annotations

import torch
from torch import Tensor

#: Weights that share a scale. With half-precision scales a weight takes 4.25 bits.
BLOCK = 64
#: Each level stands for an equal share of a normal distribution whose largest value is 1 (appendix E there).
LEVELS = torch.tensor(
    (
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    )
)
_MIDDLES = (LEVELS[1:] + LEVELS[:-1]) / 2
# Both levels of a byte as one 64-bit word: one look-up gives two weights.
_PAIRS = torch.stack([LEVELS.repeat(16), LEVELS.repeat_interleave(16)], 1).view(torch.int64).flatten()
# Part of a block's largest weight that its scale may be. Cutting the largest weight off a little leaves the
# others finer steps.
_CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8)


def scales_of(weight: Tensor, importance: Tensor | None = None) -> Tensor:
    """Return the scale of each block.

    Parameters
    ----------
    weight : torch.Tensor of shape (out, in)
        float32.
    importance : torch.Tensor of shape (in,), optional
        What an error of a weight counts, by its input. Given, the scale with the smallest error is chosen
        among several; by default it is the block's largest weight.

    Returns
    -------
    torch.Tensor of shape (out, ceil(in / 64))
        float16.
    """
    blocks = _blocks(weight)
    largest = blocks.abs().amax(2)
    if importance is None:
        return largest.half()
    counts = _blocks(importance[None])
    best, least = largest.half(), torch.full_like(largest, torch.inf)
    for clip in _CLIPS:
        scales = (clip * largest).half()
        rounded = _nearest(blocks, scales.float()[..., None])
        error = ((rounded - blocks).square() * counts).sum(2)
        best = torch.where(error < least, scales, best)
        least = torch.minimum(error, least)
    return best


def nearest(column: Tensor, scales: Tensor) -> Tensor:
    """Return the value on the grid that is nearest to each weight.

    Parameters
    ----------
    column : torch.Tensor of shape (out,)
        Weights of one input.
    scales : torch.Tensor of shape (out,)
        Of their blocks, float32.

    Returns
    -------
    torch.Tensor of shape (out,)
    """
    return _nearest(column, scales)


def encode(weight: Tensor, scales: Tensor) -> Tensor:
    """Return the numbers of the nearest levels, two in a byte.

    Parameters
    ----------
    weight : torch.Tensor of shape (out, in)
        float32.
    scales : torch.Tensor of shape (out, ceil(in / 64))
        From :func:`scales_of`.

    Returns
    -------
    torch.Tensor of shape (out, 32 * ceil(in / 64))
        uint8; the weight of the even column is in the lower half.
    """
    codes = _codes(_blocks(weight), scales.float()[..., None]).to(torch.uint8).flatten(1)
    return codes[:, ::2] | codes[:, 1::2] << 4


def decode(codes: Tensor, scales: Tensor, inputs: int) -> Tensor:
    """Return the weights that :func:`encode` stored.

    Parameters
    ----------
    codes : torch.Tensor of shape (out, 32 * ceil(in / 64))
        uint8.
    scales : torch.Tensor of shape (out, ceil(in / 64))
        float16.
    inputs : int
        ``in``.

    Returns
    -------
    torch.Tensor of shape (out, in)
        float32.
    """
    pairs = _PAIRS.to(codes.device).index_select(0, codes.flatten().int())
    blocks = pairs.view(torch.float32).view(len(codes), -1, BLOCK).mul_(scales.float()[..., None])
    return blocks.flatten(1)[:, :inputs]


def _blocks(weight: Tensor) -> Tensor:
    """Cut rows into blocks, ``[out, ceil(in / 64), 64]``; the last is filled up with zeros."""
    padded = torch.nn.functional.pad(weight, (0, -weight.shape[1] % BLOCK))
    return padded.view(len(weight), -1, BLOCK)


def _codes(weight: Tensor, scales: Tensor) -> Tensor:
    # A block of zeros has scale 0.
    return torch.bucketize(weight / torch.where(scales > 0, scales, 1.0), _MIDDLES)


def _nearest(weight: Tensor, scales: Tensor) -> Tensor:
    return LEVELS[_codes(weight, scales)] * scales
