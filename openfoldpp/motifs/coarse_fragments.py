"""What a coarse model is put together from: hits, and whole chains of the structures that hits speak for.

A hit is ten to some forty residues: long enough for a loop, too short to say how one end of a chain lies to
the other, or two chains to each other. Where the structure that it is of is related to the query, as the
sequences tell, the rest of its chain is aligned and used too: a *whole* fragment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openfoldpp.motifs.hits import MotifHit
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.sequence_identity import near
from openfoldpp.plm.cheap_head import K

#: Structures of which whole chains are used, those with the greatest sum of scores.
STRUCTURES = 24
#: Hits that are used beside them, those which cover most of what is covered least.
HITS = 32
#: Residues that must be aligned with a related chain, at least.
ALIGNED = 40

# Residues over whose substitution scores a residue's similarity is the mean.
_AROUND = 9
# For opening a gap and for each further residue, with BLOSUM62.
_GAPS = (-10, -1)


@dataclass(frozen=True, eq=False)
class Fragment:
    """Residues of a structure that stand for residues of the query's chain.

    Attributes
    ----------
    chain : int
        Of the query.
    structure : str
        Of the library; fragments of one structure are in one frame.
    source : str
        The structure and its chain.
    is_whole : bool
        Whether the whole chain was aligned; otherwise it is a hit.
    places : numpy.ndarray of shape (n,), int64
        The query's residues, ascending, counted through all chains.
    ca : numpy.ndarray of shape (n, 3), float64
        Angstrom, in the structure's frame.
    similarity : numpy.ndarray of shape (n,), float64
        BLOSUM62 of the two letters, mean over nine residues around.
    support : numpy.ndarray of shape (n,), float64
        The greatest score of a hit that says so, 0 to 1; 0 where only the alignment does.
    score : float
        Sum of the scores of its windows.
    """

    chain: int
    structure: str
    source: str
    is_whole: bool
    places: np.ndarray
    ca: np.ndarray
    similarity: np.ndarray
    support: np.ndarray
    score: float


def related_identity(aligned: int) -> float:
    """Return the share of identical residues from which on two chains have one fold (Rost 1999).

    Parameters
    ----------
    aligned : int
        Residues aligned.

    Returns
    -------
    float
        0 to 1: 0.57 of 40 residues, 0.42 of 80, 0.39 of 100; the curve of doi 10.1093/protein/12.2.85 for
        n = 10, as the best of many alignments is taken.
    """
    return 0.1 + 4.8 * aligned ** (-0.32 * (1 + np.exp(-aligned / 1000)))


def structure_of(source: str) -> str:
    """Return the name of the structure that a `source`, ``STRUCTURE_CHAIN``, is a chain of."""
    return source.rpartition("_")[0] or source


def fragments_of(
    chains: Sequence[str],
    hits: Sequence[MotifHit],
    library: Library | None = None,
    *,
    structures: int = STRUCTURES,
    most_hits: int = HITS,
    max_identity: float | None = None,
) -> list[Fragment]:
    """Choose what a query's model is put together from.

    Parameters
    ----------
    chains : sequence of str
        The query's.
    hits : sequence of MotifHit
        Offsets count through all chains.
    library : Library, optional
        Where the hits are from; without it no chain is used beyond its hits.
    structures, most_hits : int
        At most so many structures' chains, and so many hits.
    max_identity : float, optional
        Leave out chains without a hit that share this part of their residues, or more, with a chain of the
        query, as the search was told to.

    Returns
    -------
    list of Fragment
        Whole ones first, by the structures' scores; then hits.
    """
    whole = _whole(chains, hits, library, structures, max_identity) if library is not None else []
    need = np.ones(sum(map(len, chains)))
    for fragment in whole:
        need[fragment.places] += fragment.support
    return whole + _hits(chains, hits, need, most_hits)


def ranked_structures(hits: Sequence[MotifHit]) -> list[str]:
    """Return the structures of `hits`, that with the greatest sum of its windows' scores first."""
    sums: dict[str, float] = defaultdict(float)
    for hit in hits:
        sums[structure_of(hit.source)] += _sum(hit)
    return sorted(sums, key=lambda name: (-sums[name], name))


def _sum(hit: MotifHit) -> float:
    return hit.score * (hit.length - K + 1)


