"""The command ``run_pretrained_openfold.py``: upstream's arguments, plus ``--plugins`` and plugins' flags."""

from __future__ import annotations

from openfoldpp.inference import driver


def main() -> int:
    """Run the command line; returns the exit code."""
    return driver.main(program="run_pretrained_openfold.py")
