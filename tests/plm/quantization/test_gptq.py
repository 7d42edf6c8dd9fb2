import torch

from openfoldpp.plm.quantization import int8
from openfoldpp.plm.quantization.gptq import round_compensated


def problem(inputs, seed=0):
    """Return a weight, correlated inputs, and a coarse grid's rounding."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(16, inputs, generator=generator)
    x = torch.randn(2000, inputs, generator=generator) @ torch.randn(inputs, inputs, generator=generator)
    scales = 20 * int8.scales_of(weight)
    return weight, x, scales, lambda column, _: int8.nearest(column, scales)


def test_outputs_are_closer_than_with_each_weight_at_its_nearest():
    # More inputs than a block of columns.
    weight, x, scales, nearest = problem(200)
    rounded = round_compensated(weight, x.t() @ x, nearest)
    plain = int8.decode(int8.encode(weight, scales), scales)

    def error(other):
        return float((x @ (other - weight).t()).square().mean())

    assert error(rounded) < 0.6 * error(plain)


def test_the_result_is_on_the_grid_in_the_order_of_the_inputs():
    weight, x, scales, nearest = problem(40)
    rounded = round_compensated(weight, x.t() @ x, nearest)
    torch.testing.assert_close(int8.decode(int8.encode(rounded, scales), scales), rounded)
    assert ((rounded - weight).abs() < 4 * scales[:, None]).all()


def test_independent_inputs_have_nothing_to_make_up_for():
    weight, _, scales, nearest = problem(30)
    rounded = round_compensated(weight, torch.eye(30), nearest)
    torch.testing.assert_close(rounded, int8.decode(int8.encode(weight, scales), scales))


def test_columns_keep_their_numbers():
    weight, x, _, _ = problem(30)
    seen = []
    hessian = x.t() @ x
    round_compensated(weight, hessian, lambda column, number: seen.append(number) or column)
    assert seen == hessian.diagonal().argsort(descending=True).tolist()


def test_an_input_that_is_always_zero_is_no_trouble():
    weight, x, _, nearest = problem(30)
    x[:, [3, 7]] = 0
    assert torch.isfinite(round_compensated(weight, x.t() @ x, nearest)).all()
