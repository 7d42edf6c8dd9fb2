"""The softmax ops against float64: every size, dtype, level, thread count and kind of mask."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch.autograd import forward_ad

from openfoldpp import _native
from openfoldpp.errors import BackendError, InputError
from openfoldpp.ops import explain, softmax_, softmax_backward_

SIZES = [1, 7, 16, 17, 63, 64, 65, 130, 257, 1000]
DTYPES = [torch.float32, torch.bfloat16]


def draw_logits(cols, dtype, rows=33):
    """Attention logits of several scales, with the biases that OpenFold's masks add."""
    generator = torch.Generator().manual_seed(cols)
    logits = torch.randn(3, rows, cols, generator=generator) * torch.tensor([1.0, 30.0, 0.01])[:, None, None]
    masked = torch.rand(3, rows, cols, generator=generator) < 0.3
    logits[0] += 1e4
    logits[1] += torch.where(masked[1], -1e9, 0.0)
    logits[2, : rows // 2] += -1e9  # whole rows masked
    logits[2, rows // 2 :, 0] = 0.0  # one finite entry at least
    logits[2, rows // 2 :, 1:] = logits[2, rows // 2 :, 1:].masked_fill(
        masked[2, rows // 2 :, 1:], -torch.inf
    )
    return logits.to(dtype)


def draw_attention(queries, keys, channels, dtype, batch=(2, 3)):
    generator = torch.Generator().manual_seed(queries * 1000 + keys)
    logits = 3 * torch.randn(*batch, queries, keys, generator=generator)
    grad_out = torch.randn(*batch, queries, channels, generator=generator)
    values = torch.randn(*batch, keys, channels, generator=generator)
    return logits.softmax(dim=-1).to(dtype), grad_out.to(dtype), values.to(dtype)


def reference_gradient(p, grad_out, values):
    dp = grad_out @ values.transpose(-1, -2)
    return p * (dp - (p * dp).sum(dim=-1, keepdim=True))


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cols", SIZES)
def test_forward_is_as_exact_as_torch(cols, dtype, backend, environment, assert_as_exact_as):
    environment(OPENFOLDPP_BACKEND=backend)
    logits = draw_logits(cols, dtype)
    exact, torchs = logits.double().softmax(dim=-1), logits.softmax(dim=-1)
    result = softmax_(logits)
    assert result is logits
    assert_as_exact_as(logits, torchs, exact)
    assert (logits[exact < 1e-50] == 0).all()  # masked entries are exactly zero


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("keys", SIZES)
def test_backward_is_as_exact_as_torch(keys, dtype, backend, environment, assert_as_exact_as):
    environment(OPENFOLDPP_BACKEND=backend)
    p, grad_out, values = draw_attention(5, keys, 19, dtype)
    exact = reference_gradient(p.double(), grad_out.double(), values.double())
    torchs = reference_gradient(p, grad_out, values)
    result = softmax_backward_(p, grad_out, values)
    assert result is p
    assert_as_exact_as(p, torchs, exact)


@pytest.mark.parametrize("channels", [1, 8, 32, 64])
def test_backward_of_any_number_of_channels(channels, assert_as_exact_as):
    p, grad_out, values = draw_attention(40, 40, channels, torch.float32)
    exact = reference_gradient(p.double(), grad_out.double(), values.double())
    torchs = reference_gradient(p, grad_out, values)
    assert_as_exact_as(softmax_backward_(p, grad_out, values), torchs, exact)


def test_rows_without_an_answer_are_nan_as_with_torch():
    infinity = torch.inf
    for row in (
        [-infinity] * 20,
        [0.0] * 19 + [infinity],
        [torch.nan] + [0.0] * 19,
        [0.0] * 19 + [torch.nan],
    ):
        logits = torch.tensor([row, [0.0] * 20])
        expected = logits.softmax(dim=-1)
        assert torch.equal(softmax_(logits).isnan(), expected.isnan()), row
        assert torch.equal(logits[1], expected[1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_threads_do_not_change_the_bits(dtype, assert_threads_do_not_change_bits):
    logits = draw_logits(257, dtype, rows=401)
    p, grad_out, values = draw_attention(130, 257, 32, dtype)
    assert_threads_do_not_change_bits(lambda: softmax_(logits.clone()))
    assert_threads_do_not_change_bits(lambda: softmax_backward_(p.clone(), grad_out, values))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (2, 0, 3)])
def test_empty_tensors_stay_empty(shape):
    assert softmax_(torch.zeros(shape)).shape == shape


def test_tensors_that_the_kernel_cannot_take_go_to_torch():
    strided = torch.randn(4, 6).t()
    expected = strided.softmax(dim=-1)
    choice = explain(strided)
    assert choice.backend.name == "torch"
    assert "not native: a tensor is not contiguous" in choice.reason
    assert torch.equal(softmax_(strided), expected)
    assert explain(torch.zeros(2, dtype=torch.float64)).backend.name == "torch"


def test_a_slice_of_a_tensor_leaves_the_rest_alone():
    whole = torch.randn(4, 3, 5)
    before = whole.clone()
    softmax_(whole[1])
    assert torch.equal(whole[[0, 2, 3]], before[[0, 2, 3]])
    assert torch.allclose(whole[1], before[1].softmax(dim=-1))


def test_explain_names_level_and_threads(environment):
    environment(OPENFOLDPP_NUM_THREADS="3", OPENFOLDPP_BACKEND="native")
    assert (
        str(explain()) == f"softmax_: native ({_native.simd_level()}, 3 threads; OPENFOLDPP_BACKEND=native)"
    )


def test_a_refusal_lists_the_reason_of_every_backend(environment):
    environment(OPENFOLDPP_BACKEND="native")
    with pytest.raises(BackendError, match=r"not native: .*float64.*not cuda: .*not torch: not asked for"):
        softmax_(torch.zeros(2, 2, dtype=torch.float64))


@pytest.mark.skipif(hasattr(_native, "cuda_softmax_forward"), reason="this build has the CUDA kernels")
def test_cuda_is_refused_where_the_build_lacks_it(environment):
    environment(OPENFOLDPP_BACKEND="cuda")
    with pytest.raises(BackendError, match=r"not cuda: this build has no CUDA kernels.*OPENFOLDPP_CUDA=ON"):
        softmax_(torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.zeros(2, 2, dtype=torch.int64), "int64"),
        (torch.tensor(1.0), r"logits has shape \[\]; expected \[\*, N\]"),
        ([1.0], "list"),
        (torch.zeros(2, 2, requires_grad=True), "requires grad"),
    ],
)
def test_wrong_logits_are_refused(logits, message):
    with pytest.raises(InputError, match=message):
        softmax_(logits)


def test_wrong_attention_is_refused():
    p, grad_out, values = draw_attention(5, 7, 4, torch.float32)
    for wrong in ((p, grad_out[..., :3], values), (p, grad_out, values[:, :1]), (p, grad_out[0], values)):
        with pytest.raises(InputError, match="shapes do not fit"):
            softmax_backward_(*wrong)
    with pytest.raises(InputError, match=r"values is torch.float64"):
        softmax_backward_(p, grad_out, values.double())
    with pytest.raises(InputError, match="on meta"):
        softmax_backward_(p, grad_out.to("meta"), values)


def test_bindings_refuse_what_they_would_have_to_copy():
    array = torch.zeros(4, 6).numpy()
    for wrong in (array.T, array[None]):
        with pytest.raises(ValueError, match=r"contiguous|dimensions"):
            _native.softmax_forward(wrong, 1)
    with pytest.raises(TypeError):
        _native.softmax_forward(array.astype("float64"), 1)
    with pytest.raises(ValueError, match="threads is 0"):
        _native.softmax_forward(array, 0)
    array.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        _native.softmax_forward(array, 1)
    with pytest.raises(ValueError, match="shapes do not fit"):
        _native.softmax_backward(
            *(torch.zeros(shape).numpy() for shape in [(1, 2, 3), (1, 2, 4), (1, 4, 4)]), 1
        )


# torch compiles its own rules for tangents with torch.jit.script when it makes the first one.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_a_tangent_goes_along():
    x, tangent = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(7))
    with forward_ad.dual_level():
        expected = forward_ad.unpack_dual(torch.softmax(forward_ad.make_dual(x, tangent), dim=-1)).tangent
        ours = softmax_(forward_ad.make_dual(x.clone(), tangent))
        assert torch.equal(forward_ad.unpack_dual(ours).tangent, expected)


def test_autograd_notices_a_saved_tensor_that_was_changed():
    x = torch.randn(3, 4, requires_grad=True)
    y = x.exp()  # saves its result for backward
    with torch.no_grad():
        softmax_(y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("level", ["sse9", "neon", "avx2"])
def test_a_level_that_cannot_run_is_an_error(level):
    if level in _native.available_simd_levels():
        pytest.skip(f"this CPU has {level}")
    program = (
        "import json, torch\n"
        "from openfoldpp.errors import ConfigError\n"
        "from openfoldpp.ops import softmax_\n"
        "try: softmax_(torch.zeros(2, 2))\n"
        "except ConfigError as error: print(json.dumps(str(error)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=os.environ | {"OPENFOLDPP_SIMD": level},
        capture_output=True,
        text=True,
    )
    message = json.loads(run.stdout)
    assert f"OPENFOLDPP_SIMD={level}" in message
    assert "scalar" in message
