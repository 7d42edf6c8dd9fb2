"""Every example in a docstring gives what it shows."""

import doctest
import importlib
import pkgutil

import pytest

import openfoldpp
from openfoldpp.upstream import activate

MODULES = ["openfoldpp"] + [
    module.name
    for module in pkgutil.walk_packages(openfoldpp.__path__, "openfoldpp.")
    if not any(part.startswith("_") for part in module.name.split("."))
]


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    examples = [t for name in MODULES for t in finder.find(importlib.import_module(name)) if t.examples]
    assert len(examples) > 3


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name):
    activate()
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
