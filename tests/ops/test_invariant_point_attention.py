"""Invariant point attention against upstream's own module, in float32 and in a float64 copy."""

import dataclasses

import numpy as np
import pytest
import torch

from openfoldpp import _native
from openfoldpp.errors import InputError
from openfoldpp.ops.invariant_point_attention import (
    InvariantPointAttentionWeights,
    _invariant_point_attention,
    invariant_point_attention,
)

SIZES = [1, 7, 63, 64, 65, 130, 257]
# Channels of s and z, head channels, heads, points of queries and of values.
SMALL = (12, 10, 5, 3, 2, 3)
REAL = (384, 128, 16, 12, 4, 8)
LAYERS = {
    "query": "linear_q",
    "key_value": "linear_kv",
    "query_point": "linear_q_points",
    "key_value_point": "linear_kv_points",
    "pair": "linear_b",
    "output": "linear_out",
}


def layers_of(module, names):
    """Parameters of upstream's layers under our names; 2.x wraps the point layers."""
    tensors = {}
    for ours, theirs in names.items():
        layer = getattr(module, theirs)
        for name, parameter in getattr(layer, "linear", layer).named_parameters():
            tensors[ours if name == "weight" else f"{ours}_bias"] = parameter
    return tensors | {"head_weights": module.head_weights}


def weights_of(module):
    return InvariantPointAttentionWeights(**layers_of(module, LAYERS), eps=module.eps)


@pytest.fixture
def build(upstream, randomise):
    """Return a function that makes upstream's module with random parameters."""
    return lambda sizes=SMALL: randomise(upstream("model.structure_module").InvariantPointAttention(*sizes))


@pytest.fixture
def draw_inputs(draw):
    """Return a function that draws s, z, rotations and translations for a module."""

    def inputs(module, *residues, spread=3.0, center=0.0):
        rotations, _ = torch.linalg.qr(draw(*residues, 3, 3))
        rotations = rotations * torch.linalg.det(rotations)[..., None, None]  # no mirror images
        z = draw(*residues, residues[-1], module.c_z, mean=0.5)
        return draw(*residues, module.c_s), z, rotations, draw(*residues, 3, scale=spread, mean=center)

    return inputs


@pytest.fixture
def run_upstream(upstream):
    """Return a function that runs upstream's module in the dtype of its inputs."""
    geometry = upstream("utils.rigid_utils")

    def run(module, s, z, rotations, translations, mask):
        frames = geometry.Rigid(geometry.Rotation(rot_mats=rotations), translations)
        return module.to(s.dtype)(s, z, frames, mask)

    return run


@pytest.fixture
def check(run_upstream, assert_as_exact_as):
    """Hold the op to the rule of exactness, apart for rows masked whole: inf leaves these little."""

    def run(module, inputs, mask=None):
        ours = invariant_point_attention(*inputs, weights_of(module), mask=mask, inf=module.inf)
        counted = inputs[0].new_ones(inputs[0].shape[:-1]) if mask is None else mask
        theirs = run_upstream(module, *inputs, counted)
        exact = run_upstream(module, *(tensor.double() for tensor in (*inputs, counted)))
        module.float()
        for rows in (counted > 0, counted == 0):
            if rows.any():
                assert_as_exact_as(ours[rows], theirs[rows], exact[rows])

    return run


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("residues", SIZES)
def test_error_is_at_most_twice_upstreams(
    residues, backend, environment, check, build, draw_inputs, draw_mask
):
    environment(OPENFOLDPP_BACKEND=backend)
    module = build()
    inputs = draw_inputs(module, residues)
    check(module, inputs)
    check(module, inputs, torch.rand(residues, generator=torch.Generator().manual_seed(2)).round())
    check(module, inputs, torch.zeros(residues))


@pytest.mark.parametrize(
    "sizes", [REAL, (1, 1, 1, 1, 1, 1), (33, 17, 3, 2, 5, 1), (40, 70, 18, 17, 1, 7)], ids=str
)
@pytest.mark.parametrize("residues", [9, 130])
def test_any_number_of_channels_heads_and_points(residues, sizes, check, build, draw_inputs, draw_mask):
    module = build(sizes)
    check(module, draw_inputs(module, residues), draw_mask(residues))


def test_large_logits(check, build, draw_inputs, draw_mask):
    module = build()
    for layer in (module.linear_q, module.linear_b):
        layer.weight *= 30
    check(module, draw_inputs(module, 70, spread=30.0), draw_mask(70))


