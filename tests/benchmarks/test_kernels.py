"""The comparison of kernels, run on short chains: what it measures, leaves out, writes and prints."""

import itertools
import json
import subprocess
import sys

import pytest

from openfoldpp.upstream import activate

pytestmark = pytest.mark.upstream


@pytest.fixture
def kernels(load):
    activate()
    return load("kernels")


def run(*command, cwd):
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_measurements_are_written_and_printed_again(program, tmp_path):
    file = tmp_path / "kernels.json"
    steps = "evoformer_block", "pair_transition", "row_attention_alignment"
    flags = ["--n", 17, "--alignment_n", 8, "--memory_n", 40, "--rounds", 2, "--json", file]
    printed = run(program("kernels.py"), "--steps", *steps, *flags, cwd=tmp_path)
    report = json.loads(file.read_text())
    assert tuple(report["results"]) == steps
    (block,), (transition,), (rows,) = report["results"].values()
    assert (block["residues"], block["rows"], rows["residues"], rows["rows"]) == (17, 1, 8, 128)
    assert set(block["seconds"]) == {"openfoldpp", "best", "default"}
    assert set(transition["seconds"]) == {"openfoldpp", "best"}
    for result in (block, transition, rows):
        assert set(result["search"]) == {"unchunked", "chunk 2", "chunk 4", "chunk 8", "chunk 16"}
        assert result["search"][result["upstream"]["best"]] == min(result["search"].values())
        assert {len(samples) for samples in result["samples"].values()} == {2}
    assert block["upstream"]["default"] == "chunk 516, attention 129"
    ours, theirs = report["memory"]
    assert (ours["side"], ours["residues"]) == ("openfoldpp", 40)
    assert 0 < ours["extra_bytes"] < ours["peak_bytes"]
    assert 0 < theirs["extra_bytes"] < theirs["peak_bytes"]

    again = run(program("kernels.py"), "--markdown", file, cwd=tmp_path)
    assert again.strip() == printed[printed.index(report["machine"]["cpu"] + ",") :].strip()


def test_what_does_not_fit_is_left_out_with_the_reason(kernels, load, monkeypatch):
    import torch

    monkeypatch.setattr(kernels, "available_bytes", lambda: 1 << 19)
    monkeypatch.setattr(kernels, "SAMPLE_S", 1e-3)
    with torch.no_grad():
        sides = kernels.Sides(load("steps").STEPS["evoformer_block"])
        result = kernels.measure(sides, 24, rounds=1)
    assert set(result["seconds"]) == {"openfoldpp"}
    assert {str(reason)[:5] for reason in result["search"].values()} == {"needs"}
    assert "largest chunk first" in result["upstream"]["default_left_out"]
    lines = load("kernel_tables").line("evoformer_block", result)
    assert "best" not in lines


def test_a_side_that_takes_long_gets_fewer_rounds(kernels, load, monkeypatch):
    import torch

    step = load("steps").STEPS["pair_transition"]
    with torch.no_grad():
        sides = kernels.Sides(step)
        monkeypatch.setattr(kernels, "sample", lambda call, state: kernels.PATIENCE_S / 2.5)
        result = kernels.measure(sides, 4, rounds=5)
    assert len(result["samples"]["openfoldpp"]) == len(result["samples"]["best"]) == 2


def test_a_sample_begins_with_the_same_inputs_each_time(kernels, load, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(kernels.time, "perf_counter", lambda: 0.04 * next(ticks))
    state = load("steps").State(load("floor").Sizes(3))
    state.remember()
    first, seen = state.z.clone(), []

    def call():
        seen.append(bool((state.z == first).all()))
        state.z += 1

    assert kernels.sample(call, state) == pytest.approx(0.04)
    assert seen == [True] * 3  # as many as fill SAMPLE_S
