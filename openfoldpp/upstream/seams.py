"""Seams: the few OpenFold functions that are wrapped while a run lasts.

A seam is data. It names its target, the releases it was written for, and for each of them the
signature and a hash of the source of what it expects to find there; anything else is an error that
names the seam and the release, before a single attribute has been changed. What a seam calls is
handed to it, so that this layer knows no hook.

Where it suffices, configuration, a subclass, or a hook of a torch module is used instead, and no seam
is needed: progress within a prediction, for example, is heard through forward hooks of the trunk.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from openfoldpp.errors import SeamError
from openfoldpp.upstream.importable import missing_package

_MARK = "__openfoldpp_seam__"


@dataclass(frozen=True)
class Expected:
    """What a seam's target looks like in one release.

    Attributes
    ----------
    signature : str
        The parameters' names, ``"(a, b)"``; defaults may depend on where it was imported.
    source_sha256 : str
        Of the source text, stripped.
    """

    signature: str
    source_sha256: str


@dataclass(frozen=True, eq=False)
class Seam:
    """One OpenFold function and how it is wrapped.

    Attributes
    ----------
    name : str
        What errors and reports call it.
    target : str
        ``"package.module:attribute"`` or ``"package.module:Class.attribute"``.
    reason : str
        Why it is there.
    expected : mapping of str to Expected
        By release.
    wrap : callable
        ``wrap(original, handler) -> replacement``.
    """

    name: str
    target: str
    reason: str
    expected: Mapping[str, Expected]
    wrap: Callable[[Callable, Callable], Callable]


def _record_timings(original: Callable, handler: Callable[[dict[str, float]], None]) -> Callable:
    def update_timings(timing_dict, output_file=None):
        handler(timing_dict)
        return output_file

    return update_timings


TIMINGS = Seam(
    name="timings",
    target="openfold.utils.script_utils:update_timings",
    reason="upstream rewrites timings.json in place, for each step and without the target's name",
    expected={
        "0.0.1": Expected(
            signature="(timing_dict, output_file)",
            source_sha256="287603026e64d164997e53d9e833b1ea34b50aa22697fcfd65a7b4a5c248bc57",
        ),
    },
    wrap=_record_timings,
)


def fingerprint(function: Callable) -> Expected:
    """Take the signature (parameter names) and the hash of the source of a function."""
    parameters = ", ".join(inspect.signature(function).parameters)
    source = inspect.getsource(function).strip()
    return Expected(f"({parameters})", hashlib.sha256(source.encode()).hexdigest())


@contextmanager
def installed(handlers: Mapping[Seam, Callable], version: str) -> Iterator[None]:
    """Put seams in place, and on leaving restore every attribute by identity.

    A name that other openfold modules have already bound to the original is replaced there as well.
    A seam that is already in place stays as it is, so that applying twice equals once.

    Parameters
    ----------
    handlers : mapping of Seam to callable
        What each seam calls.
    version : str
        The OpenFold release that is imported.

    Raises
    ------
    SeamError
        A target is absent or not the expected one; then nothing has been changed.
    MissingDependencyError
        OpenFold's module imports a package that is not installed; likewise.
    """
    found = [(seam, handler, *_resolve(seam, version)) for seam, handler in handlers.items()]
    changed: list[tuple[Any, str, Any]] = []
    try:
        for seam, handler, owner, name, original in found:
            if hasattr(original, _MARK):
                continue
            replacement = seam.wrap(original, handler)
            setattr(replacement, _MARK, seam.name)
            for place, attribute in [(owner, name), *_bound_elsewhere(original, owner)]:
                changed.append((place, attribute, original))
                setattr(place, attribute, replacement)
        yield
    finally:
        for place, attribute, original in reversed(changed):
            setattr(place, attribute, original)


def _resolve(seam: Seam, version: str) -> tuple[Any, str, Callable]:
    """Find the seam's target and compare it with what is expected of this release."""
    if version not in seam.expected:
        raise SeamError(
            f"seam {seam.name!r} ({seam.target}) was written for OpenFold {', '.join(seam.expected)}; "
            f"this is {version}"
        )
    module_name, _, path = seam.target.partition(":")
    *parents, name = path.split(".")
    try:
        owner = importlib.import_module(module_name)
        for parent in parents:
            owner = getattr(owner, parent)
        original = vars(owner)[name]
    except (ImportError, AttributeError, KeyError) as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent and absent.partition(".")[0] != "openfold":
            raise missing_package(error, version) from error
        raise SeamError(f"seam {seam.name!r}: OpenFold {version} has no {seam.target} ({error})") from error
    if hasattr(original, _MARK):
        return owner, name, original
    actual, expected = fingerprint(original), seam.expected[version]
    if actual != expected:
        raise SeamError(
            f"seam {seam.name!r}: {seam.target} is not the one of OpenFold {version}. "
            f"Expected {expected.signature} with source {expected.source_sha256[:12]}, found "
            f"{actual.signature} with source {actual.source_sha256[:12]}. This OpenFold has been edited, or "
            "another package replaced the function: use an unmodified release."
        )
    return owner, name, original


def _bound_elsewhere(original: Callable, owner: Any) -> list[tuple[Any, str]]:
    """Names by which other openfold modules, and the running script, hold the original."""
    modules = [
        module
        for name, module in list(sys.modules.items())
        if module is not owner and (name == "__main__" or name == "openfold" or name.startswith("openfold."))
    ]
    return [
        (module, name)
        for module in modules
        for name, value in list(vars(module).items())
        if value is original
    ]
