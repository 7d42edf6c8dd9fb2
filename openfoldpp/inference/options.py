"""The command line of a prediction: upstream's flags under upstream's names, ours, and each plugin's own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from openfoldpp.errors import InputError, PluginError
from openfoldpp.plugins.manager import PluginHost
from openfoldpp.upstream.features import add_data_options

#: Upstream's own default is model_1; a confidence for pairs of residues needs a _ptm preset.
DEFAULT_PRESET = "model_1_ptm"


def parse(
    argv: Sequence[str], *, program: str, targets: bool = False
) -> tuple[argparse.Namespace, PluginHost]:
    """Parse a command line, with the flags of the plugins that it names.

    Parameters
    ----------
    argv : sequence of str
        Without the program's name.
    program : str
        Its name, for messages.
    targets : bool
        False: upstream's arguments (``fasta_dir [template_mmcif_dir]``). True: those of
        ``openfoldpp predict`` (FASTA files or sequences, ``--out``).

    Returns
    -------
    options : argparse.Namespace
        All options.
    host : PluginHost
        The plugins named by ``--plugins``, none where it is absent.

    Raises
    ------
    PluginError
        A plugin is unknown or cannot be used.
    InputError
        ``--trace_model`` is given.
    SystemExit
        As argparse does, for ``--help`` and for wrong arguments.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description=_DESCRIPTION_PREDICT if targets else _DESCRIPTION_RUN,
        usage=f"%(prog)s {'TARGET ...' if targets else 'FASTA_DIR [TEMPLATE_DIR]'} [--plugins NAMES] [FLAGS]",
        epilog="Plugins add flags of their own: --plugins NAMES --help shows those as well.",
        allow_abbrev=False,
        formatter_class=_HelpFormatter,
    )
    _add_plugin_options(parser, default="openfoldpp" if targets else None)
    first, _ = parser.parse_known_args([a for a in argv if a not in ("-h", "--help")])
    host = PluginHost.load(first.plugins) if first.plugins else PluginHost()
    if targets:
        _add_predict_arguments(parser)
    else:
        _add_upstream_arguments(parser)
    _add_common_options(parser)
    add_data_options(parser)
    try:
        host.call("add_options", parser=parser)
    except argparse.ArgumentError as error:
        raise PluginError(f"a plugin's flag is taken already: {error}; prefix it with its name") from error
    options = parser.parse_args(argv)
    if targets:
        options.skip_relaxation = not options.relax
    elif options.trace_model:
        raise InputError(
            "--trace_model is not supported: OpenFold 0.0.1 pads what it traces to a multiple of 50 "
            "residues, which fails for a target without templates, and gives the padding out as residues. "
            "It is there for speed alone: leave it out"
        )
    if options.save_outputs is None:
        options.save_outputs = not weights_given(options)
    return options, host


def defaults(*arguments: str, plugins: str = "openfoldpp") -> tuple[argparse.Namespace, PluginHost]:
    """Return the options of ``openfoldpp predict`` with these arguments and plugins, for the Python API."""
    return parse(["--plugins", plugins, *arguments], program="openfoldpp.predict", targets=True)


def weights_given(options: argparse.Namespace) -> bool:
    """Say whether the options name a checkpoint or JAX parameters."""
    return bool(options.openfold_checkpoint_path or options.jax_param_path)


_DESCRIPTION_RUN = (
    "Predict the FASTA files of a folder, as OpenFold's script of this name does, with plugins."
)
_DESCRIPTION_PREDICT = "Predict the structures of FASTA files, or of sequences given as VH:VL."


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Show the defaults that say something."""

    def _get_help_string(self, action):
        if action.default in (None, False) or "(default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def _add_plugin_options(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--plugins",
        metavar="NAMES",
        default=default,
        help="plugins to use, separated by commas; 'openfoldpp' is the bundle (see: openfoldpp plugins)",
    )


def _add_upstream_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fasta_dir", help="folder of .fasta and .fa files, each one target")
    parser.add_argument(
        "template_mmcif_dir", nargs="?", help="folder of mmCIF files; without it no templates are used"
    )
    parser.add_argument(
        "--skip_relaxation", action="store_true", help="leave out the relaxation of the structure with OpenMM"
    )
    parser.add_argument("--trace_model", action="store_true", help="not supported, and refused")


def _add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", nargs="*", help="FASTA files, folders of them, or sequences (VH:VL)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write one target's structure to FILE (.pdb, .cif or .json) instead of OpenFold's files",
    )
    relaxation = parser.add_mutually_exclusive_group()
    relaxation.add_argument("--relax", action="store_true", help="relax the structure with OpenMM")
    relaxation.add_argument("--skip_relaxation", action="store_true", help="do not relax it, as by default")
    parser.add_argument(
        "--template_mmcif_dir",
        metavar="DIR",
        help="folder of mmCIF files for templates; without it none are used",
    )


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--use_precomputed_alignments",
        metavar="DIR",
        help="folder with one folder of alignments for each chain; database flags are then ignored",
    )
    add("--output_dir", metavar="DIR", default=".", help="results go to DIR/predictions")
    add("--model_device", metavar="DEVICE", default="cpu", help="torch device: cpu, cuda:0, mps")
    add("--config_preset", metavar="NAME", default=DEFAULT_PRESET, help="preset of OpenFold's configuration")
    add(
        "--openfold_checkpoint_path",
        metavar="FILE",
        help="OpenFold weights (.pt), several separated by commas",
    )
    add("--jax_param_path", metavar="FILE", help="AlphaFold weights (params_PRESET.npz)")
    add(
        "--openfold_home",
        type=Path,
        metavar="DIR",
        help="a checkout of OpenFold, instead of the installed one",
    )
    add(
        "--save_outputs",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="write NAME_output_dict.pkl, OpenFold's whole output; by default where no weights are given",
    )
    add("--cpus", type=int, default=4, help="CPUs of the alignment tools")
    add("--preset", choices=("reduced_dbs", "full_dbs"), default="full_dbs", help="which BFD is searched")
    add("--output_postfix", metavar="TEXT", help="added to the output files' names")
    add(
        "--data_random_seed",
        "--seed",
        type=_seed,
        metavar="N",
        help="seed of OpenFold's model for each target, 0 to 4294967294; drawn and printed where not given",
    )
    add(
        "--multimer_ri_gap",
        type=_gap,
        metavar="N",
        default=200,
        help="gap in the residue index between chains",
    )
    add("--subtract_plddt", action="store_true", help="write 100 - pLDDT as B-factors")
    add("--cif_output", action="store_true", help="write ModelCIF instead of PDB")
    add("--quiet", action="store_true", help="no progress, only the closing table and errors")


def _gap(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is no gap; expected 1 or more")
    return value


def _seed(text: str) -> int:
    # torch takes seed + 1, numpy at most 2**32 - 1.
    value = int(text)
    if not 0 <= value <= 2**32 - 2:
        raise argparse.ArgumentTypeError(f"{value} is not within 0 to 4294967294")
    return value
