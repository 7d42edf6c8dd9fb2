"""Graphs of libraries that come without: made at first use, and kept."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from openfoldpp.config import Settings
from openfoldpp.errors import DiskFullError
from openfoldpp.files import atomic_write
from openfoldpp.motifs.index import EF_CONSTRUCTION, M, from_bytes, make_index, to_bytes
from openfoldpp.plm.cache import CacheWarning, default_folder

_DIGEST_BYTES = hashlib.sha256().digest_size
_FORMAT = "3"


def graph_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return where graphs are kept.

    Parameters
    ----------
    environ : mapping of str to str, optional
        Instead of ``os.environ``.

    Returns
    -------
    pathlib.Path
        ``motifs/graphs`` in ``OPENFOLDPP_CACHE_DIR``, else in ``openfoldpp`` in ``XDG_CACHE_HOME`` or
        ``~/.cache``.
    """
    environ = os.environ if environ is None else environ
    named = Settings.from_environment(environ).cache_dir is not None
    folder = default_folder(environ)
    return (folder if named else folder.parent) / "motifs" / "graphs"


def cached_graph(
    part: Path,
    digest: str,
    shape: tuple[int, int],
    vectors: Callable[[], np.ndarray],
    note: Callable[[str], None],
) -> Any:
    """Return the graph of a part that has none, from the cache or made now.

    Parameters
    ----------
    part : pathlib.Path
        Folder of the part, for messages.
    digest : str
        SHA-256 of the files of its vectors.
    shape : (int, int)
        Of the vectors.
    vectors : callable
        Returns them, float32.
    note : callable
        Told in a line that it is being made, which takes a while.

    Returns
    -------
    faiss.Index

    Warns
    -----
    CacheWarning
        It cannot be kept, and is made again the next time.
    """
    name = hashlib.sha256(f"{_FORMAT} {digest} {M} {EF_CONSTRUCTION}".encode()).hexdigest()
    path = graph_folder() / f"{name}.faiss"
    found = _read(path, shape)
    if found is not None:
        return found
    note(f"{part}: comes without its graph; making it of {shape[0]:,} vectors, once")
    index = make_index(vectors(), flat_below=0)
    data = to_bytes(index)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, size=lambda: data.nbytes + _DIGEST_BYTES) as file:
            file.write(hashlib.sha256(data).digest())
            file.write(data)
    except (OSError, DiskFullError) as error:
        warnings.warn(
            f"the graph of {part} cannot be kept in {path.parent} ({error}), and will be made again; name a "
            "folder with OPENFOLDPP_CACHE_DIR",
            CacheWarning,
            stacklevel=2,
        )
    return index


def _read(path: Path, shape: tuple[int, int]) -> Any:
    """Return the graph of a file; None where there is none, or a damaged one, which is then made again."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    content = data[_DIGEST_BYTES:]
    if data[:_DIGEST_BYTES].tobytes() != hashlib.sha256(content).digest():
        return None
    return from_bytes(content, path, shape)