def test_far_from_the_origin(check, build, draw_inputs):
    module = build()
    check(module, draw_inputs(module, 130, center=500.0))


def test_points_at_the_origin_have_the_norm_that_eps_gives(check, build, draw_inputs):
    module = build()
    module.eps = 1e-2
    points = layers_of(module, LAYERS)
    points["key_value_point"].zero_()
    points["key_value_point_bias"].zero_()
    check(module, draw_inputs(module, 20, spread=0.0))


def test_a_mask_may_be_a_fraction(check, build, draw_inputs):
    module = build()
    module.inf = 5.0
    check(module, draw_inputs(module, 20), torch.linspace(0.1, 1.0, 20))


@pytest.mark.parametrize("batch", [(1,), (2, 3)])
def test_leading_dimensions(batch, check, build, draw_inputs, draw_mask):
    module = build()
    check(module, draw_inputs(module, *batch, 19), draw_mask(*batch, 19))


def test_views_of_any_strides(build, draw_inputs, draw_mask):
    module = build()
    weights = weights_of(module)
    s, z, rotations, translations = draw_inputs(module, 2, 19)
    mask = draw_mask(2, 19)
    expected = invariant_point_attention(s, z, rotations, translations, weights, mask=mask)
    spaced = torch.zeros(19, 2, 30)
    spaced[..., 11:23] = s.transpose(0, 1)
    views = (
        spaced[..., 11:23].transpose(0, 1),
        z.transpose(1, 2).contiguous().transpose(1, 2),
        rotations.mT.contiguous().mT,
        translations.movedim(-1, 0).contiguous().movedim(0, -1),
    )
    strided = {name: tensor.t().clone().t() for name, tensor in weights.tensors().items() if tensor.ndim > 1}
    turned_mask = mask.t().contiguous().t()
    result = invariant_point_attention(*views, dataclasses.replace(weights, **strided), mask=turned_mask)
    assert torch.equal(result, expected)


def test_threads_do_not_change_the_bits(assert_threads_do_not_change_bits, build, draw_inputs, draw_mask):
    module = build()
    weights, inputs, mask = weights_of(module), draw_inputs(module, 131), draw_mask(131)
    assert_threads_do_not_change_bits(lambda: invariant_point_attention(*inputs, weights, mask=mask))


def test_nan_spreads_as_upstreams(run_upstream, build, draw_inputs):
    module = build()
    s, z, rotations, translations = draw_inputs(module, 20)
    z[4, 7, 2] = torch.nan
    ours = invariant_point_attention(s, z, rotations, translations, weights_of(module))
    theirs = run_upstream(module, s, z, rotations, translations, torch.ones(20))
    assert torch.equal(ours.isnan(), theirs.isnan())
    assert ours[4].isnan().all()
    assert not ours[:4].isnan().any()


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_no_residues_give_an_empty_result(shape, build, draw_inputs):
    module = build()
    s, z = torch.zeros(*shape, 12), torch.zeros(*shape, shape[-1], 10)
    result = invariant_point_attention(
        s, z, torch.zeros(*shape, 3, 3), torch.zeros(*shape, 3), weights_of(module), mask=torch.zeros(shape)
    )
    assert result.shape == s.shape


def test_a_gradient_comes_from_the_reference(build, draw_inputs, in_float64):
    module = build((3, 2, 2, 2, 1, 1))
    weights = in_float64(weights_of(module))
    names = list(weights.tensors())
    mask = torch.tensor([1, 1, 0, 1], dtype=torch.float64)

    def run(s, z, rotations, translations, *tensors):
        given = dataclasses.replace(weights, **dict(zip(names, tensors, strict=True)))
        return invariant_point_attention(s, z, rotations, translations, given, mask=mask, inf=10.0)

    tensors = [*(tensor.double() for tensor in draw_inputs(module, 4)), *weights.tensors().values()]
    assert torch.autograd.gradcheck(run, [tensor.detach().requires_grad_() for tensor in tensors])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.double(), "a tensor is torch.float64, expected float32"),
        (lambda s: s.t().contiguous().t(), "the last dimension of a tensor is not contiguous"),
        (lambda s: s.requires_grad_(), "a gradient is needed"),
        (lambda s: s.to("meta"), "a tensor is on meta, expected cpu"),
    ],
)
def test_what_the_kernel_cannot_take_goes_to_torch(change, reason, build, draw_inputs):
    module = build()
    s, *others = draw_inputs(module, 5)
    s = change(s)
    others = [tensor.to(s.device, s.dtype) for tensor in others]
    weights = weights_of(module)
    tensors = {name: tensor.to(s.device, s.dtype) for name, tensor in weights.tensors().items()}
    weights = dataclasses.replace(weights, **tensors)
    choice = _invariant_point_attention.choose(s, *others, weights, None, 1e5)
    assert choice.backend.name == "torch"
    assert f"not native: {reason}" in choice.reason
    assert invariant_point_attention(s, *others, weights).shape == s.shape


