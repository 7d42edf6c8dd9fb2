"""Builtin plugin ``openfoldpp.motifs``: pieces of known structure, for OpenFold's model or instead of it."""

from __future__ import annotations

import threading
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

import numpy as np

from openfoldpp.adapters.motif_options import (
    Choice,
    PathChoice,
    add_motif_options,
    chosen_motifs,
    chosen_path,
)
from openfoldpp.plugins.hookspecs import hookimpl
from openfoldpp.types import Output, Target

if TYPE_CHECKING:
    from ml_collections import ConfigDict
    from torch import Tensor

    from openfoldpp.adapters.motif_path import PathFeatures
    from openfoldpp.motifs.hits import MotifHit
    from openfoldpp.motifs.retriever import Retriever


class MotifPlugin:
    """Motifs of a library for each target.

    OpenFold's model gets them with ``--motif_weights``, ``--motif_templates`` or both; with ``--path motifs``
    they are put together without it.

    Each chain is searched alone, so that no motif goes across chains; a chain that is too short to search has
    none. A library is opened once and kept for the next target.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._opened: tuple[tuple[str, float | None], Retriever] | None = None

    @hookimpl
    def openfoldpp_add_options(self, parser: ArgumentParser) -> None:
        """Add ``--motif_library`` and the flags that go with it."""
        add_motif_options(parser)

    @hookimpl
    def openfoldpp_configure(self, config: ConfigDict, options: Namespace) -> None:
        """Refuse, before any work, what cannot be used.

        Raises
        ------
        InputError
            The flags do not fit each other or the preset, or the library cannot be used.
        WeightsError
            The projections cannot be used.
        """
        path = chosen_path(options)
        if path is not None:
            with self._lock:
                self._retriever(path)
        choice = chosen_motifs(options)
        if choice is None:
            return
        if choice.templates:
            from openfoldpp.upstream import activate
            from openfoldpp.upstream.added_templates import require_templates

            version = activate(options.openfold_home).version
            require_templates(config, options.config_preset, version)
        if choice.weights is not None:
            from openfoldpp.motifs.projections import MotifProjections

            projections = MotifProjections.load(choice.weights)
            sizes = {"c_m": config["globals"].c_m, "c_z": config["globals"].c_z}
            projections.require_preset(options.config_preset, **sizes)
        with self._lock:
            self._retriever(choice)

    @hookimpl(tryfirst=True)
    def openfoldpp_make_features(self, target: Target, options: Namespace) -> PathFeatures | None:
        """Make those of ``--path motifs``; otherwise refuse flags of this plugin that would have no effect.

        Raises
        ------
        InputError
            The flags do not fit each other, the preset or the rest of the command, or the library cannot be
            read.
        MissingDependencyError
            FAISS is not installed.
        UnsupportedTargetError
            The library has no motif for the target.
        """
        path = chosen_path(options)
        if path is None:
            chosen_motifs(options)
            return None
        from openfoldpp.adapters.motif_path import path_features

        with self._lock:
            retriever = self._retriever(path)
            hits = search(retriever, target, path.max_hits)
            return path_features(target, options, path, retriever, hits)

    @hookimpl(tryfirst=True)
    def openfoldpp_predict(self, model: Any, batch: dict[str, Any], target: Target) -> Output | None:
        """Predict a target whose features ``--path motifs`` has made."""
        from openfoldpp.adapters.motif_path import PathFeatures, path_output

        return path_output(batch, target) if isinstance(batch, PathFeatures) else None

    @hookimpl
    def openfoldpp_prepare_model(self, model: Any, options: Namespace) -> str | None:
        """Attach the projections, and say what motifs are used for.

        Raises
        ------
        InputError
            The model is not one that features can be added to.
        WeightsError
            The projections cannot be used.
        """
        choice = chosen_motifs(options)
        if choice is None:
            return None
        uses = []
        if choice.weights is not None:
            from openfoldpp.motifs.projections import MotifProjections
            from openfoldpp.upstream.added_features import attach

            attach(model, MotifProjections.load(choice.weights))
            uses.append(f"added to the representations by {choice.weights}")
        if choice.templates:
            uses.append("as templates")
        return f"motifs of {choice.library}: {' and '.join(uses)}"

    @hookimpl
    def openfoldpp_transform_features(
        self, features: dict[str, Tensor], target: Target, config: ConfigDict, options: Namespace
    ) -> str | None:
        """Search motifs for the target, and add them to its features.

        Raises
        ------
        InputError
            The library cannot be read.
        MissingDependencyError
            FAISS is not installed.
        """
        choice = chosen_motifs(options)
        if choice is None:
            return None
        with self._lock:
            hits = search(self._retriever(choice), target, choice.max_hits)
        if not hits:
            return f"motifs: none found in {choice.library}"
        chains = [chain.sequence for chain in target.chains]
        covered = np.zeros(len(target.sequence), bool)
        for hit in hits:
            covered[hit.offset : hit.offset + hit.length] = True
        said = f"motifs: {len(hits)} of {choice.library} cover {covered.sum()} of {len(covered)} residues"
        if choice.weights is not None:
            _add_features(features, hits, chains)
        if choice.templates:
            said += f"; {_add_templates(features, hits, chains, config)}"
        return said

    def _retriever(self, choice: Choice | PathChoice) -> Retriever:
        """Return what searches the library, opened where it is not the one that is kept."""
        wanted = choice.library, choice.max_identity
        if self._opened is None or self._opened[0] != wanted:
            from openfoldpp.motifs import retriever

            self._opened = None
            self._opened = wanted, retriever.load(choice.library, max_identity=choice.max_identity)
        return self._opened[1]


def search(retriever: Retriever, target: Target, max_hits: int | None) -> list[MotifHit]:
    """Find the motifs of a target.

    Parameters
    ----------
    retriever : openfoldpp.motifs.retriever.Retriever
        Of the library.
    target : Target
        Its chains are searched alone; one with fewer residues than a shingle has no motif.
    max_hits : int or None
        How many at most, of all chains together; None: all.

    Returns
    -------
    list of MotifHit
        Offsets count through all chains of the target.
    """
    from dataclasses import replace

    from openfoldpp.plm.cheap_head import K

    starts = np.cumsum([0, *target.chain_lengths])
    long = [number for number, chain in enumerate(target.chains) if len(chain.sequence) >= K]
    if not long:
        return []
    [hits] = retriever.search([":".join(target.chains[number].sequence for number in long)], top=max_hits)
    searched = np.cumsum([0, *(len(target.chains[number].sequence) for number in long)])
    moved = []
    for hit in hits:
        place = int(np.searchsorted(searched, hit.offset, side="right")) - 1
        shift = int(starts[long[place]] - searched[place])
        moved.append(replace(hit, offset=hit.offset + shift) if shift else hit)
    return moved


def _add_features(features: dict[str, Tensor], hits: list[MotifHit], chains: list[str]) -> None:
    import torch

    from openfoldpp.motifs.features import motif_features
    from openfoldpp.upstream.added_features import PAIR, SINGLE

    aatype = features["aatype"]
    for name, values in zip((SINGLE, PAIR), motif_features(hits, chains), strict=True):
        tensor = torch.from_numpy(values).to(aatype.device).unsqueeze(-1)
        features[name] = tensor.expand(*values.shape, aatype.shape[-1])  # the same in every recycle


def _add_templates(
    features: dict[str, Tensor], hits: list[MotifHit], chains: list[str], config: ConfigDict
) -> str:
    """Add the best hits as templates, and say which."""
    from openfoldpp.motifs.templates import choose_templates, template_features, template_name
    from openfoldpp.upstream.added_templates import free_places, put_templates

    free = free_places(features, config)
    if free == 0:
        return "no template, as the alignments' own take all places"
    templates = choose_templates(hits, free)
    if not templates:
        return "no template, as no score is high enough"
    put_templates(features, template_features(templates, chains), config)
    names = (
        f"{template_name(hit)} for {hit.offset + 1}-{hit.offset + hit.length} (score {hit.score:.2f})"
        for hit in templates
    )
    return f"templates: {', '.join(names)}"


plugin = MotifPlugin()
