"""Blocks and stacks of upstream's: as exact, in place where that is allowed, and true to what is in them."""

import copy
import weakref

import pytest
import torch

from openfoldpp.ops import workspace
from openfoldpp.upstream.acceleration import accelerate, undo

N_SEQ, N_RES, N_TEMPLATES = 5, 13, 3
MULTIMER = {"opm_first": True, "fuse_projection_weights": True}

# name: module, class, arguments of its own; those without c_t are of 2.x alone
BLOCKS = {
    "core": ("evoformer", "EvoformerBlockCore", {}),
    "pair stack": ("evoformer", "PairStack", {}),
    "pair stack, fused": ("evoformer", "PairStack", MULTIMER),
    "evoformer block": ("evoformer", "EvoformerBlock", {}),
    "evoformer block, multimer": ("evoformer", "EvoformerBlock", MULTIMER),
    "evoformer block, one sequence": ("evoformer", "EvoformerBlock", {"no_column_attention": True}),
    "extra msa block": ("evoformer", "ExtraMSABlock", {}),
    "extra msa block, multimer": ("evoformer", "ExtraMSABlock", MULTIMER),
    "evoformer": ("evoformer", "EvoformerStack", {}),
    "extra msa stack": ("evoformer", "ExtraMSAStack", {}),
    "template block": ("template", "TemplatePairStackBlock", {"c_t": 12}),
    "template block, multimer": (
        "template", "TemplatePairStackBlock",
        {"c_t": 12, "tri_mul_first": True, "fuse_projection_weights": True},
    ),
    "template stack": ("template", "TemplatePairStack", {"c_t": 12}),
}  # fmt: skip
STACKS = {"evoformer", "extra msa stack", "template stack"}


@pytest.fixture
def make(build, draw, release):
    """Build a block by its name; returns it with the tensors that it is called with."""

    def built(name, **changes):
        place, cls, own = BLOCKS[name]
        if release == "0.0.1" and own and "c_t" not in own:
            pytest.skip("this release has no such block")
        block = build(place, cls, **own | changes)
        if place == "template":
            mask = draw(N_TEMPLATES, N_RES, N_RES, mask=True)
            return block, {"z": draw(N_TEMPLATES, N_RES, N_RES, 12)}, {"mask": mask}
        state = {"m": draw(N_SEQ, N_RES, 18), "z": draw(N_RES, N_RES, 12)}
        masks = {"msa_mask": draw(N_SEQ, N_RES, mask=True), "pair_mask": draw(N_RES, N_RES, mask=True)}
        if cls == "PairStack":
            del state["m"], masks["msa_mask"]
        return block, state, masks

    return built


def run(block, state, masks, **how):
    """Call a block on its state; returns its tensors."""
    if type(block).__name__ == "EvoformerBlockCore":
        result = block([state["m"], state["z"]], **masks, **how)
    elif type(block).__name__ == "TemplatePairStack":
        result = block(state["z"], **masks, **{"chunk_size": None} | how)
    elif type(block).__name__.endswith("Stack") and "m" in state:
        result = block(**state, **masks, **{"chunk_size": None} | how)
    else:
        result = block(**state, **masks, **how)
    return result if isinstance(result, tuple) else (result,)


def double(tensors):
    return {name: tensor.double() for name, tensor in tensors.items()}


@pytest.mark.parametrize("mask_transition", [True, False], ids=["masked transition", "unmasked transition"])
@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "copy"])
@pytest.mark.parametrize("name", BLOCKS)
def test_is_as_exact_as_upstream(name, in_place, mask_transition, make, assert_as_exact):
    block, state, masks = make(name)
    how = {"inplace_safe": in_place, "_mask_trans": mask_transition}
    with torch.no_grad():
        # The attention that upstream takes by default in the extra MSA stack refuses float64.
        other = {"use_lma": True} if name.startswith("extra") else {}
        exact = run(copy.deepcopy(block).double(), double(state), double(masks), **how, **other)
        upstreams = run(block, copy.deepcopy(state), masks, **how)
        before = copy.deepcopy(state)
        ours = run(accelerate(block), state, masks, **how)
    assert not torch.equal(ours[-1], upstreams[-1]), "no kernel ran"
    for one, other, truth in zip(ours, upstreams, exact, strict=True):
        assert_as_exact(one, other, truth, name)
    if not in_place:
        assert all(torch.equal(before[key], state[key]) for key in state)
    elif name not in STACKS:
        assert ours[-1].data_ptr() == state["z"].data_ptr()  # upstream's is another tensor


@pytest.mark.parametrize("name", ["evoformer", "extra msa stack"])
def test_offloading_is_served_in_place(name, make):
    """On a CPU nothing moves, and upstream's counts of references hold."""
    stack, state, masks = make(name)
    with torch.no_grad():
        accelerate(stack)
        expected = run(stack, copy.deepcopy(state), masks, inplace_safe=True, chunk_size=4)
        tensors = [state.pop("m"), state.pop("z")]
        pointer = tensors[1].data_ptr()
        offloaded = stack._forward_offload(tensors, **masks, chunk_size=4)
    offloaded = offloaded if isinstance(offloaded, tuple) else (offloaded,)
    assert all(torch.equal(a, b) for a, b in zip(expected, offloaded, strict=True))
    z = offloaded[1] if name == "evoformer" else offloaded[0]
    assert z.data_ptr() == pointer


