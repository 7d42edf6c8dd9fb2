"""``openfoldpp.accelerate``: what it changes, how it is taken back, and when upstream's code runs."""

import copy
import gc
import pickle
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import openfoldpp
from openfoldpp.errors import ConfigError, InputError
from openfoldpp.ops import settings
from openfoldpp.upstream import acceleration
from openfoldpp.upstream.acceleration import releases
from openfoldpp.upstream.acceleration.swap import Swap


@pytest.fixture
def stack(build):
    return build("evoformer", "EvoformerStack")


@pytest.fixture
def inputs(draw):
    masks = {"msa_mask": draw(5, 13, mask=True), "pair_mask": draw(13, 13, mask=True)}
    return {"m": draw(5, 13, 18), "z": draw(13, 13, 12), "chunk_size": None, **masks}


@pytest.fixture
def transition(build):
    return build("pair_transition", "PairTransition")


@pytest.fixture
def multiplication(build):
    return build("triangular_multiplicative_update", "TriangleMultiplicationOutgoing")


def attributes(module):
    """Every attribute of every module below, and of the tuners, by identity."""
    owners = [
        *module.modules(),
        *(m.chunk_size_tuner for m in module.modules() if hasattr(m, "chunk_size_tuner")),
    ]
    return [{name: id(value) for name, value in vars(owner).items()} for owner in owners]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_returns_the_module_with_its_parameters_and_classes(stack):
    state, kinds = dict(stack.state_dict()), [type(part) for part in stack.modules()]
    pointers = {name: value.data_ptr() for name, value in state.items()}
    assert openfoldpp.accelerate(stack) is stack
    after = stack.state_dict()
    assert list(after) == list(state)
    assert {name: value.data_ptr() for name, value in after.items()} == pointers
    assert [type(part) for part in stack.modules()] == kinds


def test_undo_restores_every_attribute_by_identity(stack, inputs):
    before = attributes(stack)
    with torch.no_grad():
        expected = stack(**inputs)
        assert not same(openfoldpp.accelerate(stack)(**inputs), expected)
        assert acceleration.undo(stack) is stack
        assert same(stack(**inputs), expected)
    assert attributes(stack) == before


def test_twice_equals_once(stack, inputs):
    openfoldpp.accelerate(stack)
    once = attributes(stack)
    with torch.no_grad():
        first = stack(**inputs)
        assert same(openfoldpp.accelerate(stack)(**inputs), first)
    assert attributes(stack) == once
    acceleration.undo(stack)
    assert not any(isinstance(v, Swap) for part in stack.modules() for v in vars(part).values())


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_works_and_is_its_own(duplicate, stack, inputs):
    with torch.no_grad():
        expected = openfoldpp.accelerate(stack)(**inputs)
        other = duplicate(stack)
        assert same(other(**inputs), expected)
        for parameter in other.parameters():
            parameter.mul_(0.5)
        changed = other(**inputs)
        assert not same(changed, expected)
        assert same(stack(**inputs), expected)
        torch.testing.assert_close(changed[1], acceleration.undo(other)(**inputs)[1], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_shallow_copy_is_its_own_once_accelerated(transition, draw):
    z = draw(5, 5, 12)
    expected = openfoldpp.accelerate(transition)(z)
    other = copy.copy(transition)
    other._modules = copy.deepcopy(transition._modules)
    other.linear_2.weight.mul_(0.5)
    ours = openfoldpp.accelerate(other)(z)
    assert not torch.allclose(ours, expected, atol=1e-3)
    torch.testing.assert_close(ours, acceleration.undo(other)(z), rtol=1e-4, atol=1e-5)
    assert torch.equal(transition(z), expected)


@torch.no_grad()
def test_a_shallow_copy_that_outlives_its_original_says_so(build, draw):
    other = copy.copy(openfoldpp.accelerate(build("pair_transition", "PairTransition")))
    with pytest.raises(ReferenceError, match=r"use copy\.deepcopy, or call openfoldpp\.accelerate"):
        other(draw(5, 5, 12))
    assert openfoldpp.accelerate(other)(draw(5, 5, 12)).shape == (5, 5, 12)


def test_two_threads_get_what_one_gets(stack, inputs, draw):
    given = [inputs, inputs | {"z": draw(13, 13, 12)}]
    openfoldpp.accelerate(stack)

    def work(number):
        with torch.no_grad():
            return [stack(**given[number]) for _ in range(5)]

    with ThreadPoolExecutor(2) as pool:  # the first calls: both pack
        found = list(pool.map(work, range(2)))
    for results, (expected, *_) in zip(found, map(work, range(2)), strict=True):
        assert all(same(result, expected) for result in results)


def test_an_accelerated_model_is_freed_with_its_last_reference(stack):
    gone = weakref.ref(openfoldpp.accelerate(stack).blocks[1])
    gc.disable()
    try:
        stack.blocks = torch.nn.ModuleList()
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("change", ["load_state_dict", "optimizer", "replaced", "data"])
def test_changed_parameters_are_packed_anew(change, multiplication, build, draw):
    z = draw(13, 13, 12)
    openfoldpp.accelerate(multiplication)
    with torch.no_grad():
        before = multiplication(z)
    if change == "load_state_dict":
        state = {name: value + 0.3 for name, value in multiplication.state_dict().items()}
        multiplication.load_state_dict(state)
    elif change == "optimizer":
        multiplication(z).square().sum().backward()
        torch.optim.SGD(multiplication.parameters(), lr=0.05).step()
    elif change == "replaced":
        multiplication.linear_z.weight = torch.nn.Parameter(draw(12, 5))
    else:
        multiplication.linear_z.weight.data.mul_(2)  # torch keeps no count of that
        openfoldpp.accelerate(multiplication)
    with torch.no_grad():
        after = multiplication(z)
        expected = acceleration.undo(copy.deepcopy(multiplication))(z)
    assert not torch.allclose(after, before, atol=1e-3)
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-4)


