"""The library of motifs that comes with openfoldpp: FlashABB's models of generated antibody Fvs.

``openfoldpp train motif-library`` made it, with the options that its manifest names.
"""

from __future__ import annotations

from pathlib import Path

from openfoldpp.errors import WeightsError

_SHIPPED = Path(__file__).parents[1] / "weights" / "motif_library"


def path() -> Path:
    """Return the folder of the library that comes with openfoldpp.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    WeightsError
        This installation lacks it.
    """
    if not (_SHIPPED / "manifest.json").is_file():
        raise WeightsError(
            f"{_SHIPPED}: the default library of motifs is missing; install openfoldpp again, or name "
            "a library that `openfoldpp motifs build` made"
        )
    return _SHIPPED
