"""What a plugin implements, and whether it fits the hooks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from openfoldpp.plugins import hookspecs

PREFIX = f"{hookspecs.PROJECT_NAME}_"
_SPEC_MARK = f"{hookspecs.PROJECT_NAME}_spec"
_IMPL_MARK = f"{hookspecs.PROJECT_NAME}_impl"

#: Every hook by its name without the prefix, in the order of hookspecs.py.
SPECS: dict[str, Callable] = {
    name.removeprefix(PREFIX): function
    for name, function in vars(hookspecs).items()
    if hasattr(function, _SPEC_MARK)
}


def signature(hook: str) -> str:
    """Return the signature of a hook as a plugin writes it.

    Parameters
    ----------
    hook : str
        The hook's name without the prefix.

    Returns
    -------
    str
        For example ``"openfoldpp_progress(event: ProgressEvent) -> None"``.
    """
    declared = inspect.signature(SPECS[hook])
    parameters = ", ".join(f"{p.name}: {p.annotation}" for p in declared.parameters.values())
    return f"{PREFIX}{hook}({parameters}) -> {declared.return_annotation}"


def implementations(plugin: Any) -> dict[str, Callable]:
    """Return the functions of a plugin that are marked with ``@hookimpl``.

    Parameters
    ----------
    plugin : module or object
        The plugin.

    Returns
    -------
    dict of str to callable
        By attribute name, bound to the plugin where it is an object.
    """
    # getattr_static first: a property of the plugin must not run because we look at it.
    return {
        name: getattr(plugin, name)
        for name in dir(plugin)
        if hasattr(_underlying(inspect.getattr_static(plugin, name, None)), _IMPL_MARK)
    }


def hook_of(function_name: str, function: Callable) -> str:
    """Return the hook that a marked function implements, without the prefix.

    Parameters
    ----------
    function_name : str
        Name of the function in the plugin.
    function : callable
        The function, marked with ``@hookimpl``.

    Returns
    -------
    str
        The function's own name, or ``specname`` where the mark gives one.
    """
    mark = getattr(function, _IMPL_MARK)
    return (mark["specname"] or function_name).removeprefix(PREFIX)


def is_wrapper(function: Callable) -> bool:
    """Whether a marked function runs around the other implementations of its hook.

    Parameters
    ----------
    function : callable
        The function, marked with ``@hookimpl``.

    Returns
    -------
    bool
        True for both of pluggy's kinds of wrapper.
    """
    mark = getattr(function, _IMPL_MARK)
    return mark["wrapper"] or mark["hookwrapper"]


def problems(plugin: Any) -> list[str]:
    """Return everything about a plugin that keeps a hook of its from being called as meant.

    Parameters
    ----------
    plugin : module or object
        The plugin.

    Returns
    -------
    list of str
        One sentence each; empty where the plugin fits.
    """
    if inspect.isclass(plugin):
        return [f"it is the class {plugin.__name__}, not an object: let the entry point name an instance"]
    marked = implementations(plugin)
    found = [problem for name, function in marked.items() for problem in _misfits(name, function)]
    found += [
        f"{name} is not marked: put @hookimpl before it"
        for name in dir(plugin)
        if name.startswith(PREFIX) and name not in marked and _is_plain_function(plugin, name)
    ]
    if not marked and not found:
        found.append(f"it implements no hook; the hooks are {', '.join(PREFIX + hook for hook in SPECS)}")
    return found


def _misfits(name: str, function: Callable) -> list[str]:
    hook = hook_of(name, function)
    mark = getattr(function, _IMPL_MARK)
    if hook not in SPECS or not (mark["specname"] or name).startswith(PREFIX):
        if mark["optionalhook"]:
            return []
        return [f"{name} is not a hook; the hooks are {', '.join(PREFIX + hook for hook in SPECS)}"]
    expected = list(inspect.signature(SPECS[hook]).parameters)
    found = []
    if is_wrapper(function) and not (
        inspect.isgeneratorfunction(function) and mark["wrapper"] != mark["hookwrapper"]
    ):
        found.append(f"{name} is a wrapper: mark it with wrapper=True alone and let it yield once")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            found.append(f"{name} has the parameter {str(parameter)!r}, which is never filled")
        elif parameter.name not in expected:
            found.append(f"{name} has the parameter {parameter.name!r}, which the hook does not pass")
        elif parameter.default is not parameter.empty:
            # pluggy before 1.7 leaves such a parameter at its default without a word.
            found.append(f"{name} has a default for {parameter.name!r}, which the hook always passes")
    return [f"{problem}; the hook is {signature(hook)}" for problem in found]


def _underlying(attribute: Any) -> Any:
    """Return the function within a staticmethod, classmethod or bound method."""
    return getattr(attribute, "__func__", attribute)


def _is_plain_function(plugin: Any, name: str) -> bool:
    """Whether an attribute is a function that somebody wrote as a hook, and not a hook's declaration."""
    attribute = _underlying(inspect.getattr_static(plugin, name, None))
    return inspect.isfunction(attribute) and not hasattr(attribute, _SPEC_MARK)
