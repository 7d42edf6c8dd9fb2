"""Files that are complete or absent.

Writing goes to a temporary file in the same folder, is flushed to disk and renamed. A killed run leaves
no half-written result under the final name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pickle
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from openfoldpp.errors import DiskFullError, InputError
from openfoldpp.pickles import read_pickle

__all__ = [
    "atomic_write",
    "explain_os_error",
    "locked_folder",
    "read_pickle",
    "write_json",
    "write_pickle",
    "write_text",
]

# No space on the disk, none left of the user's share of it, a file larger than the system lets it be.
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

# Folders on some network file systems cannot be synchronised; the file itself has been by then.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike[str], mode: str = "wb", *, size: Callable[[], int] | None = None
) -> Iterator[IO[Any]]:
    r"""Open a temporary file that takes the name ``path`` once the block ends without an error.

    Parameters
    ----------
    path : path-like
        Final name. A symbolic link is followed. A file that is there is replaced as a whole.
    mode : {"wb", "w"}
        Binary, or text in UTF-8 with ``\n`` line ends.
    size : callable, optional
        Returns how many bytes are to be written; asked only to say so where the disk is full.

    Yields
    ------
    file object
        Open for writing. Whatever ends the block early, an interrupt included, removes it.

    Raises
    ------
    ValueError
        ``mode`` is neither ``"wb"`` nor ``"w"``.
    DiskFullError
        There is no space for it.
    OSError
        The folder is missing or not writable.
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"mode is {mode!r}: expected 'wb' or 'w'")
    final = Path(os.path.realpath(path))
    # Not derived from the final name, which may already be as long as the file system allows.
    temporary = final.with_name(f".openfoldpp-{secrets.token_hex(8)}.tmp")
    try:
        # os.open with 0o666 leaves the permissions to the umask, as a plain open() would.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        text = {} if mode == "wb" else {"encoding": "utf-8", "newline": "\n"}
        with os.fdopen(descriptor, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(final)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno not in _NO_SPACE:
            raise
        needed = f"it needs {size():,} bytes, and" if size else "the disk has"
        raise DiskFullError(
            f"{final}: {error.strerror}; {needed} {_free(final.parent)} are free. Nothing of this file was "
            f"left. {_MORE_SPACE}"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(final.parent)


_MORE_SPACE = "Free some space, or give another --output_dir (or --out)."


def _free(folder: Path) -> str:
    return f"{shutil.disk_usage(folder).free:,} bytes"


def explain_os_error(error: OSError) -> str:
    """Say in a line what a file operation could not do: the file, the reason, and what would help.

    Parameters
    ----------
    error : OSError
        From reading or writing a file, by us or by a library.

    Returns
    -------
    str
        For a message.
    """
    name = f"{error.filename}: " if error.filename is not None else ""
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in _NO_SPACE:
        folder = Path(error.filename).parent if isinstance(error.filename, str) else None
        free = f" ({_free(folder)} are free there)" if folder is not None and folder.is_dir() else ""
        return f"{name}{reason}{free}. {_MORE_SPACE}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{name}{reason}. Change its permissions, or give another --output_dir (or --out)."
    return f"cannot read or write: {name}{reason}"


@contextlib.contextmanager
def locked_folder(folder: Path, lock: str, program: str) -> Iterator[str | None]:
    """Make a folder, and keep other runs of a program out of it.

    A lock of the system, which ends with the process however that ends.

    Parameters
    ----------
    folder : pathlib.Path
        Made where it is missing.
    lock : str
        Name of the lock's file in it.
    program : str
        The command, for the message.

    Yields
    ------
    str or None
        A note where the file system has no locks.

    Raises
    ------
    InputError
        Another run is writing into the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    held, note = False, None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError as error:
            raise InputError(
                f"{folder}: another run of {program} is writing there; wait for it, or name another folder "
                "with --out"
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                raise
            note = f"{folder}: its file system has no locks; start one run at a time in this folder"
        yield note
    finally:
        if held:
            # Closing does not let go of it while a process that was forked meanwhile has it open too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text in UTF-8, atomically.

    Parameters
    ----------
    path : path-like
        Final name, see :func:`atomic_write`.
    text : str
        Written with its line ends as they are.
    """
    with atomic_write(path, "w", size=lambda: len(text.encode())) as file:
        file.write(text)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON with an indent of two, atomically.

    Parameters
    ----------
    path : path-like
        Final name, see :func:`atomic_write`.
    value : object
        numpy scalars and arrays become numbers and lists, paths become text.

    Raises
    ------
    ValueError
        A number is NaN or infinite: JSON has neither.
    TypeError
        A value has no JSON form.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False, default=_json_value) + "\n")


def _json_value(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def write_pickle(path: str | os.PathLike[str], value: Any) -> None:
    """Pickle with the highest protocol, atomically.

    Parameters
    ----------
    path : path-like
        Final name, see :func:`atomic_write`.
    value : object
        Mappings that subclass ``dict`` (:class:`openfoldpp.types.Output`) are written as plain ``dict``,
        so that readers need none of our classes; arrays are written C-contiguous.
    """
    plain = _plain(value)
    with atomic_write(path, size=lambda: _pickled_bytes(plain)) as file:
        pickle.dump(plain, file, protocol=pickle.HIGHEST_PROTOCOL)


def _pickled_bytes(value: Any) -> int:
    """Count the bytes of a pickle without keeping them."""

    class Counter:
        total = 0

        def write(self, data: Any) -> int:
            size = memoryview(data).nbytes
            self.total += size
            return size

    counter = Counter()
    pickle.dump(value, counter, protocol=pickle.HIGHEST_PROTOCOL)
    return counter.total


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, np.ndarray):
        # Not ascontiguousarray, which gives an array of no dimension one dimension.
        return np.asarray(value, order="C")
    return value
