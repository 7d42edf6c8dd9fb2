"""Read OpenFold's and AlphaFold's weights: tensors only, on the CPU first; errors say what a file is."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

from openfoldpp.errors import CheckpointError

#: What a file of Git LFS holds where the content itself was not downloaded.
_LFS_POINTER = b"version https://git-lfs"
#: How torch.save begins a file, since release 1.6 and before it.
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_HEAD_BYTES = 256


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
        with warnings.catch_warnings():
            # Whether its unpickler can read the file shows below.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and was not loaded: {_first_line(error)} "
            "Save its state_dict alone, in a place where you trust the file."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        raise _damaged(path, f"{type(error).__name__}: {_first_line(error)}") from error
    if isinstance(loaded, dict) and isinstance(loaded.get("ema"), dict):
        loaded = loaded["ema"].get("params")
    tensors = isinstance(loaded, dict) and all(isinstance(v, torch.Tensor) for v in loaded.values())
    if not (tensors and loaded):
        raise CheckpointError(
            f"{path} holds no state_dict: expected parameter names with their tensors, or a dictionary with "
            "them under ema/params, as OpenFold's training writes it"
        )
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
            "Choose the preset that it was trained with: --config_preset NAME. Other releases of OpenFold "
            "may name their parameters differently."
        )
    model.load_state_dict(parameters)


def load_jax_parameters(model, path: str | Path, *, preset: str) -> None:
    """Put AlphaFold's parameters into a model, by upstream's own translation of their names.

    Upstream's ``import_jax_weights_`` reads from the file's name which parameters to look for, and leaves
    those of the model that the named preset does not have as they were drawn. Here every parameter of
    the model has to come from the file.

    Parameters
    ----------
    model : torch.nn.Module
        Upstream's model, built for `preset`.
    path : path-like
        ``params_model_1_ptm.npz`` and the like. Its preset may be another of the same parameters.
    preset : str
        The configuration preset, for messages.

    Raises
    ------
    CheckpointError
        The file is absent, damaged, not named by a preset, or has not all of the model's parameters.
    """
    import numpy as np
    from openfold.utils import import_weights

    path = Path(path)
    named = re.fullmatch(r"params_(model_[1-5](?:_ptm)?)\.npz", path.name)
    if not path.is_file():
        raise CheckpointError(f"no JAX parameters at {path}: --jax_param_path expects params_{preset}.npz")
    if named is None:
        raise CheckpointError(
            f"{path}: the name of JAX parameters says what they are: expected params_PRESET.npz, such as "
            "params_model_1_ptm.npz. OpenFold weights (.pt) are given with --openfold_checkpoint_path."
        )
    said = io.StringIO()
    try:
        with path.open("rb") as file, np.load(file) as archive:  # np.load leaves a damaged file open
            shapes = {name: archive[name].shape for name in archive.files}
        translation = import_weights.process_translation_dict(
            import_weights.generate_translation_dict(model, named[1])
        )
        lacking = _lacking(model, translation, shapes)
        if not lacking:
            with contextlib.redirect_stdout(said):  # upstream prints what it cannot copy
                import_weights.import_jax_weights_(model, str(path), version=named[1])
            return
        reason = f"it lacks {len(lacking)} parameters of the model (first: {lacking[0]})"
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise _damaged(path, f"{type(error).__name__}: {_first_line(error)}") from error
    except (AttributeError, RuntimeError) as error:
        reason = (said.getvalue().splitlines() or [_first_line(error)])[0]
    raise CheckpointError(
        f"{path} does not fit preset {preset!r}: {reason}. Choose the preset that the file is named by: "
        f"--config_preset {named[1]}."
    )


def _lacking(model, translation: dict, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Return the names of the parameters that the file does not have, or that upstream does not look for."""
    absent = [
        name
        for name, param in translation.items()
        if name not in shapes or (param.stacked and shapes[name][0] != len(param.param))
    ]
    looked_for = {
        id(tensor)
        for param in translation.values()
        for tensor in (param.param if param.stacked else [param.param])
    }
    return absent + [name for name, value in model.named_parameters() if id(value) not in looked_for]


def _refuse_other_kinds(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder, as DeepSpeed writes: convert it with the zero_to_fp32.py that lies in it, "
            "and give the file"
        )
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: --openfold_checkpoint_path expects a .pt file")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise CheckpointError(f"{path} is empty. Download it again.")
    if head.startswith(_LFS_POINTER):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` in that repository"
        )
    if head.startswith(_ZIP):
        _refuse_other_archives(path)
    elif not head.startswith(_PICKLE):
        line = _text_line(head)
        what = "is no file of torch.save" if line is None else f"is a text file that begins with {line!r}"
        raise CheckpointError(f"{path} {what}: --openfold_checkpoint_path expects OpenFold weights (.pt)")


def _refuse_other_archives(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise _damaged(path, _first_line(error)) from error
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(f"{path} holds JAX parameters: give it with --jax_param_path")


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read as a checkpoint: it is cut short or damaged "
        f"({path.stat().st_size:,} bytes; {reason}). Download it again."
    )


def _text_line(head: bytes) -> str | None:
    """Return the first line of a file's beginning where that is text, else None."""
    text = head.decode("ascii", "replace")
    if not all(letter.isprintable() or letter.isspace() for letter in text) or "\ufffd" in text:
        return None
    return text.splitlines()[0][:60]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["no more is known"])[0]
