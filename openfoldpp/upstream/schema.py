"""The shape of an OpenFold output pickle: path, dtype and dimensions of every array in it.

The snapshots in ``schemas/`` are data, one file for each release and preset, made from runs of
upstream's own code (``pytest tests/upstream/test_schema.py --update-snapshots``, for OpenFold 2 with
``-m upstream`` and OPENFOLD_HOME) and compared with such runs by the same test. Whoever needs the keys of
an output asks here; no list of keys stands in code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from openfoldpp.errors import OpenFoldNotFoundError, SchemaError, UpstreamError
from openfoldpp.upstream.locate import Installation, locate

#: The release whose schema an output has where there is no OpenFold.
DEFAULT_VERSION = "0.0.1"

#: A dimension that a run may choose, by its symbol; any other dimension is a fixed number.
SYMBOLS = ("N_res", "N_seq")


@dataclass(frozen=True)
class Leaf:
    """One array of an output: its dtype's name, and its dimensions as numbers or symbols."""

    dtype: str
    dims: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.dims))}]"


@dataclass(frozen=True)
class Schema:
    """All arrays of an output, by path (``"sm/frames"``), in upstream's order.

    Attributes
    ----------
    version : str
        The OpenFold release, for example ``"0.0.1"``.
    preset : str
        The configuration preset, for example ``"model_1_ptm"``.
    leaves : dict of str to Leaf
        Path to dtype and dimensions.
    """

    version: str
    preset: str
    leaves: Mapping[str, Leaf]


def available() -> list[tuple[str, str]]:
    """List the (version, preset) pairs that have a snapshot, sorted."""
    return [
        (folder.name, file.name.removesuffix(".json"))
        for folder in sorted(_snapshots().iterdir(), key=lambda f: f.name)
        if folder.is_dir()
        for file in sorted(folder.iterdir(), key=lambda f: f.name)
        if file.name.endswith(".json")
    ]


def versions() -> list[str]:
    """List the releases that have snapshots, oldest first."""
    return sorted({version for version, _ in available()}, key=_numbers)


def presets(version: str) -> list[str]:
    """List the presets of a release that have snapshots, sorted.

    Parameters
    ----------
    version : str
        The OpenFold release, for example ``"0.0.1"``.

    Returns
    -------
    list of str
        Never empty.

    Raises
    ------
    SchemaError
        There is no snapshot of this release; the message lists those that exist.
    """
    found = [preset for release, preset in available() if release == version]
    if not found:
        raise SchemaError(f"no output schema of OpenFold {version}. There are: {', '.join(versions())}.")
    return found


def require_release(installation: Installation) -> Installation:
    """Return the installation where its release has snapshots.

    Parameters
    ----------
    installation : Installation
        From :func:`openfoldpp.upstream.activate`.

    Returns
    -------
    Installation
        The same.

    Raises
    ------
    UpstreamError
        What this release writes is not known; the message names those that are.
    """
    if installation.version not in versions():
        raise UpstreamError(
            f"{installation.reason} This version of openfoldpp runs OpenFold {', '.join(versions())}: name a "
            "checkout of one with --openfold_home DIR, or install 0.0.1 with `openfoldpp install-openfold` "
            "and leave --openfold_home and OPENFOLD_HOME out"
        )
    return installation


def output_version(home: Path | None = None) -> str:
    """Name the release whose schema an output has: that of the OpenFold that a run would use.

    Parameters
    ----------
    home : pathlib.Path, optional
        What ``--openfold_home`` was given; see :func:`openfoldpp.upstream.locate`.

    Returns
    -------
    str
        :data:`DEFAULT_VERSION` where there is no OpenFold: coordinates need none.

    Raises
    ------
    UpstreamError
        If the OpenFold that is named cannot be used.
    """
    try:
        return require_release(locate(home)).version
    except OpenFoldNotFoundError:
        return DEFAULT_VERSION


