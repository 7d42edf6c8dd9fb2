"""Every error that openfoldpp raises on purpose, one tree with :class:`OpenFoldPPError` at its root.

A message names the thing, its value, what was expected, and the flag or command that mends it.
"""

from __future__ import annotations


class OpenFoldPPError(Exception):
    """Root of the tree: catching it catches all that openfoldpp raises on purpose.

    Attributes
    ----------
    plugin : str or None
        Name of the plugin whose hook raised it, set by the plugin host; None elsewhere.
    """

    plugin: str | None = None


class ConfigError(OpenFoldPPError):
    """One or more settings are unknown or have a value that cannot be used."""


class InputError(OpenFoldPPError):
    """A FASTA file, a sequence or an array that cannot be used as it is."""


class UnsupportedTargetError(InputError):
    """A readable target that the chosen predictor does not serve; the message says what would."""


class InsufficientMemoryError(InputError):
    """A target needs more memory than there is; the message says how much, and what would help."""


class DiskFullError(OpenFoldPPError):
    """A file could not be written for want of space; nothing of it was left."""


class MissingDependencyError(OpenFoldPPError):
    """An optional package is not installed; the message has the command that installs it."""


class PluginError(OpenFoldPPError):
    """A plugin is unknown, does not fit the hooks, or raised; the message names it and the hook."""


class UpstreamError(OpenFoldPPError):
    """Something about the OpenFold that is being used."""


class OpenFoldNotFoundError(UpstreamError):
    """No OpenFold was found; the message lists the places looked at and the cures."""


class SeamError(UpstreamError):
    """An OpenFold function is not the one that a seam was written for."""


class CheckpointError(UpstreamError):
    """A weights file cannot be read, or belongs to another preset."""


class WeightsError(OpenFoldPPError):
    """Weights of a language model, a projector or a head are missing, damaged, or another model's."""


class SchemaError(OpenFoldPPError):
    """An output dictionary differs from the schema; the message lists every difference."""


class UnsafePickleError(OpenFoldPPError):
    """A pickle holds something other than arrays and plain data."""


class RelaxationError(OpenFoldPPError):
    """Relaxation could not be run on a structure; the unrelaxed one has been written."""


class BackendError(OpenFoldPPError):
    """No backend of an op, or not the one asked for, supports the arguments; lists every reason."""


_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "Cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an exception, or one that it came from, means that memory ran out.

    Parameters
    ----------
    error : BaseException
        Whatever was raised, by us or by a library.

    Returns
    -------
    bool
        True for Python's and numpy's ``MemoryError``, torch's ``OutOfMemoryError`` and the plain
        ``RuntimeError`` of its CPU allocator.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, MemoryError) or type(current).__name__ == "OutOfMemoryError":
            return True
        if isinstance(current, RuntimeError | OSError) and any(t in str(current) for t in _OUT_OF_MEMORY):
            return True
        current = current.__cause__ or current.__context__
    return False
