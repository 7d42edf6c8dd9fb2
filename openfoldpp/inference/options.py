"""The command line of a prediction: upstream's flags under upstream's names, ours, and each plugin's own."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from openfoldpp.errors import InputError, PluginError
from openfoldpp.plugins.manager import PluginHost
from openfoldpp.upstream import Installation
from openfoldpp.upstream.databases import DATABASES, DATABASES_OF_2, TOOLS, TOOLS_OF_2, add_data_options

#: Where upstream's script does not run; a confidence for pairs of residues needs a _ptm preset.
DEFAULT_PRESET = "model_1_ptm"
#: The script's own default.
SCRIPT_PRESET = "model_1"

#: Flags of upstream's script that not every release has, and the first release that does.
_SINCE = {
    "use_custom_template": "2.2.0",
    "use_deepspeed_evoformer_attention": "2.1.0",
    "use_single_seq_mode": "2.0.0",
    "long_sequence_inference": "2.0.0",
    "trace_model": "2.0.0",
    **{f"{name}_database_path": "2.0.0" for name in DATABASES_OF_2},
}


_TRACEABLE = ("model_1", "model_2")


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
    return options, host


def defaults(*arguments: str, plugins: str = "openfoldpp") -> tuple[argparse.Namespace, PluginHost]:
    """Return the options of ``openfoldpp predict`` with these arguments and plugins, for the Python API."""
    return parse(["--plugins", plugins, *arguments], program="openfoldpp.predict", targets=True)


def weights_given(options: argparse.Namespace) -> bool:
    """Say whether the options name a checkpoint or JAX parameters."""
    return bool(options.openfold_checkpoint_path or options.jax_param_path)


def check_release(options: argparse.Namespace, installation: Installation) -> list[str]:
    """Refuse flags that would have no effect with this OpenFold, and say what others mean here.

    Parameters
    ----------
    options : argparse.Namespace
        From :func:`parse`.
    installation : Installation
        The OpenFold in use.

    Returns
    -------
    list of str
        Notes for the user.

    Raises
    ------
    InputError
        Names the flag, and the release that has it.
    """
    from openfoldpp.upstream.configuration import deepspeed_installed

    for name, since in _SINCE.items():
        if getattr(options, name) and installation.version < since:
            raise InputError(
                f"--{name} is supported with OpenFold {since} and later, and this is {installation.version}: "
                "leave it out, or give a checkout with --openfold_home DIR"
            )
        if getattr(options, name) and not weights_given(options):
            raise InputError(
                f"--{name} is for OpenFold's own model, and no weights are given: leave it out, or give "
                "--openfold_checkpoint_path FILE or --jax_param_path FILE"
            )
    if options.use_deepspeed_evoformer_attention and not deepspeed_installed():
        raise InputError(
            "--use_deepspeed_evoformer_attention: DeepSpeed's kernel is not installed: leave the flag out, "
            "or `pip install deepspeed` on a machine with an NVIDIA GPU"
        )
    preset = options.config_preset
    if options.trace_model and ("multimer" in preset or not preset.startswith(_TRACEABLE)):
        raise InputError(
            "--trace_model: OpenFold traces only presets of one chain with alignments and templates "
            f"(model_1, model_2 and their _ptm), and --config_preset is {preset}: leave the flag out"
        )
    if options.use_custom_template and options.template_mmcif_dir is None:
        raise InputError("--use_custom_template takes the mmCIF files of the template folder: give that too")
    notes = []
    kalign = options.kalign_binary_path
    if options.template_mmcif_dir and installation.version >= "2" and shutil.which(kalign) is None:
        notes.append(
            f"--kalign_binary_path {kalign}: there is no such program; OpenFold leaves out a template whose "
            "sequence in the alignments is not that of its file (on Debian and Ubuntu: apt install kalign)"
        )
    if options.long_sequence_inference and not deepspeed_installed():
        notes.append(
            "--long_sequence_inference: without DeepSpeed, OpenFold's own low-memory attention is used"
        )
    return notes


def script_arguments(
    options: argparse.Namespace,
    *,
    fasta_dir: Path,
    templates: Path,
    output_dir: Path,
    alignments: Path | None,
    weights: tuple[str, Path],
    relax: bool,
    seed: int,
) -> list[str]:
    """Return the arguments of upstream's script for one execution.

    Parameters
    ----------
    options : argparse.Namespace
        From :func:`parse`.
    fasta_dir, templates, output_dir : pathlib.Path
        Folders of this execution; ``templates`` is used where the options name none.
    alignments : pathlib.Path or None
        Precomputed alignments; None: search the databases.
    weights : tuple of str and pathlib.Path
        The flag of one weights file, and the file.
    relax : bool
        Whether the script is to relax the structure.
    seed : int
        The seed.

    Returns
    -------
    list of str
        Without the script's name.
    """
    given = {
        "output_dir": output_dir,
        "use_precomputed_alignments": alignments,
        "data_random_seed": seed,
        **{
            name: getattr(options, name)
            for name in (
                "config_preset", "model_device", "cpus", "preset", "output_postfix", "multimer_ri_gap",
                "max_template_date", "obsolete_pdbs_path", "release_dates_path",
                *(f"{name}_database_path" for name in (*DATABASES, *DATABASES_OF_2)),
                *(f"{name}_binary_path" for name in (*TOOLS, *TOOLS_OF_2)),
            )
        },
    }  # fmt: skip
    switches = {
        "skip_relaxation": not relax,
        **{
            name: getattr(options, name)
            for name in (
                "save_outputs", "subtract_plddt", "cif_output", "long_sequence_inference",
                "use_single_seq_mode", "trace_model", "use_custom_template",
                "use_deepspeed_evoformer_attention",
            )
        },
    }  # fmt: skip
    arguments = [str(fasta_dir), str(options.template_mmcif_dir or templates), weights[0], str(weights[1])]
    for name, value in given.items():
        if value is not None:
            arguments += [f"--{name}", str(value)]
    return arguments + [f"--{name}" for name, on in switches.items() if on]


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
    add(
        "--config_preset",
        metavar="NAME",
        help=f"preset of OpenFold's configuration; {SCRIPT_PRESET} where the script of OpenFold 2 runs, as "
        f"there, else {DEFAULT_PRESET}",
    )
    add(
        "--openfold_checkpoint_path",
        metavar="FILE",
        help="OpenFold weights (.pt), several separated by commas",
    )
    add(
        "--jax_param_path",
        metavar="FILE",
        help="AlphaFold weights (params_PRESET.npz), several separated by commas",
    )
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
    add(
        "--experiment_config_json",
        type=Path,
        metavar="FILE",
        help="JSON file of settings of OpenFold's configuration, set last",
    )
    add(
        "--long_sequence_inference",
        action="store_true",
        help="less memory and more time (OpenFold 2)",
    )
    add(
        "--trace_model",
        action="store_true",
        help="turn parts of the model into TorchScript, once for each length: for many targets of one length "
        "(OpenFold 2, presets of one chain with templates)",
    )
    add(
        "--use_single_seq_mode",
        action="store_true",
        help="sequence embeddings instead of alignments, as the presets seq_* do by themselves (OpenFold 2)",
    )
    add(
        "--use_custom_template",
        action="store_true",
        help="every mmCIF file of the template folder is a template, its chain A (OpenFold 2.2)",
    )
    add(
        "--use_deepspeed_evoformer_attention",
        action="store_true",
        help="DeepSpeed's attention kernel, on an NVIDIA GPU (OpenFold 2.1)",
    )
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
