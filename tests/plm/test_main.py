"""``python -m openfoldpp.plm``: one sequence, and how long it takes."""

import itertools
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from openfoldpp.plm import __main__ as program

SEQUENCE = "ACDEFGHIKLMNPQRSTVWY" * 2


@pytest.fixture
def ticking(monkeypatch):
    """A model whose runs take 10 ms, the first that is measured 5 ms, by a clock that says so."""
    asked = []

    def embed(sequences):
        asked.extend(map(len, sequences))
        return [torch.ones(len(sequences[0]), 4)]

    model = SimpleNamespace(name="stub", embed=embed)
    monkeypatch.setattr(program, "load", lambda *arguments: asked.append(arguments) or model)
    ticks = itertools.chain([0, 0.005], *([n, n + 0.01] for n in range(1, 100)))
    monkeypatch.setattr(program, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    return asked


def test_the_latency_is_that_of_100_residues(ticking, capsys):
    flags = ["--plm", "x", "--plm_weights", "f", "--plm_layer", "3", "--plm_dtype", "bfloat16"]
    assert program.main(["--seq", SEQUENCE, "--benchmark", *flags]) == 0
    about, latency = capsys.readouterr().out.splitlines()
    assert about == "stub: 40 residues, 4 channels, mean norm of a vector 2.00"
    assert latency.startswith("10.0 ms per 100 residues (median of 20 runs, fastest 5.0 ms, ")
    assert latency.endswith(f"{torch.get_num_threads()} threads)")
    assert ticking[0] == ("x", "f", 3, "bfloat16")
    # The sequence itself, then 100 residues: once before the clock runs, and twenty times.
    assert ticking[1:] == [40, *[100] * 21]


def test_nothing_is_timed_unasked(ticking, capsys):
    assert program.main(["--seq", SEQUENCE]) == 0
    assert "ms" not in capsys.readouterr().out


def test_the_module_measures_a_real_model():
    done = subprocess.run(
        [sys.executable, "-m", "openfoldpp.plm", "--seq", SEQUENCE, "--benchmark"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("plm_lite: 40 residues, 512 channels, mean norm of a vector ")
    assert " ms per 100 residues (median of 20 runs" in done.stdout


def test_what_is_wrong_is_one_message(capsys):
    assert program.main(["--seq", "a1c"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("python -m openfoldpp.plm: a sequence has '1' at 2")
