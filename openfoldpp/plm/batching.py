"""Which sequences are embedded together, and how one longer than a model's limit is cut into windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Neighbours share a quarter of their residues: enough for the ends, which lack context, to fade out.
_OVERLAP = 4


@dataclass(frozen=True)
class Window:
    """A stretch of a sequence that a model takes at once.

    Attributes
    ----------
    sequence : int
        Number of the sequence.
    start, end : int
        Residues ``start`` to ``end - 1``.
    """

    sequence: int
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


def windows(sequence: int, length: int, limit: int | None) -> list[Window]:
    """Cut a sequence into windows of at most `limit` residues.

    Parameters
    ----------
    sequence : int
        Number of the sequence.
    length : int
        Its residues.
    limit : int, optional
        None: no limit.

    Returns
    -------
    list of Window
        One where it fits. Else evenly spaced ones of `limit` residues; neighbours share at least a quarter.
    """
    if limit is None or length <= limit:
        return [Window(sequence, 0, length)]
    step = limit - limit // _OVERLAP
    count = -((limit - length) // step) + 1
    starts = [round(i * (length - limit) / (count - 1)) for i in range(count)]
    return [Window(sequence, start, start + limit) for start in starts]


def batches(pieces: Sequence[Window], tokens: int) -> Iterator[list[Window]]:
    """Group windows, longest first, so that each batch has at most `tokens` residues, or a single window.

    Parameters
    ----------
    pieces : sequence of Window
        In any order.
    tokens : int
        Budget of a batch.

    Yields
    ------
    list of Window
        Together all of `pieces`, each once.
    """
    batch: list[Window] = []
    total = 0
    for window in sorted(pieces, key=len, reverse=True):
        if batch and total + len(window) > tokens:
            yield batch
            batch, total = [], 0
        batch.append(window)
        total += len(window)
    if batch:
        yield batch


def blend(pieces: Sequence[tuple[Window, Tensor]], length: int) -> Tensor:
    """Join the windows of one sequence.

    Each residue's embedding is the mean over the windows that hold it, weighted by the distance to the
    window's nearer end within the sequence: where two overlap, one fades into the other.

    Parameters
    ----------
    pieces : sequence of (Window, torch.Tensor of shape (len(window), C))
        All windows of the sequence.
    length : int
        Its residues.

    Returns
    -------
    torch.Tensor of shape (length, C)
    """
    if len(pieces) == 1:
        return pieces[0][1]
    total = pieces[0][1].new_zeros(length, pieces[0][1].shape[1])
    weights = pieces[0][1].new_zeros(length, 1)
    for window, embedding in pieces:
        place = torch.arange(len(window), device=embedding.device)
        # An end of the sequence is no cut, and does not fade.
        left = place + 1 if window.start else torch.full_like(place, len(window))
        right = len(window) - place if window.end < length else torch.full_like(place, len(window))
        weight = torch.minimum(left, right).to(embedding.dtype)[:, None]
        total[window.start : window.end] += weight * embedding
        weights[window.start : window.end] += weight
    return total / weights
