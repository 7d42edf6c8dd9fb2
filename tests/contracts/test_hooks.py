"""A hook ships only with a plugin that uses it, a test of its own, and its signature in the README."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PLUGINS = REPOSITORY / "openfoldpp" / "plugins"


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def marked(function: ast.FunctionDef, mark: str) -> bool:
    """Whether a function has the decorator ``@mark`` or ``@mark(...)``."""
    decorators = [d.func if isinstance(d, ast.Call) else d for d in function.decorator_list]
    return any(getattr(d, "id", getattr(d, "attr", None)) == mark for d in decorators)


def signature(function: ast.FunctionDef) -> str:
    return f"{function.name}({ast.unparse(function.args)}) -> {ast.unparse(function.returns)}"


SPECS = {f.name: signature(f) for f in functions(PLUGINS / "hookspecs.py") if marked(f, "hookspec")}


def test_the_page_declares_hooks():
    assert len(SPECS) >= 6
    assert all(name.startswith("openfoldpp_") for name in SPECS)


@pytest.mark.parametrize("hook", SPECS)
def test_every_hook_has_a_test_of_its_own(hook):
    expected = f"test_hook_{hook.removeprefix('openfoldpp_')}"
    files = (REPOSITORY / "tests").rglob("test_*.py")
    assert any(function.name == expected for path in files for function in functions(path)), expected


@pytest.mark.parametrize("hook", SPECS)
def test_every_hook_has_a_plugin_that_uses_it(hook):
    """A builtin, a part of the run, or an example; plugins written for tests do not count."""
    files = [path for folder in ("openfoldpp", "examples") for path in (REPOSITORY / folder).rglob("*.py")]
    users = [path.name for path in files for f in functions(path) if f.name == hook and marked(f, "hookimpl")]
    assert users, f"{hook} is implemented by no plugin: remove it, or ship the plugin that needs it"


def test_the_readme_shows_the_real_signatures():
    blocks = re.findall(r"```python\n(.*?)```", (PLUGINS / "README.md").read_text(), re.DOTALL)
    shown = [
        signature(node)
        for block in blocks
        for node in ast.parse(block).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("openfoldpp_")
    ]
    assert shown == list(SPECS.values())


def test_the_readme_explains_every_hook():
    rows = re.findall(r"^\| `(openfoldpp_\w+)` \|", (PLUGINS / "README.md").read_text(), re.MULTILINE)
    assert rows == list(SPECS)
