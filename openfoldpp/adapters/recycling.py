"""Builtin plugin ``openfoldpp.recycling``: choose the number of recycles on the command line."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

from openfoldpp.errors import InputError
from openfoldpp.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from ml_collections import ConfigDict


class RecyclingPlugin:
    """Number of recycles of OpenFold's model, by ``--recycling_iters``.

    AlphaFold 2 (Jumper et al. 2021, supplementary algorithm 30) recycles 3 times after the first
    pass. Fewer are faster; more sometimes help a hard target.
    """

    @hookimpl
    def openfoldpp_add_options(self, parser: ArgumentParser) -> None:
        """Add ``--recycling_iters``."""
        parser.add_argument(
            "--recycling_iters",
            type=_count,
            default=None,
            metavar="N",
            help="passes of the model after the first; 0 is one pass (default: the preset's own, 3)",
        )

    @hookimpl
    def openfoldpp_configure(self, config: ConfigDict, options: Namespace) -> None:
        """Set ``data.common.max_recycling_iters`` where the flag is given.

        Raises
        ------
        InputError
            If no weights are given: nothing would be recycled.
        """
        if options.recycling_iters is None:
            return
        if not (options.openfold_checkpoint_path or options.jax_param_path):
            raise InputError(
                f"--recycling_iters {options.recycling_iters} is for OpenFold's model, and no weights are "
                "given: give --openfold_checkpoint_path FILE or --jax_param_path FILE, or leave the flag out"
            )
        config.data.common.max_recycling_iters = options.recycling_iters


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a number of recycles; expected 0 or more, for example 3")
    return int(text)


plugin = RecyclingPlugin()
