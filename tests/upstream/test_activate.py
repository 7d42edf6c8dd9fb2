"""Activating OpenFold, each time in a process of its own: activation is for the life of a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openfoldpp.upstream import locate


def run(code: str, **kwargs) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, **kwargs
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def second_home(tmp_path) -> Path:
    """A folder that holds a whole OpenFold 0.0.1 with a setup.py, linked to the installed one."""
    (tmp_path / "openfold").symlink_to(locate().package)
    (tmp_path / "setup.py").write_text("setup(\n    name='openfold',\n    version='0.0.1',\n)\n")
    # locate() resolves the folder itself, so the link is the package's place as the checkout has it
    return tmp_path


def test_activating_imports_nothing_and_is_idempotent():
    run(
        "import sys\n"
        "from openfoldpp.upstream import activate\n"
        "first = activate()\n"
        "hooks = list(sys.meta_path)\n"
        "assert activate() is first and activate(None) is first\n"
        "assert sys.meta_path == hooks\n"
        "assert not {'openfold', 'torch', 'biotite'} & set(sys.modules), sys.modules\n"
    )


def test_a_checkout_comes_first_on_the_import_path(second_home):
    run(
        "import sys, importlib.util, pathlib\n"
        "from openfoldpp.upstream import activate\n"
        f"home = pathlib.Path({str(second_home)!r})\n"
        "active = activate(home)\n"
        "assert active.kind == 'checkout' and sys.path[0] == str(home)\n"
        "assert importlib.util.find_spec('openfold').origin == str(home / 'openfold' / '__init__.py')\n"
        "assert activate(home) is active and activate() is active\n"
        "assert sys.path.count(str(home)) == 1\n"
    )


def test_a_second_home_is_refused(second_home):
    run(
        "import pathlib\n"
        "from openfoldpp.errors import UpstreamError\n"
        "from openfoldpp.upstream import activate\n"
        "activate()\n"
        "try:\n"
        f"    activate(pathlib.Path({str(second_home)!r}))\n"
        "except UpstreamError as error:\n"
        "    assert 'is already active in this process' in str(error)\n"
        "else:\n"
        "    raise AssertionError('accepted')\n"
    )


def test_an_openfold_imported_from_elsewhere_is_refused(tmp_path):
    (tmp_path / "openfold").mkdir()
    (tmp_path / "openfold" / "__init__.py").touch()
    run(
        "import openfold\n"
        "from openfoldpp.errors import UpstreamError\n"
        "from openfoldpp.upstream import activate\n"
        "try:\n"
        "    activate()\n"
        "except UpstreamError as error:\n"
        "    assert 'already imported from' in str(error)\n"
        "else:\n"
        "    raise AssertionError('accepted')\n",
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
