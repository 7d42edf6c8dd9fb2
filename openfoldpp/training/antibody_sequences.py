"""Antibody variable domains out of thin air: recombined germline genes, mutated away from the germline.

OLGA (Sethna et al. 2019, doi:10.1093/bioinformatics/btz035) draws V, D and J genes and the junctions
between them with the probabilities of real recombination; it knows no somatic mutation. So substitutions
are added here:

- how many: each number from 0 to `max_substitutions` is equally likely, so that mild and heavy mutation are
  both seen;
- where: a residue of a CDR is three times as likely as one of the framework; the two cysteines of the
  disulfide bond, the tryptophan packed against it and the residue after CDR3 (IMGT 23, 104, 41, 118) are
  kept, as nearly every antibody keeps them;
- to what: with the probability ``p_b 2^(s_ab / 2)`` that BLOSUM62 (Henikoff and Henikoff 1992, scores in half
  bits) gives the exchange of amino acid a for b.

OLGA is under the GPL-3: it serves training and tests, and nothing that ships needs it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from openfoldpp.errors import InputError, MissingDependencyError

#: Heavy, kappa and lambda chains of humans, in capitals, and of mice: OLGA's model, how often each is drawn.
#: As many heavy as light ones; of humans three kappa for two lambda, as in blood, of mice nine for one.
CHAIN_TYPES = {
    "H": ("human_B_heavy", 0.5),
    "K": ("human_B_kappa", 0.3),
    "L": ("human_B_lambda", 0.2),
    "h": ("mouse_B_heavy", 0.2),
    "k": ("mouse_B_kappa", 0.18),
    "l": ("mouse_B_lambda", 0.02),
}
MAX_SUBSTITUTIONS = 25
# Sequences from crystals and from sequencing often lack their ends: how many do, and up to how many residues.
_LACKING = 0.25
_LACKING_AT_START, _LACKING_AT_END = 8, 3

_AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
# Of proteins at large (Robinson and Robinson 1991, doi:10.1073/pnas.88.20.8880), in the order above.
_FREQUENCIES = (
    *(0.07805, 0.01925, 0.05364, 0.06295, 0.03856, 0.07377, 0.02199, 0.05142, 0.05744, 0.09019),
    *(0.02243, 0.04487, 0.05203, 0.04264, 0.05129, 0.07120, 0.05841, 0.06441, 0.01330, 0.03216),
)
_CDR_WEIGHT = 3.0
# The tryptophan of IMGT 41 stands between CDR1 and CDR2 and is followed by these.
_TRYPTOPHAN_41 = re.compile(r"W[AFILVY][HKLQR]")
# Residues from the cysteine 23 to CDR1, the tryptophan 41 to CDR2, and CDR2 to the cysteine 104. Of 39
# IMGT positions heavy chains leave one empty (73), light chains three (73, 81, 82), but for three families.
_TO_CDR1, _TO_CDR2, _AFTER_CDR2 = 4, 15, {"H": 37, "K": 35, "L": 35}
_AFTER_CDR2_LONG = (("IGLV5-", "IGLV6-", "IGLV11-"), 37)


@dataclass(frozen=True)
class VariableDomain:
    """A generated variable domain.

    Attributes
    ----------
    chain_type : str
        ``"H"``, ``"K"``, ``"L"``; of a mouse ``"h"``, ``"k"``, ``"l"``.
    sequence : str
        From the first residue of the V gene to the last of the J gene, unless it lacks its ends.
    cdrs : tuple of (int, int)
        CDR1, CDR2 and CDR3 by IMGT, as ``[start, end)``.
    substitutions : int
        How many residues were exchanged.
    """

    chain_type: str
    sequence: str
    cdrs: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    substitutions: int


def generate(
    count: int,
    seed: int | Sequence[int],
    *,
    chain_types: str = "HKL",
    max_substitutions: int = MAX_SUBSTITUTIONS,
    whole: bool = True,
) -> list[VariableDomain]:
    """Generate variable domains.

    Parameters
    ----------
    count : int
        How many. Those of a smaller count are the first of these.
    seed : int or sequence of int
        Other numbers give other domains, the same numbers the same ones.
    chain_types : str
        Which of ``HKLhkl``; they keep the proportions of :data:`CHAIN_TYPES`.
    max_substitutions : int
        0 leaves the germline genes as they are.
    whole : bool
        Otherwise a quarter of the domains lacks up to 8 residues at the start, a quarter up to 3 at the end.

    Returns
    -------
    list of VariableDomain

    Raises
    ------
    InputError
        There is no such chain type, or the greatest number of substitutions is negative or more than 60.
    MissingDependencyError
        OLGA is not installed.
    """
    if not chain_types or set(chain_types) - set(CHAIN_TYPES):
        raise InputError(f"chain types {chain_types!r}: expected some of {''.join(CHAIN_TYPES)}")
    if not 0 <= max_substitutions <= 60:
        raise InputError(f"{max_substitutions} substitutions: expected 0 to 60, half of a domain")
    with _numpy_seeded(seed):
        return list(
            islice(_domains(np.random.default_rng(seed), chain_types, max_substitutions, whole), count)
        )


def _domains(rng: np.random.Generator, chain_types: str, most: int, whole: bool) -> Iterator[VariableDomain]:
    types = sorted(set(chain_types))
    shares = np.array([CHAIN_TYPES[kind][1] for kind in types])
    while True:
        kind = types[rng.choice(len(types), p=shares / shares.sum())]
        germline, cdrs = _recombine(kind)
        substitutions = int(rng.integers(most + 1))
        domain = VariableDomain(kind, _mutate(germline, cdrs, substitutions, rng), cdrs, substitutions)
        yield domain if whole else _trim(domain, rng)


def _trim(domain: VariableDomain, rng: np.random.Generator) -> VariableDomain:
    start, end = (
        int(rng.integers(1, most + 1)) if rng.random() < _LACKING else 0
        for most in (_LACKING_AT_START, _LACKING_AT_END)
    )
    cdr1, cdr2, cdr3 = ((first - start, last - start) for first, last in domain.cdrs)
    return replace(
        domain, sequence=domain.sequence[start : len(domain.sequence) - end], cdrs=(cdr1, cdr2, cdr3)
    )


def _mutate(sequence: str, cdrs: Sequence[tuple[int, int]], count: int, rng: np.random.Generator) -> str:
    weights = np.ones(len(sequence))
    for start, end in cdrs:
        weights[start:end] = _CDR_WEIGHT
    (cdr1, _), (cdr2, _), (cdr3, after) = cdrs
    weights[[cdr1 - _TO_CDR1, cdr2 - _TO_CDR2, cdr3 - 1, after]] = 0
    letters = list(sequence)
    for place in rng.choice(len(sequence), count, replace=False, p=weights / weights.sum()):
        chances = _exchanges()[_AMINO_ACIDS.index(letters[place])]
        letters[place] = _AMINO_ACIDS[rng.choice(len(_AMINO_ACIDS), p=chances)]
    return "".join(letters)


@functools.cache
def _exchanges() -> np.ndarray:
    """Return the probability that amino acid a, once exchanged, becomes b, ``[20, 20]``."""
    from biotite.sequence.align import SubstitutionMatrix

    blosum = SubstitutionMatrix.std_protein_matrix()
    scores = np.array([[blosum.get_score(a, b) for b in _AMINO_ACIDS] for a in _AMINO_ACIDS])
    chances = np.array(_FREQUENCIES) * 2.0 ** (scores / 2)
    np.fill_diagonal(chances, 0)
    return chances / chances.sum(1, keepdims=True)


def _recombine(kind: str) -> tuple[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
    """Draw genes and junction with numpy's global generator, until they make a whole variable domain."""
    model = _model(kind)
    while True:
        _, junction, v, j = model.draw()
        framework = model.frameworks[v]
        if framework is None:
            continue
        before, cdr1, cdr2 = framework
        # The junction runs from the cysteine 104 to the residue 118; CDR3 lies between.
        cdr3 = (len(before) + 1, len(before) + len(junction) - 1)
        return before + junction + model.tails[j], (cdr1, cdr2, cdr3)


