import contextlib
import errno
import json
import os
import pickle
import resource
import stat
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from openfoldpp.errors import DiskFullError
from openfoldpp.files import (
    atomic_write,
    explain_os_error,
    read_pickle,
    write_json,
    write_pickle,
    write_text,
)
from openfoldpp.types import Output


def test_atomic_write_replaces_the_whole_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"a longer old content")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"a longer old content"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_atomic_write_leaves_nothing_when_the_block_is_cut_short(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def cut_short():
        with atomic_write(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        cut_short()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_syncs_the_file_before_the_rename_and_the_folder_after(tmp_path, monkeypatch):
    steps = []
    sync, replace = os.fsync, Path.replace

    def recording_fsync(descriptor):
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def recording_replace(self, target):
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(Path, "replace", recording_replace)
    write_text(tmp_path / "a.txt", "x")
    assert steps == ["file", "rename", "folder"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_only_a_folder_that_cannot_be_synced_is_let_pass(tmp_path, monkeypatch, number):
    sync = os.fsync

    def failing_fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", failing_fsync)
    expected = pytest.raises(OSError, match="Input/output") if number == errno.EIO else nullcontext()
    with expected:
        write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"


def test_atomic_write_keeps_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_atomic_write_follows_a_symbolic_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "a.txt"
    link.symlink_to(tmp_path / "elsewhere" / "b.txt")
    write_text(link, "x")
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "b.txt").read_text() == "x"


def test_atomic_write_takes_the_longest_name(tmp_path):
    write_text(tmp_path / ("n" * 255), "x")


def test_atomic_write_into_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "missing" / "a.txt", "x")


@contextlib.contextmanager
def largest_file(size):
    """Let no file grow beyond some bytes: what a full disk does, for every user and file system.

    Pytest's own output is a file too where it is redirected, so nothing else may be within the block.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("write", [write_pickle, write_json, write_text])
def test_where_there_is_no_space_the_file_and_its_size_are_named_and_nothing_is_left(write, tmp_path):
    value = "x" * 100_000 if write is write_text else {"a": np.arange(30_000)}
    write(tmp_path / "whole", value)
    size = (tmp_path / "whole").stat().st_size
    (tmp_path / "a").write_text("old")
    with largest_file(4096), pytest.raises(DiskFullError) as caught:
        write(tmp_path / "a", value)
    assert str(caught.value).startswith(f"{tmp_path / 'a'}: File too large; it needs {size:,} bytes, and ")
    assert "give another --output_dir (or --out)" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "whole"]
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "{}/x"),
            ["{}/x: No space", "bytes are free there"],
        ),
        (OSError(errno.ENOSPC, "No space left on device"), ["No space left on device. Free some space"]),
        (PermissionError(errno.EACCES, "Permission denied", "{}/x"), ["{}/x: Permission denied. Change its"]),
        (OSError(errno.EIO, "Input/output error", "x"), ["cannot read or write: x: Input/output error"]),
        (OSError("odd"), ["cannot read or write: odd"]),
    ],
)
def test_errors_of_files_are_explained(error, words, tmp_path):
    if error.filename is not None:
        error.filename = error.filename.replace("{}", str(tmp_path))
    text = explain_os_error(error)
    assert all(word.replace("{}", str(tmp_path)) in text for word in words)


def test_atomic_write_refuses_append():
    with pytest.raises(ValueError, match="'a'"), atomic_write("x", "a"):
        pass


def test_write_text_is_utf8_with_unix_line_ends(tmp_path):
    write_text(tmp_path / "a.txt", "Å\n")
    assert (tmp_path / "a.txt").read_bytes() == "Å\n".encode()


def test_write_json_turns_numpy_and_paths_into_json(tmp_path):
    write_json(tmp_path / "a.json", {"a": np.float32(0.5), "b": np.arange(2), "c": Path("x/y")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 0.5, "b": [0, 1], "c": "x/y"}


def test_write_json_refuses_nan_and_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", [float("nan")])
    with pytest.raises(TypeError, match="set has no JSON form"):
        write_json(tmp_path / "a.json", {1})
    assert json.loads((tmp_path / "a.json").read_text()) == [1]


def test_write_pickle_writes_a_plain_dict_of_contiguous_arrays(tmp_path):
    values = {
        "m": np.arange(6.0).reshape(2, 3).T,
        "sm": {"s": np.float32(1), "zero": np.array(3), "list": [np.ones((3, 2)).T]},
    }
    output = Output(values, source="test", chain_ids=("A",), provenance={})
    write_pickle(tmp_path / "a.pkl", output)
    read = pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert type(read) is dict
    assert read["m"].flags.c_contiguous
    np.testing.assert_array_equal(read["m"], values["m"])
    assert read["sm"]["zero"].shape == ()
    assert read["sm"]["list"][0].flags.c_contiguous
    assert read_pickle(tmp_path / "a.pkl")["sm"]["s"] == np.float32(1)
