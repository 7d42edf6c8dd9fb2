"""2-simplicial attention and its gradients: as near to plain loops in float64 as torch's own float32."""

import sys
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad

from openfoldpp import _native
from openfoldpp.errors import BackendError, InputError
from openfoldpp.ops import simplicial_attention
from openfoldpp.ops.simplicial_attention import _simplicial_attention

NAMES = ("q", "k", "k2", "v", "v2", "bias")


@pytest.fixture
def draw_inputs(draw):
    """Return a function that draws q, k, k2, v and v2, ``[*batch, heads, n, channels]``.

    Evenly between -sqrt(3) and sqrt(3). Of normal numbers a product of three is now and then so large that
    one pair has all the weight. Its rounding is then the largest error of either side, and chance says which
    is larger.
    """

    def inputs(n, channels, batch=(), heads=1, kv_heads=1):
        counts = (heads, kv_heads, kv_heads, kv_heads, kv_heads)
        return [3**0.5 * torch.erf(draw(*batch, count, n, channels) / 2**0.5) for count in counts]

    return inputs


def with_gradients(attend, inputs, bias, grad_out, dtype=torch.float32, **keywords):
    """Return the output of an attention and the gradients of its inputs, by name."""
    leaves = [None if x is None else x.detach().to(dtype).requires_grad_() for x in (*inputs, bias)]
    *qkv, bias = leaves
    out = attend(*qkv, bias=bias, **keywords)
    given = [leaf for leaf in leaves if leaf is not None]
    gradients = torch.autograd.grad(out, given, grad_out.to(dtype))
    return {"out": out.detach()} | dict(zip(NAMES, gradients, strict=False))


@pytest.fixture
def assert_as_exact_as_torch(environment, draw, simplicial_attention_by_definition, assert_as_exact_as):
    """Check output and gradients against the loops; the reference is torch's best form, ours in torch."""

    def check(inputs, mask=None, bias=None, window=None):
        given = {"inputs": inputs, "bias": bias, "grad_out": draw(*inputs[0].shape)}
        given |= {"mask": mask, "window": window}
        environment(OPENFOLDPP_BACKEND="native")
        ours = with_gradients(simplicial_attention, **given)
        environment(OPENFOLDPP_BACKEND="torch")
        torchs = with_gradients(simplicial_attention, **given)
        exact = with_gradients(simplicial_attention_by_definition, **given, dtype=torch.float64)
        for name in exact:
            assert_as_exact_as(ours[name], torchs[name], exact[name])

    return check


@pytest.mark.parametrize(
    ("n", "channels"), [(1, 16), (2, 32), (7, 64), (33, 128), (64, 16), (100, 64), (129, 32), (129, 16)]
)
def test_as_exact_as_torch(n, channels, draw_inputs, assert_as_exact_as_torch):
    assert_as_exact_as_torch(draw_inputs(n, channels, batch=(4,), heads=2, kv_heads=2))


@pytest.mark.parametrize("window", [None, (0, 0), (1, 5), (5, 1), (0, None), (None, 5), (40, 7), (5, 10**30)])
def test_windows_masks_biases_and_shared_keys(window, draw, draw_mask, draw_inputs, assert_as_exact_as_torch):
    inputs = draw_inputs(33, 20, batch=(4,), heads=4, kv_heads=2)
    mask = draw_mask(4, 33)
    mask[0] = 0  # nothing to attend to
    assert_as_exact_as_torch(inputs, mask, draw(4, 4, 33, 33), window)


@pytest.mark.parametrize("window", [None, (20, 3)])
def test_a_large_bias_and_logits_that_overflow(window, draw, draw_inputs, assert_as_exact_as_torch):
    inputs = draw_inputs(33, 16, batch=(8,))
    assert_as_exact_as_torch(inputs, bias=draw(8, 1, 33, 33, mean=1e4), window=window)
    assert_as_exact_as_torch([30 * inputs[0], *inputs[1:]], window=window)  # e^logit is infinite


