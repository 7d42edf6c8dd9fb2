"""``openfoldpp doctor``: what a run would use, what stands in its way, and the cure."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

if TYPE_CHECKING:
    from openfoldpp.inference.findings import Diagnosis, Finding

# A word for each level, so that the text says the same without colours.
_WORDS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "problem": ("PROBLEM", "bold red")}
_INDENT = 9


def doctor(
    openfold_home: Annotated[
        Path | None, typer.Option("--openfold_home", help="A checkout of OpenFold to use.")
    ] = None,
    openfold_checkpoint_path: Annotated[
        str | None,
        typer.Option(
            "--openfold_checkpoint_path",
            metavar="FILE",
            help="OpenFold weights (.pt); commas separate several.",
        ),
    ] = None,
    jax_param_path: Annotated[
        str | None,
        typer.Option(
            "--jax_param_path", metavar="FILE", help="AlphaFold weights (.npz); commas separate several."
        ),
    ] = None,
    config_preset: Annotated[
        str | None,
        typer.Option(
            "--config_preset",
            help="The preset to check weights and memory for; by default the one that a run takes.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what a run would use, what it would fail at, and the cure.

    The exit code is 1 where run_pretrained_openfold.py with --plugins openfoldpp would fail in this
    environment with these options, else 0. Nothing is changed or downloaded.
    """
    from openfoldpp.inference.doctor import examine
    from openfoldpp.inference.findings import Question

    diagnosis = examine(Question(openfold_home, openfold_checkpoint_path, jax_param_path, config_preset))
    if as_json:
        typer.echo(json.dumps(_document(diagnosis), indent=2))
    else:
        _show(diagnosis)
    if diagnosis.problems:
        raise typer.Exit(1)


def _document(diagnosis: Diagnosis) -> dict:
    return {
        "openfoldpp": diagnosis.version,
        "ok": not diagnosis.problems,
        "problems": len(diagnosis.problems),
        "sections": [dataclasses.asdict(section) for section in diagnosis.sections],
    }


def _show(diagnosis: Diagnosis) -> None:
    console = Console(highlight=False)
    console.print(f"openfoldpp {diagnosis.version}", style="bold")
    for section in diagnosis.sections:
        console.print(f"\n{section.title}", style="bold", markup=False)
        for finding in section.findings:
            _print(console, finding)
    count = len(diagnosis.problems)
    console.print()
    if not count:
        console.print("A run would not fail at anything that can be told beforehand.", style="green")
        return
    _print_text(console, f"A run would fail: {count} problem{'s' if count > 1 else ''}", "bold red")
    for finding in diagnosis.problems:
        _print(console, finding)


def _print(console: Console, finding: Finding) -> None:
    word, style = _WORDS[finding.level]
    line = Text(f"{finding.name}: {finding.text}")
    line.stylize("bold", 0, len(finding.name))
    if console.is_terminal:
        # The word in a column of its own, and the text wrapped beside it.
        console.print(Text(f"{word:<{_INDENT}}", style=style), end="")
        wrapped = line.wrap(console, max(20, console.width - _INDENT))
        for i, part in enumerate(wrapped):
            console.print(part if i == 0 else Padding(part, (0, 0, 0, _INDENT)))
        if finding.cure:
            console.print(Padding(Text(f"-> {finding.cure}", style="cyan"), (0, 0, 0, _INDENT)))
    else:
        _print_text(console, f"{word:<{_INDENT}}{line.plain}")
        if finding.cure:
            _print_text(console, f"{'':<{_INDENT}}-> {finding.cure}")


def _print_text(console: Console, text: str, style: str | None = None) -> None:
    """Print a line as it is: no markup, and in a pipe no line break of ours."""
    console.print(Text(text, style=style or ""), soft_wrap=True)
