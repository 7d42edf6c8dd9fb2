"""Which plugins are installed, and which of them the text of ``--plugins`` names."""

from __future__ import annotations

import difflib
import inspect
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from openfoldpp.errors import PluginError
from openfoldpp.plugins.checks import SPECS, hook_of, implementations, problems
from openfoldpp.plugins.hookspecs import ENTRY_POINT_GROUP


@dataclass(frozen=True)
class PluginInfo:
    """What is known of a plugin.

    Attributes
    ----------
    name : str
        As ``--plugins`` takes it.
    distribution : str or None
        The installed package that brings it; None for a part of the run itself.
    version : str or None
        Of that package.
    module : str
        Where its code is.
    summary : str
        First line of its docstring; empty where it has none.
    hooks : tuple of str
        The hooks that it implements, without the prefix, in the order of hookspecs.py.
    error : str or None
        Why it cannot be used; None where it can.
    """

    name: str
    distribution: str | None
    version: str | None
    module: str
    summary: str = ""
    hooks: tuple[str, ...] = ()
    error: str | None = None


def installed() -> list[PluginInfo]:
    """Return every installed plugin, sorted by name, those that cannot be used among them.

    Returns
    -------
    list of PluginInfo
        Each plugin is imported to see its hooks; one that fails has the reason in ``error``.
    """
    points = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name)
    names = [point.name for point in points]
    found = []
    for point in points:
        if names.count(point.name) > 1:
            twins = [twin for twin in points if twin.name == point.name]
            found.append(_info(point, error=_duplicate(twins)))
            continue
        try:
            plugin = load(point)
        except PluginError as error:
            found.append(_info(point, error=f"its import raises {_words(error.__cause__)}"))
        else:
            found.append(describe(plugin, point.name, point))
    return found


def select(spec: str) -> list[EntryPoint]:
    """Return the plugins that the text of ``--plugins`` names, each once.

    Parameters
    ----------
    spec : str
        Names separated by commas. A name stands for the plugin of that name and for the bundle of
        all whose names continue it after a dot: ``openfoldpp`` means every ``openfoldpp.*``.

    Returns
    -------
    list of importlib.metadata.EntryPoint
        In the order of the text; within a bundle by name.

    Raises
    ------
    PluginError
        If a name is blank, is not installed, or is given by two distributions.
    """
    points = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name)
    chosen: dict[str, EntryPoint] = {}
    for name in (part.strip() for part in spec.split(",")):
        if not name:
            raise PluginError(
                f"--plugins {spec!r} has a blank name; expected names separated by commas, "
                'for example "--plugins openfoldpp"'
            )
        matches = [point for point in points if point.name == name or point.name.startswith(f"{name}.")]
        if not matches:
            raise PluginError(_unknown(name, [point.name for point in points]))
        for match in matches:
            twins = [point for point in matches if point.name == match.name]
            if len(twins) > 1:
                raise PluginError(_duplicate(twins))
            chosen.setdefault(match.name, match)
    return list(chosen.values())


def load(point: EntryPoint) -> Any:
    """Import a plugin.

    Parameters
    ----------
    point : importlib.metadata.EntryPoint
        Where it is.

    Returns
    -------
    module or object
        The plugin.

    Raises
    ------
    PluginError
        If the import fails; names the plugin, its distribution and the cause.
    """
    try:
        return point.load()
    except Exception as error:
        raise PluginError(
            f"plugin {point.name!r} of {_origin(point)} cannot be imported from {point.value!r}: "
            f"{_words(error)}"
        ) from error


def describe(plugin: Any, name: str, point: EntryPoint | None = None) -> PluginInfo:
    """Return what is known of a plugin that has been imported.

    Parameters
    ----------
    plugin : module or object
        The plugin.
    name : str
        Its name.
    point : importlib.metadata.EntryPoint, optional
        Where it was found; None for a part of the run itself.

    Returns
    -------
    PluginInfo
        With ``error`` set where the plugin does not fit the hooks.
    """
    module = plugin.__name__ if inspect.ismodule(plugin) else plugin.__module__
    text = inspect.getdoc(plugin) or inspect.getdoc(sys.modules[module]) or ""
    found = {hook_of(attribute, function) for attribute, function in implementations(plugin).items()}
    return PluginInfo(
        name=name,
        distribution=point.dist.name if point and point.dist else None,
        version=point.dist.version if point and point.dist else None,
        module=module,
        summary=text.partition("\n")[0],
        hooks=tuple(hook for hook in SPECS if hook in found),
        error="; ".join(problems(plugin)) or None,
    )


def _info(point: EntryPoint, error: str) -> PluginInfo:
    """Return what is known of a plugin that cannot be imported."""
    return PluginInfo(
        name=point.name,
        distribution=point.dist.name if point.dist else None,
        version=point.dist.version if point.dist else None,
        module=point.module,
        error=error,
    )


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed distribution"


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _duplicate(twins: list[EntryPoint]) -> str:
    origins = " and ".join(f"{_origin(twin)} ({twin.value})" for twin in twins)
    return f"plugin {twins[0].name!r} is given by {origins}: uninstall one of them"


def _unknown(name: str, names: list[str]) -> str:
    if not names:
        return f"plugin {name!r} is not installed, nor is any other; pip install openfoldpp brings its own"
    near = [n for n in names if n.rpartition(".")[2] == name] or difflib.get_close_matches(
        name, [*names, *(n.partition(".")[0] for n in names)], n=1
    )
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"plugin {name!r} is not installed; installed are {', '.join(names)}.{hint}"
