"""OpenFold 2's own ``run_pretrained_openfold.py``, run as it is, with seams where the host has a part.

The script is executed from its file, as ``__main__``, once for each target. It goes on reading its own
arguments, building its own features and writing its own files; the seams keep the model between two
executions, give plugins their turn and hand out what the script computes.
Everything here needs :func:`openfoldpp.upstream.activate` to have been called.
"""

from __future__ import annotations

import functools
import os
import random
import runpy
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openfoldpp.errors import OpenFoldPPError, RelaxationError, UpstreamError, is_out_of_memory
from openfoldpp.upstream import seams
from openfoldpp.upstream.checkpoints import check_checkpoint_file, explain_load_error
from openfoldpp.upstream.configuration import configured
from openfoldpp.upstream.generators import generators, restore_generators
from openfoldpp.upstream.locate import Installation
from openfoldpp.upstream.model import heard, one_run, quiet_upstream
from openfoldpp.upstream.relaxation import relaxation_error, require_relaxable
from openfoldpp.upstream.script_seams import (
    FEATURES,
    LOAD_MODELS,
    MODEL_CONFIG,
    MULTIMER_FEATURES,
    PAD,
    PREP_OUTPUT,
    PROCESS_FEATURES,
    RELAX,
    RUN_MODEL,
    SEARCH,
    TRACE,
)
from openfoldpp.upstream.seams import Seam
from openfoldpp.upstream.tracing import Traced


@dataclass
class KeptModel:
    """One weights file's model, loaded by the first execution of the script and kept for the others.

    Attributes
    ----------
    model : torch.nn.Module or None
        None before it is loaded.
    generators : tuple or None
        State of the random number generators right after the load. The script draws numbers while it
        builds a model; setting this state gives every later target the numbers that it would get alone.
    traced : Traced or None
        For which length ``--trace_model`` has traced it.
    """

    model: Any = None
    generators: tuple | None = None
    traced: Traced | None = None


@dataclass(frozen=True)
class Hooks:
    """What the script calls in the host.

    Attributes
    ----------
    configure : callable
        Takes the configuration that ``model_config`` has made, and edits it.
    predict : callable
        Takes the model and its batch; returns an output dictionary, or None to run the model.
    on_step : callable
        Takes a phase (``"load"``, ``"predict"``, ``"relax"``) and the fraction of it that is done.
    on_alignments : callable
        Takes the folder of a chain's alignments once they are complete.
    on_load : callable
        Takes the model right after its weights were loaded, once.
    on_model : callable
        Takes the model, loaded or kept, before it runs or is traced; not one that is traced for this length,
        whose settings are part of the trace.
    transform : callable
        Takes the configuration and the features that upstream's pipeline has made, and adds to them.
    features : dict or None
        Raw features that a plugin has made.
    """

    configure: Callable[[Any], None]
    predict: Callable[[Any, dict], Mapping | None]
    on_step: Callable[[str, float], None]
    on_alignments: Callable[[Path], None]
    on_load: Callable[[Any], None]
    on_model: Callable[[Any], None]
    transform: Callable[[Any, dict], None]
    features: dict[str, Any] | None = None


@dataclass
class ScriptResult:
    """What one execution has computed, beside the files that it has written.

    Attributes
    ----------
    config : ml_collections.ConfigDict
        The configuration in use.
    output : dict
        Upstream's output dictionary, numpy arrays.
    protein : openfold.np.protein.Protein
        The unrelaxed structure as the script wrote it.
    relaxation_error : RelaxationError or None
        Why there is no relaxed structure though one was asked for.
    seconds : dict of str to float
        Time of ``load``, ``inference`` and ``relaxation``, where they took place.
    """

    config: Any = None
    output: dict[str, Any] = field(default_factory=dict)
    protein: Any = None
    relaxation_error: RelaxationError | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def run_script(
    installation: Installation,
    argv: Sequence[str],
    hooks: Hooks,
    kept: KeptModel,
    *,
    preset: str,
    experiment_config: Path | None = None,
    seed: int = 0,
) -> ScriptResult:
    """Execute upstream's script once.

    Parameters
    ----------
    installation : Installation
        The active OpenFold, a 2.x with its script.
    argv : sequence of str
        The script's arguments, without its name: one FASTA file in their folder, one weights file.
    hooks : Hooks
        The host's part.
    kept : KeptModel
        Filled by the first execution.
    preset : str
        The configuration preset, for messages.
    experiment_config : pathlib.Path, optional
        A JSON file of dotted configuration paths and values, set after the plugins'.
    seed : int
        Of Python's own generator; the script seeds those of numpy and torch and draws from all three.

    Returns
    -------
    ScriptResult
        The script's own numbers.

    Raises
    ------
    UpstreamError
        The script ended without a prediction; CheckpointError where its weights are the reason.
    """
    run = _Execution(hooks, kept, preset, experiment_config)
    with (
        _as_its_own_program(installation.script, argv),
        one_run(),
        quiet_upstream(),
        seams.installed(run.handlers(), installation.version),
    ):
        random.seed(seed)
        try:
            runpy.run_path(str(installation.script), run_name="__main__")
        except SystemExit as error:
            raise UpstreamError(
                f"{installation.script} ended with {error.code!r}; its arguments were {' '.join(argv)}"
            ) from error
    if run.result.protein is None:
        raise UpstreamError(f"{installation.script} predicted nothing; its arguments were {' '.join(argv)}")
    return run.result


