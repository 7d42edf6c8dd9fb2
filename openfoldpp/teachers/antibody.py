"""Antibody variable domains in a sequence: type, IMGT numbers, CDRs, by ANARCII.

ANARCII (Greenshields-Watson et al. 2025, doi:10.1101/2025.04.16.648720) is a pair of language models:
one tells antibodies from T-cell receptors, the other writes the IMGT number of each residue.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from openfoldpp.errors import MissingDependencyError

#: First and last IMGT number of each complementarity-determining region (Lefranc et al. 2003).
IMGT_CDRS = ((27, 38), (56, 65), (105, 117))

_TCR_CHAINS = {"A": "alpha", "B": "beta", "G": "gamma", "D": "delta"}
# ANARCII reads these 20 letters, and X and B, J, O, U, Z as an unknown residue. It splits a sequence at
# "-", "/" and "\", so that other letters must not reach it.
_READABLE = re.compile(r"[A-Z]+")
# Fusions of several antibodies stay below 1,500 residues. ANARCII, which slides a window over what is longer
# than a domain, takes a minute for 20,000.
_LONGEST = 2000


@dataclass(frozen=True)
class Domain:
    """One antibody variable domain.

    Attributes
    ----------
    chain_type : str
        ``"H"`` heavy, ``"K"`` light kappa or ``"L"`` light lambda.
    start, end : int
        The domain is ``sequence[start:end]``.
    imgt : tuple of str
        IMGT number of each residue of the domain, with its insertion letter: ``"111"``, ``"111A"``.
    cdrs : tuple of (int, int)
        CDR1, CDR2 and CDR3 as ``[start, end)`` in the sequence; see :data:`IMGT_CDRS`.
    """

    chain_type: str
    start: int
    end: int
    imgt: tuple[str, ...]
    cdrs: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

    @property
    def is_heavy(self) -> bool:
        """Whether the domain is of a heavy chain."""
        return self.chain_type == "H"

    @property
    def imgt_range(self) -> tuple[int, int]:
        """IMGT numbers of the first and the last residue; 1 and 127 or 128 in a complete domain."""
        return _number(self.imgt[0]), _number(self.imgt[-1])


@dataclass(frozen=True)
class NotAntibody:
    """A sequence without an antibody variable domain.

    Attributes
    ----------
    reason : str
        Why, as a clause whose subject is the sequence: "it has no antibody variable domain".
    """

    reason: str


def classify(sequences: Sequence[str]) -> list[Domain | NotAntibody]:
    """Find the antibody variable domain of each sequence.

    Constant domains, signal peptides, linkers and tags around the domain are allowed. Of several
    variable domains (an scFv) the best is found; see :func:`variable_domains`. A domain that is cut off is
    numbered as far as it goes: see :attr:`Domain.imgt_range`. There is no sampling: the same sequences give
    the same result.

    Parameters
    ----------
    sequences : sequence of str
        One-letter codes in capitals.

    Returns
    -------
    list of Domain or NotAntibody
        In the order of the sequences. T-cell receptors are not antibodies.

    Raises
    ------
    MissingDependencyError
        If the package anarcii is not installed.
    """
    results: list[Domain | NotAntibody | None] = [_unreadable(sequence) for sequence in sequences]
    readable = {str(i): sequences[i] for i, result in enumerate(results) if result is None}
    if readable:
        with _one_thread():
            numbered = _anarcii().number(readable)
        for key, result in numbered.items():
            results[int(key)] = _result(result)
    return results


def _unreadable(sequence: str) -> NotAntibody | None:
    if not _READABLE.fullmatch(sequence):
        return NotAntibody("it is not a sequence of capital letters A to Z")
    if len(sequence) > _LONGEST:
        return NotAntibody(f"it has {len(sequence):,} residues, and no antibody chain has over {_LONGEST:,}")
    return None


def variable_domains(sequence: str) -> list[Domain]:
    """Find every antibody variable domain of one sequence, such as both of an scFv.

    Parameters
    ----------
    sequence : str
        One-letter codes in capitals.

    Returns
    -------
    list of Domain
        In the order of the sequence; empty where there is none.

    Raises
    ------
    MissingDependencyError
        If the package anarcii is not installed.
    """
    (domain,) = classify([sequence])
    if isinstance(domain, NotAntibody):
        return []
    before = variable_domains(sequence[: domain.start])
    after = [_shifted(other, domain.end) for other in variable_domains(sequence[domain.end :])]
    return [*before, domain, *after]


@functools.cache
def _anarcii() -> Any:
    try:
        from anarcii import Anarcii
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"numbering antibodies needs the package anarcii ({error}); "
            "install it with: pip install 'openfoldpp[fv]'"
        ) from error
    return Anarcii(
        seq_type="unknown",  # ask the classifier first: the antibody model numbers T-cell receptors too
        mode="accuracy",
        batch_size=8,  # what ANARCII recommends on a CPU
        cpu=True,
        ncpu=1,  # sets torch's threads for the whole process; see _one_thread
        max_seqs_len=sys.maxsize,  # beyond it ANARCII writes a file into the working directory
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread, and put back the number of before.

    ANARCII takes a small step for each residue. Two threads are no faster on idle cores, and 10 to 20
    times slower on busy ones, where they wait for each other.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _result(numbered: dict[str, Any]) -> Domain | NotAntibody:
    """Turn one of ANARCII's results, ``(number, insertion), letter`` for each position, into ours."""
    chain_type = numbered["chain_type"]
    if chain_type in _TCR_CHAINS:
        return NotAntibody(f"it is a T-cell receptor {_TCR_CHAINS[chain_type]} chain, not an antibody's")
    if numbered["numbering"] is None:
        return NotAntibody(f"it has no antibody variable domain (anarcii: {numbered['error']})")
    start = int(numbered["query_start"])
    positions = [position for position, letter in numbered["numbering"] if letter != "-"]
    return Domain(
        chain_type=chain_type,
        start=start,
        end=start + len(positions),
        imgt=tuple(f"{number}{insertion.strip()}" for number, insertion in positions),
        cdrs=tuple(
            (
                start + sum(number < first for number, _ in positions),
                start + sum(number <= last for number, _ in positions),
            )
            for first, last in IMGT_CDRS
        ),
    )


def _shifted(domain: Domain, offset: int) -> Domain:
    return Domain(
        domain.chain_type,
        domain.start + offset,
        domain.end + offset,
        domain.imgt,
        tuple((start + offset, end + offset) for start, end in domain.cdrs),
    )


def _number(imgt: str) -> int:
    return int(imgt.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
