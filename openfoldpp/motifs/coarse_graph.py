"""The graph of a coarse model: fragments as nodes, how they meet as edges, their residues side by side."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from openfoldpp.motifs.assembly import Layout, mean_ca
from openfoldpp.plm.cheap_head import CHANNELS, K

#: What is known of a node beside its embedding, of an edge, and of a fragment's residue.
NODE_SCALARS, EDGES, RESIDUES = 7, 6, 7
NODES = CHANNELS + NODE_SCALARS

# Angstrom: CA of residues that are no neighbours are never as near as this.
_CLASH = 3.0
# Residues on either side that count as neighbours.
_NEIGHBOURS = 2
# Angstrom beyond which a deviation counts no more, and residues from an end.
_FAR, _DEEP = 6.0, 10


@dataclass(frozen=True, eq=False)
class CoarseGraph:
    """L fragments, in the order of the sequence, on N_res residues; float32 unless another dtype is named.

    Attributes
    ----------
    nodes : numpy.ndarray of shape (L, NODES)
        Mean over its windows of CheapHead's vectors of the query; whether it is a whole chain, its length and
        score, mean similarity and support, deviation from the mean, chain.
    edges : numpy.ndarray of shape (L, L, EDGES)
        Of fragment i towards j: residues shared, and how far apart they are; residues of i that clash with
        the mean's residues of j; whether they are of one structure, of one chain; the offset between their
        middles.
    shifts, turns : numpy.ndarray of shape (L, L, 3)
        What moves fragment i towards j: the mean way from i's residues to j's, angstrom; and the rotation
        vector about i's middle, to first order.
    centres : numpy.ndarray of shape (L, 3)
        Middles, angstrom.
    placed : numpy.ndarray of shape (L, N_res, 3)
        CA as laid out, angstrom; 0 where the fragment has none.
    mask : numpy.ndarray of shape (L, N_res), bool
        Which residues it has.
    log_weights : numpy.ndarray of shape (L, N_res)
        Logarithm of what each counts; 0 where there is none.
    residues : numpy.ndarray of shape (L, N_res, RESIDUES)
        Similarity, support, depth from the fragment's ends, deviation from the mean, spread of all, share of
        the weight, whether it is of a whole chain.
    ends : numpy.ndarray of shape (N_res,)
        1 at the first and last residue of each chain.
    confidence : numpy.ndarray of shape (N_res,)
        Weighted mean of the support, 0 to 1.
    sources : tuple of str
        Of the fragments.
    """

    nodes: np.ndarray
    edges: np.ndarray
    shifts: np.ndarray
    turns: np.ndarray
    centres: np.ndarray
    placed: np.ndarray
    mask: np.ndarray
    log_weights: np.ndarray
    residues: np.ndarray
    ends: np.ndarray
    confidence: np.ndarray
    sources: tuple[str, ...]


def graph_of(layout: Layout, vectors: list[np.ndarray]) -> CoarseGraph:
    """Make the graph of a layout.

    Parameters
    ----------
    layout : Layout
        With one fragment or more.
    vectors : list of numpy.ndarray
        ``[N_res - 9, 64]`` for each chain of the query: CheapHead's, see
        :class:`openfoldpp.motifs.embedder.ShingleEmbedder`.

    Returns
    -------
    CoarseGraph
    """
    total = len(layout.bodies)
    order = sorted(
        range(len(layout.fragments)),
        key=lambda i: (layout.fragments[i].places[0], layout.fragments[i].places[-1], i),
    )
    fragments = [layout.fragments[i] for i in order]
    count = len(fragments)
    mask = np.zeros((count, total), bool)
    placed = np.zeros((count, total, 3))
    log_weights, similarity, support, depth = (np.zeros((count, total)) for _ in range(4))
    for row, (number, fragment) in enumerate(zip(order, fragments, strict=True)):
        places = fragment.places
        mask[row, places] = True
        placed[row, places] = layout.placed[number]
        log_weights[row, places] = np.log(layout.weights[number])
        similarity[row, places] = fragment.similarity
        support[row, places] = fragment.support
        rank = np.arange(len(places))
        depth[row, places] = np.minimum(np.minimum(rank, rank[::-1]), _DEEP) / _DEEP
    mean, sums = mean_ca(layout.fragments, layout.placed, layout.weights, total)
    # Moved to the middle, so that float32 keeps the digits.
    origin = mean[layout.bodies >= 0].mean(0)
    mean, placed = mean - origin, np.where(mask[..., None], placed - origin, 0)
    shares = np.where(mask, np.exp(log_weights), 0) / np.maximum(sums, 1e-12)
    deviation = np.where(mask, np.linalg.norm(placed - mean, axis=-1), 0)
    spread = np.sqrt((shares * deviation**2).sum(0))
    is_whole = np.array([fragment.is_whole for fragment in fragments], float)
    columns = [
        similarity / 4, support, depth, np.minimum(deviation, _FAR) / _FAR,
        np.broadcast_to(np.minimum(spread, _FAR) / _FAR, mask.shape), shares,
        np.broadcast_to(is_whole[:, None], mask.shape),
    ]  # fmt: skip
    counts = mask.sum(1)
    centres = placed.sum(1) / counts[:, None]
    nodes = np.concatenate(
        [
            _embeddings(layout, mask, vectors),
            np.stack(
                [
                    is_whole, counts / 100, [np.log1p(fragment.score) for fragment in fragments],
                    similarity.sum(1) / counts / 4, support.sum(1) / counts,
                    np.minimum(deviation, _FAR).sum(1) / counts / _FAR,
                    [min(fragment.chain, 1) for fragment in fragments],
                ],
                1,
            ),
        ],
        1,
    )  # fmt: skip
    edges, shifts, turns = _edges(layout, order, mask, placed, centres, mean)
    ends = np.zeros(total)
    last = np.cumsum([len(chain) for chain in layout.chains])
    ends[last - 1] = ends[np.append(0, last[:-1])] = 1
    arrays = {
        "nodes": nodes, "edges": edges, "shifts": shifts, "turns": turns, "centres": centres,
        "placed": placed, "log_weights": log_weights, "ends": ends,
        "residues": np.stack(columns, -1) * mask[..., None],
        "confidence": (shares * support).sum(0),
    }  # fmt: skip
    sources = tuple(fragment.source for fragment in fragments)
    return CoarseGraph(
        mask=mask, sources=sources, **{name: array.astype(np.float32) for name, array in arrays.items()}
    )


def arrays_of(graph: CoarseGraph) -> dict[str, np.ndarray]:
    """Return the arrays of a `graph` by name."""
    return {field.name: getattr(graph, field.name) for field in fields(graph) if field.name != "sources"}


def _embeddings(layout: Layout, mask: np.ndarray, vectors: list[np.ndarray]) -> np.ndarray:
    """Mean of the vectors of the windows that begin in a fragment and end in it."""
    found, start = np.zeros((len(mask), CHANNELS)), 0
    for chain, of_windows in zip(layout.chains, vectors, strict=True):
        inside = mask[:, start : start + len(chain) - K + 1] & mask[:, start + K - 1 : start + len(chain)]
        count = inside.sum(1, keepdims=True)
        found += inside @ of_windows / np.maximum(count, 1)
        start += len(chain)
    return found


def _edges(
    layout: Layout,
    order: list[int],
    mask: np.ndarray,
    placed: np.ndarray,
    centres: np.ndarray,
    mean: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    total, own = mask.shape[1], mask.astype(float)
    shared = own @ own.T
    some = np.maximum(shared, 1)[..., None]
    flat = placed.transpose(0, 2, 1)  # [L, 3, N_res], 0 outside of the fragment
    mine = np.einsum("iar,jr->ija", flat, own)
    shifts = (mine.transpose(1, 0, 2) - mine) / some
    arms = np.where(mask[:, None], flat - centres[..., None], 0)
    inner = np.einsum("iar,jbr->ijab", arms, flat)
    itself = np.einsum("iar,ibr,jr->ijab", arms, flat, own, optimize=True)
    moment = inner - itself
    torque = np.stack([moment[..., a, b] - moment[..., b, a] for a, b in ((1, 2), (2, 0), (0, 1))], -1)
    inertia = np.maximum(np.einsum("iar,iar,jr->ij", arms, arms, own, optimize=True), 1)[..., None]
    turns = torque / inertia
    squares = (flat**2).sum(1) @ own.T
    squares = squares + squares.T - 2 * np.einsum("iar,jar->ij", flat, flat, optimize=True)
    apart = np.sqrt(np.maximum(squares, 0) / some[..., 0])
    fragments = [layout.fragments[i] for i in order]
    clash = np.zeros(mask.shape)
    every, is_there = np.arange(total), layout.bodies >= 0
    for row, fragment in enumerate(fragments):
        near = np.linalg.norm(placed[row, fragment.places, None] - mean, axis=-1) < _CLASH
        near &= (np.abs(fragment.places[:, None] - every) > _NEIGHBOURS) & is_there
        clash[row] = near.sum(0)
    names, numbers = (
        np.array([getattr(fragment, name) for fragment in fragments]) for name in ("structure", "chain")
    )
    middles = np.array([fragment.places.mean() for fragment in fragments])
    edges = np.stack(
        [
            shared / own.sum(1)[:, None],
            np.minimum(apart, _FAR) / _FAR,
            np.minimum(clash @ own.T / own.sum(1)[:, None], 1),
            names[:, None] == names,
            numbers[:, None] == numbers,
            np.clip((middles - middles[:, None]) / 100, -1, 1),
        ],
        -1,
    )
    return edges, shifts, turns
