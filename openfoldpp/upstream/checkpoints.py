"""Read OpenFold checkpoints: tensors only, on the CPU first, with an error that says what a file is."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

from openfoldpp.errors import CheckpointError

#: What a file of Git LFS holds where the content itself was not downloaded.
_LFS_POINTER = b"version https://git-lfs"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read the parameters of an OpenFold ``.pt`` checkpoint.

    Parameters
    ----------
    path : path-like
        A file with a ``state_dict``, or with one under ``ema/params`` as upstream's training writes.

    Returns
    -------
    dict of str to torch.Tensor
        Parameters by name, on the CPU.

    Raises
    ------
    CheckpointError
        The file is absent, no checkpoint, damaged, or holds more than tensors.
    """
    import torch

    path = Path(path)
    _refuse_other_kinds(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and was not loaded: {str(error).splitlines()[0]}. "
            "Save its state_dict alone, in a place where you trust the file."
        ) from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: it is cut short or damaged "
            f"({path.stat().st_size:,} bytes; {str(error).splitlines()[0]}). Download it again."
        ) from error
    if isinstance(loaded, dict) and "ema" in loaded:
        loaded = loaded["ema"]["params"]
    if not isinstance(loaded, dict) or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise CheckpointError(f"{path} holds no state_dict: expected parameter names with tensors")
    return loaded


def load_parameters(model, parameters: dict[str, Any], *, path: str | Path, preset: str) -> None:
    """Put parameters into a model; what is missing or too many is an error that names the preset.

    Parameters
    ----------
    model : torch.nn.Module
        Upstream's model, built for ``preset``.
    parameters : dict of str to torch.Tensor
        As :func:`read_checkpoint` returns them.
    path : path-like
        Where they come from, for the message.
    preset : str
        The configuration preset, for the message.

    Raises
    ------
    CheckpointError
        Names or shapes differ.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in parameters]
    unknown = [name for name in parameters if name not in own]
    misshapen = [n for n in own if n in parameters and own[n].shape != parameters[n].shape]
    if missing or unknown or misshapen:
        parts = [
            f"{len(names)} {what} (first: {names[0]})"
            for names, what in (
                (missing, "parameters missing"),
                (unknown, "unknown"),
                (misshapen, "of another shape"),
            )
            if names
        ]
        raise CheckpointError(
            f"{path} is not a checkpoint of preset {preset!r}: {', '.join(parts)}. "
            "Choose the preset that it was trained with: --config_preset NAME."
        )
    model.load_state_dict(parameters)


def _refuse_other_kinds(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder, as DeepSpeed writes: convert it with the zero_to_fp32.py that lies in it, "
            "and give the file"
        )
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: --openfold_checkpoint_path expects a .pt file")
    with path.open("rb") as file:
        head = file.read(len(_LFS_POINTER))
    if head == _LFS_POINTER:
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` in that repository"
        )
    if path.suffix == ".npz":
        raise CheckpointError(f"{path} holds JAX parameters: give it with --jax_param_path")
