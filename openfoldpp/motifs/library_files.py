"""The files of a library of motifs: what is in them, and whether they are whole.

A library is a folder with ``manifest.json`` and parts. A part, once written, is never changed::

    manifest.json               what the library is, and bytes and SHA-256 of every file
    part-00000/segments.json    name, numbering, sequence, step and centre of each segment, in order
    part-00000/sources.json     the files that the part was made of, with their SHA-256
    part-00000/coordinates.npy  int16 [residues, 4, 3]: N, CA, C, O; steps of the segment from its centre
    part-00000/starts.npy       int32 [shingles]: the first residue of each
    part-00000/vectors.npy      float16 or int8 [shingles, 64]
    part-00000/scales.npy       float32 [64], with int8: what a step of each channel is worth
    part-00000/index.faiss      of the vectors; not in a library made without it

A *segment* is a stretch of one chain without a break, a *shingle* is ten residues of a segment. All segments
of a structure are in its frame: what is in ``coordinates.npy``, times the step, is counted from the centre.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from openfoldpp.errors import InputError
from openfoldpp.files import write_json
from openfoldpp.motifs.embedder import Embedding
from openfoldpp.motifs.index import FLAT_BELOW
from openfoldpp.plm.weights import sha256_of

FORMAT = "openfoldpp motif library"
VERSION = 1
MANIFEST = "manifest.json"
INDEX = "index.faiss"
#: What mends a library whose files are damaged.
CURE = "copy the library again, or make it again with `openfoldpp motifs build`"


@dataclass(frozen=True)
class Options:
    """How a library is made; all of its parts alike.

    Attributes
    ----------
    vectors : {"float16", "int8"}
        How vectors are kept. int8 takes half of the space; its distances are off by 0.003 angstrom.
    graph : bool
        Whether the index is among the files. Otherwise it is made when the library is first searched.
    flat_below : int
        Parts with fewer shingles are searched one by one, without a graph.
    part_shingles : int
        A part ends with the files that bring it to so many.
    """

    vectors: str = "float16"
    graph: bool = True
    flat_below: int = FLAT_BELOW
    part_shingles: int = 1_000_000

    def __post_init__(self) -> None:
        if self.vectors not in ("float16", "int8"):
            raise InputError(f"vectors {self.vectors!r}: expected float16 or int8")


@dataclass(frozen=True)
class Counts:
    """How much is in a part or a library.

    Attributes
    ----------
    files, chains, segments, residues, shingles : int
        Files and chains that gave segments, and what is in those.
    """

    files: int = 0
    chains: int = 0
    segments: int = 0
    residues: int = 0
    shingles: int = 0

    def __add__(self, other: Counts) -> Counts:
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Counts(*(a + b for a, b in zip(mine, theirs, strict=True)))


@dataclass(frozen=True)
class FileEntry:
    """A file as the manifest has it.

    Attributes
    ----------
    bytes : int
        Its size.
    sha256 : str
        Of its content, in hexadecimal.
    """

    bytes: int
    sha256: str


@dataclass(frozen=True)
class PartEntry:
    """A part as the manifest has it.

    Attributes
    ----------
    name : str
        Of its folder.
    counts : Counts
        What is in it.
    files : dict of str to FileEntry
        By name.
    """

    name: str
    counts: Counts
    files: dict[str, FileEntry]


@dataclass(frozen=True)
class Skipped:
    """A file that gave nothing.

    Attributes
    ----------
    name : str
        Of the file.
    reason : str
        Why.
    is_broken : bool
        Whether it should have given something: it is damaged, or cannot be read.
    sha256 : str
        Of its content, where it was read.
    """

    name: str
    reason: str
    is_broken: bool
    sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """What a library is.

    Attributes
    ----------
    embedding : Embedding
        What its vectors were made with.
    options : Options
        How it was made.
    parts : tuple of PartEntry
        Complete, in the order of their shingles' ids.
    left_out, mended : dict of str to int
        How many of each kind, see :mod:`openfoldpp.motifs.structures`.
    skipped : tuple of Skipped
        The files that gave nothing.
    made_by : str
        The command, or "".
    openfoldpp : str
        The version that wrote it.
    """

    embedding: Embedding
    options: Options
    parts: tuple[PartEntry, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)
    mended: dict[str, int] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    made_by: str = ""
    openfoldpp: str = field(default_factory=lambda: metadata.version("openfoldpp"))

    @property
    def counts(self) -> Counts:
        """What is in all parts."""
        return sum((part.counts for part in self.parts), Counts())


def write_manifest(library: Path, manifest: Manifest) -> None:
    """Write a `manifest` into the folder of its `library`, atomically: with it, its parts count."""
    document = {"format": FORMAT, "version": VERSION, "openfoldpp": manifest.openfoldpp}
    document |= {"counts": dataclasses.asdict(manifest.counts)}
    write_json(library / MANIFEST, document | dataclasses.asdict(manifest))


def read_manifest(library: Path) -> Manifest:
    """Read what a library is.

    Parameters
    ----------
    library : pathlib.Path
        Its folder.

    Returns
    -------
    Manifest

    Raises
    ------
    InputError
        It is no library, its manifest is damaged, or it is of another version.
    """
    path = library / MANIFEST
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        unfinished = building_folder(library)
        hint = f"; {unfinished} is an unfinished one: run its command again" if unfinished.is_dir() else ""
        raise InputError(
            f"{library}: is no library of motifs (there is no {MANIFEST}){hint}; `openfoldpp motifs build "
            "STRUCTURES --out LIB` makes one"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: is damaged ({error}); {CURE}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f"{path}: is not the manifest of a library of motifs; name another folder")
    if document.get("version") != VERSION:
        raise InputError(
            f"{path}: its format has version {document.get('version')}, and this openfoldpp reads version "
            f"{VERSION}; make the library again with this openfoldpp, or use the one that made it "
            f"({document.get('openfoldpp')})"
        )
    try:
        parts = tuple(map(part_entry, document["parts"]))
        manifest = Manifest(
            embedding=Embedding(**document["embedding"]),
            options=Options(**document["options"]),
            parts=parts,
            skipped=tuple(Skipped(**entry) for entry in document["skipped"]),
            **{name: document[name] for name in ("left_out", "mended", "made_by", "openfoldpp")},
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is damaged ({type(error).__name__}: {error}); {CURE}") from error
    if document.get("counts") != dataclasses.asdict(manifest.counts):
        raise InputError(f"{path}: is damaged (its counts are not the sums of its parts'); {CURE}")
    return manifest


def part_entry(document: Mapping[str, Any]) -> PartEntry:
    """Return a part of a manifest's JSON `document`."""
    files = {name: FileEntry(**entry) for name, entry in document["files"].items()}
    return PartEntry(document["name"], Counts(**document["counts"]), files)


