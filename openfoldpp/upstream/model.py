"""Upstream's own inference steps, each under one name: configure, load, featurise, run, relax.

The steps, their order and their arguments are those of upstream's ``run_pretrained_openfold.py``, so
that the same checkpoint, alignments and seed give the same numbers. Everything here needs
:func:`openfoldpp.upstream.activate` to have been called.
"""

from __future__ import annotations

import logging
import threading
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openfoldpp.errors import CheckpointError, InputError, UpstreamError
from openfoldpp.types import Target
from openfoldpp.upstream import seams
from openfoldpp.upstream.checkpoints import (
    check_checkpoint_file,
    load_jax_parameters,
    load_parameters,
    read_checkpoint,
)

# A seam has one handler: two threads must not run upstream's model at once, nor one within its own run.
_lock = threading.Lock()
_here = threading.local()


@dataclass(frozen=True)
class LoadedModel:
    """Upstream's model with its weights, and the name that its output folder takes.

    Attributes
    ----------
    model : torch.nn.Module
        ``openfold.model.model.AlphaFold`` in evaluation mode.
    name : str
        The weights' file name without its suffix.
    """

    model: Any
    name: str


def load_models(
    config, *, device: str, preset: str, checkpoints: str | None, jax_parameters: str | None
) -> Iterator[LoadedModel]:
    """Build a model for each weights file, one at a time.

    Parameters
    ----------
    config : ml_collections.ConfigDict
        From :func:`model_config`, as plugins may have edited it.
    device : str
        A torch device name.
    preset : str
        Name of the preset, for messages.
    checkpoints, jax_parameters : str or None
        Paths of ``.pt`` and of ``.npz`` files, several separated by commas.

    Yields
    ------
    LoadedModel
        JAX parameters first, as upstream does.

    Raises
    ------
    CheckpointError
        A file cannot be read, or belongs to another preset.
    InputError
        There is no such device.
    """
    from openfold.model.model import AlphaFold

    require_device(device)
    files = weights_files(checkpoints, jax_parameters)
    for path, jax in files:  # before the first model is built
        check_checkpoint_file(path, jax=jax, preset=preset)
    for path, jax in files:
        if jax:
            model = AlphaFold(config).eval()
            load_jax_parameters(model, path, preset=preset)
        else:
            parameters = read_checkpoint(path)
            model = AlphaFold(config).eval()
            load_parameters(model, parameters, path=path, preset=preset)
            del parameters
        yield LoadedModel(model.to(device), path.stem)


def weights_files(checkpoints: str | None, jax_parameters: str | None) -> list[tuple[Path, bool]]:
    """List the weights that the options name, in upstream's order.

    Parameters
    ----------
    checkpoints, jax_parameters : str or None
        Paths of ``.pt`` and of ``.npz`` files, several separated by commas.

    Returns
    -------
    list of (pathlib.Path, bool)
        Each file, and whether it holds JAX parameters.

    Raises
    ------
    CheckpointError
        Two of several files have one name, which is that of their output folder.
    """
    found = [(path, True) for path in _paths(jax_parameters)]
    found += [(path, False) for path in _paths(checkpoints)]
    names = [path.stem for path, _ in found]
    if len(set(names)) < len(names):
        raise CheckpointError(
            f"the weights files {', '.join(names)} need different names, which name their output folders"
        )
    return found


def process_features(
    raw: dict[str, Any],
    config,
    device: str,
    *,
    transform: Callable[[dict[str, Any]], None] = lambda features: None,
) -> dict[str, Any]:
    """Turn raw features into the model's batch.

    Parameters
    ----------
    raw : dict
        Features as upstream's data pipeline makes them.
    config : ml_collections.ConfigDict
        The model's configuration; its ``data`` part is used.
    device : str
        A torch device name.
    transform : callable
        Adds to the batch or alters it, before it goes to the device: the plugins' part.

    Returns
    -------
    dict of str to torch.Tensor
        Each with the recycling dimension last.
    """
    import torch
    from openfold.data.feature_pipeline import FeaturePipeline

    with quiet_upstream():
        processed = FeaturePipeline(config.data).process_features(raw, mode="predict")
    transform(processed)
    return {key: torch.as_tensor(value, device=device) for key, value in processed.items()}


