"""The flags of the plugin ``openfoldpp.motifs``: which library, what motifs are used for, what is refused."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import dataclass

from openfoldpp.errors import InputError

#: Motifs of a target that are used, those first that stand for most of it. An Fv has two dozen windows of ten
#: that do not overlap; the rest are alternatives.
MAX_HITS = 32


@dataclass(frozen=True)
class Choice:
    """What a run does with motifs.

    Attributes
    ----------
    library : str
        ``--motif_library``.
    weights : str or None
        ``--motif_weights``: motifs are added to the representations.
    templates : bool
        ``--motif_templates``: motifs are templates.
    max_identity : float or None
        ``--motif_max_identity``.
    max_hits : int
        ``--motif_max_hits``.
    """

    library: str
    weights: str | None
    templates: bool
    max_identity: float | None
    max_hits: int


@dataclass(frozen=True)
class PathChoice:
    """What ``--path motifs`` does.

    Attributes
    ----------
    library : str
        ``--motif_library``, or the folder of the library that comes with openfoldpp.
    max_identity : float or None
        ``--motif_max_identity``.
    max_hits : int or None
        ``--motif_max_hits``; None: all.
    name : str
        Of the library, for the user.
    is_shipped : bool
        Whether it is the one that comes with openfoldpp.
    """

    library: str
    max_identity: float | None
    max_hits: int | None
    name: str
    is_shipped: bool


def add_motif_options(parser: ArgumentParser) -> None:
    """Add ``--motif_library`` and the flags that go with it to a `parser`."""
    group = parser.add_argument_group("motifs")
    group.add_argument(
        "--path",
        choices=("motifs",),
        help="predict without OpenFold's model: 'motifs' puts motifs of the library together to a coarse "
        "model of CA atoms",
    )
    group.add_argument(
        "--motif_library",
        metavar="DIR",
        help="library of motifs, as openfoldpp motifs build makes it; with --path motifs (default: the one "
        "of antibodies that comes with openfoldpp), or for OpenFold's model with --motif_weights, "
        "--motif_templates or both",
    )
    group.add_argument(
        "--motif_weights",
        metavar="FILE",
        help="trained projections of motif features into OpenFold's representations (safetensors)",
    )
    group.add_argument(
        "--motif_templates",
        action="store_true",
        help="give the best motifs to OpenFold as templates; for presets with templates",
    )
    group.add_argument(
        "--motif_max_identity",
        type=_identity,
        metavar="FRACTION",
        help="leave out the library's segments with this part of their residues, or more, identical with a "
        "chain of the target: above 0, at most 1 (default: none is left out)",
    )
    group.add_argument(
        "--motif_max_hits",
        type=_count,
        metavar="N",
        help=f"motifs of each target at most (default: {MAX_HITS}; with --path motifs all)",
    )


def chosen_motifs(options: Namespace) -> Choice | None:
    """Return what the options say of motifs.

    Parameters
    ----------
    options : argparse.Namespace
        The run's, this plugin's among them.

    Returns
    -------
    Choice or None
        None where no motifs are used, or without the model.

    Raises
    ------
    InputError
        The flags do not fit each other, the preset or the rest of the command.
    """
    given = _given(options)
    if not given or options.path is not None:
        return None
    if not (options.openfold_checkpoint_path or options.jax_param_path):
        raise InputError(
            f"{given[0]} is for OpenFold's model, and no weights are given: give "
            "--openfold_checkpoint_path FILE or --jax_param_path FILE, or leave the flag out"
        )
    if options.motif_weights is None and not options.motif_templates:
        raise InputError(
            f"{given[0]} has no effect without --motif_weights FILE, trained projections of its features, or "
            "--motif_templates, which every preset with templates can use: give one of them, or leave it out"
        )
    if "multimer" in options.config_preset:
        raise InputError(
            f"{given[0]}: motifs are pieces of one chain, and the weights of {options.config_preset} pair "
            "several, which OpenFold puts into an order of its own: choose a preset of one chain, such as "
            "model_1_ptm"
        )
    if options.motif_library is None:
        raise InputError(
            f"{given[0]} needs a library: name its folder with --motif_library DIR (openfoldpp motifs build "
            "STRUCTURES --out DIR makes one)"
        )
    return Choice(
        library=options.motif_library,
        weights=options.motif_weights,
        templates=options.motif_templates,
        max_identity=options.motif_max_identity,
        max_hits=MAX_HITS if options.motif_max_hits is None else options.motif_max_hits,
    )


def chosen_path(options: Namespace) -> PathChoice | None:
    """Return what the options say of ``--path motifs``.

    Parameters
    ----------
    options : argparse.Namespace
        The run's, this plugin's among them.

    Returns
    -------
    PathChoice or None
        None where the model is run.

    Raises
    ------
    InputError
        Other flags do not go with it.
    WeightsError
        No library is named, and this installation lacks its own.
    """
    if options.path is None:
        return None
    flags = ("openfold_checkpoint_path", "jax_param_path", "motif_weights", "motif_templates")
    if given := [f"--{name}" for name in flags if getattr(options, name)]:
        raise InputError(
            f"--path {options.path} and {given[0]}: OpenFold's model is not run on this path, so that the "
            "flag would have no effect; leave out one of the two"
        )
    if not options.skip_relaxation:
        how = "leave --relax out" if hasattr(options, "relax") else "give --skip_relaxation"
        raise InputError(f"--path {options.path} predicts CA atoms alone, which cannot be relaxed: {how}")
    library = options.motif_library
    is_shipped = library is None
    name = library or "openfoldpp's own library of antibodies"
    if is_shipped:
        from openfoldpp.motifs import default_library

        library = str(default_library.path())
    return PathChoice(library, options.motif_max_identity, options.motif_max_hits, name, is_shipped)


def reads_templates(options: Namespace) -> bool:
    """Say whether a run with these options may have templates: from files, or motifs.

    Parameters
    ----------
    options : argparse.Namespace
        The run's; the plugin of motifs need not be in use.

    Returns
    -------
    bool
    """
    return options.template_mmcif_dir is not None or getattr(options, "motif_templates", False)


def _given(options: Namespace) -> list[str]:
    """Return this plugin's flags that are given, with their values."""
    flags = ("library", "weights", "max_identity", "max_hits")
    values = {f"--motif_{name}": getattr(options, f"motif_{name}") for name in flags}
    found = [f"{flag} {value}" for flag, value in values.items() if value is not None]
    return [*found, *(["--motif_templates"] if options.motif_templates else [])]


def _identity(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ArgumentTypeError(f"{text!r} is no part of the residues; expected more than 0, at most 1: 0.9")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a number of motifs; expected 1 or more, for example 32")
    return int(text)
