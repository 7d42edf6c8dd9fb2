"""Builtin plugin ``openfoldpp.flashabb``: an antibody Fv without a checkpoint, by FlashABB."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

import numpy as np

from openfoldpp.errors import UnsupportedTargetError
from openfoldpp.plugins.hookspecs import hookimpl
from openfoldpp.types import Chain, Output, Target

if TYPE_CHECKING:
    from openfoldpp.teachers.antibody import Domain, NotAntibody

# Residues outside the variable domain, at either end of a chain. FlashABB has been trained on bare
# domains: all CA of every second of 27 crystal Fvs are off by 0.84 A on average; with 2 residues of the
# constant domain after each chain by 0.96 A, with 4 by 1.2 A, with 8 by 2.6 A, with 12 by 5.8 A. Residues
# before the domain: 2 make it 0.89 A, 4 1.2 A, a signal peptide of 19 4.5 A. The 54 chains have none.
_MAX_EXTRA = 2
# A variable domain goes from IMGT number 1 to 128 (heavy) or 127 (light). Those of the 54 chains start
# at 1, 2 or 3 and are complete at the end. With 3 residues cut off each chain's start all CA are off by
# 1.02 A, with 3 cut off the end by 1.01 A, with 10 cut off either by 2.2 to 2.5 A.
_LATEST_START, _EARLIEST_END = 4, 125

_SERVES = "one antibody Fv: a heavy and a light variable domain together"
_INSTEAD = (
    "OpenFold's own weights serve any protein: --openfold_checkpoint_path FILE or --jax_param_path FILE, "
    "with --use_precomputed_alignments DIR or without alignments"
)
_TYPES = {"H": "heavy", "K": "light (kappa)", "L": "light (lambda)"}


class FvFeatures(dict):
    """Raw features of one Fv, with what the run asked for when they were made.

    Attributes
    ----------
    heavy_first : bool
        Whether the target's first chain is the heavy one.
    preset : str
        Of ``--config_preset``: whose schema the output has.
    version : str
        Release whose schema it has: that of the OpenFold in use.
    device : str
        Of ``--model_device``.
    """

    def __init__(
        self, features: dict[str, Any], *, heavy_first: bool, preset: str, version: str, device: str
    ):
        super().__init__(features)
        self.heavy_first = heavy_first
        self.preset = preset
        self.version = version
        self.device = device


class FlashABBPlugin:
    """Structure of an antibody Fv, by the weights that come with the package flash-abb.

    Acts only where no checkpoint is given. The heavy and the light chain may stand in either order,
    which the output keeps; the labels are H and L by type. FlashABB has no sampling: ``--data_random_seed``
    has no effect on it.
    """

    @hookimpl(trylast=True)  # a refusal must not keep another plugin from serving the target
    def openfoldpp_make_features(self, target: Target, options: Namespace) -> FvFeatures | None:
        """Check that the target is one Fv and make its features, or refuse it.

        Raises
        ------
        UnsupportedTargetError
            If it is not; the message says why and what would serve it.
        MissingDependencyError
            If anarcii is not installed.
        UpstreamError
            If the OpenFold that is named cannot be used.
        """
        if options.openfold_checkpoint_path or options.jax_param_path:
            return None
        from openfoldpp.upstream import schema

        first, _ = _fv(target)
        return FvFeatures(
            sequence_features(target, ri_gap=options.multimer_ri_gap),
            heavy_first=first.is_heavy,
            preset=options.config_preset,
            version=schema.output_version(options.openfold_home),
            device=options.model_device,
        )

    @hookimpl(trylast=True)
    def openfoldpp_predict(self, model: Any, batch: dict[str, Any], target: Target) -> Output | None:
        """Predict a target whose features this plugin has made.

        Raises
        ------
        MissingDependencyError
            If flash-abb is not installed.
        """
        if model is not None or not isinstance(batch, FvFeatures):
            return None
        from openfoldpp.adapters.coord_adapter import CoordAdapter
        from openfoldpp.teachers import flashabb

        sequences = [chain.sequence for chain in target.chains]
        heavy, light = sequences if batch.heavy_first else sequences[::-1]
        prediction = flashabb.load(batch.device).predict(heavy, light)
        order = np.arange(len(heavy) + len(light))
        if not batch.heavy_first:
            order = np.roll(order, len(light))
        return CoordAdapter(batch.preset, batch.version).output(
            prediction.coords[order],
            ":".join(sequences),
            mask=prediction.mask[order],
            plddt_logits=prediction.plddt_logits[order],
            residue_index=batch["residue_index"],
            chain_ids=("H", "L") if batch.heavy_first else ("L", "H"),
            source=flashabb.source(),
        )


def sequence_features(target: Target, *, ri_gap: int) -> dict[str, np.ndarray]:
    """Make the features of the sequences alone, all chains as one, as upstream's data pipeline does.

    Parameters
    ----------
    target : Target
        One or more chains; letters of the 20 amino acids and X.
    ri_gap : int
        What is added to the residue index at each change of chain.

    Returns
    -------
    dict of str to numpy.ndarray
        ``aatype`` int32 ``[N_res, 21]`` one-hot; ``residue_index`` from 0, ``seq_length`` and
        ``between_segment_residues``, int32 ``[N_res]``; ``sequence`` and ``domain_name``, bytes in an
        object array ``[1]``.

    Raises
    ------
    InputError
        If a sequence has other letters.
    """
    from openfoldpp.geometry import residues

    lengths = target.chain_lengths
    n_res = sum(lengths)
    chain_index = np.repeat(np.arange(len(lengths)), lengths)
    return {
        "aatype": np.eye(len(residues.LETTERS), dtype=np.int32)[residues.residue_types(target.sequence)],
        "between_segment_residues": np.zeros(n_res, np.int32),
        "domain_name": np.array([target.tag.encode()], object),
        "residue_index": (np.arange(n_res) + ri_gap * chain_index).astype(np.int32),
        "seq_length": np.full(n_res, n_res, np.int32),
        "sequence": np.array([target.sequence.encode()], object),
    }


def _fv(target: Target) -> tuple[Domain, Domain]:
    """Return the variable domains of the two chains of an Fv, in the target's order, or refuse the target."""
    from openfoldpp.teachers.antibody import classify

    for chain in target.chains:
        _check_letters(target, chain)
    if len(target.chains) == 1:
        raise _refused(target, _why_not_alone(target.chains[0]))
    if len(target.chains) > 2:
        raise _refused(target, f"it has {len(target.chains)} chains")
    found = classify([chain.sequence for chain in target.chains])
    problems = [_problem(chain, domain) for chain, domain in zip(target.chains, found, strict=True)]
    if any(problems):
        raise _refused(target, "; ".join(filter(None, problems)))
    first, second = found
    if first.is_heavy == second.is_heavy:
        raise _refused(target, f"both of its chains are {'heavy' if first.is_heavy else 'light'} chains")
    return first, second


