"""The compositor's benchmark counts what the documentation counts, and tables what was measured."""

import os
import sys

import pytest
import torch

from openfoldpp.motifs import Compositor, CompositorSizes
from openfoldpp.ops import settings


@pytest.fixture
def compositor(load, monkeypatch):
    monkeypatch.setitem(os.environ, "OPENFOLDPP_BACKEND", "auto")  # and put back what was there
    yield load("compositor")
    monkeypatch.undo()
    settings.cache_clear()


def test_operations_are_those_of_the_documentation(compositor):
    assert compositor.operations(CompositorSizes(), 64) == pytest.approx((60.3 + 10.5 + 10.7) * 1e6, rel=1e-3)
    everything = CompositorSizes(blocks=1, heads=1, head_channels=1, window_k=None)
    none = CompositorSizes(blocks=0)
    layers = 12 * 9 * 64 + 4 * 9 * 64 * 128
    assert compositor.operations(everything, 9) - compositor.operations(none, 9) == 4 * 9**3 + layers


def test_both_sides_run_and_are_in_the_table(compositor, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(compositor, "SAMPLE_S", 1e-3)
    monkeypatch.setattr(compositor.machine, "sgemm_gflops", lambda _: 100.0)
    used = []
    module = Compositor(CompositorSizes(channels=8, head_channels=4)).requires_grad_(False)
    monkeypatch.setattr(
        module, "forward", lambda embedding: used.append(settings().backend) or torch.zeros(len(embedding))
    )
    compositor.compare(module, 5, 1)
    assert list(dict.fromkeys(used)) == ["native", "torch"]
    result = {"n": 5, "operations": 1e6, "sgemm_gflops": 100.0, "seconds": {"native": 1e-3, "torch": 3e-3}}
    assert compositor.compared([result]).splitlines()[-1] == "| 5 | 1 ms | 1 % of 100 GFLOP/s | 3 ms, 3.0x |"
    report = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", ["compositor.py", "--n", "3", "--rounds", "1", "--json", str(report)])
    compositor.main()
    assert "| 3 |" in capsys.readouterr().out
    assert report.exists()
