"""The compositor: the module against plain loops, and the kernel against the module."""

import copy
import itertools
import math
import pickle

import pytest
import torch

from openfoldpp import _native
from openfoldpp.errors import BackendError, InputError
from openfoldpp.motifs import Compositor, CompositorSizes
from openfoldpp.motifs.compositor import _compositor, relative_offsets

DEFAULT = CompositorSizes()
SMALL = CompositorSizes(
    channels=12, heads=3, head_channels=5, hidden=7, rank=3, pair_channels=10, max_offset=2, window_k=3
)
BOTH_WINDOWS = CompositorSizes(
    channels=17,
    blocks=1,
    heads=1,
    head_channels=16,
    rank=4,
    pair_channels=1,
    max_offset=0,
    window_j=1,
    window_k=0,
)
NO_WINDOW = CompositorSizes(channels=33, blocks=3, hidden=20, max_offset=100, window_k=None, eps=1e-3)
NO_BLOCKS = CompositorSizes(channels=8, blocks=0, rank=2, pair_channels=6, max_offset=1)
EVERY = [DEFAULT, SMALL, BOTH_WINDOWS, NO_WINDOW, NO_BLOCKS]
NAMES = ["default", "small", "both windows", "no window", "no blocks"]


def draw_compositor(sizes, seed=0):
    """Draw every parameter: a table of zeros agrees with a forgotten one."""
    generator = torch.Generator().manual_seed(seed)
    module = Compositor(sizes)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            scale = parameter.shape[-1] ** -0.5 if name.endswith("weight") and parameter.ndim > 1 else 0.4
            parameter.normal_(generator=generator).mul_(scale)
            if "norm.weight" in name:
                parameter.add_(1)
    return module.eval().requires_grad_(False)


def draw_embedding(*shape, seed=1):
    return 1 + 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_agrees(values, others):
    """Another backend sums in another order: a few roundings of the largest value."""
    assert (values - others).abs().max() <= 1e-5 * others.abs().max()


def by_loops(module, embedding):
    """Compute the algorithm of docs/compositor.md in float64, a number at a time where nodes meet."""
    sizes = module.sizes
    w = {name: tensor.double() for name, tensor in module.state_dict().items()}

    def norm(x, name):
        mean, variance = x.mean(), x.var(unbiased=False)
        return (x - mean) / (variance + sizes.eps).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    def offset(i, j):
        return min(max(i - j, -sizes.max_offset), sizes.max_offset) + sizes.max_offset

    def near(i, j, window):
        return window is None or abs(i - j) <= window

    length, d = len(embedding), sizes.head_channels
    nodes = range(length)
    x = [norm(e, "norm") for e in embedding.double()]
    for b in range(sizes.blocks):
        name = f"blocks.{b}"
        projected = [w[f"{name}.qkv.weight"] @ norm(node, f"{name}.attention_norm") for node in x]
        q, k, k2, v, v2 = torch.stack(projected).reshape(length, 5, sizes.heads, d).unbind(1)
        for i in nodes:
            heads = []
            for h in range(sizes.heads):
                total, out = 0.0, torch.zeros(d, dtype=torch.float64)
                for j, j2 in itertools.product(nodes, nodes):
                    if near(i, j, sizes.window_j) and near(i, j2, sizes.window_k):
                        logit = (q[i, h] * k[j, h] * k2[j2, h]).sum() / math.sqrt(d)
                        weight = (logit + w[f"{name}.offset_bias"][h, offset(i, j)]).exp()
                        total, out = total + weight, out + weight * v[j, h] * v2[j2, h]
                heads.append(out / total)
            x[i] = x[i] + linear(torch.cat(heads), f"{name}.output")
        for i in nodes:
            hidden = linear(norm(x[i], f"{name}.transition_norm"), f"{name}.expand").relu()
            x[i] = x[i] + linear(hidden, f"{name}.contract")
    left = [linear(norm(node, "pair_norm"), "left") for node in x]
    right = [linear(norm(node, "pair_norm"), "right") for node in x]
    pair = torch.zeros(length, length, sizes.pair_channels, dtype=torch.float64)
    for i, j in itertools.product(nodes, nodes):
        outer = (w["outer"] * torch.outer(left[i], right[j])).sum((-1, -2))
        pair[i, j] = outer + w["offsets"][offset(i, j)]
    return pair


def test_relative_offsets_are_those_of_alphafold():
    expected = torch.tensor([[2, 1, 0, 0], [3, 2, 1, 0], [4, 3, 2, 1], [4, 4, 3, 2]])
    assert torch.equal(relative_offsets(4, 2), expected)