class _Execution:
    """The handlers of the seams, and what they gather."""

    def __init__(self, hooks: Hooks, kept: KeptModel, preset: str, experiment_config: Path | None):
        self.hooks = hooks
        self.kept = kept
        self.preset = preset
        self.experiment_config = experiment_config
        self.result = ScriptResult()

    def handlers(self) -> dict[Seam, Callable]:
        found = {
            MODEL_CONFIG: self.model_config,
            LOAD_MODELS: self.load_models,
            SEARCH: self.search,
            PROCESS_FEATURES: self.process_features,
            RUN_MODEL: self.run_model,
            PREP_OUTPUT: self.prep_output,
            RELAX: self.relax,
            PAD: self.keep_length,
            TRACE: self.trace,
        }
        if self.hooks.features is not None:
            found[FEATURES] = found[MULTIMER_FEATURES] = self.given_features
        return found

    def model_config(self, original, name, *args, **kwargs):
        config = configured(
            functools.partial(original, name, *args, **kwargs),
            name,
            self.hooks.configure,
            self.experiment_config,
            long_sequence_inference=kwargs.get("long_sequence_inference", False),
        )
        self.result.config = config
        return config

    def load_models(self, original, config, device, checkpoint, jax_parameters, output_dir):
        from openfold.utils import script_utils

        if self.kept.model is None:
            path, jax = Path(jax_parameters or checkpoint), bool(jax_parameters)
            check_checkpoint_file(path, jax=jax, preset=self.preset)
            self.hooks.on_step("load", 0.0)
            start = time.perf_counter()
            try:
                loaded = list(original(config, device, checkpoint, jax_parameters, output_dir))
            except OpenFoldPPError:
                raise
            except Exception as error:
                # Reading a damaged or foreign file raises nearly anything.
                if is_out_of_memory(error):
                    raise
                raise explain_load_error(error, path, self.preset, jax=jax) from error
            self.result.seconds["load"] = time.perf_counter() - start
            model, directory = loaded[0]
            self.kept.generators = generators()
            self.hooks.on_load(model)
            self.kept.model = model
        else:
            directory = script_utils.make_output_directory(output_dir, "", False)
        restore_generators(self.kept.generators)
        if self.kept.traced is None:
            self.hooks.on_model(self.kept.model)
        yield self.kept.model, directory

    def search(self, original, runner, fasta_path, output_dir):
        original(runner, fasta_path, output_dir)
        self.hooks.on_alignments(Path(output_dir))

    def process_features(self, original, pipeline, *args, **kwargs):
        features = original(pipeline, *args, **kwargs)
        self.hooks.transform(self.result.config, features)
        return features

    def given_features(self, original, pipeline, *args, **kwargs):
        return self.hooks.features

    def keep_length(self, original, features, length):
        return features

    def trace(self, original, model, batch):
        import torch

        from openfoldpp.upstream.acceleration import paused

        n_res = batch["aatype"].shape[0]
        if self.kept.traced is not None:
            if self.kept.traced.n_res == n_res:
                return
            self.kept.traced.undo()
            self.kept.traced = None
            self.hooks.on_model(model)
        traced = Traced(model, n_res)
        self.hooks.on_step("trace", 0.0)
        with warnings.catch_warnings():
            # That TorchScript is going away, and that it takes Python numbers for constants, as is meant.
            warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            try:
                # TorchScript sees torch's operations alone.
                with paused(model):
                    original(model, batch)
            except BaseException:
                traced.undo()
                raise
        self.kept.traced = traced

    def run_model(self, original, model, batch, tag, output_dir):
        # The script's own run_model switches templates off for a batch without any, and back on at its end;
        # the model outlives a target that fails in between.
        templates = model.config.template.enabled
        start = time.perf_counter()
        self.hooks.on_step("predict", 0.0)
        try:
            output = self.hooks.predict(model, batch)
            if output is not None:
                return _to_torch(output)
            iterations = batch["aatype"].shape[-1]
            with heard(model, iterations, lambda done: self.hooks.on_step("predict", done)):
                return original(model, batch, tag, output_dir)
        finally:
            model.config.template.enabled = templates
            self.result.seconds["inference"] = time.perf_counter() - start

    def prep_output(self, original, out, *args, **kwargs):
        self.result.output = out
        self.result.protein = original(out, *args, **kwargs)
        return self.result.protein

    def relax(self, original, config, device, protein, *args, **kwargs):
        self.hooks.on_step("relax", 0.0)
        start = time.perf_counter()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        try:
            require_relaxable(protein, device)
            # Upstream takes any device but "cpu" for one with CUDA.
            original(config, device if device.startswith("cuda") else "cpu", protein, *args, **kwargs)
        except RelaxationError as error:
            self.result.relaxation_error = error
        except Exception as error:
            # Whatever OpenMM, pdbfixer or upstream say of a structure, the unrelaxed one is worth keeping.
            self.result.relaxation_error = relaxation_error(
                f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            )
        finally:
            # Upstream leaves the variable empty, and the programs of later targets would see no GPU.
            if visible is None:
                os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = visible
            self.result.seconds["relaxation"] = time.perf_counter() - start


@contextmanager
def _as_its_own_program(script: Path, argv: Sequence[str]) -> Iterator[None]:
    """Give the script its arguments, and take back what it sets for the whole process."""
    import torch

    with ExitStack() as stack:
        stack.callback(setattr, sys, "argv", sys.argv)
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        sys.argv = [str(script), *argv]
        yield


def _to_torch(output: Mapping) -> dict:
    import torch

    return {
        key: _to_torch(value) if isinstance(value, Mapping) else torch.as_tensor(value)
        for key, value in output.items()
    }
