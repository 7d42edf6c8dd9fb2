"""Embeddings that were made before: a folder of files in place of a language model.

The folder is one that ``openfoldpp embed`` filled, in any of its layouts, or one of SoloSeq's: ``TAG/TAG.pt``
as OpenFold 2's ``scripts/precompute_embeddings.py`` writes, or ``TAG.pt`` as fair-esm's ``esm-extract`` does.
An embedding is found by its sequence. The last two do not say their sequences: a FASTA file (``.fasta``,
``.fa``) in the folder must, one with the same names.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from openfoldpp.errors import InputError, WeightsError
from openfoldpp.fasta import TAG_RULES
from openfoldpp.plm.embedder import require_several
from openfoldpp.plm.extract_fasta import read_records
from openfoldpp.plm.extract_folder import read_listing, read_manifest
from openfoldpp.plm.extract_shards import read_shard, shards, tags_and_sequences
from openfoldpp.plm.layouts import last_layer, read_representations_file, read_tokens_file
from openfoldpp.plm.weights import layer_of, read_torch_file

NAME = "precomputed"


class _Place(NamedTuple):
    """Where an embedding is, and how it is read."""

    path: Path
    read: Callable[[str], Tensor]


class Precomputed:
    """The :class:`openfoldpp.plm.Embedder` of a folder.

    Parameters
    ----------
    folder : pathlib.Path
        With the embeddings.
    layer : int, optional
        Which of the layers in SoloSeq's or fair-esm's files; by default the last that the first file has.

    Attributes
    ----------
    model : str or None
        The language model whose embeddings these are, where the folder says it.
    layer : int or None
        Whose output they are, where the folder or its files say it.

    Raises
    ------
    WeightsError
        There is no embedding in the folder, a file is damaged, or no FASTA file says the sequences.
    InputError
        A layer is asked of files that have one alone.
    """

    name = NAME
    max_residues: int | None = None

    def __init__(self, folder: Path, layer: int | None = None):
        self.folder = folder
        self._layer = layer
        self._manifest = read_manifest(folder)
        self._places = self._in_shards() or self._in_files()
        if layer is not None and not any(
            isinstance(place.read, functools.partial) and place.read.func is _read_layer
            for place in self._places.values()
        ):
            raise InputError(f"{folder}: its files have one layer each; leave out --plm_layer {layer}")
        sequence, place = next(iter(self._places.items()))
        self.channels = place.read(sequence).shape[1]
        self.model: str | None = self._manifest["model"] if self._manifest else None
        told = layer_of(self._manifest["fingerprint"]) if self._manifest else None
        self.layer = self._layer if told is None else told

    def __len__(self) -> int:
        return len(self._places)

    @functools.cached_property
    def fingerprint(self) -> str:
        """See :class:`openfoldpp.plm.Embedder`. Where no model is known: the files' names, sizes, times."""
        if self._manifest:
            return f"{self._manifest['layout']}:{self._manifest['model']}:{self._manifest['fingerprint']}"
        digest = hashlib.sha256(f"{self._layer}".encode())
        for path in sorted({place.path for place in self._places.values()}):
            status = path.stat()
            digest.update(f"\n{path.relative_to(self.folder)} {status.st_size} {status.st_mtime_ns}".encode())
        return digest.hexdigest()

    def embed(self, sequences: Sequence[str]) -> list[Tensor]:
        """Read the embeddings of sequences.

        Parameters
        ----------
        sequences : sequence of str
            Each must be in the folder.

        Returns
        -------
        list of torch.Tensor
            ``[N_res, C_plm]``, float32.

        Raises
        ------
        InputError
            A sequence has no embedding in the folder.
        WeightsError
            A file is damaged, or its embedding has not the sequence's length.
        """
        return [embedding for _, embedding in self.embed_each(sequences)]

    def embed_each(self, sequences: Sequence[str]) -> Iterator[tuple[int, Tensor]]:
        """Yield each sequence's number and embedding, in order.

        Parameters
        ----------
        sequences : sequence of str
            See :meth:`embed`.

        Yields
        ------
        (int, torch.Tensor)
            The sequence's number and its embedding.

        Raises
        ------
        InputError
            A sequence has no embedding in the folder.
        WeightsError
            A file is damaged, or has another number of channels than the others.
        """
        require_several(sequences)
        for index, sequence in enumerate(sequences):
            place = self._places.get(sequence)
            if place is None:
                start = sequence if len(sequence) <= 20 else f"{sequence[:20]}..."
                raise InputError(
                    f"{self.folder}: none of its {len(self):,} embeddings is of the sequence {start} "
                    f"({len(sequence)} residues); add it with openfoldpp embed, or name a language model "
                    "with --plm"
                )
            embedding = place.read(sequence).float()
            if embedding.shape[1] != self.channels:
                raise WeightsError(
                    f"{place.path}: has {embedding.shape[1]} channels and others in {self.folder} "
                    f"{self.channels}; keep the embeddings of one model in a folder"
                )
            yield index, embedding

    def _in_shards(self) -> dict[str, _Place]:
        found: dict[str, _Place] = {}
        for path in shards(self.folder):
            for tag, sequence in tags_and_sequences(path).items():
                found.setdefault(sequence, _Place(path, functools.partial(read_shard, path, tag)))
        return found

    def _in_files(self) -> dict[str, _Place]:
        files = {path.stem: path for path in sorted(self.folder.glob("*.pt"))}
        # SoloSeq's folders; alignments may lie beside the embedding.
        files |= {
            path.stem: path for path in sorted(self.folder.glob("*/*.pt")) if path.stem == path.parent.name
        }
        if not files:
            raise WeightsError(
                f"{self.folder}: has no embeddings: neither embeddings-*.safetensors nor TAG.pt nor "
                "TAG/TAG.pt; name a folder that openfoldpp embed or scripts/precompute_embeddings.py filled"
            )
        sequences, layout = self._sequences(), self._manifest and self._manifest["layout"]
        found: dict[str, _Place] = {}
        nameless = []
        for tag, path in files.items():
            sequence = sequences.get(tag)
            # What openfoldpp embed wrote need not be opened to know what it is.
            tokens = layout == "tokens" if layout and sequence else None
            if tokens is None:
                data = read_torch_file(path)
                tokens = "repr" in data
                sequence = data.get("seq") if tokens else sequence
            if not isinstance(sequence, str):
                nameless.append(path)
                continue
            if not tokens and self._layer is None:
                self._layer = last_layer(path)  # one for all files
            read = (
                functools.partial(read_tokens_file, path)
                if tokens
                else functools.partial(_read_layer, path, self._layer)
            )
            found.setdefault(sequence, _Place(path, read))
        if not found:
            raise WeightsError(
                f"{self.folder}: its files ({nameless[0].name}, ...) do not say their sequences, and no "
                "FASTA file in the folder has records of their names; copy the FASTA that they were made of "
                "into it"
            )
        return found

    def _sequences(self) -> dict[str, str]:
        """Return the sequences of tags, from the folder's listing or from FASTA files in it."""
        if self._manifest:
            return read_listing(self.folder)
        fastas = sorted(path for suffix in ("*.fasta", "*.fa") for path in self.folder.glob(suffix))
        found: dict[str, str] = {}
        for rule in TAG_RULES:
            for tag, sequence in read_records(fastas, tag_rule=rule).records:
                found.setdefault(tag, sequence)
        for path in fastas:
            # scripts/precompute_embeddings.py takes the name of the file, not that of the record.
            records = read_records([path]).records
            if len(records) == 1:
                found.setdefault(path.stem, records[0].sequence)
        return found


