"""Functions compiled anew, in a module of our own."""

import ast
import importlib
import inspect
import linecache
import sys
import traceback

import pytest

from openfoldpp.errors import UpstreamError
from openfoldpp.upstream.compat.recompile import attribute, functions_reading, recompiled

SOURCE = '''
import functools


def marked(function):
    return functools.wraps(function)(lambda *args: function(*args))


class Reader:
    def read(self, values, index=0):
        """Read it."""
        inner = lambda: values[
            index
        ]
        return inner()


@marked
def last(values):
    return values[-1]


def closed(n):
    def inner(values):
        return values[n]
    return inner


by_one = closed(1)
'''


class Doubled(ast.NodeTransformer):
    def visit_Subscript(self, node):
        return ast.BinOp(self.generic_visit(node), ast.Mult(), ast.Constant(2))


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "recompile_example.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    linecache.clearcache()
    yield importlib.import_module("recompile_example")
    del sys.modules["recompile_example"]


def test_a_method_keeps_its_identity_source_defaults_and_lines(module):
    read = module.Reader.read
    source = inspect.getsource(read)
    read.__code__ = recompiled(read, Doubled())
    assert module.Reader().read([5, 6]) == 10
    assert module.Reader().read([5, 6], index=1) == 12
    assert module.Reader.read is read
    assert inspect.getsource(read) == source
    assert (read.__qualname__, read.__code__.co_qualname, read.__doc__) == (
        "Reader.read",
        "Reader.read",
        "Read it.",
    )
    with pytest.raises(TypeError) as raised:
        module.Reader().read(None)
    assert traceback.extract_tb(raised.tb)[-1].line == "inner = lambda: values["


def test_a_decorated_function_is_reached_through_what_it_wraps(module):
    inner = attribute(module, "last.__wrapped__")
    inner.__code__ = recompiled(inner, Doubled())
    assert module.last([1, 4]) == 8


def test_a_closure_is_refused(module):
    with pytest.raises(UpstreamError, match=r"'n',.* use an unmodified release"):
        recompiled(module.by_one, Doubled())


def test_functions_that_read_a_name(module):
    assert list(functions_reading(module, "wraps")) == ["marked"]
