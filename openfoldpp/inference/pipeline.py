"""One target from sequence to prediction: the same steps for the command line, the API and a service."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from openfoldpp.adapters.motif_options import reads_templates
from openfoldpp.errors import (
    InputError,
    OpenFoldNotFoundError,
    PluginError,
    SchemaError,
    UnsupportedTargetError,
)
from openfoldpp.geometry.coordinates import CHAIN_LABELS
from openfoldpp.inference.memory import MemoryPlan, limit_chunk_size, plan_memory
from openfoldpp.inference.memory_estimate import Depth
from openfoldpp.inference.options import DEFAULT_PRESET, SCRIPT_PRESET, weights_given
from openfoldpp.inference.prediction import Prediction
from openfoldpp.plugins.manager import PluginHost
from openfoldpp.types import Output, Target
from openfoldpp.upstream import Installation, activate, locate, schema
from openfoldpp.upstream.generators import generators, restore_generators

# Upstream's writer labels chains A to Z.
_MAX_CHAINS = 26


class Pipeline:
    """Predict targets with upstream's model, or with plugins alone where no weights are given.

    Parameters
    ----------
    options : argparse.Namespace
        From :func:`openfoldpp.inference.options.parse`.
    host : PluginHost
        The plugins whose hooks are called.
    seed : int
        Of the random numbers that the model's features draw.
    note : callable
        Called with what the user should know though it is no error.
    """

    def __init__(
        self,
        options: Namespace,
        host: PluginHost,
        seed: int = 0,
        *,
        note: Callable[[str], None] = lambda text: None,
    ):
        self.options = options
        self.host = host
        self.seed = seed
        self.note = note
        self._config = None
        self._generators: tuple | None = None

    def activate(self) -> Installation:
        """Find OpenFold and make it importable; see :func:`openfoldpp.upstream.activate`.

        Raises
        ------
        UpstreamError
            There is none, or one that cannot be run.
        """
        return schema.require_release(activate(self.options.openfold_home))

    @property
    def config(self):
        """Upstream's configuration of the preset, as the plugins have edited it."""
        if self._config is None:
            from openfoldpp.upstream.configuration import model_config

            self.activate()
            self._config = model_config(
                self.options.config_preset,
                lambda config: self.host.call("configure", config=config, options=self.options),
                self.options.experiment_config_json,
                long_sequence_inference=self.options.long_sequence_inference,
            )
        return self._config

    def models(self) -> Iterator[Any]:
        """Yield each model that the options name, loaded; or once None, where they name no weights.

        Upstream's script sets the seed, then builds the model, which draws random numbers, then makes the
        features. The state in between is kept and set for each target, so that the first target gets
        upstream's numbers and every other one the same as if it were alone.
        """
        if not weights_given(self.options):
            yield None
            return
        from openfoldpp.upstream import model

        loading = model.load_models(
            self.config,
            device=self.options.model_device,
            preset=self.options.config_preset,
            checkpoints=self.options.openfold_checkpoint_path,
            jax_parameters=self.options.jax_param_path,
        )
        while True:
            _set_seed(self.seed)
            loaded = next(loading, None)
            if loaded is None:
                return
            self._generators = generators()
            self.prepare_model(loaded.model)
            yield loaded

    def prepare_model(self, model: Any) -> None:
        """Let the plugins change a `model` whose weights have just been loaded, and note what they say."""
        for text in self.host.call("prepare_model", model=model, options=self.options):
            self.note(text)

    @contextmanager
    def predicted(
        self,
        target: Target,
        loaded: Any = None,
        *,
        on_step: Callable[[str, float], None] = lambda phase, fraction: None,
    ) -> Iterator[Prediction]:
        """Predict one `target` with the `loaded` weights, telling `on_step`, as :meth:`predict` does.

        Files that upstream's script has written for it exist while the context lasts.
        """
        yield self.predict(target, loaded, on_step=on_step)

    def predict(
        self,
        target: Target,
        loaded: Any = None,
        *,
        on_step: Callable[[str, float], None] = lambda phase, fraction: None,
    ) -> Prediction:
        """Predict one target.

        Parameters
        ----------
        target : Target
            The chains.
        loaded : openfoldpp.upstream.model.LoadedModel or None
            From :meth:`models`.
        on_step : callable
            Called with the phase (``"features"``, ``"predict"``) and the fraction of it that is done.

        Returns
        -------
        Prediction
            Not yet written anywhere.

        Raises
        ------
        UnsupportedTargetError
            No weights are given, and no plugin predicts this target.
        InputError
            The target's alignments or templates are not where the options say.
        PluginError
            A plugin failed.
        """
        seconds: dict[str, float] = {}
        if loaded is not None:
            _require_labels(target)
            self.limit_memory(loaded.model, self.plan_memory(target), target)
            restore_generators(self._generators)
        on_step("features", 0.0)
        with timed(seconds, "features"):
            raw = self.features_by_plugin(target)
            made_by = getattr(raw, "source", None)
            if loaded is not None:
                batch, raw, changes = self._batch(raw, target)
                made_by = "; ".join(filter(None, [made_by, *changes])) or None
            elif raw is None:
                raise self._no_predictor(target)
            else:
                batch = raw
        on_step("predict", 0.0)
        with timed(seconds, "inference"):
            model = None if loaded is None else loaded.model
            output = self.host.call("predict", model=model, batch=batch, target=target)
        if output is not None:
            output, protein = self._from_plugin(output, target), None
        elif loaded is None:
            raise self._no_predictor(target)
        else:
            output, protein = self._run_model(loaded, batch, raw, target, seconds, on_step)
        return Prediction(target, self.options.config_preset, output, protein, seconds, features_by=made_by)

    def features_by_plugin(self, target: Target) -> dict[str, Any] | None:
        """Return the features that a plugin makes of a `target`, or None; note what it says of them."""
        features = self.host.call("make_features", target=target, options=self.options)
        for text in getattr(features, "notes", ()):
            self.note(f"target {target.tag!r}: {text}")
        return features

    def transform_features(self, features: dict[str, Any], target: Target, config: Any) -> list[str]:
        """Let the plugins add to the `features` of a `target`, given the `config`; return what they say."""
        with generators_kept():
            said = self.host.call(
                "transform_features", features=features, target=target, config=config, options=self.options
            )
        for text in said:
            self.note(f"target {target.tag!r}: {text}")
        return said

    def plan_memory(self, target: Target) -> MemoryPlan:
        """Make sure that upstream's model has the memory that a `target` needs.

        Raises
        ------
        InsufficientMemoryError
            It has not.
        """
        return plan_memory(
            self.config,
            len(target.sequence),
            device=self.options.model_device,
            depth=Depth.of(self.config, templates=reads_templates(self.options)),
            what=f"target {target.tag!r}",
        )

    def limit_memory(self, model: Any, plan: MemoryPlan, target: Target) -> None:
        """Keep a `model` to the `plan` for its next `target`, and note where that makes it slower."""
        if limit_chunk_size(model, plan.largest_chunk) and plan.note:
            self.note(f"target {target.tag!r}: {plan.note}")

    def relax(self, prediction: Prediction) -> str:
        """Relax a prediction through upstream.

        Parameters
        ----------
        prediction : Prediction
            From :meth:`predict`.

        Returns
        -------
        str
            PDB text, its chains labelled as in the unrelaxed file.

        Raises
        ------
        RelaxationError
            OpenMM could not relax the structure.
        """
        from openfoldpp.inference.outputs import upstream_protein
        from openfoldpp.inference.pdb import relabel_chains
        from openfoldpp.upstream.relaxation import relax

        protein = upstream_protein(prediction, subtract_plddt=self.options.subtract_plddt)
        text = relax(protein, self.config, self.options.model_device)
        return relabel_chains(text, prediction.output.chain_ids)

    def _batch(self, raw: dict | None, target: Target) -> tuple[dict, dict, list[str]]:
        """Return the model's batch, the raw features it was made of, and what plugins say they changed."""
        from openfoldpp.upstream import features, model

        if raw is None:
            raw = features.raw_features(target, self.options, self.config, note=self.note)
        changes: list[str] = []
        batch = model.process_features(
            raw,
            self.config,
            self.options.model_device,
            transform=lambda features: changes.extend(self.transform_features(features, target, self.config)),
        )
        return batch, raw, changes

    def _run_model(self, loaded, batch, raw, target, seconds, on_step) -> tuple[Output, Any]:
        from openfoldpp.upstream import model

        version = self.activate().version
        values, features, seconds["inference"] = model.run_model(
            loaded.model, batch, target, version=version, on_step=lambda done: on_step("predict", done)
        )
        protein = model.to_protein(values, features, raw, self.config, self.options)
        output = Output(
            values,
            source=f"OpenFold {version} {loaded.name}",
            # Upstream's writer labels chains by their index.
            chain_ids=chain_labels(dict.fromkeys(map(int, protein.chain_index))),
            provenance={path: "predicted" for path, _ in schema.flatten(values)},
        )
        return output, protein

    def _from_plugin(self, output: dict, target: Target) -> Output:
        """Check a plugin's output, and give a plain dictionary the attributes that it lacks."""
        preset = self.options.config_preset
        try:
            schema.check(output, schema.load(schema.output_version(self.options.openfold_home), preset))
            n_res = output["plddt"].shape[0]
            if n_res != len(target.sequence):
                raise SchemaError(f"the output has {n_res} residues, the target {len(target.sequence)}")
        except SchemaError as error:
            raise PluginError(
                f"what a plugin's openfoldpp_predict returned for {target.tag!r} cannot be used: {error}"
            ) from error
        if isinstance(output, Output):
            return output
        return Output(
            output,
            source="a plugin",
            chain_ids=chain_labels(range(len(target.chains))),
            provenance={path: "not stated by the plugin" for path, _ in schema.flatten(output)},
        )

    def _no_predictor(self, target: Target) -> UnsupportedTargetError:
        names = ", ".join(plugin.name for plugin in self.host.active if plugin.distribution) or "none"
        return UnsupportedTargetError(
            f"target {target.tag!r}: no weights are given, and no plugin predicts it (plugins: {names}). "
            "Give --openfold_checkpoint_path FILE or --jax_param_path FILE, or for an antibody Fv "
            "--plugins openfoldpp"
        )


