import os
import signal
import subprocess
import sys

import pytest

from openfoldpp.errors import UpstreamError
from openfoldpp.upstream import importable, locate

LANDMARKS = ("config.py", "data/mmcif_parsing.py", "np/residue_constants.py")


@pytest.fixture
def checkout(tmp_path):
    """A folder that passes for OpenFold 0.0.1 and runs the given code when it is imported."""

    def make(code):
        package = tmp_path / "openfold"
        for name in LANDMARKS:
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            (package / name).touch()
        (package / "model").mkdir()
        (package / "model/__init__.py").touch()
        (package / "model/model.py").touch()
        (package / "__init__.py").write_text(code)
        (tmp_path / "setup.py").write_text("setup(\n    name='openfold',\n    version='0.0.1',\n)\n")
        return locate(tmp_path)

    return make


def test_a_missing_package_is_named_as_pip_knows_it(checkout):
    process = importable.start_import(checkout("import tree_that_is_not_there"))
    with pytest.raises(
        UpstreamError, match="'tree_that_is_not_there', which is not installed: pip install tree_"
    ):
        importable.finish_import(process)


@pytest.mark.parametrize(
    ("name", "version", "cure"),
    [
        ("Bio.Data", "0.0.1", "pip install biopython"),
        ("Bio.Data", "2.2.0", "pip install 'openfoldpp[openfold2]'"),
        ("openmm", "2.2.0", "pip install 'openfoldpp[openfold2]'"),
        ("tree", "2.2.0", "pip install dm-tree"),
    ],
)
def test_the_cure_of_a_missing_package_is_a_command(name, version, cure):
    text = str(importable.missing_package(ModuleNotFoundError(name=name), version))
    assert text == f"OpenFold {version} imports {name!r}, which is not installed: {cure}"


def test_another_failure_is_told_in_one_line(checkout):
    process = importable.start_import(checkout("raise AttributeError('numpy has\\nno object')"))
    with pytest.raises(
        UpstreamError, match=r"^importing OpenFold raises AttributeError: numpy has no object$"
    ):
        importable.finish_import(process)


def test_a_crash_is_an_error_too(checkout):
    code = f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})"
    with pytest.raises(UpstreamError, match=f"ended Python with signal {int(signal.SIGSEGV)}"):
        importable.finish_import(importable.start_import(checkout(code)))


def test_the_installed_openfold_can_be_imported_beside_a_folder_of_that_name(checkout, tmp_path):
    checkout("raise RuntimeError('the wrong one')")
    code = (
        "from openfoldpp.upstream import importable, locate; "
        "importable.finish_import(importable.start_import(locate()))"
    )
    environ = {name: value for name, value in os.environ.items() if name != "OPENFOLD_HOME"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
