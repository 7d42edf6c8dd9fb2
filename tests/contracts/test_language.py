"""The native library knows neither Python nor torch."""

import re
from pathlib import Path

CSRC = Path(__file__).parents[2] / "csrc"
FOREIGN = re.compile(
    r'^\s*#\s*include\s*[<"]((?:Python\.h|pybind11|torch|ATen|c10|caffe2|numpy)[^>"]*)', re.MULTILINE
)


def test_csrc_includes_neither_python_nor_torch():
    sources = [
        path for path in CSRC.rglob("*") if path.suffix in {".cpp", ".cu", ".h", ".hpp", ".cuh", ".inc"}
    ]
    assert sources
    found = [
        f"{path.relative_to(CSRC.parent)} includes {match[1]}"
        for path in sources
        for match in FOREIGN.finditer(path.read_text())
    ]
    assert not found, found
