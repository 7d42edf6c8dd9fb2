"""Sequences as the vectors of their shingles: plm_lite, its projection, CheapHead."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from torch import Tensor

from openfoldpp.errors import InputError
from openfoldpp.plm import LongSequenceWarning, cheap_head, plm_lite
from openfoldpp.plm.cheap_head import CHANNELS, K
from openfoldpp.plm.weights import fingerprint, sha256_of

#: The language model whose projection the shipped CheapHead was trained on.
PLM = "plm_lite"

_WEIGHTS = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class Embedding:
    """What decides a shingle's vector beside its sequence; vectors of two of these cannot be compared.

    Attributes
    ----------
    plm : str
        Name of the language model.
    fingerprint : str
        Its own, see :class:`openfoldpp.plm.Embedder`.
    head : str
        SHA-256 of CheapHead's weights file, in hexadecimal.
    """

    plm: str
    fingerprint: str
    head: str


class ShingleEmbedder:
    """plm_lite and CheapHead together.

    Parameters
    ----------
    lite : openfoldpp.plm.plm_lite.LiteModel
        The language model.
    head : openfoldpp.plm.cheap_head.CheapHead
        Trained on its projection.
    """

    def __init__(self, lite: plm_lite.LiteModel, head: cheap_head.CheapHead):
        self.lite = lite
        self.head = head

    def embed(self, sequences: Sequence[str]) -> list[np.ndarray]:
        """Embed the shingles of sequences.

        Parameters
        ----------
        sequences : sequence of str
            Capital letters; each at least ten residues long.

        Returns
        -------
        list of numpy.ndarray
            ``[N_res - 9, 64]``, float32: row i is residues i to i + 9.

        Raises
        ------
        InputError
            A sequence is too short, or has a character that is no letter.
        """
        found = dict(self.embed_each(sequences))
        return [found[number] for number in range(len(sequences))]

    def embed_both(self, sequences: Sequence[str]) -> list[tuple[Tensor, np.ndarray]]:
        """Embed the residues of sequences and their shingles.

        Parameters
        ----------
        sequences : sequence of str
            See :meth:`embed`.

        Returns
        -------
        list of (torch.Tensor, numpy.ndarray)
            The language model's embeddings, ``[N_res, C_plm]``, and the vectors of :meth:`embed`.

        Raises
        ------
        InputError
            See :meth:`embed`.
        """
        found = {number: (residues, vectors) for number, residues, vectors in self._each(sequences)}
        return [found[number] for number in range(len(sequences))]

    def embed_each(self, sequences: Sequence[str]) -> Iterator[tuple[int, np.ndarray]]:
        """Embed the shingles of sequences as :meth:`embed` does, the longest first.

        Parameters
        ----------
        sequences : sequence of str
            See :meth:`embed`.

        Yields
        ------
        (int, numpy.ndarray)
            The sequence's number and its vectors.

        Raises
        ------
        InputError
            See :meth:`embed`.
        """
        for number, _, vectors in self._each(sequences):
            yield number, vectors

    def _each(self, sequences: Sequence[str]) -> Iterator[tuple[int, Tensor, np.ndarray]]:
        for sequence in sequences:
            if len(sequence) < K:
                raise InputError(
                    f"the sequence {sequence!r} has {len(sequence)} residues, and a motif is searched with "
                    f"at least {K}; give a longer one"
                )
        with warnings.catch_warnings():
            # Windows of a long chain are blended residue by residue: a shingle of ten does not notice.
            warnings.simplefilter("ignore", LongSequenceWarning)
            for number, embedding in self.lite.embed_each(sequences):
                yield number, embedding, self.head.shingles(self.lite.project(embedding)).numpy()


@functools.cache
def shingle_embedder(plm: str = PLM) -> ShingleEmbedder:
    """Load what turns sequences into the vectors of their shingles; once in a process.

    Parameters
    ----------
    plm : str
        Name of the language model: ``"plm_lite"``.

    Returns
    -------
    ShingleEmbedder

    Raises
    ------
    InputError
        Another language model: CheapHead was not trained on it.
    WeightsError
        The weights are missing or damaged.
    """
    _require_known(plm)
    lite = plm_lite.load()
    return ShingleEmbedder(lite, cheap_head.load(lite.fingerprint))


@functools.cache
def installed_embedding(plm: str = PLM) -> Embedding:
    """Tell what :func:`shingle_embedder` would embed with, from its files alone, which is fast.

    Parameters
    ----------
    plm : str
        Name of the language model: ``"plm_lite"``.

    Returns
    -------
    Embedding

    Raises
    ------
    InputError
        See :func:`shingle_embedder`.
    """
    _require_known(plm)
    weights = _WEIGHTS / "plm_lite.safetensors"
    with safe_open(weights, framework="np") as file:
        settings = json.loads(file.metadata()[plm_lite.FORMAT])
    # The last layer's output, in float32: what plm_lite.load() gives.
    identity = fingerprint(weights, None)(settings["architecture"]["layers"])
    return Embedding(plm, identity, sha256_of(_WEIGHTS / "cheap_head.safetensors"))


def _require_known(plm: str) -> None:
    if plm != PLM:
        raise InputError(
            f"--plm {plm}: motifs are searched by the vectors of CheapHead, which was trained on the "
            f"projection of {PLM} ({CHANNELS} channels a residue) and means nothing on another model's "
            f"embeddings; give --plm {PLM} or leave it out"
        )
