"""Pickles that can be read without trusting them.

Reading a pickle runs whatever it names, so :func:`read_pickle` lets it name nothing but arrays and plain
data. numpy's own reconstruction functions are not run either, because a forged dtype can corrupt memory:
arrays are rebuilt here from their shape, type string and bytes.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import pickle
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np

from openfoldpp.errors import InputError, OpenFoldPPError, UnsafePickleError

# Boolean, integer, unsigned, float, complex, bytes, text. Not V (structured) and not m, M (times): no
# prediction has them, and structured types can hide objects.
_PLAIN_KINDS = "biufcSU"

# What Python 2, and Python 3 with protocols 0 to 2, calls two of today's modules.
_RENAMED_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def read_pickle(path: str | os.PathLike[str], *, allow: Collection[str] = ()) -> Any:
    """Read a pickle of arrays and plain data without running anything that it names.

    Parameters
    ----------
    path : path-like
        The file.
    allow : collection of str
        Full names of dataclasses that may occur as well, ``("openfold.np.protein.Protein",)`` for a
        ``NAME_protein.pkl``. Each is imported and made by its own constructor from its fields.

    Returns
    -------
    object
        Dictionaries, lists, tuples, sets, numbers, text, bytes, and numpy arrays and scalars as pickled
        by numpy 1 or 2 with any protocol. Arrays are writable.

    Raises
    ------
    UnsafePickleError
        It names something else; the message says what, and what to do.
    InputError
        It is missing, empty, cut short, or not a pickle.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read the pickle {path}: {error.strerror}") from error
    with file:
        if not file.peek(1):
            raise InputError(f"{path} is empty: expected a pickle; write it again")
        # A pickle ends with a full stop. CPython prints a stray SystemError on a cut one, so look first.
        file.seek(-1, os.SEEK_END)
        if file.read(1) != pickle.STOP:
            raise InputError(
                f"{path} is not a complete pickle; it may have been cut short: copy or write it again"
            )
        file.seek(0)
        try:
            return _finish(_RestrictedUnpickler(file, path, allow).load(), {})
        except OpenFoldPPError:
            raise
        except Exception as error:  # broken bytes can raise any exception in the unpickler
            raise InputError(
                f"{path} is not a complete pickle ({type(error).__name__}: {error}); "
                "it may have been cut short: copy or write it again"
            ) from error


_Memo = dict[int, tuple[Any, Any]]  # id of an object: the object, what takes its place


class _DType:
    """Stands in for a dtype while a pickle is read."""

    def __init__(self, name: Any, *_flags: Any):
        if not isinstance(name, str | bytes):
            raise UnsafePickleError(f"a dtype is made from {type(name).__name__}: expected a type string")
        self.dtype = np.dtype(name.decode("ascii") if isinstance(name, bytes) else name)
        if (self.dtype.hasobject and self.dtype.kind != "O") or self.dtype.kind not in _PLAIN_KINDS + "O":
            raise UnsafePickleError(
                f"an array has dtype {self.dtype}: only numbers, text and plain objects are read; "
                "store each field as an array of its own"
            )

    def __setstate__(self, state: tuple) -> None:
        order, subarray, names, fields = state[1:5]
        if subarray is not None or names is not None or fields is not None:
            raise UnsafePickleError("an array has a structured dtype: store each field by itself")
        if order in ("<", ">", b"<", b">"):
            self.dtype = self.dtype.newbyteorder(order if isinstance(order, str) else order.decode())


class _Array:
    """Stands in for an array while a pickle is read: shape, dtype, and bytes or a list of objects."""

    def __init__(self):
        self.done = None

    def __setstate__(self, state: tuple) -> None:
        # numpy's own state: version (absent before numpy 1.0), shape, dtype, Fortran order, contents.
        self.shape, self.dtype, fortran, self.data = state[-4:]
        self.order = "F" if fortran else "C"

    def finish(self, memo: _Memo) -> np.ndarray:
        if not isinstance(self.dtype, _DType):
            raise UnsafePickleError(f"an array's dtype is {type(self.dtype).__name__}: expected numpy.dtype")
        dtype, shape = self.dtype.dtype, tuple(int(size) for size in self.shape)
        count = math.prod(shape)
        if dtype.kind == "O":
            if not isinstance(self.data, list) or len(self.data) != count:
                raise InputError(f"an object array of shape {shape} does not hold {count} objects")
            array = np.empty(count, dtype=object)
            for index, item in enumerate(self.data):
                array[index] = _finish(item, memo)
        else:
            if not isinstance(self.data, bytes | bytearray) or len(self.data) != count * dtype.itemsize:
                raise InputError(f"an array of shape {shape}, dtype {dtype} does not hold its bytes")
            # An array of zero-width text has no bytes, which frombuffer does not take.
            array = np.frombuffer(self.data, dtype).copy() if self.data else np.zeros(count, dtype)
        return array.reshape(shape, order=self.order)


