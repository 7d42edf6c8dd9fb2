"""``--path motifs``: the coarse model that motifs alone make of a target, as an output of OpenFold's."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

import numpy as np

from openfoldpp.adapters.coord_adapter import CoordAdapter
from openfoldpp.adapters.flashabb import sequence_features
from openfoldpp.adapters.motif_options import PathChoice
from openfoldpp.errors import UnsupportedTargetError
from openfoldpp.types import Output, Target

if TYPE_CHECKING:
    from openfoldpp.motifs.assembly import CoarseModel
    from openfoldpp.motifs.hits import MotifHit
    from openfoldpp.motifs.retriever import Retriever

# Stretches that are named in a provenance; of more, the number.
_NAMED = 20
# What the confidence is, by how the model was made.
_CONFIDENCE = {
    True: "100 times the lDDT of CA atoms that GraphCompositor expects; see docs/coarse.md",
    False: "100 times the mean score of the motifs, which is no estimate of lDDT; see docs/coarse.md",
}


class PathFeatures(dict):
    """Raw features of a target, with its coarse model.

    Attributes
    ----------
    coarse : openfoldpp.motifs.assembly.CoarseModel
        Of motifs.
    notes : tuple of str
        What the user should know.
    choice : PathChoice
        What the run asked for.
    preset, version : str
        Whose schema the output has.
    """

    def __init__(
        self,
        features: dict[str, Any],
        *,
        coarse: CoarseModel,
        notes: tuple[str, ...],
        choice: PathChoice,
        preset: str,
        version: str,
    ):
        super().__init__(features)
        self.coarse = coarse
        self.notes = notes
        self.choice = choice
        self.preset = preset
        self.version = version


def path_features(
    target: Target, options: Namespace, choice: PathChoice, retriever: Retriever, hits: list[MotifHit]
) -> PathFeatures:
    """Make the coarse model of a target.

    Parameters
    ----------
    target : Target
        One or more chains.
    options : argparse.Namespace
        The run's.
    choice : PathChoice
        Of these options.
    retriever : openfoldpp.motifs.retriever.Retriever
        What found the hits.
    hits : list of MotifHit
        Offsets count through all chains of the target.

    Returns
    -------
    PathFeatures

    Raises
    ------
    UnsupportedTargetError
        There are no hits.
    """
    from openfoldpp.motifs.assembly import assemble
    from openfoldpp.motifs.compose import compose
    from openfoldpp.upstream import schema

    if not hits:
        raise UnsupportedTargetError(f"target {target.tag!r}: {_no_hits(target, choice)}")
    sequence = ":".join(chain.sequence for chain in target.chains)
    # GraphCompositor learned from antibodies: what a user's library holds it has never seen.
    put_together = compose if choice.is_shipped else assemble
    coarse = put_together(sequence, hits, retriever.library, max_identity=choice.max_identity)
    gaps = uncovered(coarse.covered, target)
    how = (
        "by GraphCompositor"
        if choice.is_shipped
        else "without a network, as the library is not openfoldpp's own"
    )
    notes = [f"CA atoms alone are predicted, from {len(hits)} motifs of {choice.name}, {how}"]
    if gaps:
        notes.append(f"no motif covers {gaps}: their CA atoms lie on lines, with the lowest confidence")
    if (guessed := coarse.covered & ~coarse.related).any():
        notes.append(
            f"no chain of the library is related to {uncovered(~guessed, target)}: there the model is a "
            "guess, and its confidence is low; a library of related structures would help "
            "(--motif_library DIR)"
        )
    if parts := _separate(coarse, target):
        notes.append(parts)
    return PathFeatures(
        sequence_features(target, ri_gap=options.multimer_ri_gap),
        coarse=coarse,
        notes=tuple(notes),
        choice=choice,
        preset=options.config_preset,
        version=schema.output_version(options.openfold_home),
    )


def path_output(features: PathFeatures, target: Target) -> Output:
    """Make OpenFold's output of the coarse model of a target.

    Parameters
    ----------
    features : PathFeatures
        Of :func:`path_features`.
    target : Target
        The same.

    Returns
    -------
    Output
        CA atoms alone. pLDDT is 100 times the confidence of the coarse model, and 1, the lowest, where no
        motif covers a residue; PAE is not predicted.
    """
    coarse = features.coarse
    # CoordAdapter takes 0 to 1 for a fraction; what is below 1 becomes the lowest all the same.
    plddt = 100 * coarse.confidence.astype(np.float64)
    plddt[plddt <= 1] = 0
    output = CoordAdapter(features.preset, features.version).output(
        coarse.ca,
        ":".join(chain.sequence for chain in target.chains),
        plddt=plddt,
        residue_index=features["residue_index"],
        source=f"motifs of {features.choice.name}",
    )
    said = "; ".join(["predicted", *features.notes])
    output.provenance["final_atom_positions"] = said
    origin = output.provenance["plddt"]
    output.provenance["plddt"] = f"{origin}; {_CONFIDENCE[features.choice.is_shipped]}"
    return output


def uncovered(covered: np.ndarray, target: Target) -> str:
    """Name the residues that nothing covers.

    Parameters
    ----------
    covered : numpy.ndarray of shape (N_res,), bool
        Through all chains.
    target : Target
        The chains.

    Returns
    -------
    str
        Such as ``"residues 1-3 and 25 of H, 7-9 of L"``, counted from 1 in each chain; "" where all is
        covered.
    """
    spans, start = [], 0
    for chain in target.chains:
        end = start + len(chain.sequence)
        edges = np.flatnonzero(
            np.diff(np.concatenate([[False], ~covered[start:end], [False]]).astype(np.int8))
        )
        runs = [f"{a + 1}-{b}" if b > a + 1 else f"{b}" for a, b in zip(edges[::2], edges[1::2], strict=True)]
        spans += [(chain.tag, run) for run in runs]
        start = end
    if not spans:
        return ""
    named: dict[str, list[str]] = {}
    for tag, run in spans[:_NAMED]:
        named.setdefault(tag, []).append(run)
    more = f", and {len(spans) - _NAMED} more stretches" if len(spans) > _NAMED else ""
    return "residues " + ", ".join(f"{' and '.join(runs)} of {tag}" for tag, runs in named.items()) + more


def _separate(coarse: CoarseModel, target: Target) -> str | None:
    """Say whether pieces of the model lie beside each other arbitrarily."""
    bodies = np.unique(coarse.bodies[coarse.bodies >= 0])
    if len(bodies) < 2:
        return None
    return (
        f"it consists of {len(bodies)} pieces that no motif joins: each is a model of its own, and how they "
        "lie to each other is arbitrary"
    )


def _no_hits(target: Target, choice: PathChoice) -> str:
    from openfoldpp.plm.cheap_head import K

    if max(target.chain_lengths) < K:
        return f"its longest chain has {max(target.chain_lengths)} residues, and motifs need {K} in a row"
    excluded = "" if choice.max_identity is None else (
        f" Segments of which {choice.max_identity:.0%} or more is identical were left out: give a higher "
        "--motif_max_identity, or leave it out."
    )  # fmt: skip
    return (
        f"no motif for it in {choice.name}.{excluded} Name a library with related structures by "
        "--motif_library DIR (openfoldpp motifs build STRUCTURES --out DIR makes one), or leave --path "
        "motifs out: --openfold_checkpoint_path FILE or --jax_param_path FILE is for OpenFold's model"
    )