def test_forty_eight_blocks_are_as_exact_as_upstream(make, assert_as_exact):
    stack, state, masks = make("evoformer", no_blocks=48)
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter *= 0.5  # so that the sum of 48 blocks' updates stays in the range of the first
        exact = run(copy.deepcopy(stack).double(), double(state), double(masks))
        upstreams = run(stack, state, masks)
        ours = run(accelerate(stack), state, masks)
    for one, other, truth in zip(ours, upstreams, exact, strict=True):
        assert torch.isfinite(truth).all()
        assert_as_exact(one, other, truth)


def test_the_tuner_takes_the_smallest_chunk_without_a_trial(make, monkeypatch):
    stack, state, masks = make("evoformer")
    kind = type(stack.chunk_size_tuner)
    trials = []
    original = kind._determine_favorable_chunk_size
    tuner = stack.chunk_size_tuner
    accelerate(stack)
    monkeypatch.setattr(
        kind, "_determine_favorable_chunk_size", lambda *given: trials.append(1) or original(*given)
    )
    with torch.no_grad():
        expected = run(stack, state, masks)
        tuned = run(stack, state, masks, chunk_size=4)
    assert not trials
    assert all(torch.equal(a, b) for a, b in zip(expected, tuned, strict=True))
    assert stack.chunk_size_tuner is tuner
    assert tuner.cached_chunk_size == 4


def test_the_tuner_is_upstreams_where_upstreams_code_runs(make, environment):
    environment(OPENFOLDPP_BACKEND="torch")
    stack, state, masks = make("evoformer")
    with torch.no_grad():
        run(accelerate(stack), state, masks, chunk_size=4)
    assert stack.chunk_size_tuner.cached_chunk_size > 4


def test_scratch_memory_is_one_buffer_for_all_blocks_and_freed_after_them(make, monkeypatch):
    stack, state, masks = make("evoformer", no_blocks=4)
    buffers = []
    allocate = workspace._allocate

    def recorded(floats):
        memory = allocate(floats)
        buffers.append(weakref.ref(memory))
        sizes.append(floats)
        return memory

    sizes = []
    monkeypatch.setattr(workspace, "_allocate", recorded)
    with torch.no_grad():
        run(accelerate(stack), state, masks)
    assert sizes
    assert sizes == sorted(set(sizes))  # it only grows, and the blocks after the first find it large enough
    one_block, state, masks = make("evoformer", no_blocks=1)
    seen = len(sizes)
    with torch.no_grad():
        run(accelerate(one_block), state, masks)
    assert sizes[:seen] == sizes[seen:]
    assert not any(buffer() is not None for buffer in buffers)


def test_a_hook_on_a_part_of_a_block_is_called(make, release):
    name = "core" if release == "0.0.1" else "pair stack"
    block, state, masks = make(name)
    with torch.no_grad():
        expected = run(accelerate(block), copy.deepcopy(state), masks)
        heard = []
        handle = block.tri_att_start.register_forward_hook(lambda *given: heard.append(given[2]))
        hooked = run(block, copy.deepcopy(state), masks)
        handle.remove()
        again = run(block, copy.deepcopy(state), masks)
    assert len(heard) == 1
    assert heard[0].shape == state["z"].shape
    for a, b, c in zip(expected, hooked, again, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        assert torch.equal(a, c)


def test_dropout_that_is_switched_on_alone_drops(make, release):
    """As for a sample of predictions: the model is evaluated, its dropout layers are in training."""
    name = "core" if release == "0.0.1" else "pair stack"
    block, state, masks = make(name)
    with torch.no_grad():
        still = run(accelerate(block), copy.deepcopy(state), masks)
        block.ps_dropout_row_layer.train()
        first, second = (run(block, copy.deepcopy(state), masks)[-1] for _ in range(2))
    assert not torch.equal(first, second)
    assert not torch.equal(first, still[-1])


def test_another_module_in_a_parts_place_is_called(make, release):
    name = "core" if release == "0.0.1" else "pair stack"
    block, state, masks = make(name)

    class Nothing(torch.nn.Module):
        def forward(self, z, mask=None, chunk_size=None):
            return torch.zeros_like(z)

    with torch.no_grad():
        before = run(accelerate(block), copy.deepcopy(state), masks)
        block.pair_transition = Nothing()
        block.eval()
        after = run(block, copy.deepcopy(state), masks)
        expected = run(undo(block), copy.deepcopy(state), masks)
    assert not torch.equal(before[-1], after[-1])
    torch.testing.assert_close(after[-1], expected[-1], rtol=1e-4, atol=1e-4)
