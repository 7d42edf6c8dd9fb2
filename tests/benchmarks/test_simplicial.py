"""The benchmark of 2-simplicial attention compares like with like, and its tables say what was measured."""

import subprocess
import sys

import pytest
import torch


@pytest.fixture
def simplicial(load):
    return load("simplicial")


def test_every_form_computes_the_same(simplicial):
    inputs = simplicial.draw(37, 16)
    expected = simplicial.ours(*inputs)
    for name, form in simplicial.FORMS.items():
        assert torch.allclose(form(*inputs), expected, atol=1e-5), name


@pytest.mark.parametrize("run", ["forward", "with_backward"])
def test_a_comparison_has_a_time_of_each_side(run, simplicial, monkeypatch):
    monkeypatch.setattr(simplicial, "SAMPLE_S", 1e-3)
    monkeypatch.setattr(simplicial.machine, "sgemm_gflops", lambda _: 100.0)
    found = simplicial.compare(getattr(simplicial, run), 1e6, 9, 4, 2)
    assert {side: len(values) for side, values in found["samples"].items()} == {
        "openfoldpp": 2,
        "softmax": 2,
        "fused": 2,
    }
    found["seconds"] = {"openfoldpp": 1e-3, "softmax": 3e-3, "fused": 2e-3}
    last = simplicial.compared([found]).splitlines()[-1]
    form = found["softmax_form"]
    assert last == f"| 9 | 1 ms | 1 % of 100 GFLOP/s | 3 ms ({form}), 3.00x | 2 ms, 2.00x |"


def test_the_time_of_a_pair_is_compared_with_the_first(simplicial):
    assert simplicial.reach((64, 8)) == 129 * 17
    results = [
        {"window": (64, 8), "seconds": 0.01, "pairs": 2193},
        {"window": (64, 16), "seconds": 0.03, "pairs": 4386},
    ]
    assert simplicial.windows(results).splitlines()[-1] == "| (64, 16) | 30 ms | 4386 | 1.50 |"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_memory_is_measured_in_a_process_that_holds_none(simplicial):
    command = [sys.executable, simplicial.__file__, "--peak", "backward", "--channels", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 64e6
