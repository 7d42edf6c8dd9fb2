"""Blocks: a few structure files read and embedded. A build that was killed loses those that it was at.

Which files a block has depends on the files alone, and one thread computes it, so that its numbers are the
same whatever else runs beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from openfoldpp.errors import InputError
from openfoldpp.files import atomic_write
from openfoldpp.motifs.build_inputs import Source
from openfoldpp.motifs.embedder import shingle_embedder
from openfoldpp.motifs.library_files import Skipped
from openfoldpp.motifs.segments import BACKBONE, Segment, SegmentInfo
from openfoldpp.motifs.structures import ProteinChain, read_structure
from openfoldpp.plm.cheap_head import CHANNELS, K

#: Files in a block: some seconds of one core.
FILES = 16


@dataclass
class Block:
    """What a block of files gave.

    Attributes
    ----------
    segments : list of Segment
        Of all its files, in their order.
    vectors : numpy.ndarray of shape (shingles, 64), float32
        Of the segments' shingles.
    sources : list of dict
        ``name`` and ``sha256`` of the files that gave segments.
    skipped : list of Skipped
        The others.
    mended, left_out : collections.Counter
        See :class:`openfoldpp.motifs.structures.Structure`.
    """

    segments: list[Segment] = field(default_factory=list)
    vectors: np.ndarray = field(default_factory=lambda: np.empty((0, CHANNELS), np.float32))
    sources: list[dict[str, str]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    mended: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def make_block(path: Path, sources: list[Source], plm: str) -> int:
    """Read and embed files, and write the block.

    Parameters
    ----------
    path : pathlib.Path
        The block's file.
    sources : list of Source
        Its structures.
    plm : str
        Name of the language model.

    Returns
    -------
    int
        How many shingles the block has.

    Raises
    ------
    InputError
        A file has changed since it was hashed.
    """
    block = Block()
    chains: list[tuple[str, ProteinChain]] = []
    for source in sources:
        try:
            data = source.path.read_bytes()
            if hashlib.sha256(data).hexdigest() != source.sha256:
                raise _ChangedError(
                    f"{source.path}: has changed while the library was being made; run the command again"
                )
            structure = read_structure(source.path, data)
        except _ChangedError:
            raise
        except InputError as error:
            block.skipped.append(Skipped(source.name, str(error), True, source.sha256))
            continue
        except OSError as error:
            block.skipped.append(Skipped(source.name, f"cannot be read ({error.strerror})", True))
            continue
        block.mended += structure.mended
        block.left_out += structure.left_out
        if structure.chains:
            block.sources.append({"name": source.name, "sha256": source.sha256})
            chains += [(source.name, chain) for chain in structure.chains]
        else:
            reason = f"has no protein chain with {K} whole residues in a row"
            block.skipped.append(Skipped(source.name, reason, False, source.sha256))
    if chains:
        with _one_thread():
            found = shingle_embedder(plm).embed([chain.sequence for _, chain in chains])
        vectors = []
        for (name, chain), of_chain in zip(chains, found, strict=True):
            for stretch in chain.stretches:
                end = stretch.start + len(stretch)
                info = SegmentInfo(
                    f"{name}_{chain.name}" if chain.name else name,
                    stretch.numbering,
                    chain.sequence[stretch.start : end],
                )
                block.segments.append(Segment(info, stretch.coordinates))
                vectors.append(of_chain[stretch.start : end - K + 1])
        block.vectors = np.concatenate(vectors)
    _write(path, block)
    return len(block.vectors)


def read_block(path: Path) -> Block:
    """Read the block of a file at `path`.

    Raises :class:`InputError` where it is damaged.
    """
    with _opened(path) as (document, stored):
        coordinates, vectors = stored["coordinates"], stored["vectors"]
    infos = [SegmentInfo(*info) for info in document["segments"]]
    ends = np.cumsum([len(info.sequence) for info in infos], dtype=int)
    return Block(
        [Segment(*one) for one in zip(infos, np.split(coordinates, ends[:-1]), strict=True)] if infos else [],
        vectors,
        document["sources"],
        [Skipped(**one) for one in document["skipped"]],
        Counter(document["mended"]),
        Counter(document["left_out"]),
    )


def block_shingles(path: Path) -> int:
    """Return how many shingles the block at `path` has, without reading them.

    Raises :class:`InputError` where it is damaged.
    """
    with _opened(path) as (document, _):
        return sum(len(sequence) - K + 1 for _, _, sequence in document["segments"])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, Any], Mapping[str, np.ndarray]]]:
    """Yield the description of a block, and its arrays, which are read when they are asked for."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            yield json.loads(stored["document"].tobytes()), stored
    except (ValueError, OSError, LookupError, EOFError, BadZipFile) as error:
        raise InputError(
            f"{path}: is damaged ({error}); remove {path.parent.parent}, and run the command again"
        ) from error


class _ChangedError(InputError):
    pass


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _write(path: Path, block: Block) -> None:
    document = {
        "segments": [[s.info.name, s.info.numbering, s.info.sequence] for s in block.segments],
        "sources": block.sources,
        "skipped": [asdict(one) for one in block.skipped],
        "mended": block.mended,
        "left_out": block.left_out,
    }
    arrays = [segment.coordinates for segment in block.segments]
    coordinates = np.concatenate(arrays) if arrays else np.empty((0, len(BACKBONE), 3), np.float32)
    with atomic_write(path, size=lambda: coordinates.nbytes + block.vectors.nbytes) as file:
        np.savez(
            file,
            document=np.frombuffer(json.dumps(document).encode(), np.uint8),
            coordinates=coordinates,
            vectors=block.vectors,
        )