def upstreams_own(module, *given, backward=False, **named):
    """Call a module as upstream made it, and accelerated; returns both results, and gradients."""
    results = []
    for variant in (copy.deepcopy(module), openfoldpp.accelerate(copy.deepcopy(module))):
        torch.manual_seed(0)
        result = variant(*given, **named)
        result = list(result) if isinstance(result, tuple) else [result]
        if backward:
            sum(tensor.square().sum() for tensor in result).backward()
            result += [parameter.grad for parameter in variant.parameters()]
        results.append(result)
    return results


def test_training_is_upstreams_bit_for_bit(stack, inputs):
    plain, ours = upstreams_own(stack.train(), **inputs, backward=True)
    assert same(plain, ours)


def test_gradients_in_evaluation_are_upstreams_bit_for_bit(stack, inputs):
    plain, ours = upstreams_own(stack, **inputs, backward=True)
    assert same(plain, ours)


def test_a_gradient_of_the_input_alone_is_upstreams(transition, draw):
    transition.requires_grad_(False)
    given, grads = draw(3, 3, 12), []
    for module in (copy.deepcopy(transition), openfoldpp.accelerate(transition)):
        z = given.clone().requires_grad_()
        module(z).sum().backward()
        grads.append(z.grad)
    assert same(*grads)
    assert grads[0].abs().max() > 0


def test_kernels_run_with_gradients_on_where_none_is_asked_for(transition, draw):
    z = draw(13, 13, 12)
    plain, ours = upstreams_own(transition.requires_grad_(False), z)
    assert not same(plain, ours)


@torch.no_grad()
def test_the_torch_backend_is_upstreams_bit_for_bit(stack, inputs, environment):
    environment(OPENFOLDPP_BACKEND="torch")
    plain, ours = upstreams_own(stack, **inputs | {"chunk_size": 4})
    assert same(plain, ours)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_are_upstreams_bit_for_bit(dtype, multiplication, draw):
    plain, ours = upstreams_own(multiplication.to(dtype), draw(13, 13, 12).to(dtype))
    assert same(plain, ours)


@torch.no_grad()
def test_autocast_is_upstreams_bit_for_bit(multiplication, draw):
    with torch.autocast("cpu", torch.bfloat16):
        plain, ours = upstreams_own(multiplication, draw(13, 13, 12))
    assert same(plain, ours)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_trace_is_upstreams(transition, draw):
    z, other = draw(13, 13, 12), draw(13, 13, 12)
    expected = transition(other)
    traced = torch.jit.trace(openfoldpp.accelerate(transition), (z,))
    assert "aten::linear" in str(traced.inlined_graph)
    assert torch.equal(traced(other), expected)
    assert not torch.equal(transition(other), expected)


@torch.no_grad()
def test_inference_mode_is_served(transition, draw):
    z = draw(13, 13, 12)
    expected = openfoldpp.accelerate(transition)(z)
    with torch.inference_mode():
        assert torch.equal(transition(z.clone()), expected)


