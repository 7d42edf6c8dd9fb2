"""A library of motifs, opened: its segments, coordinates, vectors and nearest shingles, by number.

Segments and shingles are numbered through all parts and all folders that were opened together. The shingles
of a segment are numbered one after another: shingle ``i + d`` is ``d`` residues further on, as long as it is
of the same segment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from openfoldpp.errors import InputError
from openfoldpp.motifs import index as indexing
from openfoldpp.motifs.embedder import Embedding, installed_embedding
from openfoldpp.motifs.library_files import Counts, Manifest, check_sizes, read_manifest
from openfoldpp.motifs.part import Part
from openfoldpp.motifs.segments import SegmentInfo
from openfoldpp.motifs.shards import Places, Shard, nearest_of
from openfoldpp.plm.cheap_head import CHANNELS, K


class Library:
    """One or more libraries of motifs as one; made by :meth:`open`, or of shards.

    A library is itself a shard: it finds and fetches in the same way as its parts.

    Parameters
    ----------
    shards : sequence of Shard
        Of which it consists, at least one.
    embedding : Embedding
        What its vectors were made with.
    folders : sequence of pathlib.Path
        Of the libraries on this disk.
    manifests : sequence of Manifest
        Of each.

    Attributes
    ----------
    counts : Counts
        What is in it.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        embedding: Embedding,
        folders: Sequence[Path] = (),
        manifests: Sequence[Manifest] = (),
    ):
        self.shards = tuple(shards)
        self.embedding = embedding
        self.folders = tuple(folders)
        self.manifests = tuple(manifests)
        self.counts = sum((shard.counts for shard in shards), Counts())
        self._first_shingle = np.cumsum([0, *(shard.counts.shingles for shard in shards)])
        self._first_segment = np.cumsum([0, *(shard.counts.segments for shard in shards)])

    @classmethod
    def open(
        cls,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        embedding: Embedding | None = None,
        gpu: bool = True,
        note: Callable[[str], None] | None = None,
    ) -> Library:
        """Open a library, or several as one.

        Nothing but the manifests is read; the rest is mapped into memory, or read when it is first used.

        Parameters
        ----------
        paths : path-like, or iterable of path-like
            Folders that ``openfoldpp motifs build`` made.
        embedding : Embedding, optional
            What queries will be made with; by default what is installed.
        gpu : bool
            Whether the index goes to a GPU where FAISS has one. Not measured.
        note : callable, optional
            Told in a line what takes long: making the graph of a library that came without.

        Returns
        -------
        Library

        Raises
        ------
        InputError
            A folder is no library, is named twice, is damaged, of another version of the format, or made with
            another language model or head.
        """
        given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        folders = [Path(path).expanduser() for path in given]
        if not folders:
            raise InputError("a library is opened by its folder: got none")
        twice = {
            str(folder) for folder in folders if [f.resolve() for f in folders].count(folder.resolve()) > 1
        }
        if twice:
            raise InputError(f"{', '.join(sorted(twice))}: named twice; name each library once")
        expected = embedding or installed_embedding()
        manifests, parts = [], []
        for folder in folders:
            manifest = read_manifest(folder)
            _require_same(folder, manifest.embedding, expected)
            check_sizes(folder, manifest)
            manifests.append(manifest)
            parts += [
                Part(folder / entry.name, entry, manifest.options, gpu=gpu, note=note or (lambda text: None))
                for entry in manifest.parts
            ]
        return cls(parts, expected, folders, manifests)

    def __len__(self) -> int:
        """Return the number of shingles."""
        return self.counts.shingles

    def __enter__(self) -> Library:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files and the indices on this disk; arrays that were returned stay."""
        for shard in self.shards:
            if isinstance(shard, Part):
                shard.close()

    def load_index(self) -> None:
        """Read the indices now, which the first search would do; make those that are missing.

        Raises
        ------
        InputError
            An index is damaged.
        MissingDependencyError
            FAISS is not installed.
        """
        for shard in self.shards:
            if isinstance(shard, Part):
                _ = shard.index

    def nearest(
        self, vectors: np.ndarray, k: int, *, ef: int = indexing.EF_SEARCH
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the shingles nearest to vectors.

        Parameters
        ----------
        vectors : numpy.ndarray of shape (Q, 64), float32
            Of :class:`openfoldpp.motifs.embedder.ShingleEmbedder`.
        k : int
            How many for each.
        ef : int
            Candidates that a graph looks at, at least `k`; see :func:`openfoldpp.motifs.index.search`.

        Returns
        -------
        distances : numpy.ndarray of shape (Q, k), float32
            Angstrom, ascending; infinite where the library has fewer shingles.
        shingles : numpy.ndarray of shape (Q, k), int64
            Their numbers, equal distances by number; -1 where the library has fewer.

        Raises
        ------
        InputError
            The vectors have another number of channels, or k is less than 1.
        """
        vectors = np.asarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != CHANNELS or k < 1:
            raise InputError(
                f"nearest shingles: k = {k} and an array of shape {list(vectors.shape)}, expected k of 1 or "
                f"more and [Q, {CHANNELS}]"
            )
        return nearest_of(self.shards, self._first_shingle, vectors, k, ef)

    def search(self, sequence: str, **options: Any) -> Any:
        """Find motifs for a sequence; see :meth:`openfoldpp.motifs.retriever.Retriever.search`.

        Parameters
        ----------
        sequence : str
            One-letter codes.
        **options
            Of :class:`openfoldpp.motifs.retriever.Retriever`.

        Returns
        -------
        list of openfoldpp.motifs.hits.MotifHit
        """
        from openfoldpp.motifs.retriever import Retriever

        return Retriever(self, **options).search([sequence])[0]

    def segment(self, number: int) -> SegmentInfo:
        """Return name, numbering and sequence of a segment by its `number`."""
        part, local = self._part_of(number, self._first_segment, "segment")
        return self.shards[part].segment(local)

    def places(self, shingles: np.ndarray) -> Places:
        """Say where shingles lie.

        Parameters
        ----------
        shingles : numpy.ndarray of int
            Their numbers, any shape.

        Returns
        -------
        Places
            Arrays of that shape.
        """
        shingles = np.asarray(shingles, np.int64)
        places = Places(*(np.empty(shingles.shape, np.int64) for _ in range(3)))
        for number, chosen, local in self._by_part(shingles):
            found = self.shards[number].places(local)
            places.segments[chosen] = found.segments + self._first_segment[number]
            places.starts[chosen] = found.starts
            places.lengths[chosen] = found.lengths
        return places

    def vectors(self, shingles: np.ndarray) -> np.ndarray:
        """Return the vectors of shingles, as they are kept.

        Parameters
        ----------
        shingles : numpy.ndarray of int
            Their numbers, any shape.

        Returns
        -------
        numpy.ndarray of shape (..., 64), float32
        """
        shingles = np.asarray(shingles, np.int64)
        found = np.empty((*shingles.shape, CHANNELS), np.float32)
        for number, chosen, local in self._by_part(shingles):
            found[chosen] = self.shards[number].vectors(local)
        return found

    def letters(self, shingles: np.ndarray, before: int = 0, after: int = 0) -> np.ndarray:
        """Return the residues of shingles and of their neighbours in the segment.

        Parameters
        ----------
        shingles : numpy.ndarray of int
            Their numbers, any shape.
        before, after : int
            Residues before the shingle's first and after its last.

        Returns
        -------
        numpy.ndarray of shape (..., before + 10 + after), uint8
            ASCII of the one-letter codes; 0 beyond the ends of the segment.
        """
        shingles = np.asarray(shingles, np.int64)
        found = np.empty((*shingles.shape, before + K + after), np.uint8)
        for number, chosen, local in self._by_part(shingles):
            found[chosen] = self.shards[number].letters(local, before, after)
        return found

    def coordinates(self, segment: int, start: int = 0, length: int | None = None) -> np.ndarray:
        """Return the backbone of a stretch of a segment.

        Parameters
        ----------
        segment : int
            Its number.
        start : int
            First residue, counted from the segment's.
        length : int, optional
            Residues; by default to the segment's end.

        Returns
        -------
        numpy.ndarray of shape (length, 4, 3), float32
            N, CA, C and O, angstrom, in the structure's own frame: that of all of its segments.

        Raises
        ------
        InputError
            The segment has no such residues.
        """
        part, local = self._part_of(segment, self._first_segment, "segment")
        return self.shards[part].coordinates(local, start, length)

    def shingle_coordinates(self, shingles: np.ndarray) -> np.ndarray:
        """Return the backbones of shingles.

        Parameters
        ----------
        shingles : numpy.ndarray of int
            Their numbers, any shape.

        Returns
        -------
        numpy.ndarray of shape (..., 10, 4, 3), float32
            N, CA, C and O, angstrom, each in its structure's own frame.
        """
        shingles = np.asarray(shingles, np.int64)
        found = np.empty((*shingles.shape, K, 4, 3), np.float32)
        for number, chosen, local in self._by_part(shingles):
            found[chosen] = self.shards[number].shingle_coordinates(local)
        return found

    def _part_of(self, number: int, firsts: np.ndarray, what: str) -> tuple[int, int]:
        if not 0 <= number < firsts[-1]:
            raise InputError(f"{what} {number}: expected 0 to {firsts[-1] - 1:,}, those of the library")
        part = int(np.searchsorted(firsts, number, "right")) - 1
        return part, int(number - firsts[part])

    def _by_part(self, shingles: np.ndarray) -> Iterable[tuple[int, Any, np.ndarray]]:
        """Yield each part's number, which of the shingles are its, and their numbers in it."""
        if shingles.size and not (shingles.min() >= 0 and shingles.max() < len(self)):
            raise InputError(f"shingle {shingles.min()} or {shingles.max()}: expected 0 to {len(self) - 1:,}")
        owners = np.searchsorted(self._first_shingle, shingles, "right") - 1
        for number in np.unique(owners):
            chosen = owners == number
            yield int(number), chosen, shingles[chosen] - self._first_shingle[number]


def _require_same(folder: Path, theirs: Embedding, ours: Embedding) -> None:
    differing = [
        name for name in ("plm", "fingerprint", "head") if getattr(theirs, name) != getattr(ours, name)
    ]
    if differing:
        what = "; ".join(
            f"{name} {getattr(theirs, name)[:16]}, here {getattr(ours, name)[:16]}" for name in differing
        )
        raise InputError(
            f"{folder}: its vectors were made with other weights ({what}), so that distances to them mean "
            "nothing; make it again with `openfoldpp motifs build`, or use the openfoldpp that made it"
        )
