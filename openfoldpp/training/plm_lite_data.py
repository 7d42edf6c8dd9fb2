"""What plm_lite learns from: batches that follow from the seed and the number of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from openfoldpp.errors import InputError
from openfoldpp.plm.alphabet import Alphabet
from openfoldpp.training.antibody_sequences import generate

# What the numbers after the seed stand for. None is 0, which numpy does not tell from nothing.
_TRAINING, _HELD_OUT, _VALIDATION, _CALIBRATION = 1, 2, 3, 4
# Every kind of antibody that can be generated, also with ends that are lacking, and further from the germline
# than most are: what is measured lies within what is learned from.
_KINDS = {"chain_types": "HKLhkl", "whole": False, "max_substitutions": 40}
# Residues of a generated variable domain, about.
_DOMAIN = 115


@dataclass(frozen=True)
class Batch:
    """Sequences end to end.

    Attributes
    ----------
    tokens : torch.Tensor of shape (N_tokens,), int64
        With begin and end tokens.
    lengths : list of int
        Tokens of each sequence.
    residues : torch.Tensor of shape (N_tokens,), bool
        False for begin and end tokens, which no embedding has.
    """

    tokens: Tensor
    lengths: list[int]
    residues: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the same on a `device`."""
        return replace(self, tokens=self.tokens.to(device), residues=self.residues.to(device))


def collate(sequences: Sequence[str], alphabet: Alphabet) -> Batch:
    """Lay sequences end to end, those of equal length side by side, where attention takes them together.

    Parameters
    ----------
    sequences : sequence of str
        None longer than the model's limit.
    alphabet : Alphabet
        The model's.

    Returns
    -------
    Batch
    """
    encoded = [torch.tensor(alphabet.encode(sequence)) for sequence in sorted(sequences, key=len)]
    lengths = [len(one) for one in encoded]
    residues = torch.ones(sum(lengths), dtype=torch.bool)
    ends = torch.tensor(lengths).cumsum(0)
    residues[ends - 1] = False
    residues[ends - torch.tensor(lengths)] = False
    return Batch(torch.cat(encoded), lengths, residues)


def training_sequences(seed: int, step: int, residues: int, pool: Sequence[str] | None = None) -> list[str]:
    """Return the sequences of a training step.

    Parameters
    ----------
    seed, step : int
        Of the run; of the batch, from 0.
    residues : int
        In the batch, about.
    pool : sequence of str, optional
        Sequences to draw from; without it antibodies are generated, never the same twice.

    Returns
    -------
    list of str
    """
    return _draw((seed, _TRAINING, step), residues, pool)


def held_out_sequences(seed: int, count: int) -> list[str]:
    """Return `count` antibodies that are not those of a run with this `seed`, but may be near them."""
    return [domain.sequence for domain in generate(count, (seed, _HELD_OUT), **_KINDS)]


def validation_sequences(seed: int, residues: int, pool: Sequence[str] | None = None) -> list[str]:
    """Return those whose cosine the log shows; `seed`, `residues`, `pool`: :func:`training_sequences`."""
    return _draw((seed, _VALIDATION), residues, pool)


def calibration_sequences(seed: int, residues: int, pool: Sequence[str] | None = None) -> list[str]:
    """Return those that the head starts from; `seed`, `residues`, `pool`: :func:`training_sequences`."""
    return _draw((seed, _CALIBRATION), residues, pool)


def read_pool(path: str | Path | None, limit: int | None, residues: int) -> list[str] | None:
    """Read the sequences to learn from.

    Parameters
    ----------
    path : path-like or None
        A FASTA file; None where antibodies are generated.
    limit : int or None
        The model's, in residues.
    residues : int
        Of a batch. Sequences are cut to this and to the limit.

    Returns
    -------
    list of str, or None

    Raises
    ------
    InputError
        The file is missing or has no sequence.
    """
    if path is None:
        return None
    from biotite.sequence.io.fasta import FastaFile

    if not Path(path).is_file():
        raise InputError(f"--sequences {path}: there is no such file; correct the path")
    longest = min(limit or residues, residues)
    pool = [sequence.upper()[:longest] for _, sequence in FastaFile.read_iter(str(path)) if sequence]
    if not pool:
        raise InputError(f"--sequences {path}: has no sequence; expected a FASTA file")
    return pool


def _draw(numbers: Sequence[int], residues: int, pool: Sequence[str] | None) -> list[str]:
    if pool is None:
        return [domain.sequence for domain in generate(max(1, residues // _DOMAIN), numbers, **_KINDS)]
    rng, drawn, total = np.random.default_rng(numbers), [], 0
    while total < residues:
        drawn.append(pool[rng.integers(len(pool))])
        total += len(drawn[-1])
    return drawn
