"""``openfoldpp quantize``: a language model with 8-bit or 4-bit weights."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer


class Bits(enum.StrEnum):
    """Bits of a weight."""

    EIGHT = "8"
    FOUR = "4"


def quantize(
    plm: Annotated[
        str,
        typer.Option(
            "--plm",
            metavar="NAME",
            help="The language model: antiberty, esm1b, esm2_t33_650M_UR50D... A wrong name lists all.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="F",
            help="The file to write, NAME.safetensors. Its report goes to NAME.json beside it.",
            show_default=False,
        ),
    ],
    bits: Annotated[
        Bits,
        typer.Option(
            "--bits",
            help="8: a quarter of the size, and faster on a CPU with AVX-512 VNNI. 4: an eighth of the size, "
            "less exact.",
        ),
    ] = Bits.EIGHT,
    plm_weights: Annotated[
        Path | None,
        typer.Option(
            "--plm_weights",
            "--plm-weights",
            metavar="FILE",
            help="The model's own weights, where they do not come with a package and are not in fair-esm's "
            "cache.",
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            metavar="FASTA",
            help="Some 64 sequences like those that you will embed; by default a set that comes with "
            "openfoldpp.",
        ),
    ] = None,
) -> None:
    """Make a smaller copy of a language model, and say how close its embeddings are.

    Use the copy wherever the model is used: --plm NAME --plm_weights F. It needs no original weights.
    AntiBERTy takes a minute; the time grows with the size of the model.
    """
    from openfoldpp.errors import OpenFoldPPError
    from openfoldpp.files import explain_os_error
    from openfoldpp.plm.quantization.report import quantise_to_file, table

    try:
        report = quantise_to_file(
            plm,
            int(bits),
            out,
            weights=plm_weights,
            calibration=calibration,
            progress=lambda line: typer.echo(line, err=True),
        )
    except OSError as error:
        typer.echo(f"openfoldpp quantize: {explain_os_error(error)}", err=True)
        raise typer.Exit(1) from error
    except OpenFoldPPError as error:
        typer.echo(f"openfoldpp quantize: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(table(report))
    typer.echo(
        f"\nwritten: {out} (use it with --plm {plm} --plm_weights {out}) and {out.with_suffix('.json')}"
    )
