"""The triangle multiplicative update against float64 and upstream's own modules, in both directions."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from openfoldpp import _native
from openfoldpp.errors import BackendError, InputError
from openfoldpp.ops.triangle_multiplication import TriangleMultiplicationWeights, triangle_multiplication
from openfoldpp.ops.workspace import kept

SIZES = [1, 7, 63, 64, 65, 130, 257]


def weights_of(module):
    layers = {
        "left_gate": module.linear_a_g,
        "left": module.linear_a_p,
        "right_gate": module.linear_b_g,
        "right": module.linear_b_p,
        "gate": module.linear_g,
        "output": module.linear_z,
    }
    return TriangleMultiplicationWeights(
        norm_weight=module.layer_norm_in.weight,
        norm_bias=module.layer_norm_in.bias,
        norm_out_weight=module.layer_norm_out.weight,
        norm_out_bias=module.layer_norm_out.bias,
        **{name: layer.weight for name, layer in layers.items()},
        **{f"{name}_bias": layer.bias for name, layer in layers.items()},
    )


@pytest.fixture
def update(upstream, randomise):
    """Return a function that makes upstream's module with random parameters."""
    modules = upstream("model.triangular_multiplicative_update")

    def make(channels, hidden, outgoing):
        name = f"TriangleMultiplication{'Outgoing' if outgoing else 'Incoming'}"
        return randomise(getattr(modules, name)(channels, hidden))

    return make


@pytest.fixture
def weights(draw):
    channels, hidden = 12, 20
    shapes = {
        field.name: (hidden if field.name.startswith(("left", "right", "norm_out")) else channels,)
        for field in dataclasses.fields(TriangleMultiplicationWeights)
        if not field.name.startswith("eps")
    }
    for name in ("left_gate", "left", "right_gate", "right", "gate"):
        shapes[name] += (channels,)
    shapes["output"] += (hidden,)
    return TriangleMultiplicationWeights(
        **{name: draw(*shape, scale=shape[-1] ** -0.5) for name, shape in shapes.items()}
    )


@pytest.mark.parametrize("outgoing", [True, False])
@pytest.mark.parametrize(
    ("backend", "channels", "hidden", "n"),
    [
        *(("native", 12, 5, n) for n in SIZES),
        ("native", 1, 2, 9),
        ("native", 33, 48, 49),
        ("native", 128, 32, 20),
        ("native", 128, 128, 50),
        ("torch", 12, 5, 65),
    ],
)
def test_error_is_at_most_twice_upstreams(
    backend, channels, hidden, n, outgoing, update, draw, draw_mask, assert_as_exact_as, environment
):
    environment(OPENFOLDPP_BACKEND=backend)
    module = update(channels, hidden, outgoing)
    weights, wide = weights_of(module), copy.deepcopy(module).double()
    z = draw(n, n, channels, mean=1.0)
    for mask in (torch.ones(n, n), draw_mask(n, n)):
        ours = triangle_multiplication(z, weights, outgoing=outgoing, mask=mask)
        assert_as_exact_as(ours, module(z, mask), wide(z.double(), mask.double()))
    assert torch.equal(
        triangle_multiplication(z, weights, outgoing=outgoing),
        triangle_multiplication(z, weights, outgoing=outgoing, mask=torch.ones(n, n)),
    )


@pytest.mark.parametrize("outgoing", [True, False])
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_gates_that_are_closed_or_wide_open(scale, outgoing, update, draw, draw_mask, assert_as_exact_as):
    module = update(12, 9, outgoing)
    for layer in (module.linear_a_g, module.linear_b_g, module.linear_g):
        layer.weight.mul_(100)  # logits of some hundreds
    z, mask = draw(35, 35, 12, scale=scale), draw_mask(35, 35).T
    ours = triangle_multiplication(z, weights_of(module), outgoing=outgoing, mask=mask)
    theirs = module(z, mask)
    assert_as_exact_as(ours, theirs, module.double()(z.double(), mask.double()))


@pytest.mark.parametrize("outgoing", [True, False])
def test_a_mask_of_zeros_leaves_biases_and_gate(outgoing, weights, draw):
    z = draw(17, 17, 12)
    update = triangle_multiplication(z, weights, outgoing=outgoing, mask=torch.zeros(17, 17))
    normed = torch.nn.functional.layer_norm(z, (12,), weights.norm_weight, weights.norm_bias)
    gate = torch.sigmoid(normed @ weights.gate.T + weights.gate_bias)
    torch.testing.assert_close(update, (weights.output @ weights.norm_out_bias + weights.output_bias) * gate)


