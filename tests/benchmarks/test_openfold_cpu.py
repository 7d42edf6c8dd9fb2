"""Whole runs of all sides, on a short chain and one block."""

import json
import os
import subprocess
import sys
from argparse import Namespace

import pytest


@pytest.mark.upstream
@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--alignment", "--best_chunk", "8"]], ids=["one row", "alignment"])
def test_all_sides_run_and_their_seconds_are_written(flags, program, tmp_path):
    file = tmp_path / "cpu.json"
    command = [
        sys.executable,
        program("openfold_cpu.py"),
        "--residues",
        "12",
        "--blocks",
        "1",
        "--recycles",
        "0",
    ]
    done = subprocess.run(
        [*command, "--json", file, *flags],
        env=os.environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    (result,) = report["results"]
    assert report["preset"] == ("model_1" if flags else "seq_model_esm1b_ptm")
    assert result["best_chunk"] in ([8] if flags else [None, 2, 4, 8, 16])
    for side in ("default", "best", "openfoldpp"):
        assert 0 < result["seconds"][side]["model_s"] < result["seconds"][side]["whole_s"]
    assert "| 12 | model |" in done.stdout


def test_settings_of_the_sides(load):
    benchmark = load("openfold_cpu")
    options = Namespace(blocks=2, recycles=1, alignment=True)
    shared = benchmark.common_settings(options)
    assert shared["data.predict.max_msa_clusters"] == shared["data.predict.max_extra_msa"] == 128
    assert shared["model.evoformer_stack.no_blocks"] == 2
    best = benchmark.untuned(None)
    assert best.pop("globals.chunk_size") is None
    assert len(best) == 3
    assert set(best.values()) == {False}
    assert benchmark.chunk_size("unchunked") is None
    assert benchmark.chunk_size("16") == 16


def test_ratios_are_those_of_the_medians(load):
    seconds = {side: {"model_s": s, "whole_s": s + 10} for side, s in zip(
        ("default", "best", "openfoldpp"), (60.0, 40.0, 20.0), strict=True)}  # fmt: skip
    results = [{"residues": 256, "best_chunk": 8, "seconds": seconds}]
    text = load("openfold_cpu").markdown(
        {"preset": "p", "blocks": 48, "recycles": 3, "rounds": 1, "results": results}
    )
    assert "| 256 | model | 60.0 s | 40.0 s | 20.0 s | 3.00x | 2.00x |" in text
    assert "| 256 | whole run | 70.0 s | 50.0 s | 30.0 s | 2.33x | 1.67x |" in text
