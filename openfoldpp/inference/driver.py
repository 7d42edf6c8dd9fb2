"""``run_pretrained_openfold.py`` and ``openfoldpp predict``: every target of a command, to its files.

The driver does the steps of upstream's script, under its flags and into its layout, where upstream has
no script (the PyPI release) or there are no weights to run. A target that fails does not stop the next.
"""

from __future__ import annotations

import random
import sys
import time
import traceback
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openfoldpp.errors import InputError, OpenFoldNotFoundError, OpenFoldPPError
from openfoldpp.files import write_json, write_text
from openfoldpp.inference import options as command_line
from openfoldpp.inference.fasta import FastaInputs, parse_sequence_argument, read_targets
from openfoldpp.inference.outputs import record_timings, write_prediction
from openfoldpp.inference.pipeline import Pipeline, default_jax_parameters, timed
from openfoldpp.inference.prediction import Prediction
from openfoldpp.inference.progress import ProgressReporter
from openfoldpp.inference.summary import TargetSummary, print_summary
from openfoldpp.plugins.manager import PluginHost
from openfoldpp.types import OutputPaths, ProgressEvent, Target

#: Formats of ``openfoldpp predict --out FILE``.
OUT_SUFFIXES = (".pdb", ".cif", ".json")

# As the shell reports a program that SIGINT ended.
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
        0 where every target was predicted and written, 1 where any failed, 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        options, host = command_line.parse(argv, program=program, targets=targets)
        run = Run(options, host, _read_inputs(options, targets))
        return run.execute()
    except OpenFoldPPError as error:
        print(f"{program}: {_message(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted; finished targets are in place", file=sys.stderr)
        return _INTERRUPTED


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
    """

    options: Namespace
    host: PluginHost
    inputs: FastaInputs
    results: list[TargetSummary] = field(default_factory=list)

    def execute(self) -> int:
        """Predict and write every target, print the summary, and return the exit code."""
        options = self.options
        out = getattr(options, "out", None)
        if out is not None:
            _check_out(out, self.inputs, options)
        if not command_line.weights_given(options):
            self._use_default_weights()
        seed = options.data_random_seed
        if seed is None and command_line.weights_given(options):
            seed = random.randrange(2**32 - 1)  # noqa: S311
            print(f"data_random_seed {seed} (give it with --data_random_seed to repeat this run)")
        pipeline = Pipeline(options, self.host, seed or 0)
        if out is None:
            _ = pipeline.config  # before any work: files need OpenFold, plugins may refuse
        self.results = [
            TargetSummary(path.name, error=_message(error)) for path, error in self.inputs.failures
        ]
        with ProgressReporter(quiet=options.quiet) as reporter:
            self.host.register(reporter, "openfoldpp.progress")
            self._predict_all(pipeline, seed)
        print_summary(self.results)
        return 1 if any(result.error for result in self.results) else 0

    def _use_default_weights(self) -> None:
        """Take AlphaFold's own weights where upstream's script would find them by default."""
        from openfoldpp.upstream import locate

        try:
            found = default_jax_parameters(self.options.config_preset, locate(self.options.openfold_home))
        except OpenFoldNotFoundError:
            if getattr(self.options, "out", None) is None:
                raise
            return
        if found is not None:
            self.options.jax_param_path = str(found)

    def _predict_all(self, pipeline: Pipeline, seed: int | None) -> None:
        targets = self.inputs.targets
        count = 1
        if command_line.weights_given(self.options):
            from openfoldpp.upstream.model import count_models

            count = count_models(self.options.openfold_checkpoint_path, self.options.jax_param_path)
            self.host.call("progress", event=ProgressEvent("load", 0.0))
        total = max(1, count * len(targets))
        done = 0
        for loaded in pipeline.models() if targets else ():
            directory = Path(self.options.output_dir) / "predictions"
            if count > 1:
                directory /= loaded.name
            for target in targets:

                def on_step(phase, fraction, target=target, done=done):
                    # The trunk is nearly all of a target's time: its fraction counts as the target's.
                    part = {"features": 0.0, "predict": fraction}.get(phase, 1.0)
                    self.host.call("progress", event=ProgressEvent(phase, (done + part) / total, target))

                result = self.predict_one(pipeline, target, loaded, directory, seed=seed, on_step=on_step)
                self.results.append(result)
                done += 1
                phase = "failed" if result.error else "done"
                self.host.call("progress", event=ProgressEvent(phase, done / total, target))

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
        """Predict and write one target; whatever it raises becomes the summary's error.

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
        """
        start = time.perf_counter()
        try:
            prediction = pipeline.predict(target, loaded, on_step=on_step)
            on_step("write", 1.0)
            if getattr(self.options, "out", None) is not None:
                files = [self._write_out(pipeline, prediction)]
            else:
                files = self._write(pipeline, prediction, directory, seed, on_step)
        except OpenFoldPPError as error:
            return TargetSummary(target.tag, error=_message(error))
        except Exception as error:
            traceback.print_exc()
            return TargetSummary(target.tag, error=f"{type(error).__name__}: {error}")
        return TargetSummary(
            target.tag,
            residues=len(target.sequence),
            mean_plddt=float(prediction.plddt.mean()),
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
            record_timings(Path(options.output_dir) / "timings.json", name, seconds)
        return files

    def _write_plugin_files(self, prediction: Prediction, paths: OutputPaths) -> list[Path]:
        """Let plugins write, and return the files that are new or changed since."""
        before = {path: path.stat().st_mtime_ns for path in paths.directory.iterdir()}
        self.host.call("write_outputs", output=prediction.output, target=prediction.target, paths=paths)
        return [
            path
            for path in sorted(paths.directory.iterdir())
            if path.is_file() and before.get(path) != path.stat().st_mtime_ns
        ]

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


def _read_inputs(options: Namespace, targets: bool) -> FastaInputs:
    """Read the FASTA folder, or the files and sequences that were named."""
    if not targets:
        return read_targets(options.fasta_dir)
    if not options.targets:
        raise InputError("no target: give FASTA files, folders of them, or a sequence such as VH:VL")
    files = [text for text in options.targets if Path(text).exists() or not _is_sequence(text)]
    sequences = [text for text in options.targets if text not in files]
    read = read_targets(files) if files else FastaInputs((), ())
    tags = ["prediction"] if len(sequences) == 1 else [f"prediction{i + 1}" for i in range(len(sequences))]
    given = tuple(parse_sequence_argument(text, tag=tag) for text, tag in zip(sequences, tags, strict=True))
    return FastaInputs(given + read.targets, read.failures)


def _is_sequence(text: str) -> bool:
    return all(part.isalpha() for part in text.split(":"))


def _check_out(out: Path, inputs: FastaInputs, options: Namespace) -> None:
    if out.suffix not in OUT_SUFFIXES:
        raise InputError(f"--out {out}: expected a name ending in {', '.join(OUT_SUFFIXES)}")
    if len(inputs.targets) + len(inputs.failures) != 1:
        count = len(inputs.targets) + len(inputs.failures)
        raise InputError(f"--out is for one target, there are {count}: use --output_dir DIR")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}")
    if options.relax and out.suffix == ".json":
        raise InputError(f"--relax writes a structure: give --out a name ending in .pdb or .cif, not {out}")


def _message(error: BaseException) -> str:
    return " ".join(str(error).split("\n"))
