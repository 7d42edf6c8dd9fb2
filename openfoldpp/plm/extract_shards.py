"""Embeddings in safetensors shards: few files however many sequences.

``embeddings-00001.safetensors`` and so on have a float16 tensor ``[N_res, C_plm]`` for each record, named by
its tag; their metadata say the model, and each tag's sequence. ``embeddings.safetensors.index.json``, written
at the end of a run, says which shard has which tag, in the form that Hugging Face's sharded weights have.

A shard is written whole. What is embedded until then goes to a journal, entry by entry, so that a killed run
loses nothing: an entry is its length, its CRC-32 and a safetensors file of one tensor. The last may be torn,
and is cut off.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import IO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise
from safetensors.torch import load as parse
from torch import Tensor

from openfoldpp.errors import InputError, WeightsError
from openfoldpp.files import atomic_write, write_json
from openfoldpp.plm.embedder import Embedder
from openfoldpp.plm.layouts import Layout, checked

#: A shard of this size is written at once from memory.
SHARD_BYTES = 256 << 20
INDEX = "embeddings.safetensors.index.json"
JOURNAL = ".embeddings.journal"
_SHARD = re.compile(r"embeddings-(\d+)\.safetensors")
_ENTRY = struct.Struct("<QI")
# safetensors keeps this name for itself.
_RESERVED = "__metadata__"


class ShardLayout(Layout):
    """The layout ``safetensors``.

    Parameters
    ----------
    folder : pathlib.Path
        Where the shards are.
    embedder : Embedder
        Named in the metadata.
    shard_bytes : int
        A shard is closed before it grows beyond this; one embedding may be larger by itself.

    """

    dtype = torch.float16
    # Shards and journal grow in order.
    writers = 1

    def __init__(self, folder: Path, embedder: Embedder, *, shard_bytes: int = SHARD_BYTES):
        self.folder = folder
        self.shard_bytes = shard_bytes
        self._metadata = {
            "format": "pt",
            "openfoldpp": metadata.version("openfoldpp"),
            "model": embedder.name,
            "fingerprint": embedder.fingerprint,
        }
        # Which shard has a tag; None: the journal.
        self._shard_of: dict[str, Path | None] = {}
        self._number = 0
        self._waiting: dict[str, Tensor] = {}
        self._sequences: dict[str, str] = {}
        self._bytes = 0
        self._journal: IO[bytes] | None = None

    def open(self) -> None:
        """See :class:`openfoldpp.plm.layouts.Layout`; :class:`WeightsError` where a shard is damaged."""
        for path in shards(self.folder):
            self._shard_of.update(dict.fromkeys(tags_and_sequences(path), path))
            self._number = max(self._number, _number(path))
        self._resume()

    def has(self, tag: str) -> bool:
        """See :class:`openfoldpp.plm.layouts.Layout`."""
        return tag in self._shard_of

    def place(self, tag: str) -> Path:
        """See :class:`openfoldpp.plm.layouts.Layout`."""
        return self._shard_of.get(tag) or self.folder / INDEX

    def write(self, tag: str, sequence: str, embedding: Tensor) -> None:
        """See :class:`openfoldpp.plm.layouts.Layout`."""
        if tag == _RESERVED:
            raise InputError(f"'{tag}' cannot name a tensor of a safetensors file; change the '>' line")
        if self._waiting and self._bytes + embedding.nbytes > self.shard_bytes:
            self._write_shard()
        if self._journal is None:
            self._journal = (self.folder / JOURNAL).open("ab")
        entry = serialise({tag: embedding.numpy()}, {"sequence": sequence})
        # One write and no flush to the disk: the system keeps it when the process is killed, and the checksum
        # finds what a power failure tears.
        self._journal.write(_ENTRY.pack(len(entry), zlib.crc32(entry)) + entry)
        self._journal.flush()
        self._add(tag, sequence, embedding)

    def read(self, tag: str, sequence: str) -> Tensor:
        """See :class:`openfoldpp.plm.layouts.Layout`."""
        path = self._shard_of[tag]
        return self._waiting[tag] if path is None else read_shard(path, tag, sequence)

    def finish(self) -> None:
        """Write the last shard and the index; remove the journal."""
        if self._waiting:
            self._write_shard()
        self.close()
        (self.folder / JOURNAL).unlink(missing_ok=True)
        index = {tag: path.name for tag, path in self._shard_of.items() if path is not None}
        total = sum(path.stat().st_size for path in shards(self.folder))
        about = {**self._metadata, "total_size": total}
        write_json(self.folder / INDEX, {"metadata": about, "weight_map": index})

    def close(self) -> None:
        """Close the journal; the next run goes on with it."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _add(self, tag: str, sequence: str, embedding: Tensor) -> None:
        self._waiting[tag] = embedding
        self._sequences[tag] = sequence
        self._bytes += embedding.nbytes
        self._shard_of[tag] = None

    def _write_shard(self) -> None:
        self._number += 1
        path = self.folder / f"embeddings-{self._number:05d}.safetensors"
        about = {**self._metadata, "sequences": json.dumps(self._sequences)}
        with atomic_write(path, size=lambda: self._bytes) as file:
            file.write(serialise({tag: tensor.numpy() for tag, tensor in self._waiting.items()}, about))
        self._shard_of.update(dict.fromkeys(self._waiting, path))
        self._waiting, self._sequences, self._bytes = {}, {}, 0
        # A process killed before this finds the journal's entries in the shard as well, and leaves them out.
        if self._journal is not None:
            self._journal.truncate(0)
        else:
            (self.folder / JOURNAL).unlink(missing_ok=True)

    def _resume(self) -> None:
        """Take up what a run that was killed left in the journal."""
        path = self.folder / JOURNAL
        if not path.exists():
            return
        end = 0
        with path.open("rb") as file:
            for entry in _entries(file):
                [(tag, embedding)] = parse(entry).items()
                if tag not in self._shard_of:
                    self._add(tag, _metadata(entry)["sequence"], embedding)
                end = file.tell()
        os.truncate(path, end)


