"""Motifs: pieces of known structure, and what a prediction makes of them."""

from openfoldpp.motifs.compositor import Compositor
from openfoldpp.motifs.compositor_blob import CompositorSizes
from openfoldpp.motifs.hits import MotifHit
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.retriever import Retriever

__all__ = ["Compositor", "CompositorSizes", "Library", "MotifHit", "Retriever"]
