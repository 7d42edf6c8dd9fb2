"""Upstream's configuration of a preset, as flags, plugins and a file of settings edit it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openfoldpp.errors import InputError

_SEQUENCE_PRESETS = ("seq_model_esm1b", "seq_model_esm1b_ptm", "seqemb_initial_training", "seqemb_finetuning")


def model_config(
    preset: str,
    configure: Callable[[Any], None] = lambda config: None,
    experiment_config: Path | None = None,
    *,
    long_sequence_inference: bool = False,
):
    """Make upstream's configuration of a preset (an ``ml_collections.ConfigDict``).

    Parameters
    ----------
    preset : str
        Its name.
    configure : callable
        Edits the configuration: the plugins' part.
    experiment_config : pathlib.Path, optional
        See :func:`apply_experiment_config`; comes last.
    long_sequence_inference : bool
        Ask for upstream's settings for long sequences, which 2.x has.

    Returns
    -------
    ml_collections.ConfigDict
        The configuration.

    Raises
    ------
    InputError
        Upstream knows no such preset, or the file's settings do not fit.
    """
    from openfold import config

    wanted = {"long_sequence_inference": True} if long_sequence_inference else {}
    return configured(
        lambda: config.model_config(preset, **wanted),
        preset,
        configure,
        experiment_config,
        long_sequence_inference=long_sequence_inference,
    )


def configured(
    make: Callable[[], Any],
    preset: str,
    configure: Callable[[Any], None],
    experiment_config: Path | None = None,
    *,
    long_sequence_inference: bool = False,
):
    """Call upstream's ``model_config`` through `make`, and edit what it returns.

    Parameters
    ----------
    make : callable
        Returns the configuration.
    preset : str
        The preset, for messages.
    configure : callable
        Edits the configuration: the plugins' part.
    experiment_config : pathlib.Path, optional
        See :func:`apply_experiment_config`; comes last.
    long_sequence_inference : bool
        Whether `make` asks for upstream's settings for long sequences. They need DeepSpeed's attention
        kernel, unless upstream's own low-memory attention is chosen; where DeepSpeed is not installed, it is.

    Returns
    -------
    ml_collections.ConfigDict
        The configuration.

    Raises
    ------
    InputError
        Upstream knows no such preset, or lacks a package that the flags need.
    """
    if preset.startswith("seq") and preset not in _SEQUENCE_PRESETS:
        raise _no_such_preset(preset)  # upstream takes any name that begins so
    try:
        with _low_memory_attention(long_sequence_inference and not deepspeed_installed()):
            config = make()
    except ValueError as error:
        if "Invalid model name" in str(error):
            raise _no_such_preset(preset) from error
        raise InputError(f"--config_preset {preset} with the given flags: {error}") from error
    configure(config)
    if experiment_config is not None:
        apply_experiment_config(config, experiment_config)
    return config


def _no_such_preset(preset: str) -> InputError:
    return InputError(
        f"--config_preset {preset}: this OpenFold has no such preset. Every release has model_1 to model_5 "
        "and model_1_ptm to model_5_ptm; OpenFold 2 also has seq_model_esm1b, seq_model_esm1b_ptm and "
        "model_1_multimer_v3 to model_5_multimer_v3"
    )


def apply_experiment_config(config, file: Path) -> None:
    """Set the values of a JSON file in a configuration, as upstream's ``--experiment_config_json`` does.

    Parameters
    ----------
    config : ml_collections.ConfigDict
        Changed in place.
    file : pathlib.Path
        An object of dotted paths and values: ``{"globals.chunk_size": 8}``.

    Raises
    ------
    InputError
        It cannot be read, or names a setting that is not there or has another type.
    """
    what = f"--experiment_config_json {file}"
    try:
        settings = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{what}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{what}: is not JSON ({error})") from error
    if not isinstance(settings, dict):
        raise InputError(f'{what}: expected an object such as {{"globals.chunk_size": 8}}')
    for path, value in settings.items():
        try:
            config.update_from_flattened_dict({path: value})
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{what}: {path!r} cannot be set to {value!r}: {reason}") from error


def deepspeed_installed() -> bool:
    """Say whether DeepSpeed's attention kernel can be imported, as upstream finds out."""
    if importlib.util.find_spec("deepspeed") is None:
        return False
    return importlib.util.find_spec("deepspeed.ops.deepspeed4science") is not None


@contextmanager
def _low_memory_attention(wanted: bool) -> Iterator[None]:
    """Make upstream's configurations of this block with its own low-memory attention (Rabe and Staats)."""
    from openfold.config import config

    before = config.globals.get("use_lma", False)
    if wanted:
        config.globals.use_lma = True
    try:
        yield
    finally:
        if wanted:
            config.globals.use_lma = before
