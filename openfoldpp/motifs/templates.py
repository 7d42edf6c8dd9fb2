"""Motif hits as templates: the raw features that upstream's data pipeline makes of a template's structure.

A template is one hit, because nothing says how the frames of two hits lie to each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openfoldpp.geometry import residues
from openfoldpp.motifs.hits import MotifHit
from openfoldpp.motifs.pieces import Pieces

#: Least score of a template. OpenFold's weights were trained on templates that are mostly right; a motif that
#: is more probably wrong than right would mislead them.
LEAST_SCORE = 0.5
# Letters of template_aatype: hhblits' order, then X and the gap.
_LETTERS = "ACDEFGHIKLMNPQRSTVWYX-"
_GAP = _LETTERS.index("-")


def choose_templates(hits: Sequence[MotifHit], count: int) -> list[MotifHit]:
    """Choose the hits that are worth a place among a model's few templates.

    Each next one is that which adds most to what the chosen ones know: the sum over residues of the best
    score there. What adds nothing comes last, by score and length.

    Parameters
    ----------
    hits : sequence of MotifHit
        Of one target.
    count : int
        How many at most.

    Returns
    -------
    list of MotifHit
        Those with a score of :data:`LEAST_SCORE` or more, the most useful first.
    """
    left = [hit for hit in hits if hit.score >= LEAST_SCORE]
    best = np.zeros(max((hit.offset + hit.length for hit in left), default=0))
    chosen: list[MotifHit] = []
    while left and len(chosen) < count:

        def worth(hit: MotifHit) -> tuple[float, float]:
            gain = np.maximum(hit.score - best[hit.offset : hit.offset + hit.length], 0).sum()
            return float(gain), hit.score * hit.length

        chosen.append(max(left, key=worth))  # of equal ones the first
        left = [hit for hit in left if hit is not chosen[-1]]
        span = slice(chosen[-1].offset, chosen[-1].offset + chosen[-1].length)
        best[span] = np.maximum(best[span], chosen[-1].score)
    return chosen


def template_name(hit: MotifHit) -> str:
    """Name a `hit` as a template: its structure, chain and first residue."""
    return f"{hit.source}:{hit.residue}"


def template_features(hits: Sequence[MotifHit], chains: Sequence[str]) -> dict[str, np.ndarray]:
    """Make raw template features, one template of each hit.

    Parameters
    ----------
    hits : sequence of MotifHit
        As :func:`choose_templates` returns them.
    chains : sequence of str
        The target's sequences.

    Returns
    -------
    dict of str to numpy.ndarray
        As upstream's ``TemplateHitFeaturizer`` makes them, for T templates: ``template_aatype`` int64
        ``[T, N_res, 22]`` one-hot in hhblits' order, a gap where the hit has no residue;
        ``template_all_atom_positions`` ``[T, N_res, 37, 3]``, angstrom, and ``template_all_atom_mask``
        ``[T, N_res, 37]`` of N, CA, C, O and an ideal CB, ``template_sum_probs`` ``[T, 1]``, the score, all
        float32; ``template_domain_names`` and ``template_sequence``, bytes in object arrays ``[T]``.

    Raises
    ------
    InputError
        A hit does not lie within one chain of the target.
    """
    pieces, n_res = Pieces.of(hits, chains), sum(map(len, chains))
    aatype = np.zeros((len(hits), n_res, len(_LETTERS)), np.int64)
    aatype[..., _GAP] = 1
    positions = np.zeros((len(hits), n_res, 37, 3), np.float32)
    mask = np.zeros((len(hits), n_res, 37), np.float32)
    order = np.array([_LETTERS.index(letter) for letter in residues.LETTERS])
    for number, hit in enumerate(hits):
        rows, span = pieces.rows(number), slice(hit.offset, hit.offset + hit.length)
        aatype[number, span] = np.eye(len(_LETTERS), dtype=np.int64)[order[pieces.types[rows]]]
        positions[number, span] = pieces.atom37[rows]
        mask[number, span] = pieces.mask37[rows]
    aligned = ["-" * hit.offset + hit.sequence + "-" * (n_res - hit.offset - hit.length) for hit in hits]
    return {
        "template_aatype": aatype,
        "template_all_atom_mask": mask,
        "template_all_atom_positions": positions,
        "template_domain_names": np.array([template_name(hit).encode() for hit in hits], object),
        "template_sequence": np.array([text.encode() for text in aligned], object),
        "template_sum_probs": np.array([[hit.score] for hit in hits], np.float32).reshape(-1, 1),
    }
