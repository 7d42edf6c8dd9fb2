"""The command ``openfoldpp``: one file of this folder for each subcommand."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from openfoldpp.cli.doctor import doctor
from openfoldpp.cli.embed import embed
from openfoldpp.cli.export import export
from openfoldpp.cli.install_openfold import install_openfold
from openfoldpp.cli.motifs import app as motifs
from openfoldpp.cli.plugins import plugins
from openfoldpp.cli.predict import predict
from openfoldpp.cli.quantize import quantize
from openfoldpp.cli.schema import app as schema
from openfoldpp.cli.train import app as train

app = typer.Typer(
    name="openfoldpp",
    help="Plugins for an unmodified OpenFold.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"openfoldpp {metadata.version('openfoldpp')}")
        raise typer.Exit


@app.callback()
def openfoldpp(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version)
    ] = False,
) -> None:
    """Plugins for an unmodified OpenFold."""


# predict has argparse's flags, those of plugins among them, and its own --help.
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)(predict)
app.command()(plugins)
app.command()(doctor)
app.command()(export)
app.command()(embed)
app.command()(quantize)
app.command()(install_openfold)
app.add_typer(motifs, name="motifs")
app.add_typer(train, name="train")
app.add_typer(schema, name="schema")
