"""The benchmark of a search times every step, and says with how many threads."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_one_run(program, tmp_path):
    pytest.importorskip("faiss")
    report = tmp_path / "report.json"
    command = [sys.executable, program("motif_search.py"), "--runs", "1", "--json", report]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(report.read_text())
    assert found["threads"] >= 1
    assert found["motifs"] > 0
    assert 0 < found["steps_s"]["nearest"] < found["steps_s"]["search to features"]
    for name in found["steps_s"]:
        assert name in printed
