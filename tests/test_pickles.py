import builtins
import dataclasses
import io
import os
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from openfoldpp.errors import InputError, UnsafePickleError
from openfoldpp.pickles import read_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

ARRAYS = {
    "float32": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(20, dtype=np.int64)[::3],
    "big_endian": np.arange(3, dtype=">i4"),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "half": np.array([0.5], np.float16),
    "text": np.array(["AB", "C"]),
    "bytes": np.array([b"AB", b"C"]),
    "no_dimension": np.array(3.0),
    "empty": np.zeros((0, 37, 3), np.float32),
    "objects": np.array([b"template", "1abc", 3, None], dtype=object),
    "scalar": np.float32(1.5),
    "integer_scalar": np.int64(-3),
    "bool_scalar": np.bool_(True),
}


class Payload:
    """Reduces to a call of any function."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def dump(path, value, protocol=pickle.HIGHEST_PROTOCOL):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_as_they_were(tmp_path, name, protocol):
    expected = ARRAYS[name]
    read = read_pickle(dump(tmp_path / "a.pkl", {"a": expected}, protocol))["a"]
    assert type(read) is type(expected)
    assert read.dtype == expected.dtype
    np.testing.assert_array_equal(read, expected)
    if isinstance(read, np.ndarray):
        assert read.flags.writeable
        assert read.flags.f_contiguous == expected.flags.f_contiguous or name == "strided"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_comes_back_as_it_was(tmp_path, protocol):
    value = [1, 2.5, "é", b"\xff", bytearray(b"x"), None, True, 3j, {1}, frozenset({2}), (1, [2]), {(1,): 2}]
    value.append(OrderedDict(b=1, a=2))
    read = read_pickle(dump(tmp_path / "a.pkl", value, protocol))
    assert read == value
    assert list(map(type, read)) == list(map(type, value))


def test_shared_and_circular_containers_stay_so(tmp_path):
    array = np.arange(3)
    value = {"a": array, "b": [array], "c": (array,)}
    value["self"] = value
    read = read_pickle(dump(tmp_path / "a.pkl", value))
    assert read["self"] is read
    assert read["a"] is read["b"][0] is read["c"][0]


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_both_numpy_module_names_are_read(tmp_path, core):
    written = pickle.dumps({"a": np.arange(3), "s": np.float32(2)}, 2)
    assert b"numpy._core.multiarray" in written
    path = tmp_path / "a.pkl"
    path.write_bytes(written.replace(b"numpy._core.", core.encode() + b"."))
    np.testing.assert_array_equal(read_pickle(path)["a"], np.arange(3))
    frombuffer = (
        b"\x80\x02c"
        + core.encode()
        + b".numeric\n_frombuffer\n(U\x02\x01\x02cnumpy\ndtype\nU\x02u1\x85RK\x02\x85U\x01CtR."
    )
    path.write_bytes(
        frombuffer.replace(b"U\x01C", b"X\x01\x00\x00\x00C").replace(
            b"U\x02\x01\x02", b"c_codecs\nencode\nX\x02\x00\x00\x00\x01\x02X\x06\x00\x00\x00latin1\x86R"
        )
    )
    np.testing.assert_array_equal(read_pickle(path), np.array([1, 2], np.uint8))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "function",
    [
        os.system,
        builtins.eval,
        builtins.exec,
        builtins.getattr,
        builtins.__import__,
        np.load,
        np.lib.format.read_array,
    ],
    ids=lambda function: function.__name__,
)
@pytest.mark.parametrize(
    "nest",
    [
        lambda payload: payload,
        lambda payload: {"plddt": np.zeros(2), "sm": [{"frames": (payload,)}]},
        lambda payload: {payload: 1},
        lambda payload: np.array([1, payload], dtype=object),
        lambda payload: [payload, payload],
    ],
    ids=["top", "nested", "key", "object array", "memoized"],
)
def test_a_payload_is_named_and_never_runs(tmp_path, function, nest, protocol):
    marker = tmp_path / "ran"
    argument = f"touch {marker}" if function is os.system else f"open({str(marker)!r}, 'w')"
    payload = Payload(function, *(("os", "system") if function is builtins.getattr else (argument,)))
    with pytest.raises(UnsafePickleError, match=rf"names .*\.{function.__name__}.*write it again"):
        read_pickle(dump(tmp_path / "a.pkl", nest(payload), protocol))
    assert not marker.exists()


def opcodes(module, name, arguments):
    return b"\x80\x04c" + module + b"\n" + name + b"\n" + arguments + b"."


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(opcodes(b"builtins", b"set.__class__", b""), id="dotted name"),
        pytest.param(opcodes(b"numpy", b"dtype.__reduce__", b""), id="attribute of an allowed name"),
        pytest.param(opcodes(b"numpy", b"ndarray", b""), id="a class as the value"),
        pytest.param(opcodes(b"builtins", b"object", b"(tR"), id="an object as the value"),
        pytest.param(opcodes(b"numpy", b"dtype", b"\x8c\x02O8K\x00\x87R"), id="too few arguments"),
        pytest.param(opcodes(b"numpy", b"dtype", b"\x8c\x05f4,O8\x85R"), id="structured dtype"),
        pytest.param(opcodes(b"_codecs", b"encode", b"\x8c\x01ax\x8c\x03hex\x86R"), id="broken text"),
        pytest.param(b"\x80\x04\x8c\x01iQ.", id="persistent id"),
        pytest.param(b"\x80\x04\x82\x01.", id="extension registry"),
        pytest.param(b"\x80\x04\x97.", id="out-of-band buffer"),
    ],
)
def test_hand_made_opcodes_are_refused(tmp_path, written):
    path = tmp_path / "a.pkl"
    path.write_bytes(written)
    with pytest.raises((UnsafePickleError, InputError)):
        read_pickle(path)


def test_a_forged_array_size_is_refused(tmp_path):
    state = (1, (10**12,), np.dtype("f8"), False, b"12345678")
    forged = types.SimpleNamespace(state=state)

    class Forged:
        def __reduce__(self):
            return np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b"b"), forged.state

    with pytest.raises(InputError, match="does not hold its bytes"):
        read_pickle(dump(tmp_path / "a.pkl", Forged()))


@pytest.mark.parametrize("name", ["V8", "f8"])
def test_a_forged_dtype_cannot_hide_objects(tmp_path, name):
    class Forged:
        def __reduce__(self):
            return np.dtype, (name, False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)

    with pytest.raises(UnsafePickleError, match="dtype"):
        read_pickle(dump(tmp_path / "a.pkl", Forged()))


def test_a_file_cannot_change_how_the_next_one_is_read(tmp_path):
    # Sets an attribute on the function that stands for numpy.dtype, as BUILD with a pair of states can.
    spoil = opcodes(b"numpy", b"dtype", b"N}\x8c\x0c__defaults__)s\x86b")
    path = tmp_path / "a.pkl"
    path.write_bytes(spoil)
    with pytest.raises((UnsafePickleError, InputError)):
        read_pickle(path)
    np.testing.assert_array_equal(read_pickle(dump(path, np.arange(2))), np.arange(2))


def test_structured_arrays_are_refused(tmp_path):
    with pytest.raises(UnsafePickleError, match="dtype"):
        read_pickle(dump(tmp_path / "a.pkl", np.zeros(2, dtype=[("a", "f4")])))


def test_a_tensor_is_refused_with_the_cure(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(opcodes(b"torch._utils", b"_rebuild_tensor_v2", b"(tR"))
    with pytest.raises(UnsafePickleError, match=r"\.numpy\(\)"):
        read_pickle(path)


@dataclasses.dataclass(frozen=True)
class Protein:
    """Has the name and a few fields of OpenFold's, whose package the unit tests do without."""

    aatype: np.ndarray
    atom_positions: np.ndarray
    remark: str | None = None


