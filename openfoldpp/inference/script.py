"""OpenFold 2 with weights: upstream's own script, once for each target, on a folder with that one FASTA.

The script keeps its arguments, features, model and files. Around it, the model is loaded once and kept,
the seed is set for each target, finished files move into the output folder, and a target that fails does
not stop the next.
"""

from __future__ import annotations

import re
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from openfoldpp.errors import InputError, UpstreamError
from openfoldpp.geometry.coordinates import CHAIN_LABELS
from openfoldpp.geometry.residues import LETTERS, UNKNOWN
from openfoldpp.inference.options import script_arguments, weights_given
from openfoldpp.inference.pipeline import Pipeline, chain_labels
from openfoldpp.inference.prediction import Prediction
from openfoldpp.inference.staging import Staging, keep_alignments, staging
from openfoldpp.plugins.manager import PluginHost
from openfoldpp.types import Output, Target
from openfoldpp.upstream import locate, schema
from openfoldpp.upstream.alignments import check_alignments
from openfoldpp.upstream.checkpoints import check_checkpoint_file
from openfoldpp.upstream.compat.soloseq import ESM1B_MAX_RESIDUES
from openfoldpp.upstream.databases import check_databases_of_2, searches_databases
from openfoldpp.upstream.features import missing_template
from openfoldpp.upstream.model import require_device, weights_files
from openfoldpp.upstream.script import Hooks, KeptModel, ScriptResult, run_script


def make_pipeline(
    options: Namespace,
    host: PluginHost,
    seed: int = 0,
    *,
    note: Callable[[str], None] = lambda text: None,
    writes_files: bool = False,
) -> Pipeline:
    """Make the pipeline that the options call for.

    Parameters
    ----------
    options : argparse.Namespace
        As :func:`openfoldpp.inference.pipeline.settle` leaves them.
    host : PluginHost
        The plugins whose hooks are called.
    seed : int
        Of the random numbers that the model's features draw.
    note : callable
        Called with what the user should know though it is no error.
    writes_files : bool
        Whether upstream's files are wanted, not the prediction alone.

    Returns
    -------
    Pipeline
        A :class:`ScriptPipeline` where there are weights and OpenFold 2 is in use.
    """
    if weights_given(options) and locate(options.openfold_home).version.startswith("2."):
        _require_script(options)
        return ScriptPipeline(options, host, seed, note=note, writes_files=writes_files)
    return Pipeline(options, host, seed, note=note)


@dataclass
class ScriptModel:
    """One weights file, and its model once the script has loaded it.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    jax : bool
        Whether it holds JAX parameters.
    kept : KeptModel
        The model between two executions of the script.
    """

    path: Path
    jax: bool
    kept: KeptModel = field(default_factory=KeptModel)

    @property
    def name(self) -> str:
        """What the folder of its outputs is called, where there are several."""
        return self.path.stem


