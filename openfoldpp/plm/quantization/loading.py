"""Quantised models from their files, without the weights that they were made of."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from openfoldpp.errors import WeightsError
from openfoldpp.plm.embedder import LanguageModel
from openfoldpp.plm.quantization import nf4
from openfoldpp.plm.quantization.files import Description, damaged, describe
from openfoldpp.plm.quantization.layerwise import BITS, LINEARS
from openfoldpp.plm.quantization.linear import ExpandedLinear, Int8Linear, expanded, why_no_bytes
from openfoldpp.plm.transformer import Encoder
from openfoldpp.plm.weights import dtype_of, fingerprint, load_state

# Fewer weights than this in linear layers are expanded once: a quarter of a gigabyte in float32.
_FEW_WEIGHTS = 2**26
# No value of GELU is below this: its least one is -0.16997.
_LEAST_GELU = -0.17
_PARTS = ("codes", "scales", "divisors", "bias")


class QuantisationWarning(UserWarning):
    """A quantised model is computed in another way than the fast one; the message says why."""


class Way(NamedTuple):
    """How the linear layers of a quantised model are computed.

    Attributes
    ----------
    name : str
        ``bytes``: inputs and weights are bytes. ``once``: the weights were expanded when they were loaded.
        ``each call``: they are expanded at each call.
    reason : str
        Why this one.
    """

    name: str
    reason: str


class QuantisedModel(LanguageModel):
    """A language model whose blocks' linear layers have quantised weights.

    Parameters
    ----------
    encoder : Encoder
        With its weights.
    description : Description
        From the file.
    way : Way
        How its linear layers are computed.
    layer : int, optional
        Whose output is the embedding; by default the last.
    fingerprint : callable
        See :class:`LanguageModel`.
    """

    def __init__(
        self, encoder: Encoder, description: Description, way: Way, *, layer: int | None, fingerprint
    ):
        super().__init__(
            description.model,
            encoder,
            description.alphabet,
            max_residues=description.max_residues,
            layer=layer,
            fingerprint=fingerprint,
        )
        self.description = description
        self.way = way


def load_quantised(
    path: Path,
    name: str,
    *,
    layer: int | None = None,
    dtype: str | None = None,
    device: str = "cpu",
) -> QuantisedModel:
    """Load a quantised model; the weights that it was made of are not needed.

    Parameters
    ----------
    path : pathlib.Path
        A file of ``openfoldpp quantize``.
    name : str
        The model that is expected.
    layer : int, optional
        Whose output is the embedding; by default the last.
    dtype : str, optional
        Of all that is not quantised: ``float32`` (default), ``bfloat16`` or ``float16``.
    device : str
        A torch device.

    Returns
    -------
    QuantisedModel

    Raises
    ------
    WeightsError
        The file is damaged, another model's, or holds values that are not finite.

    Warns
    -----
    QuantisationWarning
        8 bits are expanded, as torch or the CPU cannot multiply bytes.
    """
    description = describe(path)
    if description.model != name:
        raise WeightsError(
            f"weights {path}: a quantised {description.model}, expected {name}; give its name with --plm, or "
            "another file"
        )
    if description.bits not in BITS:
        raise WeightsError(
            f"weights {path}: {description.bits} bits; expected 8 or 4, as openfoldpp quantize writes"
        )
    way = _way(description, torch.device(device))
    # Bytes and expanded weights give slightly different embeddings.
    identity = fingerprint(path, dtype, "bytes" if way.name == "bytes" else "expanded")
    try:
        encoder = _read_encoder(path, description, way, dtype_of(dtype))
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error

    return QuantisedModel(encoder.to(device), description, way, layer=layer, fingerprint=identity)


def _way(description: Description, device: torch.device) -> Way:
    """Choose how linear layers are computed, and say so where it is not the fast way."""
    architecture = description.architecture
    few = 4 * architecture.channels * (architecture.channels + architecture.hidden // 2) * architecture.layers
    expand = "once" if few <= _FEW_WEIGHTS else "each call"
    if description.bits == 4:
        return Way(expand, "4-bit weights are expanded to the model's dtype")
    why = f"device {device} is no CPU" if device.type != "cpu" else why_no_bytes()
    if why is None:
        return Way("bytes", "oneDNN multiplies bytes on this CPU")
    warnings.warn(
        f"8-bit {description.model}: {why}. The weights are expanded {expand.replace('each', 'at each')}: "
        "the embeddings are right, but no faster than full precision",
        QuantisationWarning,
        stacklevel=3,
    )
    return Way(expand, why)


def _read_encoder(path: Path, description: Description, way: Way, dtype: torch.dtype) -> Encoder:
    with torch.device("meta"):
        encoder = Encoder(description.architecture)
    linears = {f"blocks.{i}.{name}": None for i in range(len(encoder.blocks)) for name in LINEARS}
    linears = {name: encoder.get_submodule(name) for name in linears}
    # Identity: what remains of the state dictionary is what was not quantised.
    for name in linears:
        encoder.set_submodule(name, nn.Identity())
    with safe_open(path, "pt") as file:
        rest = {key: file.get_tensor(key) for key in file.keys() if key.rpartition(".")[0] not in linears}  # noqa: SIM118
        load_state(encoder, rest, path=path, dtype=dtype)
    del rest
    for name, linear in linears.items():
        # Opened anew: what was read through a mapping counts as the process's memory until it is closed.
        with safe_open(path, "pt") as file:
            present = set(file.keys())
            if absent := [part for part in _PARTS if f"{name}.{part}" not in present]:
                raise WeightsError(
                    f"weights {path}: {name}.{absent[0]} is missing. Is it the file of this model?"
                )
            parts = {part: file.get_tensor(f"{name}.{part}") for part in _PARTS}
            _check(parts, linear, description.bits, f"weights {path}: {name}")
            encoder.set_submodule(name, _linear(parts, way, dtype, after_gelu=name.endswith("contract")))
            del parts
    return encoder


def _check(parts: dict[str, Tensor], linear: nn.Linear, bits: int, where: str) -> None:
    outputs, inputs = linear.weight.shape
    blocks = -(-inputs // nf4.BLOCK)
    eight = bits == 8
    expected = {
        "codes": (torch.int8, [outputs, inputs])
        if eight
        else (torch.uint8, [outputs, blocks * nf4.BLOCK // 2]),
        "scales": (torch.float32, [outputs]) if eight else (torch.float16, [outputs, blocks]),
        "divisors": (torch.float32, [inputs]),
        "bias": (torch.float32, [outputs]),
    }
    for part, (dtype, shape) in expected.items():
        tensor = parts[part]
        if tensor.dtype != dtype or list(tensor.shape) != shape:
            raise WeightsError(
                f"{where}.{part} is {tensor.dtype} {list(tensor.shape)}, expected {dtype} {shape}. Is it "
                "the file of this model?"
            )
        if not torch.isfinite(tensor).all() or (part == "divisors" and (tensor <= 0).any()):
            raise WeightsError(
                f"{where}.{part} holds NaN, infinity or zero; make the file again: openfoldpp quantize"
            )


def _linear(parts: dict[str, Tensor], way: Way, dtype: torch.dtype, *, after_gelu: bool) -> nn.Module:
    if way.name == "once":
        outputs, inputs = len(parts["bias"]), len(parts["divisors"])
        linear = nn.Linear(inputs, outputs, device="meta")
        weight = expanded(parts["codes"], parts["scales"], parts["divisors"])
        linear.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        linear.bias = nn.Parameter(parts["bias"].to(dtype, copy=True), requires_grad=False)
        return linear
    # Copies: a mapped file may be replaced or removed while the model lives.
    own = {part: tensor.clone() for part, tensor in parts.items() if part != "codes" or way.name != "bytes"}
    if way.name == "each call":
        return ExpandedLinear(**own)
    if (own["divisors"] == 1).all():
        own["divisors"] = None
    least = _LEAST_GELU if after_gelu else None
    return Int8Linear(parts["codes"], own["scales"], own["bias"], own["divisors"], least=least)
