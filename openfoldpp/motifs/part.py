"""One part of a library: its arrays mapped into memory, its index read when it is first used."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from openfoldpp.errors import InputError
from openfoldpp.motifs import index as indexing
from openfoldpp.motifs.graph_cache import cached_graph
from openfoldpp.motifs.library_files import CURE, INDEX, Options, PartEntry
from openfoldpp.motifs.part_files import unpack_vectors
from openfoldpp.motifs.segments import BACKBONE, SegmentInfo
from openfoldpp.motifs.shards import Places
from openfoldpp.plm.cheap_head import CHANNELS, K


class Part:
    """A part of a library: the shard that is on this disk; numbers are the part's own.

    Parameters
    ----------
    folder : pathlib.Path
        Of the part.
    entry : PartEntry
        As the manifest has it.
    options : Options
        Of the library.
    gpu : bool
        Whether the index goes to a GPU where FAISS has one.
    note : callable
        Told in a line what takes long.
    """

    def __init__(
        self, folder: Path, entry: PartEntry, options: Options, *, gpu: bool, note: Callable[[str], None]
    ):
        self.folder = folder
        self.entry = entry
        self.counts = entry.counts
        self._options = options
        self._gpu = gpu
        self._note = note

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """First residue of each shingle, int32 ``[shingles]``."""
        return self._map("starts", np.int32, (self.counts.shingles,))

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Residues of each segment, int64 ``[segments]``."""
        return np.array([len(sequence) for sequence in self._segments["sequences"]], np.int64)

    @functools.cached_property
    def first_residues(self) -> np.ndarray:
        """First residue of each segment, int64 ``[segments]``."""
        return np.cumsum(self.lengths) - self.lengths

    @functools.cached_property
    def index(self) -> Any:
        """The FAISS index of the vectors: that of the part, else one that is made and kept."""
        shape = (self.counts.shingles, CHANNELS)
        if INDEX in self.entry.files:
            index = indexing.read_index(self.folder / INDEX, shape)
        elif shape[0] < self._options.flat_below:
            index = indexing.make_index(self.vectors(), self._options.flat_below)
        else:
            digest = self.entry.files["vectors.npy"].sha256
            if "scales.npy" in self.entry.files:
                digest += self.entry.files["scales.npy"].sha256
            index = cached_graph(self.folder, digest, shape, self.vectors, self._note)
        return indexing.to_gpu(index) if self._gpu else index

    def close(self) -> None:
        """Let go of the files and the index; they come back when they are used again."""
        for name in _LAZY:
            self.__dict__.pop(name, None)

    def nearest(self, vectors: np.ndarray, k: int, *, ef: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest shingles, see :func:`openfoldpp.motifs.index.search`.

        Parameters
        ----------
        vectors : numpy.ndarray of shape (Q, 64), float32
            Each is searched by itself.
        k, ef : int
            Hits of each, and candidates that a graph looks at.

        Returns
        -------
        distances, shingles : numpy.ndarray of shape (Q, k)
        """
        return indexing.search(self.index, vectors, k, ef)

    def places(self, shingles: np.ndarray) -> Places:
        """Say where `shingles` lie."""
        segments = self.segment_of(shingles)
        starts = self.starts[shingles].astype(np.int64) - self.first_residues[segments]
        return Places(segments, starts, self.lengths[segments])

    def segment(self, number: int) -> SegmentInfo:
        """Return what is known of segment `number`."""
        return SegmentInfo(*(self._segments[name][number] for name in ("names", "numberings", "sequences")))

    def segment_of(self, shingles: np.ndarray) -> np.ndarray:
        """Return the number of the segment of each of the `shingles`."""
        return np.searchsorted(self.first_residues, self.starts[shingles], "right") - 1

    def vectors(self, shingles: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return vectors of `shingles`, float32 ``[..., 64]``; by default of all."""
        return unpack_vectors(self._vectors[shingles], self._scales)

    def letters(self, shingles: np.ndarray, before: int = 0, after: int = 0) -> np.ndarray:
        """Return the residues of `shingles`, and some `before` and `after`; 0 beyond the segment's ends."""
        segments = self.segment_of(shingles)
        first = self.first_residues[segments][..., None]
        places = self.starts[shingles][..., None] + np.arange(-before, K + after)
        inside = (places >= first) & (places < first + self.lengths[segments][..., None])
        return np.where(inside, self._letters[np.where(inside, places, 0)], 0).astype(np.uint8)

    def coordinates(self, segment: int, start: int = 0, length: int | None = None) -> np.ndarray:
        """Return the backbone of a stretch, see :meth:`openfoldpp.motifs.library.Library.coordinates`.

        Parameters
        ----------
        segment, start : int
            Its number, and the first residue counted from the segment's.
        length : int or None
            None: to the segment's end.

        Returns
        -------
        numpy.ndarray of shape (length, 4, 3), float32

        Raises
        ------
        InputError
            The segment has no such residues.
        """
        total = int(self.lengths[segment])
        length = total - start if length is None else length
        if not (start >= 0 and length >= 0 and start + length <= total):
            raise InputError(
                f"residues {start} to {start + length - 1} of a segment of {self.segment(segment).name} "
                f"({total} residues, counted from 0): it has no such stretch"
            )
        first = int(self.first_residues[segment]) + start
        return self._coordinates[first : first + length] * self._steps[segment] + self._centres[segment]

    def shingle_coordinates(self, shingles: np.ndarray) -> np.ndarray:
        """Return the backbones of `shingles`, float32 ``[..., 10, 4, 3]``."""
        residues = self.starts[shingles][..., None] + np.arange(K)
        segments = self.segment_of(shingles)
        found = self._coordinates.take(residues, 0).astype(np.float32)
        found *= self._steps[segments][..., None, None, None]
        found += self._centres[segments][..., None, None, :]
        return found

    @functools.cached_property
    def _segments(self) -> dict[str, list[Any]]:
        path = self.folder / "segments.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            columns = {name: found[name] for name in _COLUMNS}
            sizes = {len(column) for column in columns.values()}
            residues = sum(map(len, columns["sequences"]))
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(f"{path}: is damaged ({type(error).__name__}: {error}); {CURE}") from error
        if sizes != {self.counts.segments} or residues != self.counts.residues:
            raise InputError(
                f"{path}: has {sorted(sizes)} segments of {residues:,} residues, expected "
                f"{self.counts.segments:,} of {self.counts.residues:,}; {CURE}"
            )
        return columns

    @functools.cached_property
    def _letters(self) -> np.ndarray:
        return np.frombuffer("".join(self._segments["sequences"]).encode("ascii"), np.uint8)

    @functools.cached_property
    def _steps(self) -> np.ndarray:
        return np.array(self._segments["steps"], np.float32)

    @functools.cached_property
    def _centres(self) -> np.ndarray:
        return np.array(self._segments["centres"], np.float32)

    @functools.cached_property
    def _coordinates(self) -> np.ndarray:
        return self._map("coordinates", np.int16, (self.counts.residues, len(BACKBONE), 3))

    @functools.cached_property
    def _vectors(self) -> np.ndarray:
        kind = np.dtype(self._options.vectors)
        return self._map("vectors", kind, (self.counts.shingles, CHANNELS))

    @functools.cached_property
    def _scales(self) -> np.ndarray | None:
        return self._map("scales", np.float32, (CHANNELS,)) if self._options.vectors == "int8" else None

    def _map(self, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise InputError(f"{path}: is damaged ({error}); {CURE}") from error
        except FileNotFoundError as error:
            raise InputError(f"{path}: is missing; {CURE}") from error
        if array.dtype != dtype or array.shape != shape:
            raise InputError(
                f"{path}: {array.dtype} {list(array.shape)}, expected {np.dtype(dtype)} {list(shape)}; {CURE}"
            )
        # Mapped all the same; what NumPy adds to a memmap costs microseconds at each access.
        return array.view(np.ndarray)


_COLUMNS = ("names", "numberings", "sequences", "steps", "centres")
_LAZY = tuple(name for name, value in vars(Part).items() if isinstance(value, functools.cached_property))