@dataclass(frozen=True)
class _Model:
    """OLGA's generator, by V gene what precedes the junction with its CDRs, by J gene what follows it."""

    draw: Callable[[], tuple[str, str, int, int]]
    frameworks: list[tuple[str, tuple[int, int], tuple[int, int]] | None]
    tails: list[str]


@functools.cache
def _model(kind: str) -> _Model:
    try:
        import olga
        from olga import load_model, sequence_generation
        from olga.utils import nt2aa
    except ImportError as error:
        raise MissingDependencyError(
            "generated antibodies need OLGA; install it with: pip install 'openfoldpp[train]'"
        ) from error
    folder = Path(olga.__file__).parent / "default_models" / CHAIN_TYPES[kind][0]
    joins = "VDJ" if kind in "Hh" else "VJ"
    genes = getattr(load_model, f"GenomicData{joins}")()
    genes.load_igor_genomic_data(
        str(folder / "model_params.txt"),
        str(folder / "V_gene_CDR3_anchors.csv"),
        str(folder / "J_gene_CDR3_anchors.csv"),
    )
    recombination = getattr(load_model, f"GenerativeModel{joins}")()
    recombination.load_and_process_igor_model(str(folder / "model_marginals.txt"))
    generator = getattr(sequence_generation, f"SequenceGeneration{joins}")(recombination, genes)
    # A gene is its name, its part within the junction, and the whole.
    before = [nt2aa(whole[: len(whole) - len(inside)]) for _, inside, whole in genes.genV]
    tails = [nt2aa(whole[len(inside) :]) for _, inside, whole in genes.genJ]
    frameworks = [_framework(part, gene[0], kind) for part, gene in zip(before, genes.genV, strict=True)]
    return _Model(generator.gen_rnd_prod_CDR3, frameworks, tails)


def _framework(before: str, gene: str, kind: str) -> tuple[str, tuple[int, int], tuple[int, int]] | None:
    """Return a V gene up to the cysteine 104 with CDR1 and CDR2; None for a fragment or a pseudogene."""
    cysteine = before.find("C")
    # Heavy and lambda chains leave the IMGT position 10 empty, kappa chains do not.
    if cysteine not in (21, 22) or "*" in before:
        return None
    cdr1 = cysteine + _TO_CDR1
    tryptophans = [match.start() for match in _TRYPTOPHAN_41.finditer(before, cdr1)]
    if not tryptophans:
        return None
    after = _AFTER_CDR2_LONG[1] if gene.startswith(_AFTER_CDR2_LONG[0]) else _AFTER_CDR2[kind.upper()]
    # FR2 begins two residues before the tryptophan.
    cdr2 = (tryptophans[-1] + _TO_CDR2, len(before) - after)
    return (before, (cdr1, tryptophans[-1] - 2), cdr2) if cdr2[0] < cdr2[1] else None


@contextmanager
def _numpy_seeded(seed: int | Sequence[int]) -> Iterator[None]:
    """Seed numpy's global generator, which OLGA draws from, and leave it as it was found."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(np.random.SeedSequence(seed).generate_state(4))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
