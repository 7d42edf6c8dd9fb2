"""What an OpenFold release needs on today's Python and packages: each one a record, with its end.

:func:`apply` acts before the first import of openfold, and only where a record's probe says why.
Nothing outside OpenFold stays changed: a name that is missing elsewhere is supplied while the one module
that reads it is imported, or replaced in that module alone.
"""

from __future__ import annotations

from openfoldpp.upstream.compat import (
    attention,
    indexing,
    numpy_names,
    packages,
    relaxation,
    restructured,
    soloseq,
    torch_names,
)
from openfoldpp.upstream.compat.importing import MendingFinder
from openfoldpp.upstream.compat.record import Applied, Mend, Record
from openfoldpp.upstream.locate import Installation

__all__ = ["RECORDS", "Applied", "Mend", "Record", "applied", "apply", "restore"]

RECORDS: tuple[Record, ...] = (
    *attention.RECORDS,
    *numpy_names.RECORDS,
    *packages.RECORDS,
    *torch_names.RECORDS,
    *indexing.RECORDS,
    *soloseq.RECORDS,
    *restructured.RECORDS,
    *relaxation.RECORDS,
)

_finder: MendingFinder | None = None
_applied: tuple[Applied, ...] = ()


def apply(installation: Installation) -> list[Applied]:
    """Put the records that `installation` needs into force; a second call changes nothing.

    Parameters
    ----------
    installation : Installation
        What :func:`openfoldpp.upstream.locate` found.

    Returns
    -------
    list of Applied
        The records in force, each with its reason, in the order of :data:`RECORDS`.
    """
    global _finder, _applied
    if _finder is None:
        needed = []
        for record in RECORDS:
            reason = record.probe(installation) if installation.version in record.versions else None
            if reason is not None:
                needed.append(Applied(record, reason))
        finder = MendingFinder((mend for item in needed for mend in item.record.mends), installation.root)
        finder.install()
        _finder, _applied = finder, tuple(needed)
    return list(_applied)


def applied() -> list[Applied]:
    """List the records in force, each with its reason; empty before :func:`apply`."""
    return list(_applied)


def restore() -> None:
    """Take every record back: import hook and replaced names, each to the very object it was."""
    global _finder, _applied
    if _finder is not None:
        _finder.remove()
    _finder, _applied = None, ()