def _entries(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the entries of a journal that are whole, up to the first that is not."""
    while len(head := file.read(_ENTRY.size)) == _ENTRY.size:
        length, checksum = _ENTRY.unpack(head)
        entry = file.read(min(length, os.fstat(file.fileno()).st_size))
        if len(entry) != length or zlib.crc32(entry) != checksum:
            return
        yield entry


def _metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]


def shards(folder: Path) -> list[Path]:
    """Return the shards of a `folder`, in the order of their numbers."""
    return sorted((path for path in folder.glob("*.safetensors") if _SHARD.fullmatch(path.name)), key=_number)


def _number(shard: Path) -> int:
    return int(shard.stem.rpartition("-")[2])


def tags_and_sequences(path: Path) -> dict[str, str]:
    """Read the header of a shard.

    Parameters
    ----------
    path : pathlib.Path
        The shard.

    Returns
    -------
    dict of str to str
        The sequence of each tag that it has.

    Raises
    ------
    WeightsError
        The file is damaged, or is no shard of ``openfoldpp embed``.
    """
    try:
        with safe_open(path, "pt") as file:
            sequences = json.loads((file.metadata() or {}).get("sequences", "null"))
            tags = set(file.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: cannot be read ({error}); remove it, and run openfoldpp embed again"
        ) from error
    if not isinstance(sequences, dict) or set(sequences) != tags:
        raise WeightsError(f"{path}: does not say its sequences, as shards of openfoldpp embed do")
    return sequences


def read_shard(path: Path, tag: str, sequence: str) -> Tensor:
    """Read one embedding of a shard.

    Parameters
    ----------
    path : pathlib.Path
        The shard.
    tag : str
        Its name.
    sequence : str
        Whose it is.

    Returns
    -------
    torch.Tensor of shape (N_res, C_plm)

    Raises
    ------
    WeightsError
        The shard is damaged, has no such tag, or another number of rows.
    """
    try:
        with safe_open(path, "pt") as file:
            embedding = file.get_tensor(tag)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: {tag} cannot be read ({error}); embed it again") from error
    return checked(embedding, sequence, path)