@pytest.fixture
def protein_class(monkeypatch):
    module = types.ModuleType("openfold.np.protein")
    monkeypatch.setattr(Protein, "__module__", module.__name__)
    module.Protein = Protein
    for name in ("openfold", "openfold.np"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return Protein


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_allowed_dataclass_is_rebuilt(tmp_path, protein_class, protocol):
    written = {"protein": protein_class(np.arange(2), np.zeros((2, 37, 3), np.float32), "x")}
    path = dump(tmp_path / "a.pkl", written, protocol)
    with pytest.raises(UnsafePickleError, match=r"allow=\('openfold\.np\.protein\.Protein',\)"):
        read_pickle(path)
    read = read_pickle(path, allow=("openfold.np.protein.Protein",))["protein"]
    assert type(read) is protein_class
    assert read.remark == "x"
    np.testing.assert_array_equal(read.atom_positions, written["protein"].atom_positions)


def test_an_allowed_name_must_be_a_dataclass(tmp_path):
    class Instance:
        def __reduce__(self):
            return os._wrap_close, ()

    with pytest.raises(UnsafePickleError, match="not a dataclass"):
        read_pickle(dump(tmp_path / "a.pkl", Instance()), allow=("os._wrap_close",))


def test_an_allowed_class_that_is_not_installed_is_an_input_error(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02cnot_installed\nThing\n)\x81}b.")
    with pytest.raises(InputError, match="not_installed"):
        read_pickle(path, allow=("not_installed.Thing",))


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
def test_a_cut_file_is_an_input_error(tmp_path, fraction, capfd):
    path = dump(tmp_path / "a.pkl", {"a": np.arange(100)})
    written = path.read_bytes()
    path.write_bytes(written[: int(len(written) * fraction)])
    with pytest.raises(InputError, match=r"a\.pkl is not a complete pickle"):
        read_pickle(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "written", [b"ATOM      1  N   GLY A   1\n", b"A sentence.", b"\x1f\x8b\x08", b"PK\x03\x04zip", b"\x00"]
)
def test_another_format_is_an_input_error(tmp_path, written):
    path = tmp_path / "a.pkl"
    path.write_bytes(written)
    with pytest.raises(InputError, match="not a complete pickle"):
        read_pickle(path)


def test_empty_missing_and_folder_are_input_errors(tmp_path):
    (tmp_path / "empty.pkl").touch()
    with pytest.raises(InputError, match="is empty"):
        read_pickle(tmp_path / "empty.pkl")
    with pytest.raises(InputError, match=r"missing\.pkl"):
        read_pickle(tmp_path / "missing.pkl")
    with pytest.raises(InputError, match="cannot read"):
        read_pickle(tmp_path)


def test_numpy_load_files_are_not_read_as_pickles(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(os.system, "true")], dtype=object), allow_pickle=True)
    (tmp_path / "a.pkl").write_bytes(buffer.getvalue())
    with pytest.raises(InputError):
        read_pickle(tmp_path / "a.pkl")
