"""The outer product mean against float64 and upstream's own module: sizes, masks, layouts, threads."""

import copy
import dataclasses

import pytest
import torch

from openfoldpp import _native
from openfoldpp.errors import BackendError, InputError
from openfoldpp.ops.outer_product_mean import OuterProductMeanWeights, outer_product_mean

SIZES = [1, 7, 63, 64, 65, 130, 257]
# With 5 hidden and 12 output channels the order of summation changes between 5 and 9 sequences.
FEW, MANY = 3, 20


def weights_of(module):
    return OuterProductMeanWeights(
        norm_weight=module.layer_norm.weight,
        norm_bias=module.layer_norm.bias,
        left=module.linear_1.weight,
        left_bias=module.linear_1.bias,
        right=module.linear_2.weight,
        right_bias=module.linear_2.bias,
        output=module.linear_out.weight,
        output_bias=module.linear_out.bias,
    )


@pytest.fixture
def outer_product(upstream, randomise):
    """Return a function that makes upstream's module with random parameters."""
    make = upstream("model.outer_product_mean").OuterProductMean
    return lambda channels, hidden, outputs: randomise(make(channels, outputs, hidden))


@pytest.fixture
def weights(draw):
    def matrix(outputs, inputs):
        return draw(outputs, inputs, scale=inputs**-0.5)

    return OuterProductMeanWeights(
        norm_weight=draw(12, mean=1.0, scale=0.3),
        norm_bias=draw(12, scale=0.3),
        left=matrix(5, 12),
        left_bias=draw(5),
        right=matrix(5, 12),
        right_bias=draw(5),
        output=matrix(10, 25),
        output_bias=draw(10),
    )


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize(
    ("channels", "hidden", "outputs", "sequences", "residues"),
    [
        *((12, 5, 12, sequences, residues) for sequences in (1, FEW, MANY) for residues in SIZES),
        (12, 5, 12, 600, 19),
        (33, 17, 7, 2, 30),
        (33, 17, 7, 90, 30),
        (20, 1, 1, 4, 9),
        (5, 40, 70, 100, 10),
        (256, 32, 128, 1, 50),
        (256, 32, 128, 10, 37),
        (256, 32, 128, 60, 37),
    ],
)
def test_error_is_at_most_twice_upstreams(
    channels, hidden, outputs, sequences, residues, backend,
    outer_product, draw, draw_mask, assert_as_exact_as, environment,
):  # fmt: skip
    environment(OPENFOLDPP_BACKEND=backend)
    module = outer_product(channels, hidden, outputs)
    weights, wide = weights_of(module), copy.deepcopy(module).double()
    shape = (sequences, residues)
    m, mask = draw(*shape, channels), draw_mask(*shape)
    mask[:, residues // 2] = 0.0  # a residue that no sequence covers
    covered = mask.T @ mask > 0
    ours, theirs, exact = (
        outer_product_mean(m, weights, mask=mask),
        module(m, mask),
        wide(m.double(), mask.double()),
    )
    assert_as_exact_as(ours, theirs, exact)
    # The other pairs are a thousand times as large, and would hide the error of these.
    if covered.any():
        assert_as_exact_as(ours[covered], theirs[covered], exact[covered])
    for m in (draw(*shape, channels, mean=30.0), draw(*shape, channels, scale=1e4)):
        assert_as_exact_as(outer_product_mean(m, weights), module(m), wide(m.double()))


@pytest.mark.parametrize("sequences", [FEW, MANY])
def test_no_mask_is_a_mask_of_ones(sequences, weights, draw):
    m = draw(sequences, 13, 12)
    assert torch.equal(
        outer_product_mean(m, weights), outer_product_mean(m, weights, mask=torch.ones(sequences, 13))
    )


@pytest.mark.parametrize("sequences", [FEW, MANY])
def test_a_pair_that_nothing_covers_gets_the_bias_over_eps(sequences, weights, draw):
    m, mask = draw(sequences, 20, 12), torch.ones(sequences, 20)
    mask[:, 4] = 0.0
    result = outer_product_mean(m, weights, mask=mask)
    expected = (weights.output_bias / 1e-3).expand(20, 10)
    for uncovered in (result[4], result[:, 4]):
        assert torch.allclose(uncovered, expected, rtol=1e-6, atol=0.0)
    other = dataclasses.replace(weights, eps_mask=0.5)
    assert torch.allclose(
        outer_product_mean(m, other, mask=mask)[4], weights.output_bias / 0.5, rtol=1e-6, atol=0.0
    )
    nothing = outer_product_mean(m[:0], weights, mask=mask[:0])
    assert torch.allclose(nothing, expected.expand(20, 20, 10), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("sequences", [FEW, MANY])
def test_the_residual_is_added_and_may_be_the_result(sequences, weights, draw, draw_mask):
    m, mask, z = draw(2, sequences, 18, 12), draw_mask(2, sequences, 18), draw(2, 18, 18, 10)
    update = outer_product_mean(m, weights, mask=mask)
    # The kernel's last addition rounds once.
    expected = z + update
    assert torch.equal(outer_product_mean(m, weights, mask=mask, residual=z), expected)
    out = torch.empty_like(z)
    assert outer_product_mean(m, weights, mask=mask, residual=z, out=out) is out
    assert torch.equal(out, expected)
    outer_product_mean(m, weights, mask=mask, residual=z, out=z)
    assert torch.equal(z, expected)


@pytest.mark.parametrize("sequences", [FEW, MANY])
def test_batch_dimensions_are_looped_over(sequences, weights, draw, draw_mask):
    m, mask = draw(2, 3, sequences, 9, 12), draw_mask(2, 3, sequences, 9)
    result = outer_product_mean(m, weights, mask=mask)
    assert result.shape == (2, 3, 9, 9, 10)
    for b in range(2):
        for c in range(3):
            assert torch.equal(result[b, c], outer_product_mean(m[b, c], weights, mask=mask[b, c]))


@pytest.mark.parametrize("sequences", [FEW, MANY])
def test_views_are_read_and_written_where_they_are(sequences, weights, draw, draw_mask):
    m, mask, residual = draw(sequences, 19, 12), draw_mask(sequences, 19), draw(19, 19, 10)
    expected = outer_product_mean(m, weights, mask=mask, residual=residual)

    def transposed(tensor):
        return tensor.transpose(0, 1).clone().transpose(0, 1)

    memory = torch.full((19, 40, 17), -1.0)
    out = memory[:, 1:39:2, 3:13].transpose(0, 1)
    outer_product_mean(transposed(m), weights, mask=transposed(mask), residual=transposed(residual), out=out)
    assert torch.equal(out, expected)
    out.fill_(-1.0)
    assert (memory == -1.0).all()

    one = m[:, :1].expand(sequences, 19, 12)
    assert torch.equal(outer_product_mean(one, weights), outer_product_mean(one.contiguous(), weights))


@pytest.mark.parametrize("sequences", [1, FEW, MANY, 300])
def test_threads_do_not_change_the_bits(
    sequences, weights, draw, draw_mask, assert_threads_do_not_change_bits
):
    m, mask = draw(sequences, 53, 12), draw_mask(sequences, 53)
    assert_threads_do_not_change_bits(lambda: outer_product_mean(m, weights, mask=mask))


@pytest.mark.parametrize("shape", [(0, 3, 5), (3, 0), (0, 0), (2, 4, 0)])
def test_nothing_gives_nothing(shape, weights):
    m = torch.zeros(*shape, 12)
    expected = (*shape[:-2], shape[-1], shape[-1], 10)
    assert outer_product_mean(m, weights, mask=torch.zeros(shape)).shape == expected


@pytest.mark.parametrize("sequences", [FEW, MANY])
def test_nan_stays_in_the_pairs_of_its_residue(sequences, weights, draw):
    m = draw(sequences, 22, 12)
    expected = outer_product_mean(m, weights)
    m[2, 7, 3] = torch.nan
    result = outer_product_mean(m, weights)
    assert result[7].isnan().all()
    assert result[:, 7].isnan().all()
    result[7], result[:, 7] = expected[7], expected[:, 7]
    assert torch.equal(result, expected)


def test_gradients_come_from_the_torch_reference(weights, draw, draw_mask):
    def function(*tensors):
        m, mask, residual, *parameters = tensors
        return outer_product_mean(m, OuterProductMeanWeights(*parameters), mask=mask, residual=residual)

    parameters = weights.tensors().values()
    tensors = [draw(2, 3, 12), draw_mask(2, 3) + 0.5, draw(3, 3, 10), *parameters]
    wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(function, wide, fast_mode=True)


def test_the_kernel_says_why_it_is_not_taken(weights, draw, environment):
    environment(OPENFOLDPP_BACKEND="native")
    with pytest.raises(BackendError, match=r"outer_product_mean: .*not native: a gradient is needed"):
        outer_product_mean(draw(3, 4, 12).requires_grad_(), weights)
    with pytest.raises(BackendError, match="last dimension of a tensor is not contiguous"):
        outer_product_mean(draw(12, 3, 4).movedim(0, -1), weights)


def test_wrong_tensors_are_refused(weights, draw):
    m = draw(3, 4, 12)
    for keywords, message in [
        ({"mask": torch.ones(4, 3)}, r"mask has shape \[4, 3\]; expected \[3, 4\]"),
        ({"mask": torch.ones(3, 4, dtype=torch.bool)}, r"mask is torch.bool"),
        ({"residual": draw(4, 4, 11)}, r"residual has shape \[4, 4, 11\]; expected \[4, 4, 10\]"),
        ({"out": draw(3, 4, 10)}, r"out has shape \[3, 4, 10\]; expected \[4, 4, 10\]"),
        ({"out": draw(4, 4, 10).double()}, r"out is torch.float64 on cpu; expected torch.float32"),
        ({"out": draw(1, 4, 10).expand(4, 4, 10)}, "share memory"),
    ]:
        with pytest.raises(InputError, match=message):
            outer_product_mean(m, weights, **keywords)
    for wrong, message in [
        (m[0], r"m has shape \[4, 12\]; expected \[\*, N_seq, N_res, C_m\]"),
        (m[..., :11], r"m has shape \[3, 4, 11\]; expected 12 channels"),
        (m.double(), "m is torch.float64"),
        (m.to("meta"), "on meta"),
    ]:
        with pytest.raises(InputError, match=message):
            outer_product_mean(wrong, weights)


def test_weights_that_do_not_fit_each_other_are_refused(weights):
    tensors = weights.tensors()
    for name, tensor in tensors.items():
        wrong = tensor[0] if name == "left" else torch.cat([tensor, tensor], dim=-1)
        with pytest.raises(InputError, match=rf"{name} has shape \[.*\]; expected \["):
            OuterProductMeanWeights(**tensors | {name: wrong})
    with pytest.raises(InputError, match=r"output is torch.float64"):
        OuterProductMeanWeights(**tensors | {"output": weights.output.double()})


def test_the_binding_refuses_what_would_crash(weights, draw):
    kernel, m, out = weights.packed, draw(3, 4, 12).numpy(), draw(4, 4, 10).numpy()
    for arguments, message in [
        ((m[0], None, None, out, 1), r"m has shape \[4, 12\]"),
        ((m[..., :11], None, None, out, 1), "m channels is 11, expected 12"),
        ((m[:, :, ::-1], None, None, out, 1), "m has a last dimension of stride -4"),
        ((m, m[..., 0].T, None, out, 1), "mask rows is 4, expected 3"),
        ((m, None, out[:2], out, 1), "residual rows is 2, expected 4"),
        ((m, None, None, out[:, :3], 1), "out columns is 3, expected 4"),
        ((m, None, None, out[..., :9], 1), "out channels is 9, expected 10"),
        ((m, None, None, out, 0), "threads is 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            kernel(*arguments)
    with pytest.raises(TypeError):
        kernel(m.astype("float64"), None, None, out, 1)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        kernel(m, None, None, out, 1)

    arrays = weights.arrays()
    for name in arrays:
        with pytest.raises(ValueError, match=rf"{name} has shape|hidden is 0|outputs is 0|has shape \["):
            _native.OuterProductMean(**arrays | {name: arrays[name][:0]}, eps=1e-5, eps_mask=1e-3)
    with pytest.raises(ValueError, match="output is not contiguous"):
        _native.OuterProductMean(**arrays | {"output": arrays["output"].T.copy().T}, eps=1e-5, eps_mask=1e-3)