def test_weights_are_packed_once(build):
    weights = weights_of(build())
    assert weights.packed is weights.packed


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("s", (5, 13), r"s has shape \[5, 13\]; expected 12 channels"),
        ("s", (12,), r"s has shape \[12\]; expected \[\*, N_res, C_s\]"),
        ("z", (5, 5, 11), r"z has shape \[5, 5, 11\]; expected \[5, 5, 10\]"),
        ("z", (4, 5, 10), "z has shape"),
        ("rotations", (5, 4), r"rotations has shape \[5, 4\]; expected \[5, 3, 3\]"),
        ("translations", (4, 3), r"translations has shape \[4, 3\]; expected \[5, 3\]"),
        ("mask", (5, 5), r"mask has shape \[5, 5\]; expected \[5\]"),
    ],
)
def test_wrong_shapes_are_refused(name, shape, message, build, draw_inputs):
    module = build()
    arguments = dict(zip(("s", "z", "rotations", "translations"), draw_inputs(module, 5), strict=True))
    with pytest.raises(InputError, match=message):
        invariant_point_attention(weights=weights_of(module), **(arguments | {name: torch.zeros(shape)}))


def test_wrong_dtypes_are_refused(build, draw_inputs):
    module = build()
    s, z, rotations, translations = draw_inputs(module, 5)
    with pytest.raises(InputError, match=r"rotations is torch\.float64 on cpu; expected torch\.float32"):
        invariant_point_attention(s, z, rotations.double(), translations, weights_of(module))
    with pytest.raises(InputError, match=r"mask is torch\.bool"):
        invariant_point_attention(
            s, z, rotations, translations, weights_of(module), mask=torch.ones(5, dtype=torch.bool)
        )


def test_wrong_weights_are_refused(build, draw):
    weights = weights_of(build())
    for changes, message in [
        ({"pair": draw(4, 10)}, "query has 15 outputs; expected a multiple of 4, for pair has 4 heads"),
        ({"pair": draw(0, 10)}, "expected a multiple of 0"),
        ({"query_point": draw(17, 12)}, "query_point has 17 outputs; expected a multiple of 9"),
        ({"key_value_point": draw(18, 12)}, "key_value_point has 2 points for each head; expected more"),
        ({"key_value": draw(29, 12)}, r"key_value has shape \[29, 12\]; expected \[30, 12\]"),
        ({"output": draw(12, 80)}, r"output has shape \[12, 80\]; expected \[12, 81\]"),
        ({"pair_bias": draw(3).double()}, "pair_bias is torch.float64"),
        ({"head_weights": draw(4)}, r"head_weights has shape \[4\]; expected \[3\]"),
    ]:
        with pytest.raises(InputError, match=message):
            dataclasses.replace(weights, **changes)


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("s", zeros(5, 12, dtype=np.float64), TypeError, "incompatible function arguments"),
        ("s", zeros(5, 24)[:, ::2], ValueError, "s has a last dimension of stride 8"),
        ("s", zeros(5, 11), ValueError, "s channels is 11, expected 12"),
        ("s", zeros(1, 5, 12), ValueError, r"s has shape \[1, 5, 12\]"),
        ("z", zeros(5, 4, 10), ValueError, "z columns is 4, expected 5"),
        ("z", zeros(5, 5, 20)[..., ::2], ValueError, "z has a last dimension of stride 8"),
        ("rotations", zeros(3, 3, 5).T, ValueError, "rotations is not contiguous"),
        ("translations", zeros(4, 3), ValueError, r"translations has shape \[4, 3\], expected \[5, 3\]"),
        ("mask", zeros(4), ValueError, r"mask has shape \[4\], expected \[5\]"),
        ("mask", zeros(5, dtype=bool), TypeError, "incompatible function arguments"),
        ("out", zeros(5, 11), ValueError, "out channels is 11, expected 12"),
        ("out", zeros(4, 12), ValueError, r"out has shape \[4, 12\]"),
        ("out", np.frombuffer(bytes(240), np.float32).reshape(5, 12), ValueError, "writeable"),
        ("threads", 0, ValueError, "threads is 0"),
    ],
)
def test_bindings_refuse_what_they_cannot_take(name, value, error, message, build):
    arguments = {
        "s": zeros(5, 12),
        "z": zeros(5, 5, 10),
        "rotations": zeros(5, 3, 3),
        "translations": zeros(5, 3),
        "mask": None,
        "inf": 1e5,
        "out": zeros(5, 12),
        "threads": 1,
    }
    with pytest.raises(error, match=message):
        weights_of(build()).packed(**(arguments | {name: value}))


