"""Plugins for an unmodified OpenFold. Importing this loads neither torch nor openfold.

>>> import openfoldpp
>>> p = openfoldpp.predict("EVQLVESGG...:DIQMTQSPS...")  # doctest: +SKIP
>>> p.save("results")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import Any

#: Public names, and the module that each comes from when it is first used.
_PUBLIC = {
    "CoordAdapter": "openfoldpp.adapters.coord_adapter",
    "OpenFoldPPError": "openfoldpp.errors",
    "Prediction": "openfoldpp.inference.prediction",
    "accelerate": "openfoldpp.upstream.acceleration",
    "predict": "openfoldpp.inference.predict",
}

#: Public modules, imported when they are first used.
_MODULES = ("motifs", "ops", "plm")

__all__ = ["CoordAdapter", "OpenFoldPPError", "Prediction", "accelerate", "motifs", "ops", "plm", "predict"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"openfoldpp.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
