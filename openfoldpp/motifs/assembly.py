"""A coarse model from motifs, without a network: fragments laid on each other and averaged.

The structure that most hits speak for is laid down first, all of its chains as they lie to each other. Every
further fragment is laid on what is there by the residues that both have. Then, in rounds, each residue is the
weighted mean of the fragments that have it, and each fragment is laid on that mean again. How two chains lie
to each other is the mean over the structures that have both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openfoldpp.errors import InputError
from openfoldpp.motifs.coarse_fragments import Fragment, fragments_of
from openfoldpp.motifs.hits import MotifHit
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.rigid import mean_rotation, superposition

#: Residues that a fragment must share with what is there, to be laid on it.
SHARED = 4
#: How much more a fragment counts whose letters are more alike, per unit of BLOSUM62.
SHARPNESS = 0.5
#: What a residue counts that no hit, but the alignment alone, speaks for.
UNSUPPORTED = 0.05

#: The highest confidence of a residue that no related chain has. Single motifs do not say how they lie to
#: each other: whatever their scores, lDDT is about this (0.13 to 0.14; 30 proteins in a library of 120
#: others, and 12 antibodies in one of 150 proteins).
UNRELATED = 0.15

_ROUNDS = 3
# Residues of a chain that count as near to each other: half of a long loop.
_NEAR = 12
# Angstrom between CA of neighbours.
_BOND = 3.8


@dataclass(frozen=True, eq=False)
class CoarseModel:
    """CA atoms of a query, and how far to trust them.

    Attributes
    ----------
    ca : numpy.ndarray of shape (N_res, 3), float32
        Angstrom; finite everywhere.
    confidence : numpy.ndarray of shape (N_res,), float32
        0 to 1.
    covered : numpy.ndarray of shape (N_res,), bool
        Whether a fragment says where the residue is; otherwise it lies on a line between its neighbours, or
        beyond the last.
    bodies : numpy.ndarray of shape (N_res,), int64
        Residues with the same number were laid down together; how those with different numbers lie to each
        other nobody knows. -1 where nothing covers the residue.
    sources : tuple of str
        For each residue the chain of the library that counts most for it; "" where nothing covers it.
    related : numpy.ndarray of shape (N_res,), bool
        Whether a chain that is related to the query has the residue, or one near by. Elsewhere the model is a
        guess, and the confidence at most :data:`UNRELATED`.
    """

    ca: np.ndarray
    confidence: np.ndarray
    covered: np.ndarray
    bodies: np.ndarray
    sources: tuple[str, ...]
    related: np.ndarray


@dataclass(frozen=True, eq=False)
class Layout:
    """Fragments laid on each other.

    Attributes
    ----------
    fragments : tuple of Fragment
        As given.
    placed : tuple of numpy.ndarray
        CA of each, float64 ``[n, 3]``, angstrom, all in one frame.
    weights : tuple of numpy.ndarray
        What each residue counts, float64 ``[n]``.
    bodies : numpy.ndarray of shape (N_res,), int64
        See :class:`CoarseModel`.
    chains : tuple of str
        The query's.
    """

    fragments: tuple[Fragment, ...]
    placed: tuple[np.ndarray, ...]
    weights: tuple[np.ndarray, ...]
    bodies: np.ndarray
    chains: tuple[str, ...]


def assemble(
    sequence: str,
    hits: Sequence[MotifHit],
    library: Library | None = None,
    *,
    max_identity: float | None = None,
) -> CoarseModel:
    """Put hits together.

    Parameters
    ----------
    sequence : str
        One-letter codes; chains separated by colons.
    hits : sequence of MotifHit
        Of this sequence, see :meth:`openfoldpp.motifs.retriever.Retriever.search`.
    library : Library, optional
        Where they are from: chains related to the query are used beyond their hits, and those beside them in
        their structures.
    max_identity : float, optional
        What the search was told to leave out; the same is left out of the chains that no hit is of.

    Returns
    -------
    CoarseModel
        The confidence of a residue is the weighted mean of the scores of the fragments that have it; at most
        :data:`UNRELATED` where no chain has it that is related to the query.

    Raises
    ------
    InputError
        A hit lies outside of the sequence.
    """
    return blended(lay_out(sequence, hits, library, max_identity=max_identity))


def lay_out(
    sequence: str,
    hits: Sequence[MotifHit],
    library: Library | None = None,
    *,
    max_identity: float | None = None,
) -> Layout:
    """Lay fragments on each other; see :func:`assemble`.

    Parameters
    ----------
    sequence : str
        See :func:`assemble`.
    hits : sequence of MotifHit
        See :func:`assemble`.
    library : Library, optional
        See :func:`assemble`.
    max_identity : float, optional
        See :func:`assemble`.

    Returns
    -------
    Layout

    Raises
    ------
    InputError
        A hit lies outside of the sequence.
    """
    chains = tuple(sequence.split(":"))
    total = sum(map(len, chains))
    for hit in hits:
        if hit.offset < 0 or hit.offset + hit.length > total:
            raise InputError(
                f"motif {hit.source} {hit.residue} at residue {hit.offset + 1} of the query: its "
                f"{hit.length} residues do not lie within the query's {total}: the hits are of another "
                "sequence"
            )
    fragments = tuple(fragments_of(chains, hits, library, max_identity=max_identity))
    weights = tuple(
        np.exp(SHARPNESS * fragment.similarity) * (UNSUPPORTED + fragment.support) for fragment in fragments
    )
    placed, bodies = _first_places(fragments, weights, total)
    for _ in range(_ROUNDS):
        ca, _ = mean_ca(fragments, placed, weights, total)
        placed = [
            _laid_on(fragment.ca, ca[fragment.places], weight)
            for fragment, weight in zip(fragments, weights, strict=True)
        ]
    placed = _oriented(fragments, placed, weights, chains, bodies)
    return Layout(fragments, tuple(placed), weights, bodies, chains)


def mean_ca(
    fragments: Sequence[Fragment], placed: Sequence[np.ndarray], weights: Sequence[np.ndarray], total: int
) -> tuple[np.ndarray, np.ndarray]:
    """Average fragments.

    Parameters
    ----------
    fragments : sequence of Fragment
        Whose places count.
    placed : sequence of numpy.ndarray
        CA of each, ``[n, 3]``, angstrom.
    weights : sequence of numpy.ndarray
        Of each residue, ``[n]``.
    total : int
        Residues of the query.

    Returns
    -------
    ca : numpy.ndarray of shape (total, 3), float64
        0 where there is no fragment.
    weight : numpy.ndarray of shape (total,), float64
        Sums.
    """
    ca, weight = np.zeros((total, 3)), np.zeros(total)
    for fragment, atoms, one in zip(fragments, placed, weights, strict=True):
        ca[fragment.places] += atoms * one[:, None]
        weight[fragment.places] += one
    return ca / np.maximum(weight, 1e-12)[:, None], weight


def blended(layout: Layout) -> CoarseModel:
    """Return the mean of a `layout`, with residues that nothing covers between their neighbours."""
    total = len(layout.bodies)
    ca, weight = mean_ca(layout.fragments, layout.placed, layout.weights, total)
    confidence, heaviest = np.zeros(total), np.zeros(total)
    sources = np.full(total, "", object)
    for fragment, one in zip(layout.fragments, layout.weights, strict=True):
        places = fragment.places
        confidence[places] += one * fragment.support / weight[places]
        heavier = one > heaviest[places]
        heaviest[places] = np.maximum(heaviest[places], one)
        sources[places[heavier]] = fragment.source
    return completed(ca, confidence, layout, tuple(sources.tolist()))


def completed(
    ca: np.ndarray,
    confidence: np.ndarray,
    layout: Layout,
    sources: tuple[str, ...],
) -> CoarseModel:
    """Fill in the residues that nothing covers, and keep the confidence low where nothing is related.

    Parameters
    ----------
    ca : numpy.ndarray of shape (N_res, 3)
        Anything where nothing covers the residue.
    confidence : numpy.ndarray of shape (N_res,)
        Set to 0 there.
    layout : Layout
        What the model was made of.
    sources : tuple of str
        Of the residues.

    Returns
    -------
    CoarseModel
    """
    bodies, chains, near = layout.bodies, layout.chains, related(layout)
    ca, covered = np.array(ca, np.float64), bodies >= 0
    confidence = np.where(near, confidence, np.minimum(confidence, UNRELATED))
    start = 0
    for chain in chains:
        span = slice(start, start + len(chain))
        known = np.flatnonzero(covered[span])
        if len(known):
            middle = ca[span][known].mean(0)
            ca[span] = _filled(ca[span], known, middle)
        else:
            # Stretched out beside the rest.
            ca[span] = np.arange(len(chain))[:, None] * [0, 0, _BOND] + [ca[:, 0].max() + 10 * _BOND, 0, 0]
        start += len(chain)
    confidence = np.where(covered, confidence, 0).astype(np.float32)
    return CoarseModel(ca.astype(np.float32), confidence, covered, bodies, sources, near)


def related(layout: Layout) -> np.ndarray:
    """Tell which residues a chain has that is related to the query, or has near by.

    Parameters
    ----------
    layout : Layout
        Of fragments.

    Returns
    -------
    numpy.ndarray of shape (N_res,), bool
        Near by is what a loop may be longer than that chain's, and hits are laid on both of its ends.
    """
    near = np.zeros(len(layout.bodies), bool)
    first = np.cumsum([0, *map(len, layout.chains)])
    for fragment in layout.fragments:
        if fragment.is_whole:
            around = fragment.places[:, None] + np.arange(-_NEAR, _NEAR + 1)
            inside = (around >= first[fragment.chain]) & (around < first[fragment.chain + 1])
            near[around[inside]] = True
    return near


def _filled(ca: np.ndarray, known: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Lines between residues that are `known`; beyond the last ones away from the `middle`."""
    every = np.arange(len(ca))
    filled = np.stack([np.interp(every, known, ca[known, axis]) for axis in range(3)], 1)
    for end, beyond in ((known[0], known[0] - every), (known[-1], every - known[-1])):
        outward = ca[end] - middle
        length = np.linalg.norm(outward)
        outward = outward / length if length > 0 else np.array([1.0, 0, 0])
        filled += np.maximum(beyond, 0)[:, None] * _BOND * outward
    return filled