def _read_layer(path: Path, layer: int | None, sequence: str) -> Tensor:
    return read_representations_file(path, sequence, layer)


def load(
    name: str = NAME,
    *,
    weights: Path | None = None,
    layer: int | None = None,
    dtype: str | None = None,
    device: str = "cpu",
) -> Precomputed:
    """Open a folder of embeddings.

    Parameters
    ----------
    name : str
        ``"precomputed"``.
    weights : pathlib.Path
        The folder.
    layer : int, optional
        Which of the layers in SoloSeq's or fair-esm's files; by default the last that the first file has.
    dtype : str, optional
        There is nothing to compute: only None.
    device : str
        Embeddings are returned on the CPU, whichever it is.

    Returns
    -------
    Precomputed

    Raises
    ------
    WeightsError
        No folder is given, it has no embeddings, or they do not say their sequences.
    InputError
        A dtype is given, or a layer that the files do not tell apart.
    """
    if weights is None or not weights.is_dir():
        given = "no folder is given" if weights is None else f"{weights} is no folder"
        raise WeightsError(f"{name}: {given}; name the folder with the embeddings: --plm_weights FOLDER")
    if dtype is not None:
        raise InputError(f"{name}: embeddings are read as they are; leave out --plm_dtype {dtype}")
    return Precomputed(weights, layer)
