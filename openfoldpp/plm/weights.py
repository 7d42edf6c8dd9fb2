"""Weights files of language models: found, read without running code, checked, hashed."""

from __future__ import annotations

import argparse
import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openfoldpp.errors import InputError, WeightsError
from openfoldpp.upstream.model import is_out_of_memory

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
        A name is missing or too many, a shape differs, or a value is not finite.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    problems = [f"{name} is missing" for name in expected if name not in state]
    problems += [f"{name} is not expected" for name in state if name not in expected]
    for name, tensor in state.items():
        if name in expected and tuple(tensor.shape) != expected[name]:
            problems.append(f"{name} has shape {list(tensor.shape)}, expected {list(expected[name])}")
        elif tensor.is_floating_point() and not torch.isfinite(tensor).all():
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise WeightsError(f"weights {path}: {'; '.join(problems[:3])}{more}; is it this model's file?")
    # A copy: a mapped file may be replaced or removed while the model lives. Buffers (rotary frequencies)
    # keep their precision.
    parameters = {name for name, _ in module.named_parameters()}
    own = {
        name: tensor.to(dtype, copy=True) if name in parameters else tensor.clone()
        for name, tensor in state.items()
    }
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
        The weights. They are hashed when the fingerprint is first asked for, as that takes time.
    dtype : str or None
        In which the model computes.
    kind : str
        What else changes the numbers.
    """
    hashed = functools.cache(sha256_of)
    return lambda layer: ":".join([hashed(path), str(layer), dtype or "float32", *([kind] if kind else [])])
