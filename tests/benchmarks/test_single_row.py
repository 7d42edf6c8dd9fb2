"""The benchmark of the single row: its arithmetic, and what each side computes."""

import pytest
import torch


@pytest.fixture
def single_row(load):
    return load("single_row")


def test_blocks_that_were_left_out_are_added(single_row):
    one, three = {"a": 5.0, "b": 1.0}, {"a": 9.0, "b": 1.5}
    assert single_row.extrapolated(one, three, 3) == {"a": 5 + 47 * 2, "b": 1 + 47 * 0.25}


def test_each_side_computes_what_it_is_called_and_leaves_the_model_as_it_was(single_row):
    from openfoldpp.upstream import activate

    activate()
    sides = single_row.Sides(8, 1, 4, torch.randn(8, 512, generator=torch.Generator().manual_seed(0)))
    assert [sides.padded[name].shape[0] for name in ("msa_feat", "extra_msa")] == [512, 5120]
    assert [sides.single[name].shape[0] for name in ("msa_feat", "extra_msa")] == [1, 1]
    assert not any("template_" in name for name in sides.single)
    for side in ("one row", "one row, kernels"):
        assert sides.measure(side) > 0
        assert not sides.model._forward_pre_hooks
        assert not any("forward" in vars(part) for part in sides.model.modules())
