"""The data in ``patches/``: what a release needs to be built or imported today."""

from __future__ import annotations

import importlib.resources
import json
from functools import cache
from importlib.resources.abc import Traversable

from openfoldpp.errors import UpstreamError

STEREO_CHEMICAL_PROPS = "stereo_chemical_props.txt"


def patches_folder(release: str = "openfold-0.0.1") -> Traversable:
    """Return the folder of a release's patches, inside the installed package.

    Raises
    ------
    UpstreamError
        If openfoldpp was installed without it.
    """
    folder = importlib.resources.files("openfoldpp") / "_patches" / release
    if not folder.is_dir():
        raise UpstreamError(f"{folder} is missing: this openfoldpp is incomplete. Reinstall openfoldpp.")
    return folder


@cache
def stereo_chemical_props() -> str:
    """Return ideal bond lengths (angstrom) and angles (degrees) in the layout that OpenFold reads.

    Two tables, each with a header line and closed by ``-``, one blank line between them.
    """
    data = json.loads((patches_folder() / "stereo_chemical_props.json").read_text(encoding="utf-8"))
    lines = ["Bond Residue Mean StdDev", *_rows(data["bonds"]), "-", ""]
    lines += ["Angle Residue Mean StdDev", *_rows(data["angles"]), "-", ""]
    return "\n".join(lines)


def _rows(table: dict[str, dict[str, list[float]]]) -> list[str]:
    return [
        f"{atoms} {residue} {mean} {deviation}"
        for residue, entries in table.items()
        for atoms, (mean, deviation) in entries.items()
    ]
