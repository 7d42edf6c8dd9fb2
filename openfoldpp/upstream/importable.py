"""Whether OpenFold can be imported: tried in a process of its own, which may fail or crash.

    python -m openfoldpp.upstream.importable [OPENFOLD_HOME]

Importing OpenFold takes seconds, most of them for torch and Lightning, and leaves its modules behind.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

from openfoldpp.errors import MissingDependencyError, UpstreamError
from openfoldpp.upstream.activate import activate
from openfoldpp.upstream.locate import Installation

# What a run imports, directly; between them they import the rest.
_MODULES = (
    "openfold.model.model",
    "openfold.data.data_pipeline",
    "openfold.data.feature_pipeline",
    "openfold.utils.script_utils",
)
# Import names that are not the names that pip knows.
_DISTRIBUTIONS = {"Bio": "biopython", "tree": "dm-tree", "yaml": "pyyaml", "simtk": "openmm"}
# What OpenFold 2 needs beyond this package's own dependencies, by import name: the extra `openfold2`.
_OF_THE_EXTRA = frozenset({"Bio", "openmm", "pandas", "pdbfixer", "scipy"})
_TIMEOUT_S = 300


def start_import(installation: Installation) -> subprocess.Popen:
    """Begin to import an OpenFold in another process.

    Parameters
    ----------
    installation : Installation
        Which.

    Returns
    -------
    subprocess.Popen
        For :func:`finish_import`.
    """
    home = [str(installation.root)] if installation.kind == "checkout" else []
    # -P: a folder `openfold` in the working directory is not what a run imports.
    return subprocess.Popen(  # noqa: S603 - this Python, and a path that locate has checked
        [sys.executable, "-P", "-W", "ignore", "-m", __name__, *home],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def finish_import(process: subprocess.Popen) -> None:
    """Wait for the process, and raise what it found.

    Parameters
    ----------
    process : subprocess.Popen
        From :func:`start_import`.

    Raises
    ------
    UpstreamError
        The import failed or ended the process; says why, and what to install where a package is missing.
    """
    try:
        _, said = process.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise UpstreamError(f"importing OpenFold did not end within {_TIMEOUT_S} seconds") from error
    if process.returncode == 0:
        return
    lines = said.strip().splitlines()
    if process.returncode < 0:
        last = f" ({lines[-1]})" if lines else ""
        raise UpstreamError(
            f"importing OpenFold ended Python with signal {-process.returncode}{last}: a compiled package "
            "does not fit this Python or torch. Install torch and OpenFold's packages again."
        )
    raise UpstreamError(lines[-1] if lines else "importing OpenFold failed without a word")


def missing_package(error: ModuleNotFoundError, version: str) -> MissingDependencyError:
    """Make the error of a package that OpenFold imports and that is not installed.

    Parameters
    ----------
    error : ModuleNotFoundError
        As Python raised it.
    version : str
        The release of OpenFold.

    Returns
    -------
    MissingDependencyError
        To be raised. Its message ends with ``pip install NAME``, under the name that pip knows.
    """
    package = (error.name or "").partition(".")[0]
    name = _DISTRIBUTIONS.get(package, package)
    if version.startswith("2.") and package in _OF_THE_EXTRA:
        name = "'openfoldpp[openfold2]'"
    return MissingDependencyError(
        f"OpenFold {version} imports {error.name!r}, which is not installed: pip install {name}"
    )


def main(arguments: list[str]) -> str | None:
    """Import OpenFold in this process.

    Parameters
    ----------
    arguments : list of str
        The checkout, or nothing for the installed package.

    Returns
    -------
    str or None
        None where it could be imported, else the reason and the cure, in one line.
    """
    warnings.simplefilter("ignore")
    version = ""
    try:
        version = activate(Path(arguments[0]) if arguments else None).version
        for module in _MODULES:
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        return str(missing_package(error, version))
    except Exception as error:
        return f"importing OpenFold raises {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
