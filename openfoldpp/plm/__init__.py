"""Protein language models: per-residue embeddings from a sequence alone."""

from openfoldpp.plm.embedder import Embedder, LanguageModel, LongSequenceWarning
from openfoldpp.plm.registry import load, names

__all__ = ["Embedder", "LanguageModel", "LongSequenceWarning", "load", "names"]
