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

# What a part may be made of: another class in a layer's place computes something else.
_LAYERS = {
    ("openfold.model.primitives", "Attention"),
    ("openfold.model.primitives", "LayerNorm"),
    ("openfold.model.primitives", "Linear"),
    ("openfold.model.msa", "MSAAttention"),
    ("openfold.model.structure_module", "PointProjection"),
    ("torch.nn.modules.activation", "ReLU"),
    ("torch.nn.modules.activation", "Sigmoid"),
    ("torch.nn.modules.activation", "Softmax"),
    ("torch.nn.modules.activation", "Softplus"),
    ("torch.nn.modules.normalization", "LayerNorm"),
}
_DROPOUTS = {
    ("openfold.model.dropout", "DropoutColumnwise"),
    ("openfold.model.dropout", "DropoutRowwise"),
    ("torch.nn.modules.dropout", "Dropout"),
}


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
    function = getattr(type(owner), method, None)
    return RECIPES.get((getattr(function, "__module__", None), getattr(function, "__qualname__", None)))


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
        self._upstream = getattr(type(owner), method)
        self._names = _parameters(self._upstream)
        self.forget()

    def __reduce__(self):
        return Swap, (self.owner, self.method)

    @property
    def owner(self) -> Any:
        """The object whose method this is."""
        owner = self._owner()
        if owner is None:
            raise ReferenceError(f"the module whose {self._upstream.__qualname__} this was is gone; keep it")
        return owner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the kernels, or upstream's method where they do not serve."""
        if not _upstreams_turn(self.owner) and len(args) <= len(self._names) and self._names >= kwargs.keys():
            result = self.recipe.run(self, **dict(zip(self._names, args, strict=False)), **kwargs)
            if result is not NotImplemented:
                return result
        return self.upstream(*args, **kwargs)

    def upstream(self, *args: Any, **kwargs: Any) -> Any:
        """Run upstream's method, with its `args` and `kwargs`."""
        return self._upstream(self.owner, *args, **kwargs)

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
        state = _state(self.owner)
        if state is None:
            return None
        if state != self._state:
            self._weights = self.recipe.weights(self.owner)
            # Held, so that no later parameter gets an address that is remembered in the state.
            self._held = [parameter.detach() for parameter in self.owner.parameters()]
            self._state = state
        return self._weights


def weights_of(part: Any) -> Any:
    """Return the weights of a `part` of a block, or None where its own call must run, for a hook say."""
    if not isinstance(part, Module) or part.training or _hooked(part):
        return None
    swap = vars(part).get("forward")
    return swap.weights() if isinstance(swap, Swap) else None


def idle(dropout: Any) -> bool:
    """Say whether a dropout layer changes nothing and nobody listens to it."""
    return isinstance(dropout, Module) and all(
        not part.training and not _hooked(part) and _named(type(part)) in _DROPOUTS
        for part in dropout.modules()
    )


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
    )


def _upstreams_turn(owner: Any) -> bool:
    return (
        settings().backend not in ("auto", "native")
        or getattr(owner, "training", False)
        or torch.jit.is_tracing()
        or torch.compiler.is_compiling()
        or torch.is_autocast_enabled("cpu")
    )


def _state(module: Module) -> tuple | None:
    """Return what changes when a parameter or a layer does; None where no kernel can serve the module."""
    with_grad = torch.is_grad_enabled()
    state: list[Any] = []
    parts = [module]
    while parts:
        part = parts.pop()
        if part is not module and (
            _named(type(part)) not in _LAYERS or _hooked(part) or _swapped_by_others(part)
        ):
            return None
        state.append(type(part))
        for parameter in part._parameters.values():
            if parameter is None:
                continue
            if (
                parameter.dtype != torch.float32
                or parameter.device.type != "cpu"
                or (with_grad and parameter.requires_grad)
                or parameter.is_inference()  # keeps no count of its changes
            ):
                return None
            state.append((parameter.data_ptr(), parameter._version, parameter.shape, parameter.stride()))
        parts.extend(child for child in part._modules.values() if child is not None)
    return tuple(state)


def _hooked(module: Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _swapped_by_others(module: Module) -> bool:
    return not isinstance(vars(module).get("forward"), Swap | None)


@functools.cache
def _named(layer: type) -> tuple[str, str]:
    return layer.__module__, layer.__qualname__


@functools.cache
def _parameters(function: Callable) -> dict[str, None].keys:
    return dict.fromkeys(list(inspect.signature(function).parameters)[1:]).keys()
