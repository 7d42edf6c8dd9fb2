"""Read OpenFold's and AlphaFold's weights: tensors only, on the CPU first; errors say what a file is."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from openfoldpp.errors import CheckpointError
from openfoldpp.upstream.checkpoint_files import (
    array_shapes,
    check_checkpoint_file,
    damaged,
    first_line,
    named_preset,
    preset_cure,
)


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
    check_checkpoint_file(path)
    try:
        with warnings.catch_warnings():
            # Whether its unpickler can read the file shows below.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and was not loaded: {first_line(error)} "
            "Save its state_dict alone, in a place where you trust the file."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        raise damaged(path, error) from error
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
        raise _another_preset(path, preset, parameters, missing, unknown, misshapen)
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
    from openfold.utils import import_weights

    path = Path(path)
    named = named_preset(path, preset)
    check_checkpoint_file(path, jax=True)
    shapes = array_shapes(path)
    said = io.StringIO()
    try:
        translation = import_weights.process_translation_dict(
            import_weights.generate_translation_dict(model, named)
        )
        lacking = _lacking(model, translation, shapes)
        if not lacking:
            with contextlib.redirect_stdout(said):  # upstream prints what it cannot copy
                import_weights.import_jax_weights_(model, str(path), version=named)
            return
        reason = f"it lacks {len(lacking)} parameters of the model (first: {lacking[0]})"
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise damaged(path, error) from error
    except (AttributeError, RuntimeError) as error:
        reason = (said.getvalue().splitlines() or [first_line(error)])[0]
    raise CheckpointError(
        f"{path} does not fit preset {preset!r}: {reason}. {preset_cure(shapes, preset, path=path)}"
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


def explain_load_error(
    error: Exception, path: str | Path, preset: str, *, jax: bool = False
) -> CheckpointError:
    """Turn what upstream's own loading raised into an error that says what the file is, and the cure.

    Parameters
    ----------
    error : Exception
        From ``torch.load``, ``load_state_dict``, ``numpy.load`` or upstream's translation of names.
    path : path-like
        The weights file.
    preset : str
        The configuration preset that the model was built for.
    jax : bool
        Whether the file was given with ``--jax_param_path``.

    Returns
    -------
    CheckpointError
        To be raised from ``error``.
    """
    if isinstance(error, CheckpointError):
        return error
    path = Path(path)
    try:
        if jax:
            check_checkpoint_file(path, jax=True, preset=preset)
            names: Collection[str] = array_shapes(path)
        else:
            names = read_checkpoint(path)
    except CheckpointError as found:
        return found
    # Upstream tries once more with the names of its first release changed to today's; the names as they are
    # in the file are those of the attempt that it raises from.
    attempts = [_differences(str(attempt)) for attempt in (error.__context__, error) if attempt is not None]
    differing = min(filter(any, attempts), key=lambda kinds: sum(map(len, kinds)), default=None)
    if differing:
        return _another_preset(path, preset, names, *differing)
    return CheckpointError(
        f"{path} could not be loaded into the model of preset {preset!r} ({type(error).__name__}: "
        f"{first_line(error)}). {preset_cure(names, preset, path=path)}"
    )


def _differences(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return the parameters that ``load_state_dict`` calls missing, unknown and of another shape."""
    missing, unknown = (
        re.findall(r'"([^"]+)"', found[1]) if found else []
        for found in (
            re.search(rf"{kind} key\(s\) in state_dict: (.*)", text) for kind in ("Missing", "Unexpected")
        )
    )
    return missing, unknown, re.findall(r"size mismatch for (\S+):", text)


def _another_preset(path, preset, names, missing, unknown, misshapen) -> CheckpointError:
    differences = ", ".join(
        f"{len(differing)} {what} (first: {differing[0]})"
        for differing, what in (
            (missing, "parameters missing"),
            (unknown, "unknown"),
            (misshapen, "of another shape"),
        )
        if differing
    )
    return CheckpointError(
        f"{path} is not a checkpoint of preset {preset!r}: {differences}. "
        f"{preset_cure(names, preset, path=Path(path))}"
    )
