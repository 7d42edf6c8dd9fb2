"""What a compatibility record is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from openfoldpp.upstream.locate import SUPPORTED, Installation

ALL_RELEASES = SUPPORTED
TWO = tuple(release for release in SUPPORTED if release.startswith("2."))


@dataclass(frozen=True)
class Mend:
    """How one module of an OpenFold checkout is helped.

    Attributes
    ----------
    module : str
        The module's full name, for example ``"openfold.data.templates"``.
    during : callable, optional
        Returns a context manager that is open only while that module's code is executed at import; for
        names that the module looks up then, in packages that are not ours to change for longer.
    names : callable, optional
        Takes the imported module; returns the names that are replaced in it, and only in it. A dotted name
        leads into a class or a function of the module: ``"Reader.read"``, ``"gather.__code__"``.
    """

    module: str
    during: Callable[[], AbstractContextManager] | None = None
    names: Callable[[ModuleType], Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Record:
    """One thing that a release of OpenFold needs on today's packages.

    Attributes
    ----------
    name : str
        Short and unique.
    versions : tuple of str
        The OpenFold releases that may need it.
    probe : callable
        Takes the installation; returns why it is needed here, or None where it is not. Reads files and
        metadata; never imports openfold.
    mends : tuple of Mend
        What is done.
    breaks : str
        What happens without it, with which package, in words.
    supplies : str
        What it gives, in words.
    upstream_issue : str or None
        Issues and pull requests of OpenFold about it, ``"#131, #445"``, where any are known.
    drop_when : str
        When this record can be deleted.
    """

    name: str
    versions: tuple[str, ...]
    probe: Callable[[Installation], str | None]
    mends: tuple[Mend, ...]
    breaks: str
    supplies: str
    upstream_issue: str | None
    drop_when: str


@dataclass(frozen=True)
class Applied:
    """A record that is in force.

    Attributes
    ----------
    record : Record
        Which.
    reason : str
        Why: what its probe found.
    """

    record: Record
    reason: str


def reads(installation: Installation, file: str, text: str) -> bool:
    """Say whether a file of the ``openfold`` package is there and has `text` in it.

    Parameters
    ----------
    installation : Installation
        The OpenFold that is looked at.
    file : str
        Path below the package folder.
    text : str
        What is looked for.

    Returns
    -------
    bool
        False where there is no such file.
    """
    path = installation.package / file
    return path.is_file() and text in path.read_text(encoding="utf-8")