@pytest.mark.parametrize("sizes", EVERY, ids=NAMES)
def test_the_module_is_the_algorithm(sizes):
    module = draw_compositor(sizes)
    for length in (1, 5):
        embedding = draw_embedding(length, sizes.channels)
        exact = by_loops(module, embedding)
        torch.testing.assert_close(
            copy.deepcopy(module).double()(embedding.double()), exact, rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize("length", [1, 2, 7, 33, 64])
@pytest.mark.parametrize("sizes", EVERY, ids=NAMES)
def test_the_kernel_is_as_exact_as_torch(sizes, length, environment):
    module = draw_compositor(sizes)
    # Of few numbers the largest errors of two sides would be compared by chance.
    batch = max(2, 64 // length)
    embedding = draw_embedding(batch, length, sizes.channels)
    assert _compositor.choose(module, embedding).backend.name == "native"
    ours = module(embedding)
    environment(OPENFOLDPP_BACKEND="torch")
    torchs = module(embedding)
    exact = copy.deepcopy(module).double()(embedding.double())
    assert ours.shape == torchs.shape == (batch, length, length, sizes.pair_channels)
    error, own = ((values - exact).abs().max().item() for values in (ours, torchs))
    top = torchs.abs().max()
    ulp = (torch.nextafter(top, torch.tensor(torch.inf)) - top).item()
    assert error <= 2 * own + 2 * ulp, f"error {error:.3g}, torch's own {own:.3g}"


def test_threads_do_not_change_the_bits(environment):
    module, embedding = draw_compositor(DEFAULT), draw_embedding(150, 64)
    results = []
    for threads in ("1", "2", "4"):
        environment(OPENFOLDPP_NUM_THREADS=threads)
        results.append(module(embedding).view(torch.int32))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_layout_and_batch_do_not_change_the_bits():
    module, embedding = draw_compositor(SMALL), draw_embedding(2, 3, 9, 12)
    expected = module(embedding)
    assert torch.equal(module(embedding[1, 2]), expected[1, 2])
    turned = embedding.transpose(0, 2).contiguous().transpose(0, 2)
    assert torch.equal(module(turned), expected)
    channels_apart = embedding.mT.contiguous().mT
    choice = _compositor.choose(module, channels_apart)
    assert "the last dimension of a tensor is not contiguous" in choice.reason
    assert_agrees(module(channels_apart), expected)


def test_a_gradient_reaches_every_parameter():
    module, embedding = draw_compositor(SMALL).requires_grad_(True), draw_embedding(2, 9, 12).requires_grad_()
    assert "a gradient is needed" in _compositor.choose(module, embedding).reason
    module(embedding).square().sum().backward()
    for name, tensor in [("embedding", embedding), *module.named_parameters()]:
        assert tensor.grad.abs().max() > 0, name


def test_the_gradient_is_right(environment):
    environment(OPENFOLDPP_BACKEND="torch")
    module = draw_compositor(SMALL).double()
    embedding = draw_embedding(4, 12).double().requires_grad_()
    assert torch.autograd.gradcheck(module, (embedding,))


def test_under_a_transform_torch_computes():
    module, embedding = draw_compositor(SMALL), draw_embedding(2, 9, 12)
    with torch.no_grad():
        assert_agrees(torch.func.vmap(module)(embedding), module(embedding))


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("shape", [(0, 12), (0, 9, 12), (2, 0, 12)])
def test_no_motifs_give_no_pairs(shape, backend, environment):
    environment(OPENFOLDPP_BACKEND=backend)
    pair = draw_compositor(SMALL)(torch.zeros(shape))
    assert pair.shape == (*shape[:-1], shape[-2], 10)


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (torch.zeros(4, 11), r"embedding has shape \[4, 11\]; expected \[4, 12\]"),
        (torch.zeros(12), r"embedding has shape \[12\]; expected \[\*, L, channels\]"),
        (
            torch.zeros(4, 12, dtype=torch.float64),
            r"embedding is torch.float64 on cpu; expected torch.float32",
        ),
        (torch.zeros(4, 12, dtype=torch.int64), "embedding is torch.int64"),
    ],
)
def test_wrong_embeddings_are_refused(embedding, message):
    with pytest.raises(InputError, match=message):
        draw_compositor(SMALL)(embedding)


def test_a_backend_that_cannot_is_refused(environment):
    environment(OPENFOLDPP_BACKEND="native")
    with pytest.raises(BackendError, match=r"compositor: .*not native: .*float64"):
        draw_compositor(SMALL).double()(torch.zeros(4, 12, dtype=torch.float64))


