"""A method of one module of upstream's, replaced on that instance alone.

Parameter names, ``state_dict`` and classes stay; upstream's own method runs where the kernels do not serve.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Module, Parameter

from openfoldpp.ops import settings
from openfoldpp.upstream.acceleration.layers import (
    definer,
    has_tangent,
    hooked,
    is_float32_on_cpu,
    is_own,
    state_of,
)


@dataclass(frozen=True)
class Recipe:
    """How a method of upstream's is served.

    Attributes
    ----------
    run : callable
        Takes the :class:`Swap` and the method's arguments by name; returns what the method would, or
        ``NotImplemented`` to leave the call to it.
    weights : callable or None
        Makes the ops' weights of the module; None for a method that has none of its own.
    update : callable or None
        For a part whose result a block adds to its input: takes the module, its weights, the input, the
        mask, and an op's ``residual`` and ``out``.
    """

    run: Callable[..., Any]
    weights: Callable[[Any], Any] | None = None
    update: Callable[..., torch.Tensor] | None = None


#: Recipes by the module and the qualified name of upstream's function.
RECIPES: dict[tuple[str, str], Recipe] = {}


def recipe_of(owner: Any, method: str) -> Recipe | None:
    """Return the recipe for a `method` of the class of `owner`, or None."""
    cls = definer(type(owner), method)
    return None if cls is None else RECIPES.get((cls.__module__, f"{cls.__qualname__}.{method}"))


class Swap:
    """What takes the place of a method, on one instance.

    It copies and pickles with its owner, without the packed weights.

    Parameters
    ----------
    owner : object
        A module of upstream's, or a tuner of chunk sizes.
    method : str
        The method's name.
    """

    def __init__(self, owner: Any, method: str):
        # A strong reference would be a cycle, and a model of gigabytes would outlive its last user.
        self._owner = weakref.ref(owner)
        self.method = method
        self.recipe = recipe_of(owner, method)
        self._kind = type(owner)
        self._upstream = getattr(self._kind, method)
        self._names = _parameters(self._upstream)
        self.forget()

    def __reduce__(self):
        return Swap, (self.owner, self.method)

    @property
    def owner(self) -> Any:
        """The object whose method this is."""
        owner = self._owner()
        if owner is None:
            raise ReferenceError(
                f"the {self._kind.__name__} whose {self.method} this was is gone; keep it. Of a copy made by "
                "copy.copy: use copy.deepcopy, or call openfoldpp.accelerate on the copy"
            )
        return owner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the kernels, or upstream's method where they do not serve."""
        owner = self.owner
        known = len(args) <= len(self._names) and self._names >= kwargs.keys()
        if known and not self._is_patched(owner) and not _upstreams_turn(owner):
            result = self.recipe.run(self, **dict(zip(self._names, args, strict=False)), **kwargs)
            if result is not NotImplemented:
                return result
        if self._weights is not None and not is_float32_on_cpu(owner):
            self.forget()
        return self.upstream(*args, **kwargs)

    def belongs_to(self, owner: Any) -> bool:
        """Say whether this is the method of `owner`, and not of what that is a shallow copy of."""
        return self._owner() is owner

    def upstream(self, *args: Any, **kwargs: Any) -> Any:
        """Run the method of the owner's class, with its `args` and `kwargs`."""
        return getattr(type(self.owner), self.method)(self.owner, *args, **kwargs)

    def forget(self) -> None:
        """Drop the packed weights; the next call packs them anew."""
        self._state: tuple | None = None
        self._held: list[torch.Tensor] = []
        self._weights: Any = None

    def weights(self) -> Any:
        """Return the ops' weights, made anew where a parameter has changed since.

        Returns
        -------
        object or None
            None where the kernels cannot serve this module as it is now.
        """
        owner = self.owner
        state = None if self._is_patched(owner) else state_of(owner, Swap)
        if state is None:
            return None
        if state != self._state:
            self._weights = self.recipe.weights(owner)
            # Held, so that no later parameter gets an address that is remembered in the state.
            self._held = [parameter.detach() for parameter in owner.parameters()]
            self._state = state
        return self._weights

    def _is_patched(self, owner: Any) -> bool:
        """Say whether the method of the class is not upstream's, or not the one that it was."""
        function = getattr(type(owner), self.method)
        return function is not self._upstream or not is_own(type(owner), self.method, function)


def weights_of(part: Any) -> Any:
    """Return the weights of a `part` of a block, or None where its own call must run, for a hook say."""
    if not isinstance(part, Module) or part.training or hooked(part):
        return None
    swap = vars(part).get("forward")
    return swap.weights() if isinstance(swap, Swap) else None


def served(tensor: Any, mask: torch.Tensor | None = None) -> bool:
    """Say whether the kernels take a tensor ``[*, C]`` and its mask ``[*]``."""
    if not _plain(tensor) or (tensor.shape[-1] > 1 and tensor.stride(-1) != 1):
        return False
    return mask is None or (_plain(mask) and mask.shape == tensor.shape[:-1])


def _plain(tensor: Any) -> bool:
    return (
        type(tensor) in (torch.Tensor, Parameter)
        and tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.ndim > 0
        and not (tensor.requires_grad and torch.is_grad_enabled())
        and not has_tangent(tensor)
    )


def _upstreams_turn(owner: Any) -> bool:
    return (
        torch.compiler.is_compiling()  # first: the compiler would warn of the cache of the settings
        or settings().backend not in ("auto", "native")
        or getattr(owner, "training", False)
        or torch.jit.is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch._C._are_functorch_transforms_active()  # of torch.func: its tensors have no memory
    )


@functools.cache
def _parameters(function: Callable) -> dict[str, None].keys:
    return dict.fromkeys(list(inspect.signature(function).parameters)[1:]).keys()
