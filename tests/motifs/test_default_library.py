"""The library that comes with openfoldpp: whole, within its size, and its manifest tells how it was made."""

import json

import pytest

from openfoldpp.errors import WeightsError
from openfoldpp.motifs import default_library
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.library_files import read_manifest, verify


def test_it_is_whole_and_at_most_30_mb():
    path = default_library.path()
    assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) <= 30e6
    assert verify(path, read_manifest(path)) == []
    with Library.open(path) as library:
        assert len(library) > 200_000


def test_its_manifest_names_the_command_that_made_it():
    made_by = json.loads((default_library.path() / "manifest.json").read_text())["made_by"]
    assert made_by.startswith("openfoldpp train motif-library ")


def test_a_missing_one_is_told_with_what_helps(tmp_path, monkeypatch):
    monkeypatch.setattr(default_library, "_SHIPPED", tmp_path / "none")
    with pytest.raises(WeightsError, match="install openfoldpp again, or name a library"):
        default_library.path()
