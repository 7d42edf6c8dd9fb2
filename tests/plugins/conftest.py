"""Plugins that are installed for one test."""

import sys
import textwrap

import pytest


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution with plugins on sys.path, as pip would: its module and its entry points."""

    def put(distribution, module, code, **plugins):
        site = tmp_path / distribution
        site.mkdir()
        (site / f"{module}.py").write_text(textwrap.dedent(code))
        info = site / f"{distribution}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        lines = [f"{name.replace('__', '.')} = {value}" for name, value in plugins.items()]
        (info / "entry_points.txt").write_text("\n".join(["[openfoldpp.plugins]", *lines]))
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, module, raising=False)

    return put