def _whole(
    chains: Sequence[str],
    hits: Sequence[MotifHit],
    library: Library,
    most: int,
    max_identity: float | None,
) -> list[Fragment]:
    ends = np.cumsum([len(chain) for chain in chains])
    found: dict[str, dict[int, dict[int, list[MotifHit]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    sums: list[dict[str, float]] = [defaultdict(float) for _ in chains]
    for hit in hits:
        chain, structure = int(np.searchsorted(ends, hit.offset, "right")), structure_of(hit.source)
        found[structure][chain][hit.segment].append(hit)
        sums[chain][structure] += _sum(hit)
    # The best of each chain: how chains lie to each other follows from their structures' other chains.
    share = -(-most // len(chains))
    chosen = {name for one in sums for name in sorted(one, key=lambda name: (-one[name], name))[:share]}
    whole: list[Fragment] = []
    for structure in (name for name in ranked_structures(hits) if name in chosen):
        used, of_structure = set(), []
        for chain, segments in found[structure].items():
            segment = max(segments, key=lambda number: (sum(map(_sum, segments[number])), -number))
            used.add(segment)
            first = int(ends[chain]) - len(chains[chain])
            of_structure.append(_aligned(chains[chain], chain, first, segment, segments[segment], library))
        for chain in sorted(set(range(len(chains))) - set(found[structure])):
            first = int(ends[chain]) - len(chains[chain])
            others = [
                (fragment, segment)
                for segment in _segments_beside(library, next(iter(used)))
                if segment not in used and not _is_near(library, segment, chains, max_identity)
                if (fragment := _aligned(chains[chain], chain, first, segment, [], library)) is not None
            ]
            if others:
                fragment, segment = max(others, key=lambda other: (other[0].similarity.sum(), -other[1]))
                used.add(segment)
                of_structure.append(fragment)
        whole += [fragment for fragment in of_structure if fragment is not None]
    return whole


def _segments_beside(library: Library, segment: int) -> list[int]:
    """Return the segments of the structure that a `segment` is of: they are numbered one after another."""
    structure = structure_of(library.segment(segment).name)
    found = []
    for step in (-1, 1):
        number = segment + step
        while (
            0 <= number < library.counts.segments and structure_of(library.segment(number).name) == structure
        ):
            found.append(number)
            number += step
    return sorted(found)


def _is_near(library: Library, segment: int, chains: Sequence[str], max_identity: float | None) -> bool:
    """Return whether a search with `max_identity` would have left the segment out."""
    if max_identity is None:
        return False
    return bool(near([library.segment(segment).sequence], list(chains), max_identity)[0])


def _aligned(
    sequence: str, chain: int, first: int, segment: int, hits: Sequence[MotifHit], library: Library
) -> Fragment | None:
    """Align a chain of the query with a segment; None where they are not related."""
    from biotite.sequence.align import align_optimal

    source = library.segment(segment).sequence
    trace = align_optimal(
        _protein(sequence), _protein(source), _blosum(), gap_penalty=_GAPS, terminal_penalty=False,
        max_number=1,
    )[0].trace  # fmt: skip
    query, aligned = trace[(trace >= 0).all(1)].T
    scores, same = _substitutions(sequence, source, query, aligned)
    if len(query) < ALIGNED or same.mean() < related_identity(len(query)):
        return None
    support = np.zeros(len(query))
    for hit in hits:
        inside = (query >= hit.offset - first) & (query < hit.offset - first + hit.length)
        inside &= aligned - query == hit.start - (hit.offset - first)
        support[inside] = np.maximum(support[inside], hit.score)
    info = library.segment(segment)
    return Fragment(
        chain, structure_of(info.name), info.name, True, query + first,
        library.coordinates(segment)[aligned, 1].astype(np.float64), _smooth(scores), support,
        float(sum(map(_sum, hits))),
    )  # fmt: skip


def _hits(chains: Sequence[str], hits: Sequence[MotifHit], need: np.ndarray, most: int) -> list[Fragment]:
    """Choose hits one by one: that with most score where there is least."""
    ends = np.cumsum([len(chain) for chain in chains])
    query = "".join(chains)
    need, chosen, left = need.copy(), [], list(range(len(hits)))
    while left and len(chosen) < most:
        worth = [
            float((hits[i].score / need[hits[i].offset : hits[i].offset + hits[i].length]).sum())
            for i in left
        ]
        best = left.pop(int(np.argmax(worth)))
        hit = hits[best]
        need[hit.offset : hit.offset + hit.length] += hit.score
        chosen.append(best)
    found = []
    for hit in (hits[i] for i in sorted(chosen)):
        places = np.arange(hit.offset, hit.offset + hit.length)
        scores, _ = _substitutions(query, hit.sequence, places, np.arange(hit.length))
        found.append(
            Fragment(
                int(np.searchsorted(ends, hit.offset, "right")),
                structure_of(hit.source),
                hit.source,
                False,
                places,
                hit.coords[:, 1].astype(np.float64),
                _smooth(scores),
                np.full(hit.length, hit.score),
                _sum(hit),
            )
        )
    return found


def _smooth(scores: np.ndarray) -> np.ndarray:
    kernel = np.ones(min(_AROUND, len(scores)))
    return np.convolve(scores, kernel, "same") / np.convolve(np.ones(len(scores)), kernel, "same")


def _substitutions(a: str, b: str, in_a: np.ndarray, in_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return BLOSUM62 of pairs of letters, and whether they are the same."""
    left, right = _protein(a).code[in_a], _protein(b).code[in_b]
    return _blosum().score_matrix()[left, right].astype(np.float64), left == right


def _protein(sequence: str):
    from biotite.sequence import ProteinSequence

    known = set("ACDEFGHIKLMNPQRSTVWY")
    return ProteinSequence("".join(letter if letter in known else "X" for letter in sequence))


def _blosum():
    from biotite.sequence.align import SubstitutionMatrix

    return SubstitutionMatrix.std_protein_matrix()
