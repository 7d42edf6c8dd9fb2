"""The weights of GraphCompositor on a grid of 8 bits: rounded while it learns, stored, and read.

Matrices are whole numbers from -127 to 127 with a scale for each output channel; norms, biases and the biases
of offsets, which are few, are float32. What is read is expanded to float32.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from openfoldpp.errors import InputError, WeightsError
from openfoldpp.files import atomic_write
from openfoldpp.motifs.compositor_blob import CompositorSizes
from openfoldpp.motifs.graph_compositor import GraphCompositor
from openfoldpp.plm.quantization import int8
from openfoldpp.plm.weights import load_state, read_safetensors

_FORMAT = "openfoldpp graph compositor 1"
_SCALES = ".scales"
_SHIPPED = Path(__file__).parents[1] / "weights" / "compositor.safetensors"


def is_rounded(name: str) -> bool:
    """Return whether the parameter of this `name` is stored in 8 bits."""
    *_, module, last = ("", *name.split("."))
    return name.endswith("outer") or (last == "weight" and not module.endswith("norm"))


def rounded(weight: Tensor) -> Tensor:
    """Return a `weight` ``[out, ...]`` on the grid, with the gradient as if it were not rounded."""
    flat = weight.detach().flatten(1)
    scales = int8.scales_of(flat)
    return weight + (int8.decode(int8.encode(flat, scales), scales).view_as(weight) - weight).detach()


def rounded_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of a `model` as its file has them, for :func:`torch.func.functional_call`."""
    return {
        name: rounded(parameter) if is_rounded(name) else parameter
        for name, parameter in model.named_parameters()
    }


def rounded_inputs(x: Tensor, dim: int = -1) -> Tensor:
    """Return the inputs of a layer in 8 bits, each token by its own largest value, with a straight gradient.

    Parameters
    ----------
    x : torch.Tensor
        Any shape.
    dim : int
        The dimension of channels.

    Returns
    -------
    torch.Tensor
        Of that shape.
    """
    scale = x.detach().abs().amax(dim, keepdim=True).clamp_min(1e-30) / int8.LARGEST
    return x + ((x / scale).round() * scale - x).detach()


def save(path: Path, model: GraphCompositor, made_by: str = "") -> None:
    """Write a model in 8 bits, complete or not at all.

    Parameters
    ----------
    path : pathlib.Path
        A safetensors file.
    model : GraphCompositor
        Its weights are rounded to the grid.
    made_by : str
        The command.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        value = value.detach().float().cpu()
        if is_rounded(name):
            flat = value.flatten(1)
            scales = int8.scales_of(flat)
            tensors[name] = int8.encode(flat, scales).view_as(value).contiguous()
            tensors[name + _SCALES] = scales
        else:
            tensors[name] = value.contiguous()
    told = {
        "format": _FORMAT,
        "sizes": json.dumps(asdict(model.compositor.sizes)),
        "made_by": made_by,
    }
    data = safetensors.torch.save(tensors, told)
    with atomic_write(path, size=lambda: len(data)) as file:
        file.write(data)


def read(path: Path) -> GraphCompositor:
    """Read a model that :func:`save` wrote.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    GraphCompositor
        In float32, for inference.

    Raises
    ------
    WeightsError
        The file is missing, damaged or of another kind.
    """
    told, tensors = read_safetensors(path)
    if told.get("format") != _FORMAT:
        raise WeightsError(
            f"weights {path}: not a file of `openfoldpp train compositor` (its format is "
            f"{told.get('format', 'not given')!r}, expected {_FORMAT!r})"
        )
    try:
        model = GraphCompositor(CompositorSizes(**json.loads(told["sizes"])))
    except (ValueError, LookupError, TypeError, InputError) as error:
        raise WeightsError(f"weights {path}: their sizes are damaged ({error}); install it again") from error
    load_state(model, _expanded(path, tensors), path=path, dtype=torch.float32)
    return model.eval().requires_grad_(False)


@functools.cache
def shipped() -> GraphCompositor:
    """Read the model that comes with openfoldpp, once in a process.

    Returns
    -------
    GraphCompositor

    Raises
    ------
    WeightsError
        The file is missing or damaged.
    """
    return read(_SHIPPED)


def _expanded(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, value in tensors.items():
        if name.endswith(_SCALES):
            continue
        if value.dtype != torch.int8:
            found[name] = value
            continue
        scales = tensors.get(name + _SCALES)
        if scales is None or scales.shape != value.shape[:1]:
            raise WeightsError(
                f"weights {path}: {name} of {list(value.shape)} has no scales, one for each output channel; "
                "install it again"
            )
        found[name] = int8.decode(value.flatten(1), scales).view(value.shape)
    return found
