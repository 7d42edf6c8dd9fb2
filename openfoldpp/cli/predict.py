"""The command ``predict_openfoldpp.py``, which is also ``openfoldpp predict``."""

from __future__ import annotations

import typer

from openfoldpp.inference import driver


def main() -> int:
    """Run the command line; returns the exit code."""
    return driver.main(program="predict_openfoldpp.py", targets=True)


def predict(context: typer.Context) -> None:
    """Predict structures of FASTA files or sequences (VH:VL); --help lists all flags."""
    raise typer.Exit(driver.main(context.args, program="openfoldpp predict", targets=True))
