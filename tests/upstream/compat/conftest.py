"""Fixtures to import single modules of openfold with chosen records, and without the packages they miss."""

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from openfoldpp.upstream import activate, compat
from openfoldpp.upstream.compat.importing import MendingFinder


@pytest.fixture(scope="session")
def active():
    """OpenFold activated for the process, and what the tests import anew imported with all records first."""
    installation = activate()
    for name in ("utils.script_utils", "utils.seed", "data.templates", "np.relax.relax"):
        importlib.import_module(f"openfold.{name}")
    return installation


@pytest.fixture(scope="session")
def records():
    """The records by name."""
    return {record.name: record for record in compat.RECORDS}


@pytest.fixture(scope="session")
def reason(active, records):
    """``reason(name)``: why the active OpenFold needs a record here, or None."""
    return lambda name: records[name].probe(active)


@pytest.fixture
def imported(active, records):
    """``imported(module_name, *names)``: a context with the module imported anew, with these records alone.

    Modules that it imports in turn are those that the process has already, mended by all records. Afterwards
    all is as it was.
    """

    @contextmanager
    def fresh(module_name: str, *names: str):
        parent_name, _, name = module_name.rpartition(".")
        parent, former, hooks = sys.modules[parent_name], sys.modules.pop(module_name), sys.meta_path[:]
        sys.meta_path[:] = [hook for hook in hooks if not isinstance(hook, MendingFinder)]
        finder = MendingFinder(mend for name in names for mend in records[name].mends)
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
