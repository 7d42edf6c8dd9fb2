"""Who may import whom, and what importing openfoldpp must not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "openfoldpp"

HEAVY = {"torch", "openfold", "biotite", "flash_abb", "anarcii", "Bio", "openmm", "pytorch_lightning"}

LIGHT = [
    "openfoldpp",
    "openfoldpp.types",
    "openfoldpp.errors",
    "openfoldpp.plugins.manager",
    *(
        f"openfoldpp.{path.relative_to(PACKAGE).with_suffix('').as_posix().replace('/', '.')}"
        for part in ("adapters", "cli")
        for path in sorted((PACKAGE / part).rglob("*.py"))
        if path.name != "__init__.py"
    ),
]


def test_the_layers_of_the_design_hold():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_other_door_imports_openfold_by_name():
    """``import_module("openfold...")`` is an import that the linter does not see."""
    found = [
        f"{path.relative_to(REPOSITORY)}:{call.lineno}"
        for path in PACKAGE.rglob("*.py")
        if PACKAGE / "upstream" not in path.parents
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and getattr(call.func, "attr", getattr(call.func, "id", "")) in ("import_module", "__import__")
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and str(call.args[0].value).partition(".")[0] == "openfold"
    ]
    assert not found, f"openfold is imported past openfoldpp.upstream in {found}"


@pytest.mark.parametrize("module", LIGHT)
def test_importing_loads_nothing_heavy(module):
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = HEAVY & set(done.stdout.split())
    assert not loaded, (
        f"import {module} loads {sorted(loaded)}; import them inside the functions that need them"
    )
