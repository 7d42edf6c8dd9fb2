"""``openfoldpp install-openfold``: OpenFold 0.0.1 from the package index, built so that it works today."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def install_openfold(
    constraint: Annotated[
        Path | None, typer.Option(help="A pip constraints file for the packages that OpenFold needs.")
    ] = None,
    sdist: Annotated[
        Path | None, typer.Option(help="The sdist of OpenFold 0.0.1, where it has been downloaded already.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Install even if an OpenFold is there.")] = False,
) -> None:
    """Install OpenFold 0.0.1 into this Python environment; does nothing where an OpenFold is there."""
    from openfoldpp.errors import OpenFoldPPError
    from openfoldpp.upstream.install import install_openfold as install

    try:
        install(constraint=constraint, sdist=sdist, force=force, report=typer.echo)
    except OpenFoldPPError as error:
        typer.echo(f"openfoldpp install-openfold: {error}", err=True)
        raise typer.Exit(1) from error