def building_folder(library: Path) -> Path:
    """Return where a `library` is made before it takes its name."""
    named = library if library.name not in ("", "..") else library.resolve()
    return named.with_name(f"{named.name}.building")


def check_sizes(library: Path, manifest: Manifest) -> None:
    """Compare the sizes of all files of a `library` with its `manifest`.

    Raises :class:`InputError`, which names the files that are missing or of another size.
    """
    problems = [problem for part in manifest.parts for problem in _size_problems(library / part.name, part)]
    if problems:
        more = f" (and {len(problems) - 3:,} more)" if len(problems) > 3 else ""
        raise InputError(f"{'; '.join(problems[:3])}{more}; {CURE}")


def verify(library: Path, manifest: Manifest) -> list[str]:
    """Compare sizes and SHA-256 of all files of a `library` with its `manifest`; return what is wrong."""
    problems = []
    for part in manifest.parts:
        found = _size_problems(library / part.name, part)
        bad = {problem.split(": ", 1)[0] for problem in found}
        for name, entry in part.files.items():
            path = library / part.name / name
            if str(path) not in bad and sha256_of(path) != entry.sha256:
                found.append(f"{path}: its SHA-256 is not the manifest's")
        problems += found
    return problems


def part_name(number: int) -> str:
    """Return the folder's name of part `number`."""
    return f"part-{number:05d}"


def _size_problems(folder: Path, part: PartEntry) -> list[str]:
    problems = []
    for name, entry in part.files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: is missing")
        elif path.stat().st_size != entry.bytes:
            problems.append(f"{path}: has {path.stat().st_size:,} bytes, expected {entry.bytes:,}")
    return problems
