"""Names that one module of openfold sees, while the package that they seem to come from stays as it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_MISSING = object()


class Overlay(ModuleType):
    """A module as one importer sees it: the given names, everything else from `base`.

    Examples
    --------
    >>> import math
    >>> seen = Overlay(math, tau=6)
    >>> seen.tau, seen.floor(2.5), math.tau > 6
    (6, 2, True)
    """

    def __init__(self, base: ModuleType, **names: Any):
        super().__init__(base.__name__)
        self.__dict__["_base"] = base
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_base"], name)


@contextmanager
def module_supplied(name: str, **contents: Any) -> Iterator[None]:
    """Let ``import name`` give a module with `contents`; afterwards ``sys.modules`` is as it was."""
    supplied = ModuleType(name)
    supplied.__dict__.update(contents)
    former = sys.modules.get(name, _MISSING)
    sys.modules[name] = supplied
    try:
        yield
    finally:
        if former is _MISSING:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = former


@contextmanager
def attribute_supplied(owner: ModuleType, name: str, value: Any) -> Iterator[None]:
    """Give `owner` an attribute `name` with a `value`, which it lacks; afterwards it lacks it again."""
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name)