def settle(options: Namespace) -> None:
    """Fill in what the options leave open and depends on the OpenFold in use.

    - Where they name neither weights nor a path without them: AlphaFold's own, if upstream's script would
      find them. That is ``openfold/resources/params/params_PRESET.npz`` below the working directory or in
      OpenFold's own folder.
    - The preset: upstream's default where the script of OpenFold 2 runs, else ``model_1_ptm``.
    - Whether to write the output pickle: upstream's default with weights, else yes.

    Parameters
    ----------
    options : argparse.Namespace
        ``jax_param_path``, ``config_preset`` and ``save_outputs`` are set.
    """
    folders, script = [Path()], False
    with suppress(OpenFoldNotFoundError):
        installation = locate(options.openfold_home)
        folders.append(installation.root)
        script = installation.version.startswith("2.")
    preset = options.config_preset or (SCRIPT_PRESET if script else DEFAULT_PRESET)
    # A path that a plugin offers runs without weights, also where OpenFold has some at hand.
    if not weights_given(options) and getattr(options, "path", None) is None:
        files = [folder / "openfold/resources/params" / f"params_{preset}.npz" for folder in folders]
        options.jax_param_path = next((str(file) for file in files if file.is_file()), None)
    if options.config_preset is None:
        options.config_preset = preset if weights_given(options) else DEFAULT_PRESET
    if options.save_outputs is None:
        options.save_outputs = not weights_given(options)


