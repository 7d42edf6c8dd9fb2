"""Weights files of language models: found, read without running code, checked, hashed."""

from __future__ import annotations

import argparse
import functools
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from openfoldpp.errors import InputError, WeightsError, is_out_of_memory

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_of(name: str | None) -> torch.dtype:
    """Return the torch dtype of a name; None is float32. :class:`InputError` for another name."""
    if name is None:
        return torch.float32
    if name not in DTYPES:
        raise InputError(f"dtype {name!r}: expected one of {', '.join(DTYPES)}")
    return DTYPES[name]


def read_torch_file(path: Path) -> Mapping[str, Any]:
    """Read a ``.pt`` or ``.bin`` file's dictionary, tensors and plain settings alone.

    Parameters
    ----------
    path : pathlib.Path
        The file. Its tensors stay on the disk until they are used.

    Returns
    -------
    mapping

    Raises
    ------
    WeightsError
        There is no such file, it is damaged, is no dictionary, or holds something other than plain data.
    """
    if not path.is_file():
        raise WeightsError(f"weights {path}: there is no such file; correct the path")
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"weights {path}: a Git LFS pointer, not the file itself; run: git lfs pull")
    # The zip format of torch 1.6 and later can be mapped; fair-esm's older files cannot.
    mapped = start.startswith(b"PK")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged or foreign file raises nearly anything
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"weights {path}: cannot be read ({type(error).__name__}: {reason}). Download it again, or name "
            "another file."
        ) from error
    if not isinstance(found, Mapping):
        raise WeightsError(f"weights {path}: holds a {type(found).__name__}, expected a dictionary")
    return found


def read_safetensors(path: Path, flag: str = "weights") -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read a safetensors file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    flag : str
        What names it, for messages.

    Returns
    -------
    (dict of str to str, dict of str to torch.Tensor)
        What it says of itself, and its tensors.

    Raises
    ------
    WeightsError
        There is no such file, or it is damaged.
    """
    if not path.is_file():
        raise WeightsError(f"{flag} {path}: there is no such file; correct the path")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"{flag} {path}: cannot be read as safetensors ({reason}); make or download it again"
        ) from error


def load_state(module: nn.Module, state: Mapping[str, Tensor], *, path: Path, dtype: torch.dtype) -> None:
    """Give a module made on the meta device its weights.

    Parameters
    ----------
    module : torch.nn.Module
        Its parameters are replaced.
    state : mapping of str to torch.Tensor
        By the module's own names.
    path : pathlib.Path
        Where they come from, for messages.
    dtype : torch.dtype
        Of the floating-point weights afterwards.

    Raises
    ------
    WeightsError
        A name is missing or too many, a shape differs, or a value is not finite, in the file or in `dtype`.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    problems = [f"{name} is missing" for name in expected if name not in state]
    # Buffers (rotary frequencies) keep their precision.
    parameters = {name for name, _ in module.named_parameters()}
    own, too_large = {}, []
    for name, tensor in state.items():
        if name not in expected:
            problems.append(f"{name} is not expected")
        elif tuple(tensor.shape) != expected[name]:
            problems.append(f"{name} has shape {list(tensor.shape)}, expected {list(expected[name])}")
        else:
            # A copy: a mapped file may be replaced or removed while the model lives.
            own[name] = tensor.to(dtype if name in parameters else tensor.dtype, copy=True)
            if not torch.isfinite(own[name]).all():
                if torch.isfinite(tensor).all():
                    too_large.append(f"{name} has values up to {tensor.abs().max():.3g}")
                else:
                    problems.append(f"{name} holds NaN or infinity")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise WeightsError(f"weights {path}: {'; '.join(problems[:3])}{more}; is it this model's file?")
    if too_large:
        raise WeightsError(
            f"weights {path}: {too_large[0]}, and {dtype} ends at {torch.finfo(dtype).max:.6g}; give "
            "--plm_dtype float32"
        )
    module.load_state_dict(own, assign=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the bytes of the file at `path`, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path, dtype: str | None, kind: str = "") -> Callable[[int], str]:
    """Return what tells, of a layer's number, all that decides its output beside the sequence.

    Parameters
    ----------
    path : pathlib.Path
        The weights, not yet read: a file that is replaced afterwards is another. They are hashed when the
        fingerprint is first asked for, as that takes time.
    dtype : str or None
        In which the model computes.
    kind : str
        What else changes the numbers.

    Returns
    -------
    callable
        It raises :class:`WeightsError` where the file is no longer the one that was there at first.
    """
    opened = _identity(path)

    @functools.cache
    def hashed() -> str:
        digest = sha256_of(path) if path.is_file() else ""
        if _identity(path) != opened:
            raise WeightsError(
                f"weights {path}: the file was replaced or removed after it had been loaded; start again, "
                "and leave it as it is meanwhile"
            )
        return digest

    return lambda layer: ":".join([hashed(), str(layer), dtype or "float32", *([kind] if kind else [])])


def layer_of(fingerprint: str) -> int | None:
    """Return the layer that a `fingerprint` of :func:`fingerprint` tells; None for another package's."""
    found = re.match(r"[0-9a-f]{64}:(\d+):", fingerprint)
    return int(found[1]) if found else None


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Tell a file from one that takes its place; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