class ScriptPipeline(Pipeline):
    """Predict targets with OpenFold 2's own script.

    Parameters
    ----------
    options : argparse.Namespace
        From :func:`openfoldpp.inference.options.parse`.
    host : PluginHost
        The plugins whose hooks are called.
    seed : int
        Set by the script for each target.
    note : callable
        Called with what the user should know though it is no error.
    writes_files : bool
        Whether the script's files are wanted: it then relaxes the structure if the options say so, and works
        in a folder on the file system of the output folder.
    """

    def __init__(
        self,
        options: Namespace,
        host: PluginHost,
        seed: int = 0,
        *,
        note: Callable[[str], None] = lambda text: None,
        writes_files: bool = False,
    ):
        super().__init__(options, host, seed, note=note)
        self._folder = Path(options.output_dir) if writes_files else None

    def models(self) -> Iterator[ScriptModel]:
        """Yield each weights file; its model is loaded by the script, with the first target."""
        options = self.options
        require_device(options.model_device)
        files = weights_files(options.openfold_checkpoint_path, options.jax_param_path)
        for path, jax in files:  # before the first target, which may take hours
            check_checkpoint_file(path, jax=jax, preset=options.config_preset)
        for path, jax in files:
            yield ScriptModel(path, jax)

    def predict(
        self,
        target: Target,
        loaded: Any = None,
        *,
        on_step: Callable[[str, float], None] = lambda phase, fraction: None,
    ) -> Prediction:
        """Predict one `target` with the `loaded` weights, telling `on_step`; see :meth:`Pipeline.predict`."""
        with self.predicted(target, loaded, on_step=on_step) as prediction:
            return replace(prediction, staging=None)

    @contextmanager
    def predicted(
        self,
        target: Target,
        loaded: Any = None,
        *,
        on_step: Callable[[str, float], None] = lambda phase, fraction: None,
    ) -> Iterator[Prediction]:
        """Predict one target; the script's files are there while the context lasts.

        Parameters
        ----------
        target : Target
            The chains.
        loaded : ScriptModel
            From :meth:`models`.
        on_step : callable
            Called with the phase and the fraction of it that is done.

        Yields
        ------
        Prediction
            With its ``staging``.
        """
        options = self.options
        _require_chains(target, options.config_preset)
        _require_tags(target)
        installation = self.activate()
        plan = self.plan_memory(target)
        on_step("features", 0.0)
        start = time.perf_counter()
        with staging(target, self._staging_place) as folder:
            features = self.features_by_plugin(target)
            arguments = script_arguments(
                options,
                fasta_dir=folder.fasta_dir,
                templates=folder.templates,
                output_dir=folder.output_dir,
                alignments=self._alignments(folder, features is not None),
                weights=("--jax_param_path" if loaded.jax else "--openfold_checkpoint_path", loaded.path),
                relax=self._script_relaxes,
                seed=self.seed,
            )
            given: list[Output] = []
            changes: list[str] = []

            def predict(model, batch):
                output = self.host.call("predict", model=model, batch=batch, target=target)
                if output is not None:
                    given.append(self._from_plugin(output, target))
                    return given[0]
                return None

            hooks = Hooks(
                configure=self._configure,
                predict=predict,
                on_step=on_step,
                on_alignments=lambda chain: keep_alignments(chain, Path(options.output_dir)),
                on_load=self.prepare_model,
                on_model=lambda model: self.limit_memory(model, plan, target),
                transform=lambda config, values: changes.extend(
                    self.transform_features(values, target, config)
                ),
                features=features,
            )
            try:
                result = run_script(
                    installation,
                    arguments,
                    hooks,
                    loaded.kept,
                    preset=options.config_preset,
                    experiment_config=options.experiment_config_json,
                    seed=self.seed,
                )
            except FileNotFoundError as error:
                raise missing_template(error, options) from error
            self._config = result.config
            seconds = dict(result.seconds)
            seconds["features"] = time.perf_counter() - start - sum(seconds.values())
            source = given[0].source if given else f"OpenFold {installation.version} {loaded.name}"
            said = given[0].provenance if given else None
            prediction = self._prediction(target, result, source, said, seconds)
            made_by = "; ".join(filter(None, [getattr(features, "source", None), *changes])) or None
            prediction = replace(prediction, features_by=made_by)
            yield replace(prediction, staging=folder, relaxation_error=result.relaxation_error)

    @property
    def _staging_place(self) -> Path | None:
        """Where finished files or alignments go, so that a rename brings them there; None where none do."""
        if searches_databases(self.options):
            return Path(self.options.output_dir)
        return self._folder

    @property
    def _script_relaxes(self) -> bool:
        return not self.options.skip_relaxation and self._folder is not None

    def _configure(self, config) -> None:
        self.host.call("configure", config=config, options=self.options)

    def _alignments(self, folder: Staging, made: bool) -> Path | None:
        """Return the folder of alignments; None where the script is to search the databases."""
        options, target = self.options, folder.target
        preset = options.config_preset
        multimer = "multimer" in preset
        if made:
            return folder.without_alignments(paired=multimer)
        if options.use_precomputed_alignments is not None:
            given = Path(options.use_precomputed_alignments)
            self._check_alignments(given, target)
            return given if options.template_mmcif_dir else folder.without_hits(given)
        if searches_databases(options):
            kept = Path(options.output_dir) / "alignments"
            if self._suffices(kept, target):
                return kept
            check_databases_of_2(options, differ=len({chain.sequence for chain in target.chains}) > 1)
            if self._solo:
                _require_embeddable(target)
            return None
        if self._solo:
            raise InputError(
                f"target {target.tag!r}: {preset} reads an embedding of each sequence, and there is none. "
                "With --plugins openfoldpp it is made during the run (docs/plm.md). Or make them with "
                "OpenFold's scripts/precompute_embeddings.py, and give their folder with "
                "--use_precomputed_alignments DIR (DIR/TAG/TAG.pt)"
            )
        return folder.without_alignments(paired=multimer)

    @property
    def _solo(self) -> bool:
        return self.options.config_preset.startswith("seq") or self.options.use_single_seq_mode

    def _suffices(self, kept: Path, target: Target) -> bool:
        """Say whether an earlier search has found what this preset reads."""
        if not any((kept / chain.tag).is_dir() for chain in target.chains):
            return False
        try:
            self._check_alignments(kept, target)
        except InputError as error:
            self.note(f"target {target.tag!r}: the databases are searched again, as {error}")
            return False
        return True

    def _check_alignments(self, folder: Path, target: Target) -> None:
        preset = "seq" if self._solo else self.options.config_preset
        for text in check_alignments(folder, target, preset):
            self.note(text)

    def _prediction(
        self,
        target: Target,
        result: ScriptResult,
        source: str,
        provenance: dict[str, str] | None,
        seconds: dict[str, float],
    ) -> Prediction:
        target = _in_upstreams_order(target, self.options.config_preset)
        _require_same_residues(target, result)
        output = Output(
            result.output,
            source=source,
            chain_ids=chain_labels(dict.fromkeys(map(int, result.protein.chain_index))),
            provenance=provenance or {path: "predicted" for path, _ in schema.flatten(result.output)},
        )
        return Prediction(target, self.options.config_preset, output, result.protein, seconds)


