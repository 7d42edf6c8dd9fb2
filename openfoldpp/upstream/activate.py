"""Make one OpenFold importable: found, given what it needs today, and put on the import path."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from openfoldpp.errors import UpstreamError
from openfoldpp.upstream import compat
from openfoldpp.upstream.locate import Installation
from openfoldpp.upstream.locate import locate as _locate

_lock = threading.Lock()
_active: Installation | None = None


def activate(home: Path | None = None) -> Installation:
    """Make ``import openfold`` work in this process, and say which OpenFold it is.

    Nothing of OpenFold is imported here. A second call does nothing; it may leave `home` out.

    Parameters
    ----------
    home : pathlib.Path, optional
        A checkout of OpenFold; see :func:`openfoldpp.upstream.locate`.

    Returns
    -------
    Installation
        The one that is active.

    Raises
    ------
    OpenFoldNotFoundError
        If there is none.
    UpstreamError
        If it cannot be used, if another one is already active, or if another one was already imported.
    """
    global _active
    with _lock:
        if _active is not None and home is None:
            return _active
        installation = _locate(home)
        if _active is not None:
            if installation.root != _active.root:
                raise UpstreamError(
                    f"OpenFold {installation.version} from {installation.root} cannot be used: OpenFold "
                    f"{_active.version} from {_active.root} is already active in this process. "
                    "Start a new process for the other one."
                )
            return _active
        _require_not_imported_from_elsewhere(installation)
        if str(installation.root) not in sys.path and installation.kind == "checkout":
            # First, so that an installed openfold or another folder named `scripts` does not win.
            sys.path.insert(0, str(installation.root))
        compat.apply(installation)
        _active = installation
        return installation


def _require_not_imported_from_elsewhere(installation: Installation) -> None:
    module = sys.modules.get("openfold")
    if module is None:
        return
    places = [Path(place).resolve() for place in getattr(module, "__path__", [])]
    if installation.package.resolve() not in places:
        raise UpstreamError(
            f"openfold was already imported from {', '.join(map(str, places)) or 'an unknown place'}, but "
            f"{installation.package} is to be used. Leave out `--openfold_home` and OPENFOLD_HOME, or "
            "activate before the first `import openfold`."
        )
