"""``openfoldpp schema``: what OpenFold writes, and output pickles against it and against each other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from openfoldpp.upstream.schema import Leaf
    from openfoldpp.upstream.schema_match import Match

app = typer.Typer(
    help="Show what OpenFold writes; compare output pickles with it and with each other.",
    no_args_is_help=True,
)


@app.callback()
def schema() -> None:
    """Show what OpenFold writes; compare output pickles with it and with each other."""


@app.command()
def show(
    version: Annotated[
        str | None,
        typer.Option(
            help="The OpenFold release; by default that of the OpenFold found, where it has the preset."
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="The preset; without it, all presets are listed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every array of an output pickle: path, dtype and dimensions. Without a preset, list them all."""
    from openfoldpp.upstream import schema as schemas

    with _errors("show"):
        if preset is None:
            chosen = schemas.versions() if version is None else [version]
            _list([(release, name) for release in chosen for name in schemas.presets(release)], as_json)
            return
        found = schemas.load(version or _release_for(preset), preset)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
        return
    typer.echo(f"OpenFold {found.version}, {found.preset}: {len(found.leaves)} arrays")
    _table(
        ("path", "dtype", "dimensions"),
        [(path, leaf.dtype, _dims(leaf)) for path, leaf in found.leaves.items()],
    )


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="An output pickle: NAME_output_dict.pkl.")],
    preset: Annotated[
        str | None,
        typer.Option(help="The preset that it was made with; by default told by its name, or its contents."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="The OpenFold release; by default told by its contents.")
    ] = None,
) -> None:
    """Check that an output pickle has exactly the keys, dtypes and shapes that OpenFold writes."""
    from openfoldpp.pickles import read_pickle
    from openfoldpp.upstream.schema_match import closest, preset_in_name

    hint = "" if file.name.endswith("_output_dict.pkl") else " (what it checks is NAME_output_dict.pkl)"
    with _errors("check", file, hint):
        output = read_pickle(file)
        named = None if preset else preset_in_name(file.name)
        match = closest(output, version, preset or named)
        reason = _reason(match, version, preset, named)
        writes = f"as OpenFold {match.schema.version} writes {match.schema.preset}"
        if not match.problems:
            typer.echo(f"{file}: {len(match.schema.leaves)} arrays, exactly {writes} ({reason})")
            return
        count = len(match.problems)
        typer.echo(f"{file}: not {writes} ({reason}): {count} difference{'s' * (count > 1)}")
        for problem in match.problems:
            typer.echo(f"  {problem}")
        other = closest(output)
        if not other.problems:
            typer.echo(
                f"It is exactly what OpenFold {other.schema.version} writes for {other.schema.preset}."
            )
    raise typer.Exit(1)


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="An output pickle, or VERSION/PRESET: 2.2.0/model_1_ptm.")],
    b: Annotated[str, typer.Argument(help="Another.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say in which names, dtypes and shapes of arrays two outputs differ; exit with 1 where they do.

    N_res and N_seq follow the target and its alignment: they are told, and are no difference.
    """
    with _errors("diff"):
        (first, sizes), (second, other_sizes) = _side(a), _side(b)
    paths = [*first, *(path for path in second if path not in first)]
    rows = [path for path in paths if not _alike(first.get(path), second.get(path), sizes, other_sizes)]
    if as_json:
        sides = [(first.get(path), second.get(path)) for path in rows]
        found = [
            {"path": path, "a": x and asdict(x), "b": y and asdict(y)}
            for path, (x, y) in zip(rows, sides, strict=True)
        ]
        typer.echo(
            json.dumps({"a": a, "b": b, "differences": found, "sizes": [sizes, other_sizes]}, indent=2)
        )
    else:
        for name, side in ((a, sizes), (b, other_sizes)):
            if side:
                typer.echo(f"{name}: {', '.join(f'{symbol} = {size}' for symbol, size in side.items())}")
        if rows:
            _table(
                ("path", a, b),
                [(path, str(first.get(path, "absent")), str(second.get(path, "absent"))) for path in rows],
            )
        else:
            typer.echo(f"the same {len(first)} arrays by name, dtype and shape; values are not compared")
    if rows:
        raise typer.Exit(1)


@contextmanager
def _errors(command: str, file: Path | None = None, hint: str = "") -> Iterator[None]:
    """Print an error of ours, and the file that it is about, as one line and exit with 1."""
    from openfoldpp.errors import OpenFoldPPError

    try:
        yield
    except OpenFoldPPError as error:
        text = " ".join(str(error).split())
        if file is not None and str(file) not in text:
            text = f"{file}: {text}"
        typer.echo(f"openfoldpp schema {command}: {text}{hint}", err=True)
        raise typer.Exit(1) from error


def _list(pairs: Sequence[tuple[str, str]], as_json: bool) -> None:
    """Print versions and presets; those with the same arrays stand in one line."""
    from openfoldpp.upstream.schema import load

    loaded = [load(*pair) for pair in pairs]
    if as_json:
        listed = [{"version": s.version, "preset": s.preset, "arrays": len(s.leaves)} for s in loaded]
        typer.echo(json.dumps(listed, indent=2))
        return
    groups: dict[Any, list[str]] = {}
    for one in loaded:
        groups.setdefault((one.version, tuple(one.leaves.items())), []).append(one.preset)
    rows = [(release, str(len(leaves)), " ".join(names)) for (release, leaves), names in groups.items()]
    _table(("version", "arrays", "presets with the same arrays"), rows)


def _release_for(preset: str) -> str:
    """Return the release of the OpenFold found where it has the preset, else the newest that has it."""
    from openfoldpp.upstream import schema as schemas

    own = schemas.output_version()
    having = [release for release in schemas.versions() if preset in schemas.presets(release)]
    if not having:
        return schemas.versions()[-1]
    return own if own in having else having[-1]


def _reason(match: Match, version: str | None, preset: str | None, named: str | None) -> str:
    """Say what told preset and release, and which others are the same."""
    from_preset = "--preset" if preset else "the file's name" if named else "its contents"
    from_version = "--version" if version else "its contents"
    text = f"preset from {from_preset}, release from {from_version}"
    if from_preset == from_version:
        text = f"told by {from_version}"
    chosen = match.schema
    releases = [release for release, name in match.same if name == chosen.preset]
    presets = [name for release, name in match.same if release == chosen.version]
    also = [f"in {' and '.join(releases)}"] if releases else []
    also += [f"for {', '.join(presets)}"] if presets else []
    return f"{text}; the same {' and '.join(also)}" if also else text


def _alike(a: Leaf | None, b: Leaf | None, sizes: dict[str, int], other_sizes: dict[str, int]) -> bool:
    """Whether two leaves are the same; a symbol is that symbol, and the number that it stands for."""
    if a is None or b is None or a.dtype != b.dtype or len(a.dims) != len(b.dims):
        return False
    return all(
        x == y or sizes.get(x, x) == y or other_sizes.get(y, y) == x
        for x, y in zip(a.dims, b.dims, strict=True)
    )


def _side(name: str) -> tuple[dict[str, Leaf], dict[str, int]]:
    """Leaves of an output pickle, with symbols and what they stand for, or of a snapshot."""
    from openfoldpp.errors import InputError
    from openfoldpp.pickles import read_pickle
    from openfoldpp.upstream import schema as schemas
    from openfoldpp.upstream.schema_match import closest, symbolic

    if Path(name).is_file():
        output = read_pickle(name)
        return symbolic(output, closest(output).schema)
    pair = re.fullmatch(r"([\d.]+)/(\w+)", name)
    if not pair:
        raise InputError(
            f"{name}: neither a file nor VERSION/PRESET, for example 2.2.0/model_1_ptm; "
            "`openfoldpp schema show` lists these"
        )
    return dict(schemas.load(*pair.groups()).leaves), {}


def _dims(leaf: Leaf) -> str:
    return f"[{', '.join(map(str, leaf.dims))}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: lines of any length in a pipe, folded to the width of a terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if console.is_terminal:
        table = Table(*header, box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())
