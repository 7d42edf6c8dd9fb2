"""Fixtures to import single modules of openfold with chosen records, and without the packages they miss.

The tests run on the OpenFold that is active: 0.0.1 where it is installed and nothing else is named, or the
checkout at OPENFOLD_HOME. There all of them count as ``upstream``, so that ``pytest -m upstream`` runs them
on each tag. A test of a record that the release does not have is skipped.
"""

import importlib
import importlib.util
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from openfoldpp.upstream import activate, compat
from openfoldpp.upstream.compat.importing import MendingFinder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    if os.environ.get("OPENFOLD_HOME"):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker("upstream")


@pytest.fixture(scope="session")
def active():
    """OpenFold activated for the process, and what the tests import anew imported with all records first."""
    installation = activate()
    for name in ("utils.script_utils", "utils.seed", "data.templates", "np.relax.relax", "utils.trace_utils"):
        if (installation.package / f"{name.replace('.', '/')}.py").is_file():
            importlib.import_module(f"openfold.{name}")
    if installation.script is not None:
        importlib.import_module("scripts.precompute_embeddings")
    return installation


@pytest.fixture(scope="session")
def records():
    """The records by name."""
    return {record.name: record for record in compat.RECORDS}


@pytest.fixture(scope="session")
def reason(active, records):
    """``reason(name)``: why the active OpenFold needs a record here, or None; skips where it has none."""

    def ask(name: str) -> str | None:
        if active.version not in records[name].versions:
            pytest.skip(f"OpenFold {active.version} does not need the record {name!r}")
        return records[name].probe(active)

    return ask


@pytest.fixture
def imported(active, records):
    """``imported(module_name, *names)``: a context with the module imported anew, with these records alone.

    Modules that it imports in turn are those that the process has already, mended by all records. Afterwards
    all is as it was.
    """

    @contextmanager
    def fresh(module_name: str, *names: str):
        importlib.import_module(module_name)
        parent_name, _, name = module_name.rpartition(".")
        parent, former, hooks = sys.modules[parent_name], sys.modules.pop(module_name), sys.meta_path[:]
        sys.meta_path[:] = [hook for hook in hooks if not isinstance(hook, MendingFinder)]
        finder = MendingFinder((mend for name in names for mend in records[name].mends), active.root)
        finder.install()
        try:
            yield importlib.import_module(module_name)
        finally:
            finder.remove()
            sys.meta_path[:] = hooks
            sys.modules[module_name] = former
            setattr(parent, name, former)

    return fresh


@pytest.fixture
def package_of():
    """``package_of(root)``: a context in which ``import openfold`` finds the package in `root`."""

    def ours() -> dict:
        return {name: module for name, module in sys.modules.items() if name.split(".")[0] == "openfold"}

    @contextmanager
    def swapped(root: Path):
        former = ours()
        for name in former:
            del sys.modules[name]
        sys.path.insert(0, str(root))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(str(root))
            for name in ours():
                del sys.modules[name]
            sys.modules.update(former)

    return swapped


@pytest.fixture
def no_lightning(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("pytorch_lightning")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)  # importlib's own way to say "not there"


@pytest.fixture
def lightning_2(tmp_path, monkeypatch):
    """A pytorch_lightning laid out as version 2 is, where the two names that OpenFold imports are gone."""
    for name in [name for name in sys.modules if name.startswith("pytorch_lightning")]:
        monkeypatch.delitem(sys.modules, name)
    folder = tmp_path / "pytorch_lightning"
    (folder / "utilities").mkdir(parents=True)
    (folder / "__init__.py").write_text("def seed_everything(seed=None): return ('seeded', seed)\n")
    (folder / "utilities" / "__init__.py").touch()
    (folder / "utilities" / "seed.py").write_text("isolate_rng = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.startswith("pytorch_lightning")]:
        del sys.modules[name]
