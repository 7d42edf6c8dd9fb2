"""Every public name says what it is, what it takes, what it returns and what it raises.

Docstrings with a section of parameters are checked by numpydoc, with the checks named in pyproject.toml. A
shorter one is enough where its text speaks of every parameter.
"""

import ast
import enum
import importlib
import inspect
import pkgutil
import re
import textwrap
import tomllib
from pathlib import Path

import pytest
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import validate

import openfoldpp
from openfoldpp.upstream import activate

REPOSITORY = Path(__file__).parents[2]
CHECKS = set(
    tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["numpydoc_validation"]["checks"]
)
# What numpydoc asks of a docstring with a section of parameters, and not of a shorter one or of a class.
OF_SECTIONS = {"PR01", "RT01"}

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(openfoldpp.__path__, "openfoldpp.")
    if not any(part.startswith("_") for part in module.name.split("."))
)


def public(holder, module):
    """Yield (name, object) of the functions and classes that a module defines, and of their methods."""
    for name, value in vars(holder).items():
        value = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        value = inspect.unwrap(value) if callable(value) else value
        if name.startswith("_") or (value.__doc__ and is_documented_elsewhere(holder, name, value)):
            continue
        if isinstance(value, property):
            yield f"{holder.__qualname__}.{name}", value
        elif (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module:
            yield value.__qualname__, value
            if inspect.isclass(value):
                yield from public(value, module)


def is_documented_elsewhere(holder, name, value):
    """Whether it is a hook, a method of a base class, or a command, whose options carry their help."""
    if name.startswith("openfoldpp_") or "typer." in str(getattr(value, "__annotations__", "")):
        return True
    return inspect.isclass(holder) and any(hasattr(base, name) for base in holder.__mro__[1:-1])


def is_protocol(thing):
    """Whether a class is a protocol, which nobody makes an instance of."""
    return getattr(thing, "_is_protocol", False)


def parameters(thing):
    """Names that a caller may pass."""
    if inspect.isclass(thing):
        if "__init__" not in vars(thing) or issubclass(thing, enum.Enum) or is_protocol(thing):
            return []
        thing = thing.__init__
    if not inspect.isfunction(thing):
        return []
    return [name for name in inspect.signature(thing).parameters if name not in ("self", "cls")]


def raised(function):
    """Names of the exceptions that a function's own lines raise."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc]
    names = [call.func.id for call in calls if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)]
    return {name for name in names if name[0].isupper()}


def unspoken(thing, text):
    """Parameters that the text does not speak of; "the atoms' coordinates" speaks of ``atom_coordinates``."""
    words = set(re.findall(r"[a-z0-9]+", text.lower()))
    return [
        name
        for name in parameters(thing)
        if not all(
            any(word.startswith(part.rstrip("s")) for word in words)
            for part in name.lower().split("_")
            if part
        )
    ]


def faults(thing):
    """Sentences on what a public object's docstring lacks."""
    checks, found = CHECKS, []
    text = inspect.getdoc(thing) or ""
    if inspect.isclass(thing) or not re.search(r"^Parameters\n-{4,}$", text, re.MULTILINE):
        checks = CHECKS - OF_SECTIONS
        missing = unspoken(thing, text) if text else []
        if missing:
            found.append(f"does not speak of {', '.join(missing)}")
    if inspect.isfunction(thing):
        silent = [name for name in sorted(raised(thing)) if name not in text]
        if silent:
            found.append(f"raises {', '.join(silent)} without saying so")
    errors = validate(get_doc_object(thing))["errors"]
    return found + [f"{code} {message}" for code, message in errors if code in checks]


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_documented(name):
    activate()  # some parts of openfoldpp.upstream import openfold as they are imported
    module = importlib.import_module(name)
    found = [] if module.__doc__ or not vars(module).get("__all__") else ["the module has no docstring"]
    for thing_name, thing in public(module, name):
        found += [f"{thing_name}: {fault}" for fault in faults(thing)]
    assert not found, "\n".join([f"docstrings of {name}:", *found])


def test_the_check_sees_what_is_missing():
    def documented_in_part(sequence, depth):
        """Return something.

        Parameters
        ----------
        sequence : str
            Letters.
        """
        raise ValueError(sequence, depth)

    def short(sequence, depth):
        """Fold `sequence`"""

    said = " ".join(faults(documented_in_part))
    assert "'depth'" in said
    assert "raises ValueError" in said
    assert faults(short) == ["does not speak of depth", "SS03 Summary does not end with a period"]
