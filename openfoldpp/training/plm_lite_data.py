"""What plm_lite learns from: batches that follow from the seed and the number of the step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from openfoldpp import fasta
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
# Of the sequences of a file, one in so many is measured on and not learned from.
_VALIDATION_SHARE = 20


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


class Pool(NamedTuple):
    """Sequences of a file, parted by themselves: the same sequence is always on one side.

    Attributes
    ----------
    training, validation : list of str
        To learn from, and for the cosine of the log.
    """

    training: list[str]
    validation: list[str]


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


def read_pool(path: str | Path | None, limit: int | None, residues: int) -> Pool | None:
    """Read the sequences to learn from, and keep one in 20, at least one, apart to measure on.

    Which are kept apart follows from a hash of the sequence: copies of it are on one side. Others that are
    merely alike may be on both.

    Parameters
    ----------
    path : path-like or None
        A FASTA file; None where antibodies are generated. Its letters are read as ``openfoldpp embed`` does,
        chains that colons part as sequences of their own; names count for nothing.
    limit : int or None
        The model's, in residues.
    residues : int
        Of a batch. Sequences are cut to this and to the limit.

    Returns
    -------
    Pool, or None

    Raises
    ------
    InputError
        The file is missing, a sequence cannot be read, or there are not two different ones.
    """
    if path is None:
        return None
    longest = min(limit or residues, residues)
    pool = []
    try:
        for record in fasta.split_records(fasta.read_text(path), str(path)):
            where = f"{path}, line {record.line}, record '{record.header[:40]}'"
            pool += [chain[:longest] for chain in fasta.chain_sequences(record.lines, where, gaps="-.")]
    except InputError as error:
        raise InputError(f"--sequences {error}") from error
    distinct = sorted(set(pool), key=lambda sequence: hashlib.sha256(sequence.encode()).digest())
    if len(distinct) < 2:
        raise InputError(
            f"--sequences {path}: has one sequence alone; expected two or more, as one is kept apart to "
            "measure on"
        )
    apart = distinct[: max(1, len(distinct) // _VALIDATION_SHARE)]
    held = set(apart)
    return Pool([sequence for sequence in pool if sequence not in held], apart)


def _draw(numbers: Sequence[int], residues: int, pool: Sequence[str] | None) -> list[str]:
    if pool is None:
        return [domain.sequence for domain in generate(max(1, residues // _DOMAIN), numbers, **_KINDS)]
    rng, drawn, total = np.random.default_rng(numbers), [], 0
    while total < residues:
        drawn.append(pool[rng.integers(len(pool))])
        total += len(drawn[-1])
    return drawn
