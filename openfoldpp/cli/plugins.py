"""``openfoldpp plugins``: which plugins are installed and what each does."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from openfoldpp.plugins.manager import PluginInfo, installed


def plugins(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list, with where each plugin's code is.")
    ] = False,
) -> None:
    """List the installed plugins: what each does, where it comes from, which hooks it uses.

    A plugin that cannot be used is listed with the reason.
    """
    found = installed()
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(plugin) for plugin in found], indent=2))
    else:
        _show(found)


def _show(found: list[PluginInfo]) -> None:
    console = Console(highlight=False)
    if not found:
        console.print("No plugin is installed; pip install openfoldpp brings its own.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("plugin", no_wrap=True)
    table.add_column("from")
    table.add_column("what it does, and its hooks", ratio=1)
    for plugin in found:
        about = Text(plugin.summary.replace("``", ""))
        if plugin.hooks:
            about.append(("\n" if about else "") + ", ".join(plugin.hooks), style="dim")
        if plugin.error:
            about.append(("\n" if about else "") + f"cannot be used: {plugin.error}", style="red")
        origin = " ".join(filter(None, (plugin.distribution, plugin.version)))
        table.add_row(plugin.name, origin, about)
    console.print(table)
    if not any(plugin.error for plugin in found):
        console.print(f"\nUse them: run_pretrained_openfold.py FASTA_DIR --plugins {_spec(found)}")


def _spec(found: list[PluginInfo]) -> str:
    """Return the shortest text of ``--plugins`` that names every plugin."""
    return ",".join(dict.fromkeys(plugin.name.partition(".")[0] for plugin in found))