def _laid_on(mobile: np.ndarray, fixed: np.ndarray, weights: np.ndarray) -> np.ndarray:
    rotation, shift = superposition(mobile, fixed, weights)
    return mobile @ rotation + shift


def _first_places(
    fragments: Sequence[Fragment], weights: Sequence[np.ndarray], total: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Lay fragments down one by one; those that share too little with all that is there begin a new body."""
    placed: list[np.ndarray | None] = [None] * len(fragments)
    bodies = np.full(total, -1)
    ca, weight = np.zeros((total, 3)), np.zeros(total)
    frames: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}
    order = sorted(
        range(len(fragments)), key=lambda i: (not fragments[i].is_whole, -_of_structure(fragments, i), i)
    )
    next_body = 0
    while order:
        number = next(
            (i for i in order if fragments[i].is_whole and fragments[i].structure in frames),
            next((i for i in order if _shared(fragments[i], bodies) is not None), order[0]),
        )
        order.remove(number)
        fragment, one = fragments[number], weights[number]
        body = _shared(fragment, bodies)
        if body is not None:
            common = bodies[fragment.places] == body
            rotation, shift = superposition(fragment.ca[common], ca[fragment.places[common]], one[common])
        elif fragment.is_whole and fragment.structure in frames:
            rotation, shift, body = frames[fragment.structure]
        else:
            rotation, shift, body = np.eye(3), -fragment.ca.mean(0), next_body
            if next_body:
                # Beside what is there, so that nothing overlaps.
                radius = np.linalg.norm(fragment.ca + shift, axis=1).max()
                shift[0] += ca[bodies >= 0, 0].max() + radius + 3 * _BOND
            next_body += 1
        if fragment.is_whole:
            frames.setdefault(fragment.structure, (rotation, shift, body))
        atoms = placed[number] = fragment.ca @ rotation + shift
        free = (bodies[fragment.places] < 0) | (bodies[fragment.places] == body)
        places, sums = fragment.places[free], weight[fragment.places[free]]
        added = one[free]
        ca[places] = (ca[places] * sums[:, None] + atoms[free] * added[:, None]) / (sums + added)[:, None]
        weight[places] += added
        bodies[places] = body
    return [atoms for atoms in placed if atoms is not None], bodies


def _of_structure(fragments: Sequence[Fragment], number: int) -> float:
    """Sum of the scores of the whole fragments of its structure; of a hit its own."""
    one = fragments[number]
    if not one.is_whole:
        return one.score
    return sum(other.score for other in fragments if other.is_whole and other.structure == one.structure)


def _shared(fragment: Fragment, bodies: np.ndarray) -> int | None:
    """Return the body with which a fragment shares most residues, if they are enough."""
    there = bodies[fragment.places]
    counts = np.bincount(there[there >= 0])
    return int(counts.argmax()) if counts.size and counts.max() >= SHARED else None


def _oriented(
    fragments: Sequence[Fragment],
    placed: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    chains: Sequence[str],
    bodies: np.ndarray,
) -> list[np.ndarray]:
    """Lay each further chain to the first as, on average, the structures have it that have both."""
    moved = list(placed)
    ca, _ = mean_ca(fragments, placed, weights, len(bodies))
    whole = {(one.structure, one.chain): i for i, one in enumerate(fragments) if one.is_whole}
    for chain in range(1, len(chains)):
        rotations, middles, counts = [], [], []
        mine = [i for i, fragment in enumerate(fragments) if fragment.chain == chain]
        if not mine:
            continue
        residues = np.unique(np.concatenate([fragments[i].places for i in mine]))
        middle = ca[residues].mean(0)
        for (structure, of_chain), number in whole.items():
            other = whole.get((structure, 0))
            if of_chain != chain or other is None:
                continue
            first, second = fragments[other], fragments[number]
            frame = superposition(first.ca, ca[first.places], weights[other])
            there = second.ca @ frame[0] + frame[1]
            rotation, shift = superposition(ca[second.places], there, weights[number])
            rotations.append(rotation)
            middles.append(middle @ rotation + shift)
            counts.append(first.score + second.score)
        if rotations:
            share = np.array(counts) / np.sum(counts)
            rotation, to = mean_rotation(np.array(rotations), share), share @ np.array(middles)
            for i in mine:
                moved[i] = (moved[i] - middle) @ rotation + to
    return moved