@pytest.mark.skipif(hasattr(_native, "CudaCompositor"), reason="this build has the CUDA kernels")
def test_cuda_is_refused_where_the_build_lacks_it(environment):
    environment(OPENFOLDPP_BACKEND="cuda")
    with pytest.raises(BackendError, match=r"not cuda: this build has no CUDA kernels.*OPENFOLDPP_CUDA=ON"):
        draw_compositor(SMALL)(torch.zeros(4, 12))


@pytest.mark.skipif(
    not (hasattr(_native, "CudaCompositor") and torch.cuda.is_available()),
    reason="needs a GPU and a build for it",
)
@pytest.mark.parametrize("sizes", [DEFAULT, NO_WINDOW, NO_BLOCKS], ids=["default", "no window", "no blocks"])
def test_the_cuda_kernels_are_as_exact_as_torch(sizes):
    module = draw_compositor(sizes)
    embedding = draw_embedding(2, 33, sizes.channels)
    exact = copy.deepcopy(module).double()(embedding.double())
    module, embedding = module.cuda(), embedding.cuda()
    assert _compositor.choose(module, embedding).backend.name == "cuda"
    assert_agrees(module(embedding).double().cpu(), exact)


def _add_one(module):
    module.offsets.add_(1)


def _round(module):
    module.half().float()


def _assign(module):
    module.load_state_dict({name: 2 * tensor for name, tensor in module.state_dict().items()}, assign=True)


def _replace(module):
    other = torch.nn.Parameter(2 * module.outer, requires_grad=False)
    while other._version < module.outer._version:  # the same number of changes does not make them the same
        other.add_(0)
    module.outer = other


def _set_data(module):
    vector = torch.nn.utils.parameters_to_vector(module.parameters())
    torch.nn.utils.vector_to_parameters(2 * vector, module.parameters())


@pytest.mark.parametrize("change", [_add_one, _round, _assign, _replace, _set_data])
def test_the_kernel_sees_that_parameters_changed(change, environment):
    module, embedding = draw_compositor(SMALL), draw_embedding(9, 12)
    before = module(embedding)
    change(module)
    after = module(embedding)
    environment(OPENFOLDPP_BACKEND="torch")
    assert_agrees(after, module(embedding))
    assert not torch.equal(before, after)


def _hook(module):
    module.blocks[0].register_forward_hook(lambda part, given, result: result.square())


def _normalise(module):
    torch.nn.utils.parametrizations.weight_norm(module.left)
    module.left.parametrizations.weight.original0.data.mul_(2)


def _wrap(module):
    module.right = torch.nn.Sequential(module.right, torch.nn.ReLU())


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (_hook, "blocks.0 has a hook"),
        (_normalise, "left is a ParametrizedLinear"),
        (_wrap, "right is a Sequential"),
    ],
)
def test_a_module_with_a_changed_part_goes_to_torch(change, part, environment):
    module, embedding = draw_compositor(SMALL), draw_embedding(9, 12)
    before = module(embedding)
    change(module)
    module.requires_grad_(False)
    choice = _compositor.choose(module, embedding)
    assert choice.backend.name == "torch"
    assert f"not native: {part}" in choice.reason
    assert (module(embedding) - before).abs().max() > 0.1


def test_a_module_trains_under_autocast():
    module, embedding = draw_compositor(SMALL).requires_grad_(), draw_embedding(9, 12)
    exact = module(embedding)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pair = module(embedding)
    assert (pair - exact).abs().max() <= 0.05 * exact.abs().max()
    pair.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


@pytest.mark.parametrize("shape", [(0, 12), (0, 4, 12), (2, 0, 12)])
def test_no_motifs(shape):
    module = draw_compositor(SMALL)
    assert module(torch.zeros(shape)).shape == (*shape[:-1], shape[-2], 10)
    module.requires_grad_()(torch.zeros(shape)).sum().backward()
    assert not module.outer.grad.any()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_is_a_compositor_of_its_own(copied):
    module, embedding = draw_compositor(SMALL), draw_embedding(9, 12)
    expected = module(embedding)
    other = copied(module)
    module.offsets.zero_()
    assert torch.equal(other(embedding), expected)


def test_what_was_packed_comes_back():
    for sizes in EVERY:
        module = draw_compositor(sizes)
        blob = module.pack()
        assert len(blob) == 64 + 4 * sum(parameter.numel() for parameter in module.parameters())
        made = Compositor.unpack(blob)
        assert not made.training
        assert made.pack() == blob
        embedding = draw_embedding(9, sizes.channels)
        assert torch.equal(made(embedding), module(embedding))
