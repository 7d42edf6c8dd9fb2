"""A cache of embeddings on disk: what was embedded once is read the next time.

An entry's name is the hash of all that decides its numbers: the sequence, and the name and fingerprint of the
embedder, which cover the weights, the layer and the dtype. An entry is the SHA-256 of name and content, then
the content, float32: a damaged entry, or one under another's name, is not returned but removed.

Several processes may use a folder at once. An entry comes by rename, so that a reader sees all of it or
nothing. A lock on the file ``usage``, which holds the bytes in use, is taken for each writing and not for
reading.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from openfoldpp.config import Settings
from openfoldpp.errors import InputError
from openfoldpp.plm.embedder import Embedder, require_several

#: 8 GiB: about 35,000 antibody chains of AntiBERTy, or 5,000 proteins of 300 residues of ESM-1b.
DEFAULT_MAX_BYTES = 8 << 30

# Part of every name: a change of the format, or of the numbers of a backbone, makes old entries unreachable.
_FORMAT = b"1"
_SUFFIX = ".embedding"
_TEMPORARY = ".tmp"
_DIGEST_BYTES = hashlib.sha256().digest_size
# Evicting down to less than the limit keeps the next entries from a search of the whole folder each.
_KEPT = 0.9


class CacheWarning(UserWarning):
    """Embeddings could not be kept; they are computed all the same."""


def default_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return where embeddings are kept unless a folder is named.

    Parameters
    ----------
    environ : mapping of str to str, optional
        Instead of ``os.environ``.

    Returns
    -------
    pathlib.Path
        ``OPENFOLDPP_CACHE_DIR``, else ``openfoldpp/embeddings`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    environ = os.environ if environ is None else environ
    named = Settings.from_environment(environ).cache_dir
    if named is not None:
        return Path(named).expanduser()
    # The XDG specification has relative paths ignored.
    given = Path(environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "openfoldpp" / "embeddings"


class EmbeddingCache:
    """Embeddings by sequence and embedder.

    Parameters
    ----------
    folder : path-like, optional
        Made when the first embedding is kept; by default :func:`default_folder`.
    max_bytes : int
        Of all entries together. Beyond it those unused for the longest time are removed. An embedding that is
        larger by itself is not kept.

    Raises
    ------
    InputError
        `max_bytes` is negative.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, max_bytes: int = DEFAULT_MAX_BYTES):
        if max_bytes < 0:
            raise InputError(f"max_bytes is {max_bytes}: expected 0 (keep nothing) or more")
        self.folder = default_folder() if folder is None else Path(folder).expanduser()
        self.max_bytes = max_bytes
        self._usable = True

    def get(self, sequence: str, embedder: Embedder) -> Tensor | None:
        """Return a kept embedding.

        Parameters
        ----------
        sequence : str
            As it was embedded.
        embedder : Embedder
            Its name, fingerprint and channels count.

        Returns
        -------
        torch.Tensor or None
            ``[N_res, C_plm]``, float32. None where there is no entry, or a damaged one, which is removed.

        Warns
        -----
        CacheWarning
            The folder cannot be read; it is not tried again.
        """
        key = _key(sequence, embedder)
        path = self._path(key)
        if not self._usable:
            return None
        try:
            data = bytearray(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._give_up(error)
            return None
        embedding = _decoded(data, key, len(sequence), embedder.channels)
        # Another process may have removed the file, and others' caches cannot be changed.
        with contextlib.suppress(OSError):
            if embedding is None:
                path.unlink()
            else:
                os.utime(path)  # the time of last use; file systems do not keep that of reading
        return embedding

    def put(self, sequence: str, embedder: Embedder, embedding: Tensor) -> None:
        """Keep an embedding.

        Parameters
        ----------
        sequence : str
            What was embedded.
        embedder : Embedder
            By which.
        embedding : torch.Tensor of shape (N_res, C_plm)
            Float32.

        Raises
        ------
        InputError
            The embedding is not float32, not of the shape that sequence and embedder say, or not finite.

        Warns
        -----
        CacheWarning
            The folder cannot be written; it is not tried again.
        """
        expected = (len(sequence), embedder.channels)
        if tuple(embedding.shape) != expected or embedding.dtype != torch.float32:
            raise InputError(
                f"an embedding is {embedding.dtype} {list(embedding.shape)}; expected torch.float32 "
                f"{list(expected)}"
            )
        if not torch.isfinite(embedding).all():
            raise InputError(
                f"an embedding by {embedder.name} holds NaN or infinity, and is not kept; give --plm_dtype "
                "float32"
            )
        size = _DIGEST_BYTES + 4 * embedding.numel()
        if not self._usable or size > self.max_bytes:
            return
        key = _key(sequence, embedder)
        content = embedding.detach().cpu().contiguous().numpy().tobytes()
        try:
            self._write(self._path(key), _digest(key, content) + content)
        except OSError as error:
            self._give_up(error)

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self.folder / name[:2] / f"{name}{_SUFFIX}"

    def _write(self, path: Path, data: bytes) -> None:
        with self._usage() as usage:
            path.parent.mkdir(exist_ok=True)
            used = _read_usage(usage)
            if used is None or used + len(data) > self.max_bytes:
                used = self._make_room(len(data))
            replaced = path.stat().st_size if path.exists() else 0
            # Before the file is there: a process killed in between leaves a count that is too high, and the
            # next search of the folder mends it.
            os.pwrite(usage, f"{used + len(data) - replaced:020d}".encode(), 0)
            temporary = path.with_name(f"{secrets.token_hex(8)}{_TEMPORARY}")
            try:
                # Not synchronised to the disk: an entry that a power failure tears is known by its hash.
                temporary.write_bytes(data)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    @contextlib.contextmanager
    def _usage(self) -> Iterator[int]:
        """Hold the lock; give the file that counts the bytes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "usage", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)  # and with it the lock

    def _make_room(self, needed: int) -> int:
        """Count the bytes in use, remove the entries unused for longest, return what is left."""
        entries = []
        for folder in self.folder.iterdir():
            if not folder.is_dir():
                continue
            for file in os.scandir(folder):
                if file.name.endswith(_TEMPORARY):
                    Path(file.path).unlink()  # of a process that was killed: the others wait for the lock
                elif file.name.endswith(_SUFFIX):
                    with contextlib.suppress(FileNotFoundError):  # a reader found it damaged
                        status = file.stat()
                        entries.append((status.st_mtime_ns, status.st_size, file.path))
        used = sum(size for _, size, _ in entries)
        if used + needed <= self.max_bytes:
            return used
        for _, size, path in sorted(entries):
            if used <= _KEPT * self.max_bytes - needed or not used:
                break
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
            used -= size
        return used

    def _give_up(self, error: OSError) -> None:
        self._usable = False
        warnings.warn(
            f"the cache of embeddings {self.folder} cannot be used ({error.strerror or error}): embeddings "
            "are computed anew. Name another folder with OPENFOLDPP_CACHE_DIR",
            CacheWarning,
            stacklevel=4,
        )


class CachedEmbedder:
    """An embedder that reads from a cache what is there, and keeps what it computes.

    Parameters
    ----------
    embedder : Embedder
        Computes what is not kept yet; what it says of itself holds for this one too.
    cache : EmbeddingCache
        Where embeddings are kept.
    """

    def __init__(self, embedder: Embedder, cache: EmbeddingCache):
        self.embedder = embedder
        self.cache = cache
        self.name = embedder.name
        self.channels = embedder.channels
        self.max_residues = embedder.max_residues
        self.layer = getattr(embedder, "layer", None)
        self.model = getattr(embedder, "model", embedder.name)

    @property
    def fingerprint(self) -> str:
        """See :class:`openfoldpp.plm.Embedder`."""
        return self.embedder.fingerprint

    def embed(self, sequences: Sequence[str]) -> list[Tensor]:
        """Return each sequence's embedding.

        Parameters
        ----------
        sequences : sequence of str
            Equal ones are embedded once.

        Returns
        -------
        list of torch.Tensor
            ``[N_res, C_plm]``, float32 on the CPU.
        """
        found = dict(self.embed_each(sequences))
        return [found[index] for index in range(len(sequences))]

    def embed_each(self, sequences: Sequence[str]) -> Iterator[tuple[int, Tensor]]:
        """Yield each sequence's number and embedding, first what is kept.

        Parameters
        ----------
        sequences : sequence of str
            See :meth:`embed`.

        Yields
        ------
        (int, torch.Tensor)
            The sequence's number and its embedding.
        """
        require_several(sequences)
        places: dict[str, list[int]] = {}
        for index, sequence in enumerate(sequences):
            places.setdefault(sequence, []).append(index)
        missing = []
        for sequence, indices in places.items():
            embedding = self.cache.get(sequence, self.embedder)
            if embedding is None:
                missing.append(sequence)
            else:
                yield from _to_each(indices, embedding)
        if not missing:
            return
        for number, embedding in self.embedder.embed_each(missing):
            self.cache.put(missing[number], self.embedder, embedding)
            yield from _to_each(places[missing[number]], embedding)


def cached(embedder: Embedder, cache: EmbeddingCache | None = None) -> Embedder:
    """Return an embedder that keeps what it computes.

    Parameters
    ----------
    embedder : Embedder
        One that does so already is returned as it is.
    cache : EmbeddingCache, optional
        By default the one in :func:`default_folder`.

    Returns
    -------
    Embedder
    """
    if isinstance(embedder, CachedEmbedder):
        return embedder
    return CachedEmbedder(embedder, EmbeddingCache() if cache is None else cache)


def _to_each(indices: list[int], embedding: Tensor) -> Iterator[tuple[int, Tensor]]:
    # Itself last: whoever has it may change it.
    yield from ((index, embedding.clone()) for index in indices[1:])
    yield indices[0], embedding


def _key(sequence: str, embedder: Embedder) -> bytes:
    parts = (_FORMAT, embedder.name.encode(), embedder.fingerprint.encode(), sequence.encode())
    # The length before each part: no two lists of parts give the same bytes.
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts)).digest()


def _digest(key: bytes, content: bytes | memoryview) -> bytes:
    return hashlib.sha256(key + content).digest()


def _decoded(data: bytearray, key: bytes, n_res: int, channels: int) -> Tensor | None:
    view = memoryview(data)
    content = view[_DIGEST_BYTES:]
    if len(content) != 4 * n_res * channels or view[:_DIGEST_BYTES] != _digest(key, content):
        return None
    return torch.frombuffer(data, dtype=torch.float32, offset=_DIGEST_BYTES).view(n_res, channels)


def _read_usage(descriptor: int) -> int | None:
    text = os.pread(descriptor, 20, 0)
    return int(text) if len(text) == 20 and text.isdigit() else None
