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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openfoldpp.errors import RelaxationError, UpstreamError
from openfoldpp.upstream import seams
from openfoldpp.upstream.checkpoints import check_checkpoint_file, explain_load_error
from openfoldpp.upstream.configuration import configured
from openfoldpp.upstream.generators import generators, restore_generators
from openfoldpp.upstream.locate import Installation
from openfoldpp.upstream.model import heard, one_run, quiet_upstream, require_device
from openfoldpp.upstream.relaxation import relaxation_error, require_relaxable
from openfoldpp.upstream.seams import Expected, Seam

RELEASES = ("2.0.0", "2.1.0", "2.2.0")


def _around(original: Callable, handler: Callable) -> Callable:
    @functools.wraps(original)
    def replacement(*args, **kwargs):
        return handler(original, *args, **kwargs)

    return replacement


def _seam(name: str, target: str, reason: str, signature: str, source_sha256: str) -> Seam:
    same = Expected(signature, source_sha256)
    return Seam(name, target, reason, dict.fromkeys(RELEASES, same), _around)


_MODEL_CONFIG = Expected(
    "(name, train, low_prec, long_sequence_inference, use_deepspeed_evoformer_attention)",
    "b91dc97ef5b04ec3be4c5fa67f31190e4dc647bde08bd5eb99f578bd73490e55",
)
MODEL_CONFIG = Seam(
    name="model_config",
    target="openfold.config:model_config",
    reason="plugins edit the configuration before the script reads it",
    expected={
        "2.0.0": Expected(
            "(name, train, low_prec, long_sequence_inference)",
            "43c053374f41089676606ff3f228e740b8b5b7e954faa4a335cc6dc8120cbda5",
        ),
        "2.1.0": _MODEL_CONFIG,
        "2.2.0": _MODEL_CONFIG,
    },
    wrap=_around,
)
LOAD_MODELS = _seam(
    "load_models",
    "openfold.utils.script_utils:load_models_from_command_line",
    "a model is loaded once and kept for the next target",
    "(config, model_device, openfold_checkpoint_path, jax_param_path, output_dir)",
    "8d6023aa231c8a03cc191ab9dc29c87ec543d73733a0d5cb12a648b8ade0a165",
)
SEARCH = _seam(
    "search",
    "openfold.data.data_pipeline:AlignmentRunner.run",
    "alignments of a chain are kept as soon as its searches are done",
    "(self, fasta_path, output_dir)",
    "70ef7a575d8f9faec33900353032c44ad53aef2fbf225b2211fe385084312537",
)
FEATURES = _seam(
    "features",
    "openfold.data.data_pipeline:DataPipeline.process_fasta",
    "features that a plugin has made take the place of alignments and templates",
    "(self, fasta_path, alignment_dir, alignment_index, seqemb_mode)",
    "acf4fe7d8b37877ad7d2a18eec141229888917b4c00866448acf4439f9cb3e16",
)
MULTIMER_FEATURES = _seam(
    "multimer features",
    "openfold.data.data_pipeline:DataPipelineMultimer.process_fasta",
    "features that a plugin has made take the place of alignments and templates",
    "(self, fasta_path, alignment_dir, alignment_index)",
    "a9f4d675de3acac0d6c70b3a710b408de99d7bd08e63ccbcc886d24b81858fcf",
)
RUN_MODEL = _seam(
    "run_model",
    "openfold.utils.script_utils:run_model",
    "a plugin may predict instead, and progress within the model is heard",
    "(model, batch, tag, output_dir)",
    "4402fc3e0f6eb8cf4b13d870dac93adcac739bde649f9966b754c6262a38d137",
)
PREP_OUTPUT = _seam(
    "prep_output",
    "openfold.utils.script_utils:prep_output",
    "the script's own output and protein are what is summarised and handed to plugins",
    "(out, batch, feature_dict, feature_processor, config_preset, multimer_ri_gap, subtract_plddt)",
    "5f08833700c657ca9da32c50b7311a59cc94126a9b40476e896c863df5219d31",
)
RELAX = _seam(
    "relax",
    "openfold.utils.script_utils:relax_protein",
    "a structure that cannot be relaxed is no reason to lose the prediction",
    "(config, model_device, unrelaxed_protein, output_directory, output_name, cif_output)",
    "24922b95f4231e8e615db16672d56ec2910a9b117262bc4d8c298bcedfd87280",
)


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
    """

    model: Any = None
    generators: tuple | None = None


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
    features : dict or None
        Raw features that a plugin has made.
    """

    configure: Callable[[Any], None]
    predict: Callable[[Any, dict], Mapping | None]
    on_step: Callable[[str, float], None]
    on_alignments: Callable[[Path], None] = lambda folder: None
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
    plugin_predicted : bool
        Whether a plugin predicted in the model's place.
    relaxation_error : RelaxationError or None
        Why there is no relaxed structure though one was asked for.
    seconds : dict of str to float
        Time of ``load``, ``inference`` and ``relaxation``, where they took place.
    """

    config: Any = None
    output: dict[str, Any] = field(default_factory=dict)
    protein: Any = None
    plugin_predicted: bool = False
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
        quiet_upstream(),
        one_run,
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
            RUN_MODEL: self.run_model,
            PREP_OUTPUT: self.prep_output,
            RELAX: self.relax,
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
            path = Path(jax_parameters or checkpoint)
            check_checkpoint_file(path, jax=bool(jax_parameters), preset=self.preset)
            require_device(device)
            self.hooks.on_step("load", 0.0)
            start = time.perf_counter()
            try:
                loaded = list(original(config, device, checkpoint, jax_parameters, output_dir))
            except (RuntimeError, KeyError, ValueError, EOFError, OSError, AttributeError) as error:
                raise explain_load_error(error, path, self.preset) from error
            self.result.seconds["load"] = time.perf_counter() - start
            self.kept.model, directory = loaded[0]
            self.kept.generators = generators()
        else:
            directory = script_utils.make_output_directory(output_dir, "", False)
            restore_generators(self.kept.generators)
        yield self.kept.model, directory

    def search(self, original, runner, fasta_path, output_dir):
        original(runner, fasta_path, output_dir)
        self.hooks.on_alignments(Path(output_dir))

    def given_features(self, original, pipeline, *args, **kwargs):
        return self.hooks.features

    def run_model(self, original, model, batch, tag, output_dir):
        # The script's own run_model switches templates off for a batch without any, and back on at its end;
        # the model outlives a target that fails in between.
        templates = model.config.template.enabled
        start = time.perf_counter()
        self.hooks.on_step("predict", 0.0)
        try:
            output = self.hooks.predict(model, batch)
            if output is not None:
                self.result.plugin_predicted = True
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
            original(config, device, protein, *args, **kwargs)
        except RelaxationError as error:
            self.result.relaxation_error = error
        except (ValueError, RuntimeError, AssertionError, KeyError) as error:
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