class _Scalar(_Array):
    """Stands in for a numpy scalar."""

    def __init__(self, dtype: Any, data: bytes = b""):
        super().__init__()
        self.shape, self.dtype, self.order, self.data = (), dtype, "C", data

    def finish(self, memo: _Memo) -> np.generic:
        return super().finish(memo)[()]


class _Record:
    """Stands in for an instance of an allowed dataclass."""

    # On the class, because unpickling does not call __init__.
    qualified_name = ""
    done = None
    fields: Mapping[str, Any] = MappingProxyType({})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.fields = dict(state)

    def finish(self, memo: _Memo) -> Any:
        module, _, name = self.qualified_name.rpartition(".")
        try:
            cls = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise InputError(
                f"the pickle holds a {self.qualified_name}, which cannot be imported here ({error})"
            ) from error
        if not dataclasses.is_dataclass(cls):
            raise UnsafePickleError(f"{self.qualified_name} is not a dataclass: allow= takes only those")
        return cls(**{key: _finish(value, memo) for key, value in self.fields.items()})


def _finish(value: Any, memo: _Memo) -> Any:
    """Replace every stand-in below ``value``; ``memo`` keeps shared and circular containers as they are."""
    if id(value) in memo:
        return memo[id(value)][1]
    if isinstance(value, _Array | _Record):
        if value.done is None:
            value.done = value.finish(memo)
        return value.done
    if isinstance(value, dict):
        memo[id(value)] = value, value
        items = [(_finish(key, memo), _finish(item, memo)) for key, item in value.items()]
        value.clear()
        value.update(items)
        return value
    if isinstance(value, list):
        memo[id(value)] = value, value
        value[:] = [_finish(item, memo) for item in value]
        return value
    if isinstance(value, tuple | set | frozenset):
        # The old one is kept too: once freed, its id could be that of another object.
        memo[id(value)] = value, type(value)(_finish(item, memo) for item in value)
        return memo[id(value)][1]
    if isinstance(value, _DType):
        return value.dtype
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | bytearray):
        return value
    raise UnsafePickleError(f"the pickle holds a {type(value).__name__}: expected arrays and plain data")


class _RestrictedUnpickler(pickle.Unpickler):
    """Knows the names below and no other."""

    def __init__(self, file: IO[bytes], path: Path, allow: Collection[str]):
        # encoding="latin1" reads what Python 2 wrote, arrays included.
        super().__init__(file, encoding="latin1")
        self._path = path
        # Made anew for each file: a pickle can set attributes on what it names.
        ndarray = object()
        records = {name: type("Record", (_Record,), {"qualified_name": name}) for name in allow}

        def reconstruct(*_arguments: Any) -> _Array:
            return _Array()

        def from_buffer(data: Any, dtype: Any, shape: Any, order: str) -> _Array:
            array = _Array()
            array.__setstate__((shape, dtype, order == "F", data))
            return array

        def scalar(dtype: Any, data: bytes = b"") -> _Scalar:
            return _Scalar(dtype, data)

        def dtype(name: Any, *flags: Any) -> _DType:
            return _DType(name, *flags)

        def encode(text: str, encoding: str = "latin1") -> bytes:
            if encoding != "latin1":
                raise UnsafePickleError(f"{path} encodes bytes as {encoding!r}: pickle itself uses 'latin1'")
            return text.encode("latin1")

        def new_object(cls: Any, *_base: Any) -> _Record:
            if cls not in records.values():
                raise UnsafePickleError(f"{path} makes an object of {cls!r}")
            return cls()

        self._known = {
            "numpy.ndarray": ndarray,
            "numpy.dtype": dtype,
            "_codecs.encode": encode,
            "copyreg._reconstructor": new_object,
            "collections.OrderedDict": OrderedDict,
            **{f"builtins.{t.__name__}": t for t in (set, frozenset, bytearray, complex, bytes, object)},
            **records,
        }
        for core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
            self._known[f"{core}.multiarray._reconstruct"] = reconstruct
            self._known[f"{core}.multiarray.scalar"] = scalar
            self._known[f"{core}.numeric._frombuffer"] = from_buffer

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name, or refuse it."""
        module = _RENAMED_MODULES.get(module, module)
        known = self._known.get(f"{module}.{name}")
        if known is not None:
            return known
        cure = "write it again with numpy arrays and plain Python data only"
        if module.split(".")[0] == "torch":
            cure = "turn each tensor into an array with .numpy() before pickling"
        elif f"{module}.{name}" == "openfold.np.protein.Protein":
            cure = "pass allow=('openfold.np.protein.Protein',) to read it"
        raise UnsafePickleError(
            f"{self._path} names {module}.{name}, and reading a pickle runs what it names: {cure}"
        )

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to objects outside of the file."""
        raise UnsafePickleError(
            f"{self._path} refers to an object outside of it (persistent id {pid!r}), as files of torch.save "
            "do: write it again with numpy arrays and plain Python data only"
        )
