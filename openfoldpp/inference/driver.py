"""``run_pretrained_openfold.py`` and ``openfoldpp predict``: every target of a command, to its files.

What predicts is a pipeline: upstream's script where there is one and weights for it, else the same steps,
under upstream's flags and into its layout. A target that fails does not stop the next.
"""

from __future__ import annotations

import random
import stat
import sys
import time
import traceback
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openfoldpp.config import Settings
from openfoldpp.errors import (
    CheckpointError,
    InputError,
    OpenFoldNotFoundError,
    OpenFoldPPError,
    WeightsError,
    is_out_of_memory,
)
from openfoldpp.files import explain_os_error, write_json, write_text
from openfoldpp.inference import options as command_line
from openfoldpp.inference.fasta import FastaInputs, unknown_residues_note
from openfoldpp.inference.inputs import check_names, check_out, check_writable, read_inputs
from openfoldpp.inference.interruption import (
    Interrupted,
    Interruption,
    interruptible,
    interruption_message,
)
from openfoldpp.inference.memory import out_of_memory_error
from openfoldpp.inference.outputs import record_timings, write_prediction, write_protein
from openfoldpp.inference.pipeline import Pipeline, settle, tag_rule, timed
from openfoldpp.inference.prediction import Prediction
from openfoldpp.inference.progress import ProgressReporter
from openfoldpp.inference.script import make_pipeline
from openfoldpp.inference.summary import TargetSummary, print_summary
from openfoldpp.plugins.manager import PluginHost
from openfoldpp.types import OutputPaths, ProgressEvent, Target

