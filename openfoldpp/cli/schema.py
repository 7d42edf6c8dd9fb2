"""``openfoldpp schema``: an output pickle against what a release writes for a preset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Compare output pickles with OpenFold's own schema.", no_args_is_help=True)


@app.callback()
def schema() -> None:
    """Compare output pickles with OpenFold's own schema."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="An output pickle: NAME_output_dict.pkl.")],
    preset: Annotated[str, typer.Option(help="The preset that it was made with.")] = "model_1_ptm",
    version: Annotated[str, typer.Option(help="The OpenFold release.")] = "0.0.1",
) -> None:
    """Check that an output pickle has exactly the keys, dtypes and shapes that OpenFold writes."""
    from openfoldpp.errors import OpenFoldPPError
    from openfoldpp.pickles import read_pickle
    from openfoldpp.upstream import schema as schemas

    try:
        expected = schemas.load(version, preset)
        schemas.check(read_pickle(file), expected)
    except OpenFoldPPError as error:
        typer.echo(f"openfoldpp schema check: {file}: {error}", err=True)
        if not file.name.endswith("_output_dict.pkl"):
            typer.echo("What it checks is NAME_output_dict.pkl.", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{file}: {len(expected.leaves)} arrays, exactly as OpenFold {version} writes {preset}")