def test_strides_of_every_kind(draw, draw_inputs, assert_as_exact_as_torch):
    n, channels = 21, 8
    inputs = [
        draw(2, n, 3, channels).transpose(1, 2),  # heads inside positions
        draw(2, 1, channels, n).mT,  # channels apart
        draw(2, 1, 2 * n, channels)[:, :, ::2],  # every second row
        draw(1, 1, n, channels).expand(2, 1, n, channels),  # one row for both
        draw(2, 1, 1, channels).expand(2, 1, n, channels),  # one vector for all positions
    ]
    mask = (draw(n, 2) > -0.5).float().T
    assert_as_exact_as_torch(inputs, mask, draw(n, 2, 3, n).permute(1, 2, 3, 0))
    assert_as_exact_as_torch(inputs, mask.bool(), draw(1, 1, 1, n).expand(2, 3, n, n), (4, 9))


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], ids=str)
def test_torchs_defaults_do_not_matter(default, draw, draw_inputs):
    inputs = draw_inputs(9, 8)
    given = {"inputs": inputs, "bias": draw(1, 9, 9), "grad_out": draw(1, 9, 8)}
    expected = with_gradients(simplicial_attention, **given)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(default)
        with torch.device("meta"):
            found = with_gradients(simplicial_attention, **given)
    finally:
        torch.set_default_dtype(before)
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def test_the_output_of_the_native_kernel_may_be_changed_in_place(draw_inputs):
    q, *others = (x.requires_grad_() for x in draw_inputs(9, 8))
    simplicial_attention(q, *others).mul_(2).sum().backward()
    twice, q.grad = q.grad, None
    simplicial_attention(q, *others).sum().backward()
    assert torch.equal(twice, 2 * q.grad)


def test_any_batch_dimensions(draw, draw_inputs):
    inputs = draw_inputs(9, 4, batch=(2, 3), heads=2)
    mask, bias = (draw(2, 3, 9) > 0).float(), draw(2, 3, 2, 9, 9)
    whole = simplicial_attention(*inputs, mask, bias)
    for b in [(0, 0), (1, 2)]:
        assert torch.equal(whole[b], simplicial_attention(*(x[b] for x in inputs), mask[b], bias[b]))


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_a_query_without_pairs_gets_zeros_and_gives_no_gradient(backend, environment, draw, draw_inputs):
    environment(OPENFOLDPP_BACKEND=backend)
    inputs = draw_inputs(12, 8)
    mask = torch.ones(12)
    mask[:6] = 0
    bias = draw(1, 12, 12)
    bias[:, 11] = -torch.inf
    found = with_gradients(simplicial_attention, inputs, bias, torch.ones(1, 12, 8), mask=mask, window=(2, 3))
    nothing = [0, 1, 2, 3, 11]  # too far from the keys, and shut out by the bias
    assert (found["out"][0].abs().sum(dim=-1) == 0).nonzero().flatten().tolist() == nothing
    assert not found["q"][0, nothing].any()
    assert not found["bias"][0, nothing].any()
    for name in ("k", "k2", "v", "v2"):
        assert not found[name][0, :6].any()
        assert found[name].isfinite().all()


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_what_a_masked_key_holds_does_not_matter(backend, environment, draw_inputs):
    environment(OPENFOLDPP_BACKEND=backend)
    inputs = draw_inputs(12, 8)
    mask = torch.ones(12)
    mask[[0, 5, 11]] = 0
    given = {"bias": None, "grad_out": torch.ones(1, 12, 8), "mask": mask}
    expected = with_gradients(simplicial_attention, inputs, **given)
    for tensor in inputs[1:]:
        tensor[:, [0, 5, 11]] = torch.nan
    found = with_gradients(simplicial_attention, inputs, **given)
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


