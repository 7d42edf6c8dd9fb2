"""From a sequence and its hits to a coarse model, by GraphCompositor."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from openfoldpp.motifs.assembly import CoarseModel, blended, completed, lay_out
from openfoldpp.motifs.coarse_graph import graph_of
from openfoldpp.motifs.embedder import ShingleEmbedder, shingle_embedder
from openfoldpp.motifs.graph_compositor import GraphCompositor, tensors_of
from openfoldpp.motifs.graph_weights import shipped
from openfoldpp.motifs.hits import MotifHit
from openfoldpp.motifs.library import Library


def compose(
    sequence: str,
    hits: Sequence[MotifHit],
    library: Library | None = None,
    *,
    max_identity: float | None = None,
    model: GraphCompositor | None = None,
    embedder: ShingleEmbedder | None = None,
) -> CoarseModel:
    """Put hits together by a network that looks at how they fit.

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
    model : GraphCompositor, optional
        By default the one that comes with openfoldpp, which learned from antibody Fvs.
    embedder : ShingleEmbedder, optional
        By default the one that comes with openfoldpp.

    Returns
    -------
    CoarseModel
        The confidence of a residue is the lDDT of CA that is expected of it.

    Raises
    ------
    InputError
        A hit lies outside of the sequence.
    WeightsError
        Weights that come with openfoldpp are missing or damaged.
    """
    layout = lay_out(sequence, hits, library, max_identity=max_identity)
    if not layout.fragments:
        return blended(layout)
    graph = graph_of(layout, (embedder or shingle_embedder()).embed(list(layout.chains)))
    with torch.inference_mode():
        made = (model or shipped())(tensors_of(graph))
    heaviest = made.shares.argmax(0).tolist()
    sources = tuple(
        graph.sources[row] if covered else ""
        for row, covered in zip(heaviest, layout.bodies >= 0, strict=True)
    )
    return completed(made.ca.numpy(), made.confidence.sigmoid().numpy(), layout, sources)
