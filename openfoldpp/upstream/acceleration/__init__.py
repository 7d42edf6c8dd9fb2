"""Exact native kernels inside a model of upstream's, or any part of one.

Methods are replaced on the instances; parameters, their names and the classes stay. Upstream's own code runs
wherever the kernels do not serve: in training or where a gradient is needed, on another device or in another
dtype, under autocast, ``torch.jit.trace`` or ``torch.compile``, with ``OPENFOLDPP_BACKEND=torch``, where a
layer or a method has been replaced or a layer has a forward hook, and in a file of OpenFold's that has been
edited. The global attention of the extra MSA stack (``MSAColumnGlobalAttention``) always is upstream's.

Everything here takes modules as it gets them, and imports no openfold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch.nn import Module

from openfoldpp.errors import InputError
from openfoldpp.ops.dispatch import settings, simd_level, threads
from openfoldpp.upstream.acceleration import blocks, parts  # noqa: F401  (they fill RECIPES)
from openfoldpp.upstream.acceleration.layers import definer, replaced
from openfoldpp.upstream.acceleration.releases import edited
from openfoldpp.upstream.acceleration.swap import Swap, recipe_of

__all__ = ["accelerate", "explain", "paused", "undo"]

_METHODS = ("forward", "_forward_offload", "_compute_opm")
_TUNER, _TUNE = "chunk_size_tuner", "tune_chunk_size"

AnyModule = TypeVar("AnyModule", bound=Module)


def accelerate(module: AnyModule) -> AnyModule:
    """Let the native kernels run inside a model of OpenFold's, or any part of one.

    Call the module under ``torch.no_grad()``: where a gradient is asked for, OpenFold's own code runs.
    The results are those of OpenFold to the rounding of float32; parameters, ``state_dict``, classes and the
    ways to call it are unchanged. A second call changes nothing, except that all weights are packed anew.
    Weights are packed at first use, and again after a parameter was changed by ``load_state_dict``, an
    optimizer or any operation of torch's; after a write through ``parameter.data``, which torch does not
    count, call this again. Before ``torch.jit.script`` or upstream's ``trace_model_``, call
    :func:`openfoldpp.upstream.acceleration.undo`.

    A copy made by ``copy.deepcopy`` or ``pickle`` is accelerated too. One made by ``copy.copy``, and a
    replica of ``torch.nn.DataParallel``, runs with the weights of the module that it was made of until this
    function is called on it.

    Parameters
    ----------
    module : torch.nn.Module
        ``AlphaFold``, one of its stacks or blocks, or a single ``TriangleAttention``.

    Returns
    -------
    torch.nn.Module
        The same module.

    Raises
    ------
    InputError
        Not a module, or nothing in it is OpenFold's, or all of it has been edited or replaced.
    ConfigError
        A setting in the environment cannot be used.

    Examples
    --------
    >>> import torch, openfoldpp
    >>> from openfoldpp.upstream import activate
    >>> _ = activate()
    >>> from openfold.model.pair_transition import PairTransition
    >>> transition = openfoldpp.accelerate(PairTransition(c_z=8, n=2).eval())
    >>> with torch.no_grad():
    ...     transition(torch.ones(3, 3, 8)).shape
    torch.Size([3, 3, 8])
    """
    if not isinstance(module, Module):
        given = f"the class {module.__name__}" if isinstance(module, type) else f"a {type(module).__name__}"
        raise InputError(
            f"accelerate() was given {given}; expected a torch.nn.Module, such as a model of OpenFold's"
        )
    settings()
    simd_level()
    for owner, method in _candidates(module):
        swap = vars(owner).get(method)
        if isinstance(swap, Swap) and swap.belongs_to(owner):
            swap.forget()
        elif _objection(owner, method) is None:
            setattr(owner, method, Swap(owner, method))
    for stack in module.modules():
        tuner = getattr(stack, _TUNER, None)
        if recipe_of(tuner, _TUNE) and not _left(stack) and _objection(tuner, _TUNE) is None:
            setattr(tuner, _TUNE, vars(tuner).get(_TUNE) or Swap(tuner, _TUNE))
    if not any(True for _ in _swaps(module)):
        reasons = "; ".join(_left(module)) or (
            "none of its modules is a part of the trunk of OpenFold's. Expected OpenFold's AlphaFold, or a "
            "part of it such as an EvoformerBlock"
        )
        raise InputError(f"no native kernel serves {type(module).__name__}: {reasons}")
    return module


def undo(module: AnyModule) -> AnyModule:
    """Take back what :func:`accelerate` did: every attribute is the very object that it was.

    Parameters
    ----------
    module : torch.nn.Module
        Accelerated or not.

    Returns
    -------
    torch.nn.Module
        The same module.
    """
    for owner, method, _ in list(_swaps(module)):
        delattr(owner, method)
    return module


@contextmanager
def paused(module: Module) -> Iterator[None]:
    """Let upstream's code alone run for a while, for example to be traced.

    On leaving, each part that was accelerated is so again, also one that has been taken out of the module.
    Where one has been, as ``trace_model_`` does, the tuners of chunk sizes stay upstream's: what is traced is
    right for the size alone that it was traced with.

    Parameters
    ----------
    module : torch.nn.Module
        Accelerated or not.
    """
    found = list(_swaps(module))
    undo(module)
    try:
        yield
    finally:
        there = {id(part) for part in module.modules()}
        taken_out = any(method != _TUNE and id(owner) not in there for owner, method, _ in found)
        for owner, method, swap in found:
            if not (taken_out and method == _TUNE):
                setattr(owner, method, swap)


def explain(module: Module) -> str:
    """Say what runs inside an accelerated module, and what of it had to be left to upstream, with the reason.

    Parameters
    ----------
    module : torch.nn.Module
        On the CPU, accelerated.

    Returns
    -------
    str
        For example ``"native kernels: avx512, 2 threads"``.
    """
    count = threads()
    words = [f"native kernels: {simd_level()}, {count} thread{'s' if count > 1 else ''}"]
    return "; ".join(words + [f"not in {text}" for text in _left(module)])


def _candidates(module: Module) -> Iterator[tuple[Any, str]]:
    """List every method below a module that there is a recipe for."""
    for part in module.modules():
        for method in _METHODS:
            if recipe_of(part, method) is not None:
                yield part, method


def _swaps(module: Module) -> Iterator[tuple[Any, str, Swap]]:
    for part in module.modules():
        for owner in (part, getattr(part, _TUNER, None)):
            for method, value in list(vars(owner).items()) if owner is not None else ():
                if isinstance(value, Swap):
                    yield owner, method, value


def _objection(owner: Any, method: str) -> str | None:
    """Say why a method is left alone."""
    if (module := edited(definer(type(owner), method).__module__)) is not None:
        return f"{module} is not the file of a release (take a checkout of one, such as v2.2.0)"
    if not isinstance(vars(owner).get(method), Swap | None):
        return f"another package has replaced its {method}"
    for part in owner.modules() if recipe_of(owner, method).weights else [owner]:
        if (name := replaced(type(part))) is not None:
            return f"another package has replaced {type(part).__name__}.{name}"
    return None


def _left(module: Module) -> list[str]:
    """Return the classes below a module that a kernel could serve and that are left to upstream, and why."""
    found: dict[str, dict[str, None]] = {}
    for owner, method in _candidates(module):
        if (reason := _objection(owner, method)) is not None:
            found.setdefault(reason, {})[type(owner).__name__] = None
    return [f"{', '.join(names)}: {reason}" for reason, names in found.items()]
