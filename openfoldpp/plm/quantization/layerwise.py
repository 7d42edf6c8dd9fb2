"""An encoder's linear layers quantised one by one, each for the inputs that those before it now give."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from openfoldpp.errors import InputError
from openfoldpp.plm.quantization import int8, nf4
from openfoldpp.plm.quantization.gptq import round_compensated
from openfoldpp.plm.quantization.linear import expanded
from openfoldpp.plm.transformer import Block, Encoder, rotary_table

#: The linear layers of a block, in the order of computation.
LINEARS = ("attention.qkv", "attention.output", "expand", "contract")
BITS = (8, 4)
#: ``gptq``: with calibration. ``nearest``: each weight to the nearest level, the plain way to compare with.
METHODS = ("gptq", "nearest")
# How much of the inputs' spread over channels SmoothQuant moves into the weights: the paper's value.
SMOOTHING = 0.5
# Tokens that are computed at once: bounds the memory of the transition's hidden layer.
_BATCH_TOKENS = 2048


class _Batch:
    """Sequences end to end: their activations before the block at hand."""

    def __init__(self, encoder: Encoder, sequences: Sequence[Tensor]):
        self.lengths = [len(tokens) for tokens in sequences]
        self.x = encoder.embedding(torch.cat(list(sequences)), self.lengths)
        self.rotation = None
        if not encoder.architecture.positions:
            self.rotation = rotary_table(self.lengths, encoder.frequencies, self.x.dtype)

    def through(self, block: Block) -> Tensor:
        """Return the block's output, ``[N_tokens, C]``."""
        return block(self.x, self.lengths, self.rotation)


class _Statistics:
    """What quantising a linear layer needs to know of its inputs."""

    def __init__(self, inputs: int):
        self.hessian = torch.zeros(inputs, inputs)
        self.largest = torch.zeros(inputs)

    def add(self, x: Tensor) -> None:
        """Count the inputs `x`, ``[N_tokens, in]``."""
        self.hessian.addmm_(x.t(), x)
        torch.maximum(self.largest, x.abs().amax(0), out=self.largest)


class _SeenError(Exception):
    """Ends a block's computation once the inputs of the layer at hand have been counted."""


def quantise(
    encoder: Encoder,
    calibration: Sequence[Tensor],
    bits: int,
    *,
    method: str = "gptq",
    smoothing: float = SMOOTHING,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """Quantise the linear layers of an encoder's blocks; the rest is taken over as it is.

    Beside the encoder, the result and the calibration set's activations, one block is in memory.

    Parameters
    ----------
    encoder : Encoder
        In float32, on the CPU. It is not changed.
    calibration : sequence of torch.Tensor
        Token numbers of each sequence, int64, with begin and end. May be empty for ``nearest``.
    bits : {8, 4}
        8: whole numbers, a scale for each output channel. 4: NF4, a scale for each 64 weights.
    method : {"gptq", "nearest"}
        GPTQ after SmoothQuant; or each weight rounded to the nearest.
    smoothing : float
        SmoothQuant's strength, 0 to 1: how much of the inputs' spread is moved into the weights.
    progress : callable, optional
        Called with the number of blocks that are done.

    Returns
    -------
    dict of str to torch.Tensor
        By the encoder's names; in place of a linear layer's ``weight``: ``codes``, ``scales``, ``divisors``.

    Raises
    ------
    InputError
        There is no calibration sequence, no such number of bits or method, or the encoder is not in float32.
    """
    if bits not in BITS:
        raise InputError(f"{bits} bits: expected 8 or 4")
    if method not in METHODS:
        raise InputError(f"method {method!r}: expected one of {', '.join(METHODS)}")
    if method == "gptq" and not calibration:
        raise InputError("no calibration sequence: GPTQ needs some; give --calibration a FASTA file")
    dtypes = {tensor.dtype for tensor in encoder.state_dict().values()}
    if dtypes != {torch.float32}:
        raise InputError(f"an encoder in {', '.join(map(str, dtypes))}: load it in float32 to quantise it")
    found = {}
    linears = {f"blocks.{i}.{name}" for i in range(len(encoder.blocks)) for name in LINEARS}
    for key, tensor in encoder.state_dict().items():
        if key.rpartition(".")[0] not in linears or key.endswith(".bias"):
            found[key] = tensor
    with torch.inference_mode():
        batches = [_Batch(encoder, group) for group in _groups(calibration)] if method == "gptq" else []
        for number, original in enumerate(encoder.blocks):
            block = copy.deepcopy(original)
            for name in LINEARS:
                linear = block.get_submodule(name)
                parts = _quantise_linear(linear, _statistics(block, linear, batches), bits, smoothing)
                linear.weight.copy_(expanded(**parts))
                found |= {f"blocks.{number}.{name}.{part}": tensor for part, tensor in parts.items()}
            for batch in batches:
                batch.x = batch.through(block)
            if progress is not None:
                progress(number + 1)
    return found


def _groups(sequences: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    group: list[Tensor] = []
    for tokens in sequences:
        if group and sum(map(len, group)) + len(tokens) > _BATCH_TOKENS:
            yield group
            group = []
        group.append(tokens)
    if group:
        yield group


def _statistics(block: Block, linear: nn.Linear, batches: Sequence[_Batch]) -> _Statistics | None:
    """Return what the inputs of a block's layer look like; None without calibration."""
    if not batches:
        return None
    found = _Statistics(linear.in_features)
    with _stopping_at(linear, found.add):
        for batch in batches:
            try:
                batch.through(block)
            except _SeenError:
                continue
    return found


@contextmanager
def _stopping_at(linear: nn.Linear, see: Callable[[Tensor], None]) -> Iterator[None]:
    def hook(_, inputs):
        see(inputs[0])
        raise _SeenError

    handle = linear.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _quantise_linear(
    linear: nn.Linear, statistics: _Statistics | None, bits: int, smoothing: float
) -> dict[str, Tensor]:
    """Return codes, scales and divisors of a layer's weight."""
    weight = linear.weight
    grid = int8 if bits == 8 else nf4
    if statistics is None:
        scales = grid.scales_of(weight)
        return {
            "codes": grid.encode(weight, scales),
            "scales": scales,
            "divisors": torch.ones(weight.shape[1]),
        }
    divisors = smoothing_divisors(statistics.largest, weight, smoothing)
    weight = weight * divisors
    hessian = statistics.hessian / (divisors[:, None] * divisors)
    if bits == 8:
        scales = int8.scales_of(weight)
        rounded = round_compensated(weight, hessian, lambda column, _: int8.nearest(column, scales))
    else:
        scales = nf4.scales_of(weight, hessian.diagonal())
        wide = scales.float()
        rounded = round_compensated(
            weight, hessian, lambda column, number: nf4.nearest(column, wide[:, number // nf4.BLOCK])
        )
    return {"codes": grid.encode(rounded, scales), "scales": scales, "divisors": divisors}


def smoothing_divisors(largest: Tensor, weight: Tensor, smoothing: float = SMOOTHING) -> Tensor:
    """Return what SmoothQuant (arXiv 2211.10438, equation 4) divides a layer's inputs by.

    Parameters
    ----------
    largest : torch.Tensor of shape (in,)
        Largest absolute value of each input.
    weight : torch.Tensor of shape (out, in)
        float32.
    smoothing : float
        Its strength, 0 to 1.

    Returns
    -------
    torch.Tensor of shape (in,)
        float32; 1 where the input or its weights are zero.
    """
    weights = weight.abs().amax(0)
    divisors = largest**smoothing / weights ** (1 - smoothing)
    return torch.where((largest > 0) & (weights > 0), divisors, 1.0)
