"""The structure files of a build: found, named, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from openfoldpp.errors import InputError
from openfoldpp.motifs.library_files import Skipped
from openfoldpp.motifs.structure_atoms import SUFFIXES, suffix_of


@dataclass(frozen=True)
class Source:
    """A structure file.

    Attributes
    ----------
    name : str
        Its path in the folder that was given, without its ending: what its chains are named after.
    path : pathlib.Path
        Where it is.
    sha256 : str
        Of its bytes, in hexadecimal.
    """

    name: str
    path: Path
    sha256: str


def find_structures(paths: Iterable[Path]) -> list[tuple[str, Path]]:
    """Find structure files.

    Parameters
    ----------
    paths : iterable of pathlib.Path
        Files, and folders that are searched with their subfolders for files with a known ending.

    Returns
    -------
    list of (str, pathlib.Path)
        Name and path of each, by name.

    Raises
    ------
    InputError
        A path is not there, or a folder has no structure.
    """
    found: list[tuple[str, Path]] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in _files(path) if suffix_of(file.name))
            if not inside:
                raise InputError(
                    f"{path}: has no structure file; expected files ending in {', '.join(SUFFIXES)}, or in "
                    "one of these and .gz"
                )
            found += [(_name(file.relative_to(path)), file) for file in inside]
        elif path.exists():
            found.append((_name(Path(path.name)), path))
        else:
            raise InputError(f"{path}: there is no such file or folder; correct the path")
    return sorted(found)


def hash_structures(
    found: Iterable[tuple[str, Path]],
    known: Mapping[str, str],
    progress: Callable[[int], None],
) -> tuple[list[Source], int, list[Skipped]]:
    """Tell new files from those that a library has, and from copies.

    Parameters
    ----------
    found : iterable of (str, pathlib.Path)
        Of :func:`find_structures`.
    known : mapping of str to str
        SHA-256 by name of the files that the library was made of.
    progress : callable
        Told how many files have been looked at.

    Returns
    -------
    new : list of Source
        Files to be read.
    there : int
        Files that the library has already, under this name or another.
    skipped : list of Skipped
        Files whose name is taken, copies of others, and those that cannot be read.
    """
    new: list[Source] = []
    there, skipped = 0, []
    paths: dict[str, Path] = {}
    digests = {sha256: name for name, sha256 in known.items()}
    for number, (name, path) in enumerate(found, 1):
        progress(number)
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            skipped.append(Skipped(name, f"cannot be read ({error.strerror})", True))
            continue
        if known.get(name) == sha256:
            there += 1
        elif name in known:
            reason = (
                "the library was made of another file of this name; give this one another name, or make the "
                "library anew"
            )
            skipped.append(Skipped(name, reason, True))
        elif name in paths:
            skipped.append(Skipped(name, f"{path} has the name of {paths[name]}; rename one of them", True))
        elif sha256 in digests:
            skipped.append(Skipped(name, f"is the same file as {digests[sha256]}", False))
        else:
            new.append(Source(name, path, sha256))
            paths[name], digests[sha256] = path, name
    return new, there, skipped


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _name(path: Path) -> str:
    name = path.name.removesuffix(".gz").removesuffix(".GZ")
    suffix = suffix_of(path.name)
    return (path.parent / (name[: -len(suffix)] if suffix else name)).as_posix()