@pytest.mark.parametrize("outgoing", [True, False])
@pytest.mark.parametrize("backend", ["native", "torch"])
def test_the_residual_is_added_and_may_be_the_input(backend, outgoing, weights, draw, draw_mask, environment):
    environment(OPENFOLDPP_BACKEND=backend)
    z, keywords = draw(2, 19, 19, 12), {"mask": draw_mask(2, 19, 19), "outgoing": outgoing}
    expected = z + triangle_multiplication(z, weights, **keywords)
    assert torch.equal(triangle_multiplication(z, weights, residual=z, **keywords), expected)
    out = torch.empty_like(z)
    assert triangle_multiplication(z, weights, residual=z, out=out, **keywords) is out
    assert torch.equal(out, expected)
    triangle_multiplication(z, weights, residual=z, out=z, **keywords)
    assert torch.equal(z, expected)


@pytest.mark.parametrize("outgoing", [True, False])
def test_views_are_read_and_written_where_they_are(outgoing, weights, draw, draw_mask):
    z, mask, residual = draw(3, 14, 14, 12), draw_mask(3, 14, 14), draw(3, 14, 14, 12)
    expected = triangle_multiplication(z, weights, outgoing=outgoing, mask=mask, residual=residual)

    def transposed(tensor):
        return tensor.transpose(1, 2).clone().transpose(1, 2)

    memory = torch.full((4, 14, 28, 19), -1.0)
    out = memory[1:, :, ::2, 3:15]
    triangle_multiplication(
        transposed(z),
        weights,
        outgoing=outgoing,
        mask=transposed(mask),
        residual=transposed(residual),
        out=out,
    )
    assert torch.equal(out, expected)
    out.fill_(-1.0)
    assert (memory == -1.0).all()

    one = z[:1, :1].expand(3, 14, 14, 12)
    assert torch.equal(
        triangle_multiplication(one, weights), triangle_multiplication(one.contiguous(), weights)
    )


def test_a_kept_workspace_does_not_change_the_bits(weights, draw):
    tensors = [draw(n, n, 12) for n in (40, 65, 1, 40)]
    expected = [triangle_multiplication(z, weights) for z in tensors]
    with kept():
        results = [triangle_multiplication(z, weights) for z in tensors]
    assert all(torch.equal(*pair) for pair in zip(results, expected, strict=True))


def test_threads_do_not_change_the_bits(weights, draw, draw_mask, assert_threads_do_not_change_bits):
    z, mask = draw(67, 67, 12), draw_mask(67, 67)
    for outgoing in (True, False):
        assert_threads_do_not_change_bits(
            lambda outgoing=outgoing: triangle_multiplication(z, weights, outgoing=outgoing, mask=mask)
        )


@pytest.mark.parametrize("shape", [(0, 0), (0, 4, 4), (2, 0, 0)])
def test_nothing_gives_nothing(shape, weights):
    z = torch.zeros(*shape, 12)
    assert triangle_multiplication(z, weights, mask=torch.zeros(shape), residual=z).shape == z.shape


@pytest.mark.parametrize("outgoing", [True, False])
def test_nan_reaches_the_rows_or_columns_that_meet_it(outgoing, weights, draw):
    z = draw(20, 20, 12)
    z[7, 11, 3] = torch.nan
    result = triangle_multiplication(z, weights, outgoing=outgoing).isnan()
    reached = 7 if outgoing else 11
    assert result[reached].all()
    assert result[:, reached].all()
    result[reached] = result[:, reached] = False
    result[7, 11] = False  # its own gate
    assert not result.any()


def test_gradients_come_from_the_torch_reference(weights, draw, draw_mask):
    names = list(weights.tensors())

    def function(z, mask, residual, *parameters):
        given = TriangleMultiplicationWeights(**dict(zip(names, parameters, strict=True)))
        return triangle_multiplication(z, given, outgoing=False, mask=mask, residual=residual)

    tensors = [draw(2, 2, 12), draw_mask(2, 2), draw(2, 2, 12), *weights.tensors().values()]
    wide = [tensor.double().requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(function, wide, fast_mode=True)


def test_the_kernel_says_why_it_is_not_taken(weights, draw, environment):
    environment(OPENFOLDPP_BACKEND="native")
    with pytest.raises(BackendError, match=r"triangle_multiplication: .*not native: a gradient is needed"):
        triangle_multiplication(draw(4, 4, 12).requires_grad_(), weights)


def test_each_layer_norm_has_its_own_eps(weights, draw):
    z = 1e-3 * draw(9, 9, 12)
    for name in ("eps", "eps_out"):
        changed = dataclasses.replace(weights, **{name: 0.5})
        wide = dataclasses.replace(
            changed, **{field: tensor.double() for field, tensor in weights.tensors().items()}
        )
        result = triangle_multiplication(z, changed)
        torch.testing.assert_close(result, triangle_multiplication(z.double(), wide).float())
        assert not torch.allclose(result, triangle_multiplication(z, weights), rtol=0.01)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("z", torch.zeros(4, 12), r"z has shape \[4, 12\]; expected \[\*, N_res, N_res, C\]"),
        ("z", torch.zeros(4, 5, 12), r"z has shape \[4, 5, 12\]; expected \[\*, N_res, N_res, C\]"),
        ("z", torch.zeros(4, 4, 11), r"z has shape \[4, 4, 11\]; expected 12 channels"),
        ("z", torch.zeros(4, 4, 12).half(), "z is torch.float16"),
        ("z", torch.zeros(4, 4, 12, device="meta"), "on meta"),
        ("z", None, "z is NoneType"),
        ("mask", torch.ones(4), r"mask has shape \[4\]; expected \[4, 4\]"),
        ("mask", torch.ones(4, 4, dtype=torch.bool), "mask is torch.bool"),
        ("residual", torch.zeros(2, 4, 4, 12), r"residual has shape \[2, 4, 4, 12\]; expected \[4, 4, 12\]"),
        ("out", torch.zeros(4, 5, 12), r"out has shape \[4, 5, 12\]; expected \[4, 4, 12\]"),
        ("out", torch.zeros(4, 1, 12).expand(4, 4, 12), "share memory"),
    ],
)
def test_wrong_tensors_are_refused(name, value, message, weights):
    with pytest.raises(InputError, match=message):
        triangle_multiplication(weights=weights, **{"z": torch.zeros(4, 4, 12), name: value})


