"""``openfoldpp embed``: language-model embeddings of the sequences of FASTA files."""

from __future__ import annotations

import enum
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from openfoldpp.plm.extract import Progress, Report

# Between two lines where standard error is no terminal.
_LINE_EVERY_S = 10.0


class EmbeddingLayout(enum.StrEnum):
    """The layouts; what each is stands in :mod:`openfoldpp.plm.layouts`."""

    TOKENS = "tokens"
    SOLOSEQ = "soloseq"
    SAFETENSORS = "safetensors"


def embed(
    fasta: Annotated[
        list[Path],
        typer.Argument(help="FASTA files, or folders of .fasta and .fa files.", show_default=False),
    ],
    plm: Annotated[
        str,
        typer.Option(
            "--plm",
            metavar="NAME",
            help="The language model: antiberty or plm_lite for antibodies, esm1b or esm2_t33_650M_UR50D for "
            "any protein. A wrong name lists all.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "--output_dir",
            metavar="DIR",
            help="Where the embeddings go. A run that was stopped goes on there.",
            show_default=False,
        ),
    ],
    layout: Annotated[
        EmbeddingLayout,
        typer.Option(
            help="tokens: one TAG.pt for each sequence, with seq, tokens and repr. soloseq: TAG/TAG.pt as "
            "OpenFold 2 reads it (esm1b only). safetensors: a few large files."
        ),
    ] = EmbeddingLayout.TOKENS,
    plm_weights: Annotated[
        Path | None,
        typer.Option(
            "--plm_weights",
            "--plm-weights",
            metavar="FILE",
            help="The model's weights, where they do not come with a package; for --plm precomputed a "
            "folder.",
        ),
    ] = None,
    plm_layer: Annotated[
        int | None,
        typer.Option(
            "--plm_layer",
            "--plm-layer",
            metavar="N",
            help="Whose output to take; by default the last layer's.",
        ),
    ] = None,
    plm_dtype: Annotated[
        str | None,
        typer.Option(
            "--plm_dtype",
            "--plm-dtype",
            metavar="DTYPE",
            help="In which the model computes: float32 (default), bfloat16 or float16. Files are float16 "
            "whatever it is; soloseq's float32.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="Where the model runs: cpu, cuda, mps.")] = ""
    "cpu",
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            "--batch_tokens",
            "--batch-tokens",
            metavar="N",
            help="Residues embedded at once. A GPU may be faster with more.",
        ),
    ] = None,
) -> None:
    """Embed the sequences of FASTA files with a protein language model.

    Every record gets its embedding, one row of numbers for each residue; equal sequences are embedded once. A
    record that cannot be used is named at the end, and the exit code is 1; the others are not affected. A run
    that was stopped, however, goes on where it was when the same command is given again.
    """
    from openfoldpp.errors import OpenFoldPPError
    from openfoldpp.files import explain_os_error
    from openfoldpp.inference.interruption import Interrupted, interruptible

    try:
        with interruptible():
            report = _run(fasta, plm, out, layout, plm_weights, plm_layer, plm_dtype, device, batch_tokens)
    except Interrupted as error:
        typer.echo(
            f"openfoldpp embed: {error}; "
            + (
                f"every embedding in {out} is complete. The same command goes on from there"
                if out.is_dir()
                else "nothing was embedded"
            ),
            err=True,
        )
        raise typer.Exit(error.exit_code) from error
    except OSError as error:
        typer.echo(f"openfoldpp embed: {explain_os_error(error)}", err=True)
        raise typer.Exit(1) from error
    except OpenFoldPPError as error:
        typer.echo(f"openfoldpp embed: {error}", err=True)
        raise typer.Exit(1) from error
    if report.failures:
        raise typer.Exit(1)


def _run(
    fasta: list[Path],
    plm: str,
    out: Path,
    layout: str,
    weights: Path | None,
    layer: int | None,
    dtype: str | None,
    device: str,
    batch_tokens: int | None,
) -> Report:
    from openfoldpp.plm.extract import extract
    from openfoldpp.plm.extract_fasta import read_records
    from openfoldpp.plm.registry import load

    # OpenFold 2 looks for SoloSeq's files under the name that it makes of the '>' line.
    rule = "word_characters" if layout == EmbeddingLayout.SOLOSEQ else "first_word"
    records, unread, notes = read_records(fasta, tag_rule=rule)
    for text in notes:
        _note(text)
    embedder = load(plm, weights, layer, dtype, device=device)
    with _Reporter() as reporter:
        report = extract(
            records, embedder, out, str(layout), batch_tokens=batch_tokens, progress=reporter.show, note=_note
        )
    report.failures[:0] = unread
    _show(report, out)
    return report


def _note(text: str) -> None:
    typer.echo(f"openfoldpp embed: {text}", err=True)


def _show(report: Report, out: Path) -> None:
    rate = f", {report.tokens / report.elapsed_s:,.0f} tokens/s" if report.tokens else ""
    typer.echo(
        f"{_count(report.written + report.there, 'embedding')} in {out}: {report.written:,} new of "
        f"{_count(report.sequences, 'sequence')} embedded in {report.elapsed_s:.1f} s{rate}; "
        f"{report.there:,} were there"
    )
    if report.failures:
        typer.echo(f"\n{len(report.failures):,} without an embedding:", err=True)
        for text in report.failures:
            typer.echo(f"  {text}", err=True)


class _Reporter:
    """Progress on standard error: a bar on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._next_line_s = _LINE_EVERY_S
        # A terminal of type "dumb", that of an editor for instance, cannot redraw a line.
        self._on_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> _Reporter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, state: Progress) -> None:
        if not state.total_tokens:
            return
        if self._on_terminal:
            self._show_bar(state)
        elif state.elapsed_s >= self._next_line_s and state.tokens < state.total_tokens:
            self._next_line_s = state.elapsed_s + _LINE_EVERY_S
            typer.echo(
                f"[{state.elapsed_s:8.1f} s] {state.tokens / state.total_tokens:4.0%}  {state.sequences:,} "
                f"of {state.total_sequences:,} sequences, {state.tokens_per_s:,.0f} tokens/s, "
                f"{_clock(state.left_s)} left",
                err=True,
            )

    def _show_bar(self, state: Progress) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

            self._bar = Progress(
                TextColumn("embedding"),
                BarColumn(bar_width=20),
                TaskProgressColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                console=Console(file=sys.stderr, highlight=False),
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.add_task("embedding", total=state.total_sequences, rate="")
            self._bar.start()
        rate = f"{state.tokens_per_s:,.0f} tokens/s, {_clock(state.left_s)} left" if state.tokens else ""
        self._bar.update(self._bar.task_ids[0], completed=state.sequences, rate=rate)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _clock(seconds: float | None) -> str:
    """Return a duration as hours, minutes and seconds; "?" for None."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
