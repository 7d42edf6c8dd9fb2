"""``openfoldpp export``: predictions in the layout of another program."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from openfoldpp.inference.export import Exported


class Layout(enum.StrEnum):
    """The layouts; what each is stands in :data:`openfoldpp.inference.export.LAYOUTS`."""

    ALPHAFOLD2 = "alphafold2"


def export(
    predictions: Annotated[
        list[Path],
        typer.Argument(
            help="Output folders of OpenFold or openfoldpp, or single NAME_output_dict.pkl files.",
            show_default=False,
        ),
    ],
    layout: Annotated[Layout, typer.Option(help="Whose layout to write.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="One folder for each target is made in DIR.", show_default=False),
    ],
) -> None:
    """Write predictions as AlphaFold 2 does, for programs that read AlphaFold's files.

    Each target gets a folder with result_MODEL.pkl, the structures, ranked_N.pdb and ranking_debug.json.
    Values that nobody predicted are left out. A folder that is there already is not overwritten.
    """
    from openfoldpp.errors import OpenFoldPPError
    from openfoldpp.inference.export import LAYOUTS
    from openfoldpp.inference.results import find

    try:
        found = find(predictions)
    except OpenFoldPPError as error:
        typer.echo(f"openfoldpp export: {error}", err=True)
        raise typer.Exit(1) from error
    failed = 0
    lacking: dict[tuple[str, ...], list[str]] = {}
    for target in dict.fromkeys(result.target for result in found):
        try:
            exported = LAYOUTS[layout]([result for result in found if result.target == target], out)
        except (OpenFoldPPError, OSError) as error:
            typer.echo(f"openfoldpp export: {target}: {error}", err=True)
            failed += 1
        else:
            _show(exported)
            for model in exported.models:
                lacking.setdefault(model.left_out, []).append(f"{target}/result_{model.name}.pkl")
    for keys, files in lacking.items():
        if keys:
            typer.echo(f"\nLeft out, as nobody predicted them: {', '.join(keys)}. Of:", err=True)
            for file in files:
                typer.echo(f"  {file}", err=True)
    if failed:
        raise typer.Exit(1)


def _show(exported: Exported) -> None:
    """Print the folder, its models from the best on, and its files; notes on standard error."""
    typer.echo(f"{exported.folder}:")
    for rank, model in enumerate(exported.models):
        scores = (("mean pLDDT", model.mean_plddt, 1), ("pTM", model.ptm, 2), ("ipTM", model.iptm, 2))
        said = ", ".join(f"{name} {value:.{digits}f}" for name, value, digits in scores if value is not None)
        typer.echo(f"  ranked_{rank}.pdb  {model.name}  {said}, from {model.result.output_dict}")
        for note in model.notes:
            typer.echo(f"{exported.target}: {note}", err=True)
    files = sorted(path.name for path in exported.folder.iterdir())
    typer.echo(f"  {len(files)} files: {', '.join(files)}")
