"""The plugin host: finds plugins, checks them, calls their hooks and names the one that fails.

>>> host = PluginHost.load("openfoldpp.recycling")
>>> [plugin.name for plugin in host.active]
['openfoldpp.recycling']
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pluggy

from openfoldpp.errors import OpenFoldPPError, PluginError
from openfoldpp.plugins import discovery, hookspecs
from openfoldpp.plugins.checks import PREFIX, SPECS, implementations, is_wrapper, problems, signature
from openfoldpp.plugins.discovery import PluginInfo, installed

__all__ = ["PluginHost", "PluginInfo", "installed"]

# Where an exception remembers which plugin raised it, on its way from the plugin to PluginHost.call.
_RAISED_BY = "_openfoldpp_raised_by"


class PluginHost:
    """The plugins of one run.

    A host starts without plugins; :meth:`load` makes one with those that ``--plugins`` names. The
    plugin registered last is called first, so ``--plugins openfoldpp,mine`` lets ``mine`` answer a
    first-result hook before the builtins. pluggy's ``tryfirst``, ``trylast`` and ``wrapper`` hold.
    """

    def __init__(self):
        self._manager = pluggy.PluginManager(hookspecs.PROJECT_NAME)
        self._manager.add_hookspecs(hookspecs)
        self._active: list[PluginInfo] = []
        self._problems: list[str] = []

    @classmethod
    def load(cls, spec: str) -> PluginHost:
        """Make a host with the plugins that are named, imported and checked.

        Parameters
        ----------
        spec : str
            The text of ``--plugins``: names separated by commas, see
            :func:`openfoldpp.plugins.discovery.select`.

        Returns
        -------
        PluginHost
            With each named plugin registered once.

        Raises
        ------
        PluginError
            If a plugin is unknown, ambiguous, cannot be imported or does not fit the hooks.
        """
        host = cls()
        for point in discovery.select(spec):
            plugin = discovery.load(point)
            host._add(plugin, discovery.describe(plugin, point.name, point))
        host.check_pending()
        return host

    @property
    def active(self) -> tuple[PluginInfo, ...]:
        """The registered plugins, in order of registration."""
        return tuple(self._active)

    def register(self, plugin: Any, name: str) -> None:
        """Register a plugin that is part of the run itself, such as its progress reporter.

        Parameters
        ----------
        plugin : module or object
            Its functions marked with ``@hookimpl`` are the implementations.
        name : str
            Stands in errors.

        Raises
        ------
        PluginError
            If the name is taken or the plugin does not fit the hooks.
        """
        if any(info.name == name for info in self._active):
            raise PluginError(f"plugin {name!r} is already registered; give this one another name")
        self._add(plugin, discovery.describe(plugin, name))
        self.check_pending()

    def check_pending(self) -> None:
        """Check that every implementation is of a hook that exists, with parameters that it passes.

        :meth:`load` and :meth:`register` do this themselves.

        Raises
        ------
        PluginError
            If not: lists every plugin, function and right signature.
        """
        if self._problems:
            raise PluginError("\n".join(self._problems))

    def call(self, hook: str, /, **arguments: Any) -> Any:
        """Call a hook in every plugin that implements it.

        Parameters
        ----------
        hook : str
            Its name without the prefix, for example ``"configure"``.
        **arguments : Any
            All the hook's parameters, by name.

        Returns
        -------
        Any
            For a first-result hook the first result that is not None, or None; otherwise the list
            of results that are not None.

        Raises
        ------
        PluginError
            If a plugin raises: names the plugin, the hook and the target, with the exception as cause.
        OpenFoldPPError
            If a plugin raises one on purpose, :class:`~openfoldpp.errors.UnsupportedTargetError`
            for example: the same exception, with the plugin's name in ``plugin`` and in a note.
        TypeError
            If the arguments are not the hook's.
        """
        caller = self._caller(hook, arguments)
        try:
            return caller(**arguments)
        except Exception as error:
            plugin = vars(error).get(_RAISED_BY) or _wrappers(caller)
            place = f"plugin {plugin!r}, hook {PREFIX}{hook}{_target(arguments)}"
            if isinstance(error, OpenFoldPPError):
                if error.plugin is None:
                    error.plugin = plugin
                    error.add_note(place)
                raise
            raised = PluginError(f"{place}: {type(error).__name__}: {error}")
            raised.plugin = plugin
            raise raised from error

    def _caller(self, hook: str, arguments: dict[str, Any]) -> pluggy.HookCaller:
        if hook not in SPECS:
            raise TypeError(f"no hook {hook!r}; the hooks are {', '.join(SPECS)}")
        caller = getattr(self._manager.hook, PREFIX + hook)
        if set(arguments) != set(caller.spec.argnames):
            raise TypeError(f"hook called with ({', '.join(arguments)}); it is {signature(hook)}")
        return caller

    def _add(self, plugin: Any, info: PluginInfo) -> None:
        """Register a plugin, or keep what is wrong with it for :meth:`check_pending`."""
        origin = f" of {info.distribution} {info.version}" if info.distribution else ""
        found = problems(plugin)
        if not found:
            self._manager.register(_Guarded(plugin, info.name), info.name)
        self._problems += [f"plugin {info.name!r}{origin}: {problem}" for problem in found]
        self._active.append(info)


class _Guarded:
    """A plugin whose implementations mark the exceptions that they raise with the plugin's name.

    pluggy does not say which implementation raised. The traceback does not either: an implementation
    may be decorated, compiled, or the same function in two plugins.
    """

    def __init__(self, plugin: Any, name: str):
        for attribute, function in implementations(plugin).items():
            guard = _guarded_wrapper if is_wrapper(function) else _guarded
            setattr(self, attribute, guard(function, name))


def _guarded(function: Callable, plugin: str) -> Callable:
    @functools.wraps(function)  # also copies the mark and lets pluggy see the parameters
    def implementation(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            vars(error).setdefault(_RAISED_BY, plugin)
            raise

    return implementation


def _guarded_wrapper(function: Callable, plugin: str) -> Callable:
    @functools.wraps(function)
    def implementation(*args: Any, **kwargs: Any) -> Any:
        try:
            # An exception of the wrapped implementations comes in here and is already marked.
            return (yield from function(*args, **kwargs))
        except Exception as error:
            vars(error).setdefault(_RAISED_BY, plugin)
            raise

    return implementation


def _wrappers(caller: pluggy.HookCaller) -> str:
    """Return the plugins with a wrapper of a hook: one that does not yield once fails in pluggy itself."""
    return " or ".join(impl.plugin_name for impl in caller.get_hookimpls() if is_wrapper(impl.function))


def _target(arguments: dict[str, Any]) -> str:
    """Return ``, target 'TAG'``, or nothing where the call is not about one target."""
    target = arguments.get("target") or getattr(arguments.get("event"), "target", None)
    return f", target {target.tag!r}" if target else ""
