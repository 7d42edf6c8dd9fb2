"""The files of a part, written: what they are stands in :mod:`openfoldpp.motifs.library_files`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openfoldpp.errors import InputError
from openfoldpp.files import atomic_write, write_text
from openfoldpp.motifs.embedder import Embedding
from openfoldpp.motifs.index import make_index, write_index
from openfoldpp.motifs.library_files import (
    CURE,
    INDEX,
    Counts,
    FileEntry,
    Manifest,
    Options,
    PartEntry,
    building_folder,
    part_name,
    write_manifest,
)
from openfoldpp.motifs.segments import BACKBONE, Segment
from openfoldpp.plm.cheap_head import CHANNELS, K
from openfoldpp.plm.weights import sha256_of

#: Angstrom: what a unit of a coordinate is worth, unless the segment is longer than int16 can hold.
STEP = 0.01


def write_part(
    folder: Path,
    segments: Sequence[Segment],
    vectors: np.ndarray,
    options: Options,
    sources: Iterable[Mapping[str, Any]] = (),
    progress: Callable[[int], None] | None = None,
) -> PartEntry:
    """Write a part; the folder is there when it is complete.

    Parameters
    ----------
    folder : pathlib.Path
        Where; its name is the part's.
    segments : sequence of Segment
        In order, each of at least ten residues.
    vectors : numpy.ndarray of shape (shingles, 64), float32
        Of the shingles of the first segment, of the second, and so on.
    options : Options
        How.
    sources : iterable of mapping
        ``name`` and ``sha256`` of each file that the segments are of.
    progress : callable, optional
        See :func:`openfoldpp.motifs.index.make_index`.

    Returns
    -------
    PartEntry

    Raises
    ------
    InputError
        A segment is too short, or the vectors are not those of its shingles.
    DiskFullError
        There is no space for it.
    """
    sources = list(sources)
    lengths = np.array([len(segment.info.sequence) for segment in segments], np.int64)
    short = [segment.info.name for segment in segments if len(segment.info.sequence) < K]
    if short:
        raise InputError(f"segment of {short[0]}: has less than {K} residues; leave it out")
    shingles = int((lengths - K + 1).sum())
    if vectors.shape != (shingles, CHANNELS) or not np.isfinite(vectors).all():
        raise InputError(
            f"vectors: an array of shape {list(vectors.shape)}, expected [{shingles}, {CHANNELS}], one row "
            "for each shingle of the segments, all finite"
        )
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    packed = [_pack(segment) for segment in segments]
    write_text(
        temporary / "segments.json",
        _json(
            {
                "names": [segment.info.name for segment in segments],
                "numberings": [segment.info.numbering for segment in segments],
                "sequences": [segment.info.sequence for segment in segments],
                "steps": [step for _, step, _ in packed],
                "centres": [centre for _, _, centre in packed],
            }
        ),
    )
    write_text(temporary / "sources.json", _json(sources))
    arrays = {
        "coordinates": np.concatenate([steps for steps, _, _ in packed]),
        "starts": starts_of(lengths),
    } | pack_vectors(vectors, options.vectors)
    for name, array in arrays.items():
        with atomic_write(temporary / f"{name}.npy", size=lambda array=array: array.nbytes) as file:
            np.save(file, array, allow_pickle=False)
    if options.graph:
        # Of the vectors as they are kept: an index that is made of the files is the same.
        stored = unpack_vectors(arrays["vectors"], arrays.get("scales"))
        write_index(temporary / INDEX, make_index(stored, options.flat_below, progress))
    entry = PartEntry(
        folder.name,
        Counts(
            len(sources), len({s.info.name for s in segments}), len(segments), int(lengths.sum()), shingles
        ),
        describe_files(temporary),
    )
    temporary.rename(folder)
    return entry


def read_sources(part: Path) -> list[dict[str, str]]:
    """Return ``name`` and ``sha256`` of each file that a `part` was made of.

    Raises :class:`InputError` where its list is damaged.
    """
    path = part / "sources.json"
    try:
        return [
            {name: source[name] for name in ("name", "sha256")} for source in json.loads(path.read_text())
        ]
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({error}); {CURE}") from error


def describe_files(part: Path) -> dict[str, FileEntry]:
    """Return size and SHA-256 of each file of a `part`, by name."""
    return {
        path.name: FileEntry(path.stat().st_size, sha256_of(path))
        for path in sorted(part.iterdir())
        if not path.name.startswith(".")
    }


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """Return the first residue of each shingle, int32, of segments that lie one after another.

    `lengths` are the segments' residues.
    """
    first = np.cumsum(lengths) - lengths
    places = [np.arange(start, start + n - K + 1) for start, n in zip(first, lengths, strict=True)]
    return np.concatenate(places or [np.empty(0)]).astype(np.int32)


def pack_vectors(vectors: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    """Return the arrays that a part keeps of its vectors.

    Parameters
    ----------
    vectors : numpy.ndarray of shape (shingles, 64), float32
        As CheapHead gives them.
    kind : {"float16", "int8"}
        See :class:`Options`.

    Returns
    -------
    dict of str to numpy.ndarray
        ``vectors``, and ``scales`` for int8: each channel's largest value is 127 steps.
    """
    if kind == "float16":
        return {"vectors": vectors.astype(np.float16)}
    scales = np.maximum(np.abs(vectors).max(0, initial=0), 1e-6).astype(np.float32) / np.float32(127)
    return {"vectors": np.rint(vectors / scales).astype(np.int8), "scales": scales}


def unpack_vectors(stored: np.ndarray, scales: np.ndarray | None) -> np.ndarray:
    """Return `stored` rows of vectors as float32, by the `scales` of their channels where they are int8."""
    vectors = stored.astype(np.float32)
    return vectors if scales is None else vectors * scales


def write_library(
    library: Path,
    segments: Sequence[Segment],
    vectors: np.ndarray,
    embedding: Embedding,
    options: Options | None = None,
) -> None:
    """Write a library of one part from what is in memory.

    Parameters
    ----------
    library : pathlib.Path
        A folder that is not there yet.
    segments : sequence of Segment
        See :func:`write_part`.
    vectors : numpy.ndarray of shape (shingles, 64), float32
        See :func:`write_part`.
    embedding : Embedding
        What the vectors were made with.
    options : Options, optional
        By default those of ``openfoldpp motifs build``.

    Raises
    ------
    InputError
        The folder is there, or the arguments do not go together.
    """
    if library.exists():
        raise InputError(f"{library}: is there; name another folder")
    options = options or Options()
    building = building_folder(library)
    shutil.rmtree(building, ignore_errors=True)
    part = write_part(building / part_name(0), segments, vectors, options)
    write_manifest(building, Manifest(embedding, options, (part,)))
    building.rename(library)


def _pack(segment: Segment) -> tuple[np.ndarray, float, list[float]]:
    coordinates = np.asarray(segment.coordinates, np.float64)
    shape = (len(segment.info.sequence), len(BACKBONE), 3)
    if coordinates.shape != shape or not np.isfinite(coordinates).all():
        raise InputError(
            f"coordinates of {segment.info.name}: an array of shape {list(coordinates.shape)}, expected "
            f"{list(shape)} for its sequence, all finite"
        )
    # The middle of the box, so that what int16 can hold is used on both sides.
    centre = [round(float(x), 2) for x in (coordinates.max((0, 1)) + coordinates.min((0, 1))) / 2]
    centred = coordinates - centre
    step = max(STEP, float(np.abs(centred).max()) / np.iinfo(np.int16).max)
    return np.rint(centred / step).astype(np.int16), step, centre


def _json(value: Any) -> str:
    # Compact: numbers and names of many thousand segments, which nobody reads line by line.
    return json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n"