@cache
def load(version: str, preset: str) -> Schema:
    """Read the snapshot of one release and preset.

    Parameters
    ----------
    version : str
        The OpenFold release, for example ``"0.0.1"``.
    preset : str
        The configuration preset, for example ``"model_1_ptm"``.

    Returns
    -------
    Schema
        Its leaves keep upstream's order.

    Raises
    ------
    SchemaError
        There is no snapshot of this pair; the message lists the release's presets.
    """
    known = presets(version)
    if preset not in known:
        raise SchemaError(
            f"no output schema for preset {preset!r} of OpenFold {version}. There are: {', '.join(known)}."
        )
    data = json.loads((_snapshots() / version / f"{preset}.json").read_text())
    leaves = {path: Leaf(entry["dtype"], tuple(entry["dims"])) for path, entry in data["leaves"].items()}
    return Schema(version, preset, leaves)


def describe(output: Mapping[str, Any]) -> dict[str, Leaf]:
    """Path, dtype and numeric dimensions of every array in an output dictionary.

    Parameters
    ----------
    output : mapping
        Arrays (numpy or torch), possibly nested in further mappings.

    Returns
    -------
    dict of str to Leaf
        In the order of the dictionary.

    Raises
    ------
    SchemaError
        It is not a mapping, or something in it is neither an array nor a mapping.
    """
    if not isinstance(output, Mapping):
        raise SchemaError(f"a {type(output).__name__}, expected a dictionary of arrays")
    return {path: Leaf(_dtype_name(path, value), tuple(value.shape)) for path, value in flatten(output)}


def flatten(output: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) for each leaf of an output's nested mappings, in order, below a prefix."""
    for key, value in output.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nest leaves, a mapping of paths to values, again: the inverse of :func:`flatten`."""
    nested: dict[str, Any] = {}
    for path, value in leaves.items():
        *folders, name = path.split("/")
        place = nested
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = value
    return nested


def differences(output: Mapping[str, Any], schema: Schema) -> list[str]:
    """Say how an output dictionary departs from a schema.

    Parameters
    ----------
    output : mapping
        An output dictionary, as loaded from ``NAME_output_dict.pkl``.
    schema : Schema
        What it should be.

    Returns
    -------
    list of str
        One sentence for each path that is missing, unknown, or has another dtype or other dimensions;
        empty where the output fits. A symbol must stand for one number throughout.
    """
    found = describe(output)
    leaves = schema.leaves
    problems = [f"{path}: missing, expected {leaf}" for path, leaf in leaves.items() if path not in found]
    problems += [f"{path}: not in the schema" for path in found if path not in leaves]
    sizes: dict[str, int] = {}
    for path, expected in leaves.items():
        if path not in found:
            continue
        actual = found[path]
        fits = len(actual.dims) == len(expected.dims) and all(
            size == (sizes.setdefault(dim, size) if isinstance(dim, str) else dim)
            for size, dim in zip(actual.dims, expected.dims, strict=True)
        )
        if actual.dtype != expected.dtype or not fits:
            known = {symbol: sizes[symbol] for symbol in expected.dims if symbol in sizes}
            where = f" with {', '.join(f'{s} = {n}' for s, n in known.items())}" if known else ""
            problems.append(f"{path}: {actual}, expected {expected}{where}")
    return problems


def check(output: Mapping[str, Any], schema: Schema) -> None:
    """Raise :class:`SchemaError` with every difference of output and schema; see :func:`differences`."""
    problems = differences(output, schema)
    if problems:
        raise SchemaError(
            f"the output is not what OpenFold {schema.version} writes for {schema.preset}:\n  "
            + "\n  ".join(problems)
        )


def _snapshots():
    return resources.files("openfoldpp.upstream") / "schemas"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _dtype_name(path: str, value: Any) -> str:
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        raise SchemaError(f"{path}: a {type(value).__name__}, expected an array")
    return str(value.dtype).removeprefix("torch.")