@pytest.mark.parametrize("window", [None, (3, 1)])
def test_gradients_of_the_torch_backend_by_differences(window, draw, draw_inputs):
    inputs = [x.double().requires_grad_() for x in draw_inputs(6, 3, heads=2)]
    bias = draw(2, 6, 6).double().requires_grad_()
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0, 0.0]).double()

    def attend(*tensors):
        return simplicial_attention(*tensors[:5], mask, tensors[5], window)

    assert torch.autograd.gradcheck(attend, (*inputs, bias))
    assert torch.autograd.gradgradcheck(attend, (*inputs, bias))


def test_threads_do_not_change_the_bits(draw, draw_mask, draw_inputs, assert_threads_do_not_change_bits):
    for inputs, window in ((draw_inputs(70, 16, (2,), 4, 2), None), (draw_inputs(200, 16), (9, 30))):
        mask = draw_mask(*inputs[0].shape[:-3], inputs[0].shape[-2])
        bias, grad_out = draw(*inputs[0].shape[:-1], inputs[0].shape[-2]), draw(*inputs[0].shape)

        def flat(inputs=inputs, mask=mask, bias=bias, grad_out=grad_out, window=window):
            found = with_gradients(simplicial_attention, inputs, bias, grad_out, mask=mask, window=window)
            return torch.cat([tensor.flatten() for tensor in found.values()])

        assert_threads_do_not_change_bits(flat)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_memory_does_not_grow_with_the_cube(draw_inputs):
    inputs = [x.requires_grad_() for x in draw_inputs(512, 16)]

    def peak():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

    simplicial_attention(*(x[:, :16] for x in inputs)).sum().backward()  # libraries and threads are loaded
    Path("/proc/self/clear_refs").write_text("5")  # the largest so far becomes the present one
    before = peak()
    simplicial_attention(*inputs).sum().backward()
    assert peak() - before < 64e6  # the logits would be 512 MiB


