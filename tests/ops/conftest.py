"""What tests of several ops share: the rule of exactness, settings, random tensors, upstream's modules."""

import dataclasses
import importlib

import numpy as np
import pytest
import torch

from openfoldpp.errors import OpenFoldNotFoundError
from openfoldpp.ops import AttentionWeights, PairBiasWeights
from openfoldpp.upstream import activate


def ulp(values):
    """One unit in the last place of the largest magnitude in a tensor, in its dtype."""
    top = values.abs().max()
    infinity = torch.full_like(top, torch.inf)
    return (torch.nextafter(top, infinity) - top).double().item()


@pytest.fixture
def assert_as_exact_as():
    """The rule of exactness, on three tensors: ours, the reference in the same dtype, and in float64.

    Our error against float64 is at most twice the reference's own plus 2 ulp of the output's largest value.
    """

    def check(ours, reference, exact):
        assert ours.shape == reference.shape == exact.shape
        error = (ours.double() - exact).abs().max().item()
        own = (reference.double() - exact).abs().max().item()
        assert error <= 2 * own + 2 * ulp(reference), f"error {error:.3g}, the reference's own {own:.3g}"

    return check


@pytest.fixture
def assert_threads_do_not_change_bits(environment):
    """Run a function, which returns a tensor, with 1, 2 and 4 threads."""

    def check(function):
        results = []
        for threads in ("1", "2", "4"):
            environment(OPENFOLDPP_NUM_THREADS=threads)
            results.append(function().clone())
        for other in results[1:]:
            assert torch.equal(results[0].view(torch.uint8), other.view(torch.uint8))

    return check


@pytest.fixture
def draw():
    """Return a function that draws normal float32 tensors, the same ones in every run."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape, scale=1.0, mean=0.0):
        return mean + scale * torch.randn(*shape, generator=generator)

    return normal


@pytest.fixture
def draw_mask():
    """Return a function that draws masks of 0 and 1: some rows whole, some not at all, most in part."""
    generator = torch.Generator().manual_seed(1)

    def mask(*shape):
        kept = (torch.rand(*shape, generator=generator) < 0.7).float()
        rows = torch.rand(*shape[:-1], 1, generator=generator)
        return torch.where(rows < 0.2, 0.0, torch.where(rows > 0.8, 1.0, kept))

    return mask


@pytest.fixture
def in_float64():
    """Return a function that copies an op's weights in float64."""

    def convert(weights):
        doubles = {name: tensor.double() for name, tensor in weights.tensors().items()}
        return dataclasses.replace(weights, **doubles)

    return convert


@pytest.fixture
def draw_attention(draw):
    """Return a function that draws the weights of an attention."""

    def weights(channels, heads, head_channels):
        wide = heads * head_channels
        query, key, value, gate = (draw(wide, channels, scale=channels**-0.5) for _ in range(4))
        return AttentionWeights(
            norm_weight=draw(channels, mean=1.0, scale=0.3),
            norm_bias=draw(channels, scale=0.3),
            query=query,
            key=key,
            value=value,
            gate=gate,
            gate_bias=draw(wide),
            output=draw(channels, wide, scale=wide**-0.5),
            output_bias=draw(channels),
            heads=heads,
        )

    return weights


@pytest.fixture
def draw_pair_bias(draw):
    """Return a function that draws the weights of a pair bias."""

    def weights(channels, heads):
        return PairBiasWeights(
            norm_weight=draw(channels, mean=1.0, scale=0.3),
            norm_bias=draw(channels, scale=0.3),
            weight=draw(heads, channels, scale=2 * channels**-0.5),
        )

    return weights


@pytest.fixture
def simplicial_attention_by_definition():
    """Return 2-simplicial attention in plain loops over heads and queries; it takes what the op takes."""

    def attend(q, k, k2, v, v2, mask=None, bias=None, window=None):
        *batch, heads, length, channels = q.shape
        near_j, near_k = (length if reach is None else reach for reach in window or (None, None))
        out = torch.zeros(q.shape, dtype=q.dtype)
        for *element, head, i in np.ndindex(*batch, heads, length):
            b = tuple(element)
            kept = [mask is None or bool(mask[(*b, j)]) for j in range(length)]
            js = [j for j in range(length) if kept[j] and abs(i - j) <= near_j]
            ks = [j for j in range(length) if kept[j] and abs(i - j) <= near_k]
            if not js or not ks:
                continue
            shared = (*b, head * k.shape[-3] // heads)
            scaled = q[(*b, head, i)] / channels**0.5 * k[shared][js]
            logits = scaled @ k2[shared][ks].T
            if bias is not None:
                logits = logits + bias[(*b, head, i)][js].unsqueeze(1)
            weights = logits.flatten().softmax(dim=0).reshape(logits.shape)
            out[(*b, head, i)] = ((weights @ v2[shared][ks]) * v[shared][js]).sum(dim=0)
        return out

    return attend


@pytest.fixture(scope="session")
def upstream():
    """``upstream("model.msa")``: that module of the OpenFold that is active."""
    try:
        activate()
    except OpenFoldNotFoundError as error:
        pytest.skip(str(error))
    return lambda name: importlib.import_module(f"openfold.{name}")


@pytest.fixture
def randomise(draw):
    """Return a function that draws every parameter of a module, and hands the module back for inference.

    Upstream starts its output layers at zero, and a block that adds zero agrees with anything.
    """

    def drawn(module):
        with torch.no_grad():
            for parameter in module.parameters():
                scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.5
                parameter.copy_(draw(*parameter.shape, scale=scale))
        return module.eval().requires_grad_(False)

    return drawn