def run_model(
    model, batch: dict[str, Any], target: Target, *, version: str, on_step: Callable[[float], None]
) -> tuple[dict[str, Any], dict[str, Any], float]:
    """Run the model on a batch.

    Parameters
    ----------
    model : torch.nn.Module
        From :func:`load_models`.
    batch : dict of str to torch.Tensor
        From :func:`process_features`.
    target : Target
        For upstream's log.
    version : str
        The OpenFold release.
    on_step : callable
        Called with the fraction done, 0 to 1, after each block of the trunk.

    Returns
    -------
    output : dict
        Upstream's output dictionary as numpy arrays.
    features : dict of str to numpy.ndarray
        The batch without its recycling dimension.
    seconds : float
        Upstream's own measurement of the model's forward pass.
    """
    import torch
    from openfold.utils import script_utils
    from openfold.utils.tensor_utils import tensor_tree_map

    measured: dict[str, float] = {}
    with (
        torch.no_grad(),
        quiet_upstream(),
        heard(model, batch["aatype"].shape[-1], on_step),
        one_run(),
        seams.installed({seams.TIMINGS: measured.update}, version),
    ):
        output = script_utils.run_model(model, batch, target.tag, "")
    to_numpy = lambda x: x.cpu().numpy().copy()  # noqa: E731
    features = tensor_tree_map(lambda x: to_numpy(x[..., -1]), batch)
    return tensor_tree_map(to_numpy, output), features, measured["inference"]


def to_protein(output, features, raw, config, options: Namespace):
    """Make upstream's ``Protein`` of a prediction, by upstream's own ``prep_output``.

    Parameters
    ----------
    output, features : dict
        From :func:`run_model`.
    raw : dict
        The raw features.
    config : ml_collections.ConfigDict
        The model's configuration.
    options : argparse.Namespace
        ``config_preset`` and ``multimer_ri_gap`` are read.

    Returns
    -------
    openfold.np.protein.Protein
        pLDDT as its B-factors.
    """
    from openfold.data.feature_pipeline import FeaturePipeline
    from openfold.utils import script_utils

    # prep_output renumbers the residues of further chains in place; the caller's features stay.
    features = {**features, "residue_index": features["residue_index"].copy()}
    return script_utils.prep_output(
        output,
        features,
        raw,
        FeaturePipeline(config.data),
        options.config_preset,
        options.multimer_ri_gap,
        False,
    )


def new_protein(**fields):
    """Make upstream's ``Protein`` from its fields (``atom_positions``, ``aatype``, ...)."""
    from openfold.np.protein import Protein

    return Protein(**fields)


def protein_to_pdb(protein) -> str:
    """Write a ``Protein`` as PDB text by upstream's own writer."""
    from openfold.np import protein as upstream_protein

    return upstream_protein.to_pdb(protein)


def require_device(device: str) -> None:
    """Raise :class:`InputError` where torch has no such `device`."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"--model_device {device}: {str(error).splitlines()[0]}; --model_device cpu runs everywhere"
        ) from error


def _paths(comma_separated: str | None) -> list[Path]:
    return [Path(path) for path in (comma_separated or "").split(",") if path]


@contextmanager
def one_run() -> Iterator[None]:
    """Wait for the run of upstream's model that another thread is in.

    Raises
    ------
    UpstreamError
        This thread is in one: a plugin's hook has asked for another prediction.
    """
    if getattr(_here, "running", False):
        raise UpstreamError(
            "a prediction by OpenFold was asked for within another, by a plugin's hook: predict before or "
            "after, or in another process"
        )
    with _lock:
        _here.running = True
        try:
            yield
        finally:
            _here.running = False


@contextmanager
def heard(model, iterations: int, on_step: Callable[[float], None]) -> Iterator[None]:
    """Hear of every trunk block of a `model` through torch's forward hooks.

    ``on_step`` gets the fraction of the blocks that is done, over all recycling `iterations`.
    """
    blocks = list(model.evoformer.blocks)
    done = 0

    def after_block(module, inputs, output):
        nonlocal done
        done += 1
        on_step(min(1.0, done / (len(blocks) * iterations)))

    handles = [block.register_forward_hook(after_block) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def quiet_upstream() -> Iterator[None]:
    """Silence upstream's log lines of progress, and what numpy says of its script's calls.

    The run reports its own progress, by target and fraction; upstream's warnings and errors are kept.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation doesn't accept a copy keyword")
        level = logging.root.manager.disable
        logging.disable(max(level, logging.INFO))
        try:
            yield
        finally:
            logging.disable(level)
