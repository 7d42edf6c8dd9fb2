"""Both sides of a measurement do the same work."""

import pytest
import torch

from openfoldpp.upstream import activate

pytestmark = pytest.mark.upstream


@pytest.fixture
def steps(load):
    activate()
    return load("steps")


@torch.no_grad()
def test_both_sides_of_each_step_do_the_same_with_each_setting(steps, load):
    for name, step in steps.STEPS.items():
        sizes = load("floor").Sizes(9, step.rows)
        module = step.make(step.rows)

        def result(run, sizes=sizes):
            state = steps.State(sizes)
            returned = run(state)
            return torch.cat([x.flatten() for x in ((state.m, state.z) if returned is None else (returned,))])

        converted = step.convert(module)
        ours = result(lambda state, step=step, made=converted: step.ours(made, state))
        start = steps.State(sizes)
        assert ours.shape != (both := torch.cat([start.m.flatten(), start.z.flatten()])).shape or (
            (ours - both).abs().max() > 0.1
        ), f"{name} changes nothing"
        for label, setting in step.settings.items():
            theirs = result(lambda state, step=step, a=module, b=setting: step.upstream(a, state, **b))
            assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max(), f"{name}, {label}"


@torch.no_grad()
def test_a_state_is_restored(steps, load):
    state = steps.State(load("floor").Sizes(5, 2))
    state.remember()
    m, z = state.m.clone(), state.z.clone()
    state.m += 1
    state.z = state.z.transpose(0, 1).contiguous() * 2
    state.restore()
    assert torch.equal(state.m, m)
    assert torch.equal(state.z, z)
