"""Which OpenFold is used, from where, and why: read from metadata and files, without importing it.

Importing ``openfold`` imports nearly all of it, and :mod:`openfoldpp.upstream.compat` has to act before that.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from openfoldpp.errors import OpenFoldNotFoundError, UpstreamError

SUPPORTED = ("0.0.1", "2.0.0", "2.1.0", "2.2.0")
SCRIPT_NAME = "run_pretrained_openfold.py"
HOME_VARIABLE = "OPENFOLD_HOME"

# Present in every supported release; a folder without one of them is not a whole OpenFold.
_LANDMARKS = (
    "__init__.py",
    "config.py",
    "model/model.py",
    "data/mmcif_parsing.py",
    "np/residue_constants.py",
)


@dataclass(frozen=True)
class Installation:
    """An OpenFold that can be used.

    Attributes
    ----------
    version : str
        One of :data:`SUPPORTED`.
    root : pathlib.Path
        The folder that holds the ``openfold`` package.
    kind : str
        ``"checkout"`` (a source folder) or ``"installed"`` (in this Python environment).
    script : pathlib.Path or None
        Upstream's ``run_pretrained_openfold.py``, where the installation has one.
    reason : str
        One sentence: which version, from where, and why this one.
    """

    version: str
    root: Path
    kind: str
    script: Path | None
    reason: str

    @property
    def package(self) -> Path:
        """The ``openfold`` package folder."""
        return self.root / "openfold"


def locate(home: Path | None = None) -> Installation:
    """Find the OpenFold to use: `home`, then ``OPENFOLD_HOME``, then the installed package.

    Parameters
    ----------
    home : pathlib.Path, optional
        What ``--openfold_home`` was given: a checkout of OpenFold.

    Returns
    -------
    Installation
        The first that is named; a place that is named and cannot be used is an error, never skipped.

    Raises
    ------
    OpenFoldNotFoundError
        If no place is named and the package is not installed.
    UpstreamError
        If the place is not a whole OpenFold, or its version is not supported.
    """
    if home is not None:
        return _checkout(Path(home), "--openfold_home")
    variable = os.environ.get(HOME_VARIABLE)
    if variable:
        return _checkout(Path(variable), HOME_VARIABLE)
    installation = installed()
    if installation is None:
        raise OpenFoldNotFoundError(
            "No OpenFold was found.\n"
            "Looked at: --openfold_home (not given), "
            f"{HOME_VARIABLE} (not set), the package `openfold` in this Python environment (not installed).\n"
            "Install OpenFold 0.0.1 with `openfoldpp install-openfold`, or name a checkout of OpenFold "
            f"{', '.join(SUPPORTED[1:])} with `--openfold_home DIR`."
        )
    return installation


def installed() -> Installation | None:
    """Return the OpenFold of this Python environment, or None.

    Raises
    ------
    UpstreamError
        If it is there but incomplete, or of a version that is not supported.
    """
    try:
        distribution = importlib.metadata.distribution("openfold")
    except importlib.metadata.PackageNotFoundError:
        return None
    root = _installed_root(distribution)
    if root is None:
        return None
    _require_whole(root, f"the installed package `openfold` {distribution.version} in {root}")
    version = _release(distribution.version, root)
    _require_supported(version, f"the installed package in {root}")
    script = root / SCRIPT_NAME
    return Installation(
        version=version,
        root=root,
        kind="installed",
        script=script if script.is_file() and (root / "scripts" / "utils.py").is_file() else None,
        reason=f"OpenFold {version} from {root}: installed in this Python environment.",
    )


def _installed_root(distribution: importlib.metadata.Distribution) -> Path | None:
    # The distribution's own folder first: find_spec would answer with any `openfold` earlier on sys.path,
    # for example one in the working directory.
    folder = Path(str(distribution.locate_file("")))
    if (folder / "openfold" / "__init__.py").is_file():
        return folder.resolve()
    spec = importlib.util.find_spec("openfold")  # an editable install
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]).resolve().parent


def _checkout(home: Path, named_by: str) -> Installation:
    root = home.expanduser().resolve()
    what = f"{named_by} = {home}"
    if not root.is_dir():
        raise UpstreamError(
            f"{what}: no such folder. Expected a checkout of OpenFold {', '.join(SUPPORTED)}."
        )
    if not (root / "openfold").is_dir():
        raise UpstreamError(
            f"{what}: not an OpenFold checkout, it has no folder `openfold`. "
            "Expected the folder that holds `setup.py` and `openfold/`."
        )
    _require_whole(root, what)
    declared = _declared_version(root)
    if declared is None:
        raise UpstreamError(
            f"{what}: its version cannot be told, there is no `setup.py` or `pyproject.toml` of OpenFold. "
            "Give a whole checkout, for example `git clone --branch v2.2.0` of OpenFold's repository."
        )
    version = _release(declared, root)
    _require_supported(version, what)
    script = root / SCRIPT_NAME
    if version != "0.0.1" and not (script.is_file() and (root / "scripts" / "utils.py").is_file()):
        raise UpstreamError(
            f"{what}: half a checkout of OpenFold {version}, `{SCRIPT_NAME}` or `scripts/utils.py` is "
            "missing. Check it out again in full."
        )
    return Installation(
        version=version,
        root=root,
        kind="checkout",
        script=script if script.is_file() else None,
        reason=f"OpenFold {version} from {root}: named by {named_by}.",
    )


def _require_whole(root: Path, what: str) -> None:
    missing = [name for name in _LANDMARKS if not (root / "openfold" / name).is_file()]
    if missing:
        raise UpstreamError(
            f"{what}: incomplete, it lacks openfold/{', openfold/'.join(missing)}. "
            "Install or check out OpenFold again (`openfoldpp install-openfold --force` installs 0.0.1)."
        )


def _require_supported(version: str, what: str) -> None:
    if version not in SUPPORTED:
        raise UpstreamError(
            f"{what}: OpenFold {version} is not supported; supported are {', '.join(SUPPORTED)}. Install "
            "0.0.1 with `openfoldpp install-openfold --force`, or name a checkout of 2.x with "
            "`--openfold_home DIR`."
        )


def _declared_version(root: Path) -> str | None:
    pyproject = root / "pyproject.toml"
    if pyproject.is_file():
        project = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {})
        if project.get("name") == "openfold" and "version" in project:
            return str(project["version"])
    setup = root / "setup.py"
    if setup.is_file():
        text = setup.read_text(encoding="utf-8")
        version = re.search(r"^\s*version\s*=\s*[\"']([^\"']+)[\"']", text, flags=re.MULTILINE)
        if version and re.search(r"^\s*name\s*=\s*[\"']openfold[\"']", text, flags=re.MULTILINE):
            return version[1]
    return None


def _release(declared: str, root: Path) -> str:
    # The tags v1.0.0 and v1.0.1 both declare 1.0.0, v2.0.0 and v.2.1.0 both declare 2.0.0. Between the
    # latter two, seed.py went away and the mmCIF parser left Bio.Data.SCOPData; both have to agree.
    if declared == "1.0.0":
        return "1.0"
    if declared != "2.0.0":
        return declared
    seed = (root / "openfold" / "utils" / "seed.py").is_file()
    scop = "SCOPData" in (root / "openfold" / "data" / "mmcif_parsing.py").read_text(encoding="utf-8")
    if seed and scop:
        return "2.0.0"
    if not seed and not scop:
        return "2.1.0"
    return "2.0.0 with changes (a commit between the tags v2.0.0 and v.2.1.0)"
