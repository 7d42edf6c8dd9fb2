"""The records as a whole: complete, applied once, and taken back."""

import importlib
import sys

import numpy as np
import torch

from openfoldpp.upstream import compat
from openfoldpp.upstream.compat.importing import MendingFinder
from openfoldpp.upstream.locate import SUPPORTED


def test_records_are_complete():
    assert len({record.name for record in compat.RECORDS}) == len(compat.RECORDS)
    for record in compat.RECORDS:
        assert set(record.versions) <= set(SUPPORTED), record.name
        assert record.mends, record.name
        assert all(mend.during or mend.names for mend in record.mends), record.name
        assert record.breaks, record.name
        assert record.supplies, record.name
        assert record.drop_when, record.name


def test_apply_says_why_and_is_idempotent(active):
    hooks = sys.meta_path[:]
    first = compat.apply(active)
    assert first == compat.apply(active) == compat.applied()
    assert sys.meta_path == hooks
    assert all(item.reason for item in first)
    assert "attn_core_inplace_cuda" in [item.record.name for item in first]


def test_restore_takes_everything_back(active):
    from openfold.np import residue_constants
    from openfold.utils import loss, script_utils

    before = {id(module): module.__dict__.copy() for module in (residue_constants, loss, script_utils)}
    hooks = sys.meta_path[:]
    compat.restore()
    try:
        assert not any(isinstance(hook, MendingFinder) for hook in sys.meta_path)
        assert compat.applied() == []
        assert loss.np is np
        assert script_utils.torch is torch
        assert residue_constants.resources is importlib.resources
    finally:
        assert compat.apply(active)
    assert [type(hook) for hook in sys.meta_path] == [type(hook) for hook in hooks]
    for module in (residue_constants, loss, script_utils):
        assert module.__dict__.keys() == before[id(module)].keys()
    assert loss.np is not np  # openfold was imported already: mended at once