def _check_letters(target: Target, chain: Chain) -> None:
    from openfoldpp.teachers.flashabb import AMINO_ACIDS

    places = [f"{c!r} at residue {i}" for i, c in enumerate(chain.sequence, 1) if c not in AMINO_ACIDS]
    if places:
        more = f" and {len(places) - 5} more" if len(places) > 5 else ""
        raise _refused(
            target,
            f"chain {chain.tag!r} has {', '.join(places[:5])}{more}, and FlashABB knows the 20 amino acids "
            f"{AMINO_ACIDS} only; correct the sequence",
        )


def _problem(chain: Chain, domain: Domain | NotAntibody) -> str | None:
    """Say why a chain is not one variable domain, whole and nearly bare; None where it is."""
    from openfoldpp.teachers.antibody import NotAntibody

    if isinstance(domain, NotAntibody):
        return f"chain {chain.tag!r} cannot be used: {domain.reason}"
    after = len(chain.sequence) - domain.end
    if domain.start > _MAX_EXTRA or after > _MAX_EXTRA:
        return (
            f"chain {chain.tag!r} has {domain.start} residues before and {after} after its variable domain, "
            f"and more than {_MAX_EXTRA} at either end spoil the prediction: keep only residues "
            f"{domain.start + 1} to {domain.end} of that chain, {chain.sequence[domain.start : domain.end]}"
        )
    first, last = domain.imgt_range
    if first > _LATEST_START or last < _EARLIEST_END:
        return (
            f"the variable domain of chain {chain.tag!r} is cut off: it has IMGT numbers {first} to {last}, "
            f"and at least {_LATEST_START} to {_EARLIEST_END} are needed; complete the sequence"
        )
    return None


def _why_not_alone(chain: Chain) -> str:
    """Say what a target of one chain lacks, and for an scFv how to write it."""
    from openfoldpp.teachers.antibody import variable_domains

    domains = variable_domains(chain.sequence)
    if not domains:
        return f"its only chain, {chain.tag!r}, has no antibody variable domain"
    if len(domains) == 2 and domains[0].is_heavy != domains[1].is_heavy:
        halves = ":".join(chain.sequence[domain.start : domain.end] for domain in domains)
        return (
            f"its only chain, {chain.tag!r}, has both domains in one piece, as an scFv has; "
            f"leave the linker out and write ':' between them: {halves}"
        )
    kinds = ", ".join(_TYPES[domain.chain_type] for domain in domains)
    if len(domains) > 1:
        return f"its only chain, {chain.tag!r}, has {len(domains)} variable domains: {kinds}"
    # 27 crystal heavy chains, each alone: all CA off by 3.3 to 8.0 A, on average 6.4 A.
    alone = " (alone, it comes out wrong by about 6 A)" if domains[0].is_heavy else ""
    return (
        f"its only chain, {chain.tag!r}, is an antibody's {kinds} chain without its partner, and FlashABB "
        f"was made for both together{alone}; add the partner as a second record of the file, or as VH:VL. "
        "A nanobody, which has none, is not served"
    )


def _refused(target: Target, why: str) -> UnsupportedTargetError:
    return UnsupportedTargetError(
        f"target {target.tag!r}: {why}. Without a checkpoint FlashABB predicts {_SERVES}. {_INSTEAD}."
    )


plugin = FlashABBPlugin()