def tag_rule(options: Namespace) -> str:
    """Return how the OpenFold in use makes a tag of a FASTA header.

    Parameters
    ----------
    options : argparse.Namespace
        ``openfold_home`` is read.

    Returns
    -------
    str
        As :func:`openfoldpp.inference.fasta.read_targets` takes it.
    """
    with suppress(OpenFoldNotFoundError):
        if locate(options.openfold_home).version.startswith("2."):
            return "word_characters"
    return "first_word"


def chain_labels(indices: Iterable[int]) -> tuple[str, ...]:
    """Return the label of each chain, by its place (`indices`) in upstream's order of labels."""
    return tuple(CHAIN_LABELS[index] for index in indices)


def _require_labels(target: Target) -> None:
    if len(target.chains) > _MAX_CHAINS:
        raise InputError(
            f"target {target.tag!r} has {len(target.chains)} chains, and OpenFold's own writer has labels "
            f"for {_MAX_CHAINS}: split it"
        )


def _set_seed(seed: int) -> None:
    import torch

    # The two generators, and the offset between them, are those of upstream's script.
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed + 1)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Leave the process's random number generators as they were found."""
    before = generators()
    try:
        yield
    finally:
        restore_generators(before)


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Add the time that a block takes to ``seconds``, under the step's name."""
    start = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - start
