"""Compile single functions of OpenFold anew, with a small change in their syntax tree.

For what no name stands for: an index, a chain of attributes. The new code takes the place of the function's
``__code__``, so the function stays the very object that others have imported, and its source text, which
seams compare and TorchScript reads, stays as it is.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from openfoldpp.errors import UpstreamError


def recompiled(function: FunctionType, change: ast.NodeTransformer) -> CodeType:
    """Compile a function anew.

    Parameters
    ----------
    function : types.FunctionType
        One whose source can be read.
    change : ast.NodeTransformer
        What is different in the new code.

    Returns
    -------
    types.CodeType
        Code that can take the place of ``function.__code__``: same file, lines and variables.

    Raises
    ------
    UpstreamError
        The function uses variables of an enclosing function.
    """
    former = function.__code__
    if former.co_freevars:
        raise UpstreamError(
            f"{function.__module__}.{function.__qualname__} of this OpenFold uses {former.co_freevars} of an "
            "enclosing function and cannot be compiled by itself: use an unmodified release"
        )
    lines, first = inspect.getsourcelines(function)
    tree = ast.fix_missing_locations(change.visit(ast.parse(textwrap.dedent("".join(lines)))))
    ast.increment_lineno(tree, first - 1)
    compiled = compile(tree, former.co_filename, "exec", dont_inherit=True)
    code = next(
        constant
        for constant in compiled.co_consts
        if isinstance(constant, CodeType) and constant.co_name == former.co_name
    )
    return code.replace(co_qualname=former.co_qualname)


def attribute(owner: Any, dotted: str) -> Any:
    """Return what a dotted name leads to, beginning at `owner`."""
    for name in dotted.split("."):
        owner = getattr(owner, name)
    return owner


def functions_reading(module: ModuleType, name: str) -> Iterator[str]:
    """Find a module's own functions and methods whose code itself reads a global or an attribute.

    Parameters
    ----------
    module : types.ModuleType
        An imported module.
    name : str
        The global or attribute.

    Yields
    ------
    str
        Dotted name, for example ``"Linear.forward"``.
    """
    for key, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        members = vars(value).items() if isinstance(value, type) else [(None, value)]
        for member, function in members:
            if isinstance(function, FunctionType) and name in function.__code__.co_names:
                yield key if member is None else f"{key}.{member}"