# As a shell reports a program that SIGINT ended.
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None, *, program: str, targets: bool = False) -> int:
    """Run a command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Without the program's name; by default the process's own.
    program : str
        Its name, for messages.
    targets : bool
        Whether it is ``openfoldpp predict``; see :func:`openfoldpp.inference.options.parse`.

    Returns
    -------
    int
        0 where every target was predicted and written, 1 where any failed, 130 after Ctrl-C, 143 after
        SIGTERM.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    run = None
    with interruptible() as interruption:
        try:
            Settings.from_environment()
            options, host = command_line.parse(argv, program=program, targets=targets)
            inputs = read_inputs(options, targets, tag_rule=tag_rule(options))
            run = Run(options, host, inputs, interruption=interruption)
            return run.execute()
        except OpenFoldPPError as error:
            print(f"{program}: {_message(error)}", file=sys.stderr)
            return 1
        except KeyboardInterrupt as error:
            finished = [result.tag for result in run.results if not result.error] if run else []
            print(f"{program}: {interruption_message(error, finished)}", file=sys.stderr)
            return error.exit_code if isinstance(error, Interrupted) else _INTERRUPTED


@dataclass
class Run:
    """One command.

    Attributes
    ----------
    options : argparse.Namespace
        From :func:`openfoldpp.inference.options.parse`.
    host : PluginHost
        The plugins that the options name.
    inputs : FastaInputs
        The targets, and the files that hold none.
    results : list of TargetSummary
        What became of each.
    interruption : Interruption
        Heard between two targets.
    """

    options: Namespace
    host: PluginHost
    inputs: FastaInputs
    results: list[TargetSummary] = field(default_factory=list)
    interruption: Interruption = field(default_factory=Interruption)

    def __post_init__(self):
        self._told: set[str] = set()

    def execute(self) -> int:
        """Predict and write every target, print the summary, and return the exit code."""
        options = self.options
        settle(options)
        self._check()
        weights = command_line.weights_given(options)
        if weights:
            for target in self.inputs.targets:
                self._note(unknown_residues_note(target))
        seed = options.data_random_seed
        if seed is None and weights:
            seed = random.randrange(2**32 - 1)  # noqa: S311
        pipeline = make_pipeline(
            options, self.host, seed or 0, note=self._note, writes_files=self._out is None
        )
        self._prepare(pipeline)
        if weights and not options.quiet:
            from openfoldpp.ops import explain

            softmax = explain()
            text = f"softmax of OpenFold's own attention: {softmax.backend.name} ({softmax.reason})"
            print(f"{text}; data_random_seed {seed}", file=sys.stderr)
        self.results = [
            TargetSummary(path.name, error=_message(error)) for path, error in self.inputs.failures
        ]
        with ProgressReporter(quiet=options.quiet) as reporter:
            self.host.register(reporter, "openfoldpp.progress")
            self._predict_all(pipeline, seed)
        print_summary(self.results)
        return 1 if any(result.error for result in self.results) else 0

    def _check(self) -> None:
        """Refuse options that cannot be used, before any work."""
        options = self.options
        if self._out is not None:
            check_out(self._out, self.inputs, options)
        else:
            check_writable(Path(options.output_dir))
        check_names(self.inputs, options)
        for text in self.inputs.notes:
            self._note(text)
        for flag in ("use_precomputed_alignments", "template_mmcif_dir"):
            folder = getattr(options, flag)
            if folder is not None and not Path(folder).is_dir():
                raise InputError(f"{flag} {folder}: there is no such folder; correct it, or leave it out")

        templates = options.template_mmcif_dir
        if templates is not None and not any(Path(templates).glob("*.cif")):
            self._note(f"template folder {templates} has no .cif file: no templates are used")

    def _prepare(self, pipeline: Pipeline) -> None:
        """Find OpenFold and let the plugins edit its configuration.

        A structure alone (``--out``) needs no OpenFold where no weights are given.
        """
        try:
            installation = pipeline.activate()
        except OpenFoldNotFoundError:
            if self._out is None or command_line.weights_given(self.options):
                raise
            return
        notes = command_line.check_release(self.options, installation)
        for text in (installation.reason, *notes):
            self._note(text)
        _ = pipeline.config

    def _note(self, text: str | None) -> None:
        """Say once what is no error; None says nothing."""
        if text and not self.options.quiet and text not in self._told:
            self._told.add(text)
            print(text, file=sys.stderr)

    @property
    def _out(self) -> Path | None:
        return getattr(self.options, "out", None)

    def _predict_all(self, pipeline: Pipeline, seed: int | None) -> None:
        targets = self.inputs.targets
        count = 1
        if command_line.weights_given(self.options):
            from openfoldpp.upstream.model import weights_files

            count = len(weights_files(self.options.openfold_checkpoint_path, self.options.jax_param_path))
        self._tell(ProgressEvent("load", 0.0))
        import torch  # noqa: F401  (every predictor needs it, and its second of loading is no target's)

        # The trunk is nearly all of a target's time, and with relaxation that is about as long again.
        predicting = 1.0 if self.options.skip_relaxation else 0.5
        total = max(1, count * len(targets))
        done = 0
        if not targets:
            return
        try:
            for loaded in pipeline.models():
                directory = Path(self.options.output_dir) / "predictions"
                if count > 1:
                    directory /= loaded.name
                for target in targets:
                    self.interruption.check()

                    def on_step(phase, fraction, target=target, done=done):
                        part = {"predict": fraction * predicting, "relax": predicting, "write": predicting}
                        self._tell(ProgressEvent(phase, (done + part.get(phase, 0.0)) / total, target))

                    result = self.predict_one(pipeline, target, loaded, directory, seed=seed, on_step=on_step)
                    self.results.append(result)
                    done += 1
                    self._tell(ProgressEvent("failed" if result.error else "done", done / total, target))
        except (CheckpointError, WeightsError) as error:
            if not done:
                raise
            # Weights that cannot be read end the run; what earlier ones predicted is in place.
            self.results.append(TargetSummary("weights", error=_message(error)))

    def _tell(self, event: ProgressEvent) -> None:
        """Tell the plugins of a step; one that fails to hear of it is named once and spoils no prediction."""
        try:
            self.host.call("progress", event=event)
        except OpenFoldPPError as error:
            if str(error) not in self._told:
                self._told.add(str(error))
                print(_message(error), file=sys.stderr)

    def predict_one(
        self,
        pipeline: Pipeline,
        target: Target,
        loaded: Any,
        directory: Path,
        *,
        seed: int | None = None,
        on_step: Callable[[str, float], None] = lambda phase, fraction: None,
    ) -> TargetSummary:
        """Predict and write one target; whatever it raises becomes the summary's error, weights excepted.

        Parameters
        ----------
        pipeline : Pipeline
            With this run's options.
        target : Target
            The chains.
        loaded : openfoldpp.upstream.model.LoadedModel or None
            From :meth:`Pipeline.models`.
        directory : pathlib.Path
            Where OpenFold's files go; made where it is absent.
        seed : int, optional
            Noted in the provenance.
        on_step : callable
            Called with the phase and the fraction of it that is done.

        Returns
        -------
        TargetSummary
            With the files written, or the error.

        Raises
        ------
        CheckpointError, WeightsError
            The weights of the model or of a language model cannot be used, which is no matter of this target.
        """
        start = time.perf_counter()
        try:
            with pipeline.predicted(target, loaded, on_step=on_step) as prediction:
                on_step("write", 1.0)
                if self._out is not None:
                    files = [self._write_out(pipeline, prediction)]
                else:
                    files = self._write(pipeline, prediction, directory, seed, on_step)
        except (CheckpointError, WeightsError):
            raise
        except OpenFoldPPError as error:
            return TargetSummary(target.tag, error=_message(error))
        except OSError as error:
            self.interruption.check()
            return TargetSummary(target.tag, error=explain_os_error(error))
        except Exception as error:
            self.interruption.check()
            if is_out_of_memory(error):
                what = f"target {target.tag!r}"
                n_res, device = len(target.sequence), self.options.model_device
                error = out_of_memory_error(error, n_res, device=device, what=what)
                return TargetSummary(target.tag, error=_message(error))
            traceback.print_exc()
            return TargetSummary(target.tag, error=f"{type(error).__name__}: {error}")
        return TargetSummary(
            target.tag,
            residues=len(target.sequence),
            mean_plddt=prediction.mean_plddt,
            ptm=prediction.ptm,
            seconds=time.perf_counter() - start,
            files=tuple(files),
        )

    def _write(self, pipeline, prediction, directory, seed, on_step) -> list[Path]:
        """Write OpenFold's files and the plugins', then the relaxed structure."""
        options = self.options
        name = f"{prediction.target.tag}_{options.config_preset}"
        if options.output_postfix is not None:
            name = f"{name}_{options.output_postfix}"
        paths = OutputPaths(directory, name)
        if prediction.staging is not None:
            return self._publish(prediction, paths, seed)
        seconds = dict(prediction.seconds)
        try:
            with timed(seconds, "write"):
                files = write_prediction(
                    prediction,
                    paths,
                    cif=options.cif_output,
                    output_dict=options.save_outputs,
                    subtract_plddt=options.subtract_plddt,
                    seed=seed,
                )
                files += self._write_plugin_files(prediction, paths)
            if not options.skip_relaxation:
                on_step("relax", 1.0)
                with timed(seconds, "relaxation"):
                    files.append(paths.file("relaxed.cif" if options.cif_output else "relaxed.pdb"))
                    self._write_relaxed(pipeline, prediction, files[-1])
        finally:
            seconds["total"] = sum(seconds.values())
            output_dir = Path(options.output_dir)
            below = directory.relative_to(output_dir / "predictions")
            record_timings(output_dir / "timings.json", str(below / name), seconds)
        return files

    def _publish(self, prediction: Prediction, paths: OutputPaths, seed: int | None) -> list[Path]:
        """Move the files of upstream's script into place, and write ours and the plugins' beside them."""
        files = prediction.staging.publish(paths, Path(self.options.output_dir))
        files += write_protein(prediction, paths, seed=seed, subtract_plddt=self.options.subtract_plddt)
        files += self._write_plugin_files(prediction, paths)
        if prediction.relaxation_error is not None:
            raise prediction.relaxation_error
        return files

    def _write_plugin_files(self, prediction: Prediction, paths: OutputPaths) -> list[Path]:
        """Let plugins write, and return the files that are new or changed since."""
        before = _modified(paths.directory)
        self.host.call("write_outputs", output=prediction.output, target=prediction.target, paths=paths)
        after = _modified(paths.directory)
        return [path for path in sorted(after) if before.get(path) != after[path]]

    def _write_relaxed(self, pipeline: Pipeline, prediction: Prediction, path: Path) -> None:
        relaxed = pipeline.relax(prediction)
        if path.suffix == ".cif":
            relaxed = prediction.to_cif(relaxed=relaxed, subtract_plddt=self.options.subtract_plddt)
        write_text(path, relaxed)

    def _write_out(self, pipeline: Pipeline, prediction: Prediction) -> Path:
        """Write the one file that ``--out`` names."""
        options, path = self.options, self.options.out
        if options.relax:
            self._write_relaxed(pipeline, prediction, path)
        elif path.suffix == ".json":
            write_json(path, prediction.to_json())
        elif path.suffix == ".cif":
            write_text(path, prediction.to_cif(subtract_plddt=options.subtract_plddt))
        else:
            write_text(path, prediction.to_pdb(subtract_plddt=options.subtract_plddt))
        return path


def _modified(folder: Path) -> dict[Path, int]:
    """Return the files of a folder with the times of their last change."""
    times = {}
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process's temporary file may be gone by now
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and not path.name.startswith("."):
                times[path] = status.st_mtime_ns
    return times


def _message(error: BaseException) -> str:
    return " ".join(str(error).split("\n"))
