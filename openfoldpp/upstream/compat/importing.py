"""Act around the import of single modules of openfold, and take everything back.

A finder at the front of ``sys.meta_path`` answers for names below ``openfold``, and for the modules of the
checkout's ``scripts`` folder that a mend names. It asks the other finders, and wraps ``exec_module`` of the
loader that they return: the loader keeps its type, so ``inspect.getsource`` and ``importlib.resources`` go
on working.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from openfoldpp.upstream.compat.record import Mend

_MISSING = object()


class MendingFinder(MetaPathFinder):
    """Applies mends to the modules of openfold as they are imported, or at once where they already are.

    Parameters
    ----------
    mends : iterable of Mend
        What is done, to which modules.
    root : pathlib.Path, optional
        The checkout. A module that is not below ``openfold`` (others have a folder ``scripts`` too) is mended
        only where it comes from there.
    """

    def __init__(self, mends: Iterable[Mend], root: Path | None = None):
        self._root = root
        self._mends: dict[str, list[Mend]] = {}
        for mend in mends:
            self._mends.setdefault(mend.module, []).append(mend)
        self._replaced: list[tuple[Any, str, Any, Any]] = []

    def install(self) -> None:
        """Take effect."""
        sys.meta_path.insert(0, self)
        for name in self._mends:
            module = sys.modules.get(name)
            if module is not None and self._ours(name, getattr(module, "__file__", None)):
                self._replace_names(module)

    def remove(self) -> None:
        """Take effect no longer; names that were replaced get their former values back."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        while self._replaced:
            owner, name, former, ours = self._replaced.pop()
            if _value(owner, name) is not ours:
                continue  # somebody else has replaced it since; it is theirs now
            if former is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, former)

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        """Find `fullname` with the other finders, given `path` and `target`, prepared to be mended."""
        if fullname.partition(".")[0] != "openfold" and fullname not in self._mends:
            return None
        ours = next((place for place, finder in enumerate(sys.meta_path) if finder is self), -1)
        for finder in sys.meta_path[ours + 1 :]:
            if not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None and self._ours(fullname, spec.origin):
                    self._wrap(spec.loader)
                return spec
        return None

    def _ours(self, name: str, origin: str | None) -> bool:
        if name.partition(".")[0] == "openfold":
            return True
        return None not in (self._root, origin) and Path(origin).resolve().is_relative_to(self._root)

    def _wrap(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            with ExitStack() as stack:
                stack.enter_context(warnings.catch_warnings())
                # Upstream's source has "\W" and the like in plain strings. It is read once and works;
                # a user of openfoldpp cannot mend it. SyntaxWarning from Python 3.12 on.
                for category in (DeprecationWarning, SyntaxWarning):
                    warnings.filterwarnings("ignore", message=".*invalid escape sequence", category=category)
                for mend in self._mends.get(module.__name__, ()):
                    if mend.during is not None:
                        stack.enter_context(mend.during())
                execute(module)
            self._replace_names(module)

        loader.exec_module = exec_module

    def _replace_names(self, module: ModuleType) -> None:
        for mend in self._mends.get(module.__name__, ()):
            names: Mapping[str, Any] = mend.names(module) if mend.names is not None else {}
            for dotted, ours in names.items():
                *parents, name = dotted.split(".")
                owner: Any = module
                for parent in parents:
                    owner = getattr(owner, parent)
                self._replaced.append((owner, name, _value(owner, name), ours))
                setattr(owner, name, ours)


def _value(owner: Any, name: str) -> Any:
    """Return what `owner` itself has by that name: of a class not what it inherits, nor a bound method."""
    if isinstance(owner, ModuleType | type):
        return vars(owner).get(name, _MISSING)
    return getattr(owner, name, _MISSING)