def test_empty_tensors_stay_empty():
    for shape in ((0, 2, 5, 4), (2, 2, 0, 4)):
        q = torch.zeros(shape, requires_grad=True)
        out = simplicial_attention(*(q,) * 5, torch.ones(shape[0], shape[2]))
        assert out.shape == shape
        out.sum().backward()
        assert q.grad.shape == shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_the_float32_result_rounded(dtype, environment, draw_inputs):
    environment(OPENFOLDPP_BACKEND="torch")
    inputs = [x.to(dtype) for x in draw_inputs(17, 8)]
    result = simplicial_attention(*inputs)
    expected = simplicial_attention(*(x.float() for x in inputs))
    assert torch.equal(result, expected.to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(simplicial_attention(*(x.float() for x in inputs)), expected)


def test_the_reason_for_a_backend_is_told(environment, draw_inputs):
    inputs = draw_inputs(5, 4)

    def choose(*tensors):
        return str(_simplicial_attention.choose(*(x[None] for x in tensors), None, None, (None, None)))

    assert choose(*inputs).startswith(f"simplicial_attention: native ({_native.simd_level()}, ")
    reason = choose(*(x.double() for x in inputs))
    assert reason.startswith(
        "simplicial_attention: torch (torch reference; not native: a tensor is torch.float64"
    )
    assert "; not cuda: " in reason
    assert "; not triton: " in reason
    environment(OPENFOLDPP_BACKEND="triton")
    with pytest.raises(
        BackendError, match=r"OPENFOLDPP_BACKEND=triton leaves no backend: not native: not asked"
    ):
        simplicial_attention(*inputs)


# torch compiles its own rules for tangents with torch.jit.script when it makes the first one.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_transforms_of_torch_go_to_torch(draw_inputs):
    inputs = draw_inputs(5, 4)
    mapped = torch.func.vmap(simplicial_attention)(*(x.expand(3, *x.shape) for x in inputs))
    assert torch.allclose(mapped[1], simplicial_attention(*inputs), atol=1e-6)
    q, *others = inputs
    with forward_ad.dual_level():
        dual = simplicial_attention(forward_ad.make_dual(q, torch.ones_like(q)), *others)
        assert forward_ad.unpack_dual(dual).tangent is not None


def test_a_second_derivative_of_a_kernel_is_an_error(draw_inputs):
    inputs = [x.requires_grad_() for x in draw_inputs(5, 4)]
    (first,) = torch.autograd.grad(simplicial_attention(*inputs).sum(), inputs[0], create_graph=True)
    with pytest.raises(
        BackendError, match="a first derivative alone; in float64, or with OPENFOLDPP_BACKEND=torch"
    ):
        (first.sum() + inputs[0].sum()).backward()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": [[1.0]]}, "q is list; expected a floating-point tensor"),
        ({"q": torch.zeros(6, 4)}, r"q has shape \[6, 4\]; expected \[\*, H, N, d\]"),
        ({"k": torch.zeros(2, 6, 4, dtype=torch.int64)}, "k is torch.int64"),
        ({"k2": torch.zeros(2, 5, 4)}, r"k2 has shape \[2, 5, 4\]; expected \[2, 6, 4\]"),
        ({"v": torch.zeros(1, 6, 4)}, r"v has shape \[1, 6, 4\]; expected \[2, 6, 4\]"),
        ({"v2": torch.zeros(2, 6, 4).double()}, "v2 is torch.float64"),
        ({"q": torch.zeros(3, 6, 4)}, r"q has shape \[3, 6, 4\] and k \[2, 6, 4\]; expected 1 channel"),
        ({"mask": torch.ones(5)}, r"mask has shape \[5\]; expected \[6\]"),
        ({"mask": torch.ones(6).int()}, "mask is torch.int32"),
        ({"bias": torch.zeros(2, 6, 6)}, r"bias has shape \[2, 6, 6\]; expected \[4, 6, 6\]"),
        ({"window": (1, -1)}, r"window is \(1, -1\); expected 0 or more"),
        ({"window": 3}, "window is 3; expected None or two whole numbers"),
        ({"window": (1.5, 2)}, r"window is \(1.5, 2\); expected None or two"),
        ({"window": (1, 2, 3)}, r"window is \(1, 2, 3\); expected None or two"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    arguments = {"q": torch.zeros(4, 6, 4)} | {name: torch.zeros(2, 6, 4) for name in NAMES[1:5]}
    with pytest.raises(InputError, match=message):
        simplicial_attention(**(arguments | changes))


def test_bindings_refuse_what_does_not_fit():
    q, k = torch.zeros(1, 2, 6, 4).numpy(), torch.zeros(1, 1, 6, 4).numpy()
    out, statistics = torch.zeros(1, 2, 6, 4).numpy(), torch.zeros(1, 2, 6, 2).numpy()

    def forward(
        q=q, k=k, mask=None, bias=None, window=(None, None), out=out, statistics=statistics, threads=1
    ):
        _native.simplicial_attention_forward(q, k, k, k, k, mask, bias, window, out, statistics, threads)

    forward()
    for changes, message in (
        ({"q": q[0]}, r"q has shape \[2, 6, 4\]"),
        ({"q": q[..., ::2], "k": k[..., :2]}, "q has a last dimension of stride 8 bytes"),
        ({"k": k[:, :, :5]}, r"k has shape \[1, 1, 5, 4\], expected \[1, \*, 6, 4\]"),
        ({"mask": k[0, 0]}, r"mask has shape \[6, 4\], expected \[1, 6\]"),
        ({"bias": q}, r"bias has shape \[1, 2, 6, 4\], expected \[1, 2, 6, 6\]"),
        ({"window": (None, -3)}, "window's second is -3"),
        ({"statistics": statistics[..., :1]}, r"statistics has shape"),
        ({"threads": 0}, "threads is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            forward(**changes)
    with pytest.raises(TypeError):
        forward(q=q.astype("float64"))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        forward(out=out)