def test_an_out_that_is_the_input_turned_is_refused(weights, draw):
    z = draw(4, 4, 12)
    with pytest.raises(InputError, match="out shares memory with an input"):
        triangle_multiplication(z, weights, out=z.transpose(0, 1))


def test_weights_that_do_not_fit_each_other_are_refused(weights):
    for name, tensor in weights.tensors().items():
        wrong = tensor[0] if name == "left" else torch.cat([tensor, tensor])
        with pytest.raises(InputError, match=rf"^{name} has shape \[.*\]; expected \["):
            dataclasses.replace(weights, **{name: wrong})
    with pytest.raises(InputError, match=r"output is torch\.float64"):
        dataclasses.replace(weights, output=weights.output.double())


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("z", np.zeros((4, 4, 12)), TypeError, "incompatible function arguments"),
        ("z", np.zeros((4, 12), "f4"), ValueError, r"z has shape \[4, 12\], expected"),
        ("z", np.zeros((4, 5, 12), "f4"), ValueError, "z columns is 5, expected 4"),
        ("z", np.zeros((4, 4, 11), "f4"), ValueError, "z channels is 11, expected 12"),
        ("z", np.zeros((4, 4, 12), "f4")[..., ::-1], ValueError, "z has a last dimension of stride -4"),
        ("mask", np.zeros((4, 3), "f4"), ValueError, "mask columns is 3, expected 4"),
        ("residual", np.zeros((3, 4, 12), "f4"), ValueError, "residual rows is 3, expected 4"),
        ("out", np.zeros((4, 3, 12), "f4"), ValueError, "out columns is 3, expected 4"),
        ("out", np.broadcast_to(np.zeros(12, "f4"), (4, 4, 12)), ValueError, "writeable"),
        ("workspace", np.zeros(100, "f4"), ValueError, r"workspace has shape \[100\], expected \[\d+\]"),
        ("workspace", np.zeros((2, 2), "f4"), ValueError, "workspace has shape"),
        ("threads", -1, ValueError, "threads is -1"),
    ],
)
def test_the_binding_refuses_what_would_crash(name, value, error, message, weights):
    arguments = {
        "z": np.zeros((4, 4, 12), "f4"),
        "mask": None,
        "outgoing": True,
        "residual": None,
        "out": np.zeros((4, 4, 12), "f4"),
        "workspace": np.zeros(weights.packed.workspace_floats(4), "f4"),
        "threads": 1,
    }
    weights.packed(**arguments)
    with pytest.raises(error, match=message):
        weights.packed(**arguments | {name: value})


def test_the_binding_refuses_a_workspace_of_an_impossible_size(weights):
    with pytest.raises(ValueError, match="n is -1, expected 0 or more"):
        weights.packed.workspace_floats(-1)
    with pytest.raises(ValueError, match=f"n is {2**40}, expected at most"):
        weights.packed.workspace_floats(2**40)


def test_the_binding_refuses_weights_that_do_not_fit(weights):
    arrays, eps = weights.arrays(), {"eps": 1e-5, "eps_out": 1e-5}
    for name, array in arrays.items():
        wrong = array[0] if name == "left" else array[1:]
        with pytest.raises(ValueError, match=rf"^{name} has shape \[.*\], expected \["):
            _native.TriangleMultiplication(**arrays | eps | {name: wrong})
    nothing = {name: array[..., :0] if array.shape[-1] == 12 else array for name, array in arrays.items()}
    nothing |= {"gate": np.zeros((0, 0), "f4"), "output": np.zeros((0, 20), "f4")}
    with pytest.raises(ValueError, match="channels is 0, expected at least 1"):
        _native.TriangleMultiplication(**nothing | eps)