def test_bindings_refuse_weights_that_do_not_fit(build):
    arrays = weights_of(build()).arrays()
    for changes, message in [
        ({"pair": arrays["pair"][:0]}, "expected a multiple of 0"),
        ({"query": arrays["query"][1:]}, "query has 14 outputs, expected a multiple of 3"),
        (
            {"query_point": zeros(0, 12), "query_point_bias": zeros(0), "output": zeros(12, 105)},
            "query_points is 0",
        ),
        (
            {"key_value_point": zeros(9, 12), "key_value_point_bias": zeros(9), "output": zeros(12, 33)},
            "value_points is -1",
        ),
        ({"output": arrays["output"].T}, r"output has shape \[81, 12\], expected \[12, 81\]"),
        ({"head_weights": zeros(4)}, r"head_weights has shape \[4\], expected \[3\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            _native.InvariantPointAttention(**(arrays | changes), eps=1e-8)


@pytest.mark.upstream
def test_upstreams_multimer_module_is_served_too(
    upstream, randomise, draw_inputs, draw_mask, assert_as_exact_as
):
    module = randomise(upstream("model.structure_module").InvariantPointAttentionMultimer(*SMALL))
    names = {
        "query": "linear_q", "key": "linear_k", "value": "linear_v", "query_point": "linear_q_points",
        "key_point": "linear_k_points", "value_point": "linear_v_points", "pair": "linear_b",
        "output": "linear_out",
    }  # fmt: skip
    weights = InvariantPointAttentionWeights.from_multimer(**layers_of(module, names))
    s, z, rotations, translations = draw_inputs(module, 65)
    mask = draw_mask(65)
    geometry = upstream("utils.geometry.rigid_matrix_vector")

    def run(dtype):
        tensors = [tensor.to(dtype) for tensor in (s, z, rotations, translations, mask)]
        frames = geometry.Rigid3Array(
            geometry.rotation_matrix.Rot3Array.from_array(tensors[2]),
            geometry.vector.Vec3Array.from_array(tensors[3]),
        )
        return module.to(dtype)(tensors[0], tensors[1], frames, tensors[4])

    ours = invariant_point_attention(
        s, z, rotations, translations, weights, mask=mask, inf=module.inf / 3**0.5
    )
    theirs, exact = run(torch.float32), run(torch.float64)
    for rows in (mask > 0, mask == 0):
        assert_as_exact_as(ours[rows], theirs[rows], exact[rows])


def test_multimer_weights_that_do_not_fit_are_refused(draw):
    layers = {name: draw(6, 4) for name in ("query", "key", "value")}
    for name in ("query_point", "key_point", "value_point"):
        layers |= {name: draw(12, 4), f"{name}_bias": draw(12)}
    others = {"pair": draw(2, 3), "pair_bias": draw(2), "output": draw(4, 28), "output_bias": draw(4)}
    given = layers | others | {"head_weights": draw(2)}
    assert InvariantPointAttentionWeights.from_multimer(**given).value_points == 2
    for changes, message in [
        ({"key": draw(5, 4)}, "key has 5 outputs; expected a multiple of 2"),
        ({"value_point": draw(13, 4)}, "value_point has 13 outputs; expected a multiple of 6"),
        ({"query": draw(4, 4)}, r"key_value has shape \[12, 4\]; expected \[8, 4\]"),
    ]:
        with pytest.raises(InputError, match=message):
            InvariantPointAttentionWeights.from_multimer(**(given | changes))
