"""The layouts of embeddings on disk: how each is written by ``openfoldpp embed``, and read again.

=============== ================================================== =======================================
layout          file                                               content
=============== ================================================== =======================================
``tokens``      ``TAG.pt``                                         ``{"seq", "tokens", "repr"}``, float16
``soloseq``     ``TAG/TAG.pt``                                     ``{"label", "representations"}``, float32
``safetensors`` ``embeddings-00001.safetensors``, ...              see :mod:`openfoldpp.plm.extract_shards`
=============== ================================================== =======================================

SoloSeq's files are those of OpenFold 2's ``scripts/precompute_embeddings.py``. They are float32, as those
are: OpenFold passes what it reads to float32 layers, which refuse float16.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openfoldpp.errors import InputError, WeightsError
from openfoldpp.files import atomic_write
from openfoldpp.plm.embedder import Embedder, LanguageModel
from openfoldpp.plm.weights import read_torch_file

# OpenFold 2 reads representations[33]: those after ESM-1b's last block.
SOLOSEQ_MODEL = "esm1b"
SOLOSEQ_LAYER = 33


class Layout(ABC):
    """What a layout can do.

    Attributes
    ----------
    dtype : torch.dtype
        Of what is written.
    writers : int
        Threads that may write at once.
    """

    dtype: torch.dtype
    writers: int

    @abstractmethod
    def place(self, tag: str) -> Path:
        """Return the file that has the embedding of `tag`, or into whose folder it will be written."""

    @abstractmethod
    def has(self, tag: str) -> bool:
        """Whether the embedding of `tag` is there, complete."""

    @abstractmethod
    def write(self, tag: str, sequence: str, embedding: Tensor) -> None:
        """Write the `embedding` ``[N_res, C_plm]`` of a `sequence` under its `tag`.

        Raises :class:`InputError` for a tag that the layout cannot have.
        """

    @abstractmethod
    def read(self, tag: str, sequence: str) -> Tensor:
        """Return what was written for `tag` and `sequence`; :class:`WeightsError` where it is damaged."""

    def open(self) -> None:  # noqa: B027 -- a layout of one file for each tag has nothing to look at
        """Look at what is in the folder; nobody else writes there from now on."""

    def finish(self) -> None:  # noqa: B027
        """Complete what a run leaves for its end."""

    def close(self) -> None:  # noqa: B027
        """Let go of open files, whether or not the run came to its end."""


class _Files(Layout):
    """One file for each tag."""

    # A file is flushed to the disk before it counts; four at once hide that wait.
    writers = 4

    def __init__(self, folder: Path):
        self.folder = folder

    def has(self, tag: str) -> bool:
        return self.place(tag).is_file()


class TokensLayout(_Files):
    """``TAG.pt`` with ``seq`` (text), ``tokens`` ``[N_res]`` int64 and ``repr`` ``[N_res, C_plm]`` float16.

    Parameters
    ----------
    folder : pathlib.Path
        Where the files are.
    embedder : Embedder
        Its alphabet gives the tokens.

    Raises
    ------
    InputError
        The embedder has no alphabet.
    """

    dtype = torch.float16

    def __init__(self, folder: Path, embedder: Embedder):
        super().__init__(folder)
        if not isinstance(embedder, LanguageModel):
            raise InputError(f"--layout tokens: {embedder.name} has no tokens; take --layout safetensors")
        self._alphabet = embedder.alphabet

    def place(self, tag: str) -> Path:
        """See :class:`Layout`."""
        return self.folder / f"{tag}.pt"

    def write(self, tag: str, sequence: str, embedding: Tensor) -> None:
        """See :class:`Layout`."""
        # Without the begin and end tokens, as the embedding is.
        tokens = torch.tensor(self._alphabet.encode(sequence)[1:-1])
        with atomic_write(self.place(tag)) as file:
            torch.save({"seq": sequence, "tokens": tokens, "repr": embedding}, file)

    def read(self, tag: str, sequence: str) -> Tensor:
        """See :class:`Layout`."""
        return read_tokens_file(self.place(tag), sequence)


class SoloSeqLayout(_Files):
    """``TAG/TAG.pt`` with ``label`` and ``representations[33]``, ``[N_res, 1280]`` float32.

    Parameters
    ----------
    folder : pathlib.Path
        Above the tags' folders; OpenFold's ``--use_precomputed_alignments`` names it.
    embedder : Embedder
        ESM-1b, its last layer.

    Raises
    ------
    InputError
        The embedder is another, or the layer.
    """

    dtype = torch.float32

    def __init__(self, folder: Path, embedder: Embedder):
        super().__init__(folder)
        if embedder.name != SOLOSEQ_MODEL:
            raise InputError(
                f"--layout soloseq: SoloSeq was trained on {SOLOSEQ_MODEL}, and reads no embeddings of "
                f"{embedder.name}; give --plm {SOLOSEQ_MODEL}, or another layout"
            )
        if isinstance(embedder, LanguageModel) and embedder.layer != embedder.encoder.architecture.layers:
            raise InputError(
                f"--layout soloseq: SoloSeq reads the last layer, not layer {embedder.layer}; leave out "
                "--plm_layer"
            )

    def place(self, tag: str) -> Path:
        """See :class:`Layout`."""
        return self.folder / tag / f"{tag}.pt"

    def write(self, tag: str, sequence: str, embedding: Tensor) -> None:
        """See :class:`Layout`."""
        path = self.place(tag)
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as file:
            torch.save({"label": tag, "representations": {SOLOSEQ_LAYER: embedding}}, file)

    def read(self, tag: str, sequence: str) -> Tensor:
        """See :class:`Layout`."""
        return read_representations_file(self.place(tag), sequence, SOLOSEQ_LAYER)


def read_tokens_file(path: Path, sequence: str | None = None) -> Tensor:
    """Read ``repr`` of a ``{seq, tokens, repr}`` file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    sequence : str, optional
        Whose embedding is expected.

    Returns
    -------
    torch.Tensor of shape (N_res, C_plm)

    Raises
    ------
    WeightsError
        The file is damaged, of another layout, or of another sequence.
    """
    data = read_torch_file(path)
    if "repr" not in data or not isinstance(data.get("seq"), str):
        raise WeightsError(f"{path}: has no 'seq' and 'repr', as --layout tokens writes them")
    if sequence is not None and data["seq"] != sequence:
        raise WeightsError(
            f"{path}: is of another sequence ({data['seq'][:20]}...), expected {sequence[:20]}..."
        )
    return checked(data["repr"], data["seq"], path)


def read_representations_file(path: Path, sequence: str, layer: int | None = None) -> Tensor:
    """Read a file of SoloSeq's, or of fair-esm's ``esm-extract``, which writes the same.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    sequence : str
        Whose embedding is expected; the file does not say.
    layer : int, optional
        Which of its layers; by default the last.

    Returns
    -------
    torch.Tensor of shape (N_res, C_plm)

    Raises
    ------
    WeightsError
        The file is damaged, of another layout, lacks the layer, or has another number of rows.
    """
    found = _representations(path)
    if layer is not None and layer not in found:
        raise WeightsError(f"{path}: has no layer {layer}; it has {', '.join(map(str, sorted(found)))}")
    return checked(found[max(found) if layer is None else layer], sequence, path)


def last_layer(path: Path) -> int:
    """Return the last of the layers in the file at `path`; see :func:`read_representations_file`."""
    return max(_representations(path))


def _representations(path: Path) -> Mapping[int, Any]:
    found = read_torch_file(path).get("representations")
    if not isinstance(found, Mapping) or not found or not all(isinstance(layer, int) for layer in found):
        raise WeightsError(f"{path}: has no 'representations' by layer, as SoloSeq's files have")
    return found


def checked(embedding: Any, sequence: str, path: Path) -> Tensor:
    """Return what was read if it can be the embedding of a sequence.

    Parameters
    ----------
    embedding : object
        From a file.
    sequence : str
        Whose.
    path : pathlib.Path
        For messages.

    Returns
    -------
    torch.Tensor of shape (N_res, C_plm)

    Raises
    ------
    WeightsError
        It is no floating-point matrix, has another number of rows than the sequence, or holds NaN or
        infinity.
    """
    if not isinstance(embedding, Tensor) or embedding.ndim != 2 or not embedding.is_floating_point():
        raise WeightsError(f"{path}: holds no matrix of floating-point numbers")
    if len(embedding) != len(sequence):
        raise WeightsError(
            f"{path}: has {len(embedding)} rows and the sequence {sequence[:20]}... {len(sequence)} "
            "residues; embed this very sequence: openfoldpp embed"
        )
    if not torch.isfinite(embedding).all():
        raise WeightsError(f"{path}: holds NaN or infinity; embed the sequence again")
    return embedding