@torch.no_grad()
def test_a_layer_that_is_another_ones_is_run(multiplication, draw):
    """As of a package for adapters: its layer computes something else."""

    class Adapted(torch.nn.Module):
        def __init__(self, linear):
            super().__init__()
            self.linear, self.weight, self.bias = linear, linear.weight, linear.bias

        def forward(self, x):
            return 3 * self.linear(x)

    multiplication.linear_z = Adapted(multiplication.linear_z)
    plain, ours = upstreams_own(multiplication.eval(), draw(13, 13, 12))
    assert same(plain, ours)


@torch.no_grad()
def test_a_hook_on_a_layer_is_called(multiplication, draw):
    heard = []
    openfoldpp.accelerate(multiplication)
    multiplication.layer_norm_out.register_forward_hook(lambda *given: heard.append(given[2].shape))
    multiplication(draw(13, 13, 12))
    assert heard == [(13, 13, 5)]


@torch.no_grad()
def test_a_method_that_another_package_has_replaced_is_left(stack, transition, draw):
    part = stack.blocks[0]
    part = getattr(part, "core", part)
    part = getattr(part, "pair_stack", part).pair_transition
    part.forward = lambda z, **how: z
    openfoldpp.accelerate(stack)
    assert not isinstance(part.forward, Swap)
    assert "not in PairTransition: another package has replaced its forward" in acceleration.explain(stack)
    acceleration.undo(stack)
    assert "forward" in vars(part)


@pytest.mark.parametrize("how", ["edited", "unreadable"])
def test_an_edited_openfold_is_left_to_itself(how, transition, monkeypatch):
    place = "openfold.model.pair_transition"
    if how == "edited":
        monkeypatch.setitem(releases._SHA256, place, ("0" * 64,))
    else:
        monkeypatch.setattr(sys.modules[place], "__file__", "/no/archive.zip/pair_transition.py")
    releases._as_published.cache_clear()
    try:
        with pytest.raises(InputError, match=f"{place} is not the file of a release .take a checkout of one"):
            openfoldpp.accelerate(transition)
        assert "forward" not in vars(transition)
    finally:
        releases._as_published.cache_clear()


def test_what_is_not_openfolds_is_refused():
    with pytest.raises(InputError, match="no native kernel serves Linear: none of its modules"):
        openfoldpp.accelerate(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("given", "said"), [(torch.nn.Linear, "the class Linear"), (None, "a NoneType"), ([], "a list")]
)
def test_what_is_no_module_is_refused(given, said):
    with pytest.raises(InputError, match=f"was given {said}; expected a torch.nn.Module"):
        openfoldpp.accelerate(given)


def test_a_wrong_setting_is_said_at_once(transition, monkeypatch):
    monkeypatch.setenv("OPENFOLDPP_BACKEND", "natve")
    settings.cache_clear()
    try:
        with pytest.raises(ConfigError, match="OPENFOLDPP_BACKEND=natve"):
            openfoldpp.accelerate(transition)
    finally:
        monkeypatch.undo()
        settings.cache_clear()


@torch.no_grad()
def test_paused_is_upstreams_code_for_a_while(stack, inputs):
    expected = stack(**inputs)
    ours = openfoldpp.accelerate(stack)(**inputs)
    part = stack.blocks[1]
    with acceleration.paused(stack):
        assert same(stack(**inputs), expected)
        attention = part.msa_att_row
        del part.msa_att_row
    part.msa_att_row = attention
    assert same(stack(**inputs), ours)
    # A part was taken out, as upstream does to trace it: then the size of the chunks must stay upstream's.
    assert not isinstance(stack.chunk_size_tuner.tune_chunk_size, Swap)
    with acceleration.paused(openfoldpp.accelerate(stack)):
        pass
    assert isinstance(stack.chunk_size_tuner.tune_chunk_size, Swap)


def test_explains_level_and_threads(transition, environment):
    environment(OPENFOLDPP_NUM_THREADS="2")
    words = acceleration.explain(openfoldpp.accelerate(transition))
    assert words.startswith("native kernels: ")
    assert words.endswith(", 2 threads")


def test_arguments_that_upstream_does_not_know_are_its_error(transition, draw):
    openfoldpp.accelerate(transition)
    with torch.no_grad(), pytest.raises(TypeError, match="no_such_thing"):
        transition(draw(3, 3, 12), no_such_thing=1)
