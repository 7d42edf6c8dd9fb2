"""Linear layers with quantised weights, and the choice between the ways to compute them.

In 8 bits a CPU with VNNI multiplies bytes: the inputs are rounded too, each token by its own largest value,
so that a token's result does not depend on what it is batched with. oneDNN, a part of torch, multiplies and
sums whole numbers. Where torch lacks the op or the CPU the instruction, and in 4 bits, the weights
are expanded to the inputs' dtype: at each call, or once where they are few.
"""

from __future__ import annotations

import functools
import platform

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openfoldpp.plm.quantization import int8, nf4

# oneDNN takes inputs as bytes from 0 to 255; this stands for 0.
_ZERO = 128
_LARGEST_BYTE = 255
# Of a token whose values are all zero.
_LEAST_RANGE = 1e-30


class Int8Linear(nn.Module):
    """A linear layer on bytes.

    Parameters
    ----------
    codes : torch.Tensor of shape (out, in)
        int8. A copy is kept, in oneDNN's layout.
    scales : torch.Tensor of shape (out,)
        float32.
    bias : torch.Tensor of shape (out,)
        float32.
    divisors : torch.Tensor of shape (in,), optional
        SmoothQuant's (arXiv 2211.10438): the inputs are divided by these, the stored weights are multiplied.
    least : float, optional
        What no input is below. Given, the bytes reach from there to a token's largest value, else from minus
        its largest absolute value to this: inputs that are mostly above zero get twice the steps.
    """

    def __init__(
        self,
        codes: Tensor,
        scales: Tensor,
        bias: Tensor,
        divisors: Tensor | None = None,
        *,
        least: float | None = None,
    ):
        super().__init__()
        # A buffer, so that its bytes are counted; not in the state dictionary, as nothing else reads it.
        self.register_buffer("packed", torch.ops.onednn.qlinear_prepack(codes, None), persistent=False)
        factors = None if divisors is None else 1 / divisors
        offset = None
        if least is not None:
            # The inputs are shifted to 0 and above, and the bias takes the shift back.
            offset = torch.tensor(-least) if factors is None else -least * factors
            shift = (
                codes.sum(1, dtype=torch.float64) if factors is None else codes.double() @ factors.double()
            )
            bias = (bias + least * shift * scales).float()
        self.zero = _ZERO if least is None else 0
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(len(scales), dtype=torch.int64))
        self.register_buffer("bias", bias)
        self.register_buffer("factors", factors)
        self.register_buffer("offset", offset)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N_tokens, out]`` of `x` ``[N_tokens, in]``, in its dtype."""
        values = x.float()
        if self.offset is None:
            values = values if self.factors is None else values * self.factors
        elif self.factors is None:
            values = values + self.offset
        else:
            values = torch.addcmul(self.offset, values, self.factors)
        codes, scales = quantise_tokens(values, self.zero)
        sums = _multiply(codes, self.zero, self.packed, self.scales, self.zeros)
        return torch.addcmul(self.bias, sums, scales).to(x.dtype)


class ExpandedLinear(nn.Module):
    """A linear layer whose weights are expanded at each call, so that only one layer's are at a time.

    Parameters
    ----------
    codes : torch.Tensor
        int8 of shape (out, in), or NF4's bytes.
    scales : torch.Tensor
        Of the grid.
    bias : torch.Tensor of shape (out,)
        float32.
    divisors : torch.Tensor of shape (in,)
        See :class:`Int8Linear`.
    """

    def __init__(self, codes: Tensor, scales: Tensor, bias: Tensor, divisors: Tensor):
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", bias)
        self.register_buffer("divisors", divisors)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N_tokens, out]`` of `x` ``[N_tokens, in]``, in its dtype."""
        weight = expanded(self.codes, self.scales, self.divisors)
        return F.linear(x, weight.to(x.dtype), self.bias.to(x.dtype))


def expanded(codes: Tensor, scales: Tensor, divisors: Tensor) -> Tensor:
    """Return the weights that a file stores.

    Parameters
    ----------
    codes : torch.Tensor
        int8 of shape (out, in), or NF4's bytes.
    scales : torch.Tensor
        Of the grid.
    divisors : torch.Tensor of shape (in,)
        What the weights were multiplied by.

    Returns
    -------
    torch.Tensor of shape (out, in)
        float32.
    """
    if codes.dtype == torch.int8:
        weight = int8.decode(codes, scales)
    else:
        weight = nf4.decode(codes, scales, len(divisors))
    return weight / divisors.float()


def quantise_tokens(x: Tensor, zero: int) -> tuple[Tensor, Tensor]:
    """Round each token's values to bytes, by its own largest.

    Parameters
    ----------
    x : torch.Tensor of shape (N_tokens, C)
        float32.
    zero : {128, 0}
        The byte that stands for 0; with 0 there are no values below 0.

    Returns
    -------
    codes : torch.Tensor of shape (N_tokens, C)
        uint8.
    scales : torch.Tensor of shape (N_tokens, 1)
        float32.
    """
    largest = x.amax(1, keepdim=True)
    if zero:
        # Not x.abs().amax(1): several times as slow, for the copy.
        largest = torch.maximum(largest, -x.amin(1, keepdim=True))
    scales = largest.clamp_min(_LEAST_RANGE) / (_LARGEST_BYTE - zero)
    # Conversion cuts off: half a step more rounds, all values being above 0.
    return (x * (1 / scales)).add_(zero + 0.5).to(torch.uint8), scales


def _multiply(codes: Tensor, zero: int, packed: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    return torch.ops.onednn.qlinear_pointwise(
        codes, 1.0, zero, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )


@functools.cache
def why_no_bytes() -> str | None:
    """Say why this machine cannot multiply bytes fast and exactly; None where it can."""
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    if platform.machine().lower() not in ("x86_64", "amd64") or (supported is not None and not supported()):
        return "the CPU lacks the instructions (AVX-512 VNNI)"
    # The largest products there are: older instructions cut their sums off at 16 bits.
    codes = torch.full((3, 256), 255, dtype=torch.uint8)
    weight = torch.full((64, 256), int8.LARGEST, dtype=torch.int8)
    weight[1::2] *= -1
    codes[1, ::2] = 0
    try:
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
        found = _multiply(codes, _ZERO, packed, torch.ones(64), torch.zeros(64, dtype=torch.int64))
    except (AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        return f"torch {torch.__version__} lacks oneDNN's quantised product ({reason})"
    exact = (codes.double() - _ZERO) @ weight.double().t()
    if not torch.equal(found.double(), exact):
        return "the products of bytes are not exact on this CPU"
    return None