def _require_script(options: Namespace) -> None:
    installation = locate(options.openfold_home)
    if installation.script is None:
        raise UpstreamError(
            f"{installation.reason} Its run_pretrained_openfold.py, which predicts with weights, is not "
            "installed with it: give a clone of this release with --openfold_home DIR"
        )


def _require_tags(target: Target) -> None:
    """Refuse names that the script would read differently: it takes a header's leading word characters."""
    for chain in target.chains:
        if not re.fullmatch(r"\w+", chain.tag):
            cut = re.split(r"\W", chain.tag)[0]
            raise InputError(
                f"target {target.tag!r}: OpenFold 2 would call the chain {chain.tag!r} {cut!r}: name it with "
                "letters, digits and '_' alone"
            )


def _require_chains(target: Target, preset: str) -> None:
    """Refuse what upstream's script would skip with a line in its log, or has no labels for."""
    if len(target.chains) > len(CHAIN_LABELS):
        raise InputError(
            f"target {target.tag!r} has {len(target.chains)} chains, and OpenFold's own writer has labels "
            f"for {len(CHAIN_LABELS)}: split it"
        )
    if len(target.chains) > 1 and "multimer" not in preset:
        raise InputError(
            f"target {target.tag!r} has {len(target.chains)} chains, and OpenFold 2 predicts one with "
            f"--config_preset {preset}: choose a multimer preset, such as model_1_multimer_v3 with "
            "--jax_param_path params_model_1_multimer_v3.npz, or give each chain a file of its own"
        )


def _require_embeddable(target: Target) -> None:
    """Refuse before an hour's search what ESM-1b cannot embed after it."""
    for chain in target.chains:
        if len(chain.sequence) > ESM1B_MAX_RESIDUES:
            raise InputError(
                f"target {target.tag!r}: chain {chain.tag} has {len(chain.sequence):,} residues, and ESM-1b, "
                f"whose embedding SoloSeq reads, takes {ESM1B_MAX_RESIDUES:,}: split it, or choose a preset "
                "that reads alignments, such as model_1_ptm"
            )


def _in_upstreams_order(target: Target, preset: str) -> Target:
    """Put equal chains next to each other, where the first of them is, as the multimer features do."""
    if "multimer" not in preset:
        return target
    order = list(dict.fromkeys(chain.sequence for chain in target.chains))
    return replace(target, chains=tuple(sorted(target.chains, key=lambda c: order.index(c.sequence))))


def _require_same_residues(target: Target, result: ScriptResult) -> None:
    """Make sure that the structure is the target's, whatever its features were made of."""
    wanted = [LETTERS.index(letter) if letter in LETTERS else UNKNOWN for letter in target.sequence]
    found = result.protein.aatype
    if not np.array_equal(found, wanted):
        raise UpstreamError(
            f"target {target.tag!r} has {len(wanted)} residues, and the {len(found)} of the output are not "
            "the same: its features were made of another sequence"
        )
