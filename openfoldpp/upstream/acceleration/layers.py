"""What a module of upstream's is made of at this moment.

A kernel passes over everything inside a module: its layers, their methods and the hooks on them. So each is
looked at before every call, and what is not as upstream made it runs.
"""

from __future__ import annotations

import functools
from types import FunctionType
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.nn import Module
from torch.nn.modules import module as every_module

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
# Attributes of the layers that the ops' weights are made with.
_NUMBERS = ("eps", "no_heads", "c_hidden")


@functools.cache
def named(kind: type) -> tuple[str, str]:
    """Return the module and the qualified name of the class `kind`."""
    return kind.__module__, kind.__qualname__


def definer(kind: type, method: str) -> type | None:
    """Return the class that the class `kind` has a `method` from, or None."""
    return next((cls for cls in kind.__mro__ if method in vars(cls)), None)


def replaced(kind: type) -> str | None:
    """Say which method of a class is not the one that its ``class`` statement defines.

    Parameters
    ----------
    kind : type
        Of a module, or of a tuner of chunk sizes.

    Returns
    -------
    str or None
        A method of the class or of one that it is derived from, for example ``"forward"``.
    """
    for cls in kind.__mro__:
        if cls in (Module, object):
            break
        for name, value in vars(cls).items():
            value = getattr(value, "__func__", value)  # of a static method or a class method
            is_method = name == "forward" or (isinstance(value, FunctionType) and not name.startswith("__"))
            if is_method and not _is_of(cls, value):
                return name
    return None


@functools.lru_cache(maxsize=256)
def is_own(kind: type, method: str, function: Any) -> bool:
    """Say whether the `function` that the class `kind` has as a `method` is that of its ``class`` statement.

    It is asked of the function and not of the class alone, whose function can be replaced at any time.
    """
    return _is_of(definer(kind, method), function)


def idle(dropout: Any) -> bool:
    """Say whether a dropout layer changes nothing and nobody listens to it."""
    return isinstance(dropout, Module) and all(
        not part.training and _is_known(part, _DROPOUTS) for part in dropout.modules()
    )


def hooked(module: Module) -> bool:
    """Say whether somebody listens to a module, or to all."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or every_module._global_forward_hooks
        or every_module._global_forward_pre_hooks
    )


def has_tangent(tensor: torch.Tensor) -> bool:
    """Say whether a tensor carries a derivative forward, as none of the kernels does."""
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None


def is_float32_on_cpu(module: Module) -> bool:
    """Say whether all parameters of a module are what the kernels pack."""
    return all(
        parameter.dtype == torch.float32 and parameter.device.type == "cpu"
        for parameter in module.parameters()
    )


def state_of(module: Module, ours: type) -> tuple | None:
    """Return what changes when a parameter, a number or a layer of a module does.

    Parameters
    ----------
    module : torch.nn.Module
        A part of upstream's.
    ours : type
        Of the one replacement of a layer's ``forward`` that may be passed over.

    Returns
    -------
    tuple or None
        None where no kernel can serve the module as it is now.
    """
    with_grad = torch.is_grad_enabled()
    state: list[Any] = []
    parts = [module]
    while parts:
        part = parts.pop()
        attributes = vars(part)
        if part is not module and not (
            _is_known(part, _LAYERS) and isinstance(attributes.get("forward"), ours | None)
        ):
            return None
        state.append((type(part), *map(attributes.get, _NUMBERS)))
        for parameter in part._parameters.values():
            if parameter is None:
                continue
            if (
                parameter.dtype != torch.float32
                or parameter.device.type != "cpu"
                or (with_grad and parameter.requires_grad)
                or parameter.is_inference()  # keeps no count of its changes
                or has_tangent(parameter)
            ):
                return None
            state.append((parameter.data_ptr(), parameter._version, parameter.shape, parameter.stride()))
        parts.extend(child for child in part._modules.values() if child is not None)
    return tuple(state)


def _is_known(part: Module, known: set[tuple[str, str]]) -> bool:
    kind = type(part)
    return named(kind) in known and is_own(kind, "forward", kind.forward) and not hooked(part)


def _is_of(cls: type, function: Any) -> bool:
    if not isinstance(function, FunctionType):
        return False
    # functools.wraps gives a wrapper the name of what it wraps; its code keeps its own.
    name = function.__code__.co_qualname
    return (
        function.__module__ == cls.__module__
        and function.__qualname__ == name
        and name.rpartition(".")[0] == cls.__qualname__
    )
