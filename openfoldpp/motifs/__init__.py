"""Motifs: pieces of known structure, and what a prediction makes of them."""

from openfoldpp.motifs.compositor import Compositor
from openfoldpp.motifs.compositor_blob import CompositorSizes

__all__ = ["Compositor", "CompositorSizes"]
