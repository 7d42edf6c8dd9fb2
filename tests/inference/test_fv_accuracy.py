"""The whole command on crystal Fvs: the figures that the README gives."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest


@pytest.mark.slow
def test_crystal_fvs_through_the_command(data_dir, tmp_path):
    script = Path(__file__).parents[2] / "benchmarks/fv_accuracy.py"
    spec = importlib.util.spec_from_file_location("fv_accuracy", script)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    files = sorted((data_dir / "fv").glob("*.pdb"))
    assert len(files) == 27
    predictions = benchmark.run_command(files, tmp_path)
    rows = [benchmark.measure(file, predictions / f"{file.stem}_model_1_ptm") for file in files]
    assert max(row["to_FlashABB"] for row in rows) < 0.002
    assert np.mean([row["TM"] for row in rows]) >= 0.97
    assert np.mean([row["all_atom"] for row in rows]) < 1.3
