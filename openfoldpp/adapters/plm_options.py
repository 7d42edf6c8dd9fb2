"""The flags of the plugin ``openfoldpp.plm``: which language model a run uses, and what is refused."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass

from openfoldpp.errors import InputError
from openfoldpp.types import Target

_SOLO = "seq"
_PRECOMPUTED = "precomputed"


@dataclass(frozen=True)
class Choice:
    """The language model of a run.

    Attributes
    ----------
    name : str
        As :func:`openfoldpp.plm.load` takes it.
    weights : str or None
        ``--plm_weights``.
    layer : int or None
        Whose output; None for the last.
    dtype : str or None
        In which it computes.
    device : str
        Where: that of OpenFold's model.
    projector : str or None
        ``--projector_weights``; None for SoloSeq presets, whose weights have a projection of their own.
    """

    name: str
    weights: str | None
    layer: int | None
    dtype: str | None
    device: str
    projector: str | None


def add_plm_options(parser: ArgumentParser) -> None:
    """Add ``--plm`` and the flags that go with it to a `parser`."""
    group = parser.add_argument_group("language model")
    group.add_argument(
        "--plm",
        metavar="NAME",
        help="language model whose embedding takes the place of the alignments, such as esm1b, "
        "esm2_t33_650M_UR50D or antiberty; SoloSeq presets (seq_*) take esm1b without this flag, other "
        "presets need --projector_weights",
    )
    group.add_argument(
        "--plm_weights",
        metavar="FILE",
        help="its weights, where they are not in their usual place; for precomputed, its folder",
    )
    group.add_argument(
        "--plm_layer", type=int, metavar="N", help="whose output is the embedding; by default the last"
    )
    group.add_argument(
        "--plm_dtype",
        choices=("float32", "bfloat16", "float16"),
        help="in which it computes; by default float32",
    )
    group.add_argument(
        "--projector_weights",
        metavar="FILE",
        help="trained projection of the embedding into OpenFold's MSA representation (safetensors)",
    )


def chosen(options: Namespace) -> Choice | None:
    """Return the language model that the options name, or that a SoloSeq preset takes by itself.

    Parameters
    ----------
    options : argparse.Namespace
        The run's, this plugin's among them.

    Returns
    -------
    Choice or None
        None where no language model is used.

    Raises
    ------
    InputError
        The flags do not fit each other, the preset or the rest of the command.
    """
    preset, given = options.config_preset, _given(options)
    if not (options.openfold_checkpoint_path or options.jax_param_path):
        if given:
            raise InputError(
                f"{given[0]} is for OpenFold's model, and no weights are given: give "
                "--openfold_checkpoint_path FILE or --jax_param_path FILE, or leave the flag out"
            )
        return None
    solo = preset.startswith(_SOLO)
    if options.plm is None and not solo:
        if given:
            raise InputError(f"{given[0]} has no effect without --plm NAME: give that too, or leave it out")
        return None
    if solo:
        _check_soloseq(options, given)
    else:
        _check_single_row(options)
    if options.plm == _PRECOMPUTED and options.plm_weights is None:
        raise InputError("--plm precomputed reads embeddings of a folder: name it with --plm_weights DIR")
    from openfoldpp.plm.layouts import SOLOSEQ_MODEL

    return Choice(
        name=options.plm or SOLOSEQ_MODEL,
        weights=options.plm_weights,
        layer=options.plm_layer,
        dtype=options.plm_dtype,
        device=options.model_device,
        projector=options.projector_weights,
    )


def _given(options: Namespace) -> list[str]:
    """Return this plugin's flags that are given, with their values."""
    flags = ("plm", "plm_weights", "plm_layer", "plm_dtype", "projector_weights")
    return [f"--{name} {value}" for name in flags if (value := getattr(options, name)) is not None]


def _check_soloseq(options: Namespace, given: list[str]) -> None:
    from openfoldpp.plm.layouts import SOLOSEQ_LAYER, SOLOSEQ_MODEL
    from openfoldpp.upstream.databases import searches_databases

    preset = options.config_preset
    if options.plm not in (None, SOLOSEQ_MODEL, _PRECOMPUTED):
        raise InputError(
            f"--plm {options.plm}: the weights of {preset} read the embedding of ESM-1b and no other: leave "
            f"the flag out, or give --plm {_PRECOMPUTED} --plm_weights DIR with embeddings of ESM-1b"
        )
    if options.projector_weights is not None:
        raise InputError(
            f"--projector_weights {options.projector_weights}: the weights of {preset} have a projection of "
            "their own: leave the flag out"
        )
    if options.plm_layer not in (None, SOLOSEQ_LAYER):
        raise InputError(
            f"--plm_layer {options.plm_layer}: the weights of {preset} read layer {SOLOSEQ_LAYER} of ESM-1b, "
            "its last: leave the flag out"
        )
    if given and searches_databases(options):
        raise InputError(
            f"{given[0]}: with database flags OpenFold's own script searches templates and makes the "
            "embedding: leave the flag out; or leave the databases out, and give template hits that were "
            "found before with --use_precomputed_alignments DIR"
        )


def _check_single_row(options: Namespace) -> None:
    from openfoldpp.upstream.databases import searches_databases

    preset = options.config_preset
    if "multimer" in preset:
        raise InputError(
            f"--plm {options.plm}: the weights of {preset} pair chains by their alignments and embed "
            "several features of them, and a projector replaces one: choose a preset of one chain, such as "
            "model_1_ptm"
        )
    if options.use_single_seq_mode:
        raise InputError(
            f"--use_single_seq_mode is for SoloSeq presets, which need no --plm; {preset} with --plm needs "
            "no --use_single_seq_mode: leave one of them out"
        )
    if options.projector_weights is None:
        raise InputError(
            f"--plm {options.plm}: the weights of {preset} were trained on alignments, and reading an "
            "embedding takes a projection trained with them: --projector_weights FILE. openfoldpp has none "
            "for this; an untrained one would predict nonsense. Without training: a SoloSeq preset "
            "(--config_preset seq_model_esm1b_ptm with its weights)"
        )
    if searches_databases(options):
        raise InputError(
            f"--plm {options.plm}: the embedding takes the place of the alignments, so no database is "
            "searched: leave the database flags out. Template hits that were found before: "
            "--use_precomputed_alignments DIR"
        )
    if options.use_precomputed_alignments is not None and options.template_mmcif_dir is None:
        raise InputError(
            f"--use_precomputed_alignments {options.use_precomputed_alignments}: the embedding takes the "
            "place of the alignments, and their template hits are used only with the folder of mmCIF "
            "files: give that too, or leave the flag out"
        )


def has_embeddings(target: Target, options: Namespace) -> bool:
    """Say whether the alignments of a SoloSeq run have the embeddings of a target, which are then used.

    Parameters
    ----------
    target : Target
        The chains.
    options : argparse.Namespace
        The run's.

    Returns
    -------
    bool
        Of all of its chains.

    Raises
    ------
    InputError
        There is one, and a flag of this plugin is given, which would have no effect.
    """
    if options.use_precomputed_alignments is None:
        return False
    from openfoldpp.upstream.alignments import has_embedding

    found = [has_embedding(options.use_precomputed_alignments, chain) for chain in target.chains]
    if any(found) and (given := _given(options)):
        raise InputError(
            f"target {target.tag!r}: {given[0]} is given, and {options.use_precomputed_alignments} has an "
            f"embedding (.pt) of {target.chains[found.index(True)].tag}: leave out one of the two"
        )
    return all(found)
