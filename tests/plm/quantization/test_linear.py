import pytest
import torch

from openfoldpp.plm.quantization import int8, linear, nf4

needs_bytes = pytest.mark.skipif(linear.why_no_bytes() is not None, reason=str(linear.why_no_bytes()))


def layer(seed=0, outputs=48, inputs=96):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator)
    bias = torch.randn(outputs, generator=generator)
    divisors = 0.5 + torch.rand(inputs, generator=generator)
    x = torch.randn(7, inputs, generator=generator) * torch.logspace(-2, 2, 7)[:, None]
    return weight, bias, divisors, x


def eight_bits(weight, bias, divisors=None, **kwargs):
    """Return a layer on bytes, and its result for exact inputs."""
    ones = torch.ones(weight.shape[1]) if divisors is None else divisors
    scales = int8.scales_of(weight * ones)
    codes = int8.encode(weight * ones, scales)
    exact = linear.expanded(codes, scales, ones)
    module = linear.Int8Linear(codes, scales, bias, divisors, **kwargs)
    return module, lambda x: torch.nn.functional.linear(x, exact, bias)


@needs_bytes
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("least", [None, -0.17])
def test_bytes_give_nearly_the_exact_result(smooth, least):
    weight, bias, divisors, x = layer()
    if least is not None:
        x = torch.nn.functional.gelu(x)
    module, exact = eight_bits(weight, bias, divisors if smooth else None, least=least)
    found, expected = module(x), exact(x)
    # Each token has its own steps: small tokens are as exact as large ones, but for the shift of 0.17.
    size = x.norm(dim=1, keepdim=True) + (0 if least is None else 0.17 * 96**0.5)
    assert ((found - expected).abs() < 0.05 * size).all()
    assert (found - expected).abs().max() > 0


@needs_bytes
def test_values_above_zero_get_twice_the_steps():
    weight, bias, _, x = layer()
    x = torch.nn.functional.gelu(x[4:] * 10)

    def error(least):
        module, exact = eight_bits(weight, bias, least=least)
        return float((module(x) - exact(x)).square().mean())

    assert error(-0.17) < 0.5 * error(None)


@needs_bytes
def test_a_token_does_not_depend_on_its_batch():
    weight, bias, divisors, x = layer(inputs=520)
    module, _ = eight_bits(weight, bias, divisors)
    together = module(x)
    for i in range(len(x)):
        assert torch.equal(module(x[i : i + 1])[0], together[i])


@needs_bytes
def test_a_token_of_zeros_gives_the_bias():
    weight, bias, _, _ = layer()
    module, _ = eight_bits(weight, bias)
    assert torch.equal(module(torch.zeros(2, 96)), bias.expand(2, -1))


@needs_bytes
def test_half_precision_stays_half_precision():
    weight, bias, divisors, x = layer()
    module, _ = eight_bits(weight, bias, divisors)
    found = module(x.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, module(x.bfloat16().float()).bfloat16())


@pytest.mark.parametrize("grid", [int8, nf4])
def test_expanded_weights_are_those_stored(grid):
    weight, bias, divisors, x = layer()
    scales = grid.scales_of(weight * divisors)
    codes = grid.encode(weight * divisors, scales)
    found = linear.ExpandedLinear(codes, scales, bias, divisors)(x)
    stored = linear.expanded(codes, scales, divisors)
    assert (stored - weight).norm() < (0.01 if grid is int8 else 0.15) * weight.norm()
    torch.testing.assert_close(found, torch.nn.functional.linear(x, stored, bias))


@pytest.fixture
def fresh_choice():
    linear.why_no_bytes.cache_clear()
    yield
    linear.why_no_bytes.cache_clear()


def test_a_cpu_without_the_instructions_is_told(fresh_choice, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False, raising=False)
    assert "the CPU lacks the instructions" in linear.why_no_bytes()


@needs_bytes
def test_sums_cut_off_at_16_bits_are_noticed(fresh_choice, monkeypatch):
    right = linear._multiply

    def cut_off(*args):
        return right(*args).clamp(-(2**15), 2**15 - 1)

    monkeypatch.setattr(linear, "_multiply", cut_off)
    assert "not exact" in linear.why_no_bytes()


@needs_bytes
def test_a_torch_without_the_op_is_told(fresh_choice, monkeypatch):
    def absent(*_):
        raise AttributeError("no attribute 'qlinear_pointwise'")

    monkeypatch.setattr(linear, "_multiply", absent)
    assert "lacks oneDNN's quantised product" in linear.why_no_bytes()
