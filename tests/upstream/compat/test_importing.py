"""The import hook itself."""

import importlib
import sys

import pytest


def test_invalid_escapes_in_upstreams_source_do_not_warn(tmp_path, monkeypatch, package_of):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "openfold").mkdir()
    (tmp_path / "openfold" / "__init__.py").write_text('pattern = "\\W"\n')
    with package_of(tmp_path):
        assert importlib.import_module("openfold").pattern == r"\W"
    (tmp_path / "otherfold.py").write_text('pattern = "\\W"\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises((SyntaxError, SyntaxWarning, DeprecationWarning), match="invalid escape sequence"):
        importlib.import_module("otherfold")
