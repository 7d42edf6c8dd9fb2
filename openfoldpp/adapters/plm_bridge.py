"""Builtin plugin ``openfoldpp.plm``: a protein language model's embedding instead of alignments."""

from __future__ import annotations

import threading
import warnings
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openfoldpp.adapters.motif_options import reads_templates
from openfoldpp.adapters.plm_options import Choice, add_plm_options, chosen, has_embeddings
from openfoldpp.config import Settings
from openfoldpp.errors import InputError, WeightsError
from openfoldpp.plugins.hookspecs import hookimpl
from openfoldpp.types import Features, Target

if TYPE_CHECKING:
    from ml_collections import ConfigDict
    from torch import Tensor

    from openfoldpp.plm import Embedder

_MEMINFO = Path("/proc/meminfo")


class PLMPlugin:
    """Embeddings of a language model during the run: for SoloSeq presets, or with ``--plm`` for another one.

    Every chain is embedded alone. Embeddings stay in memory, and on the disk only where the variable
    ``OPENFOLDPP_CACHE_DIR`` names a folder for them. A language model is loaded for the first target and kept
    for the next, unless it takes more than a quarter of the memory that is free beside it.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._loaded: tuple[Choice, Embedder] | None = None
        # Channels of the embedding that SoloSeq's weights read, or of the MSA that a projector leads to.
        self._channels = 0

    @hookimpl
    def openfoldpp_add_options(self, parser: ArgumentParser) -> None:
        """Add ``--plm``, ``--plm_weights``, ``--plm_layer``, ``--plm_dtype`` and ``--projector_weights``."""
        add_plm_options(parser)

    @hookimpl(trylast=True)  # after other plugins, whose MSA sizes give way to one row
    def openfoldpp_configure(self, config: ConfigDict, options: Namespace) -> None:
        """Ask for one row where ``--plm`` is used with weights other than SoloSeq's.

        Raises
        ------
        InputError
            The flags do not fit each other, the preset or the rest of the command.
        WeightsError
            The projector cannot be used.
        """
        choice = chosen(options)
        if choice is None:
            return
        from openfoldpp import plm

        if choice.name not in plm.names():
            plm.load(choice.name)  # raises, with the names that there are
        if choice.projector is None:
            self._channels = config.model.preembedding_embedder.preembedding_dim
            return
        from openfoldpp.plm.projector import TokenProjector
        from openfoldpp.upstream.single_row import configure_single_row

        self._channels = config.model.input_embedder.c_m
        TokenProjector.load(choice.projector).require_preset(options.config_preset, c_m=self._channels)
        # Tracing reads the templates' features, also where there are none.
        configure_single_row(config, templates=reads_templates(options) or bool(options.trace_model))

    @hookimpl
    def openfoldpp_make_features(self, target: Target, options: Namespace) -> Features | None:
        """Make the target's features with the embedding of each chain.

        Raises
        ------
        InputError
            The flags do not fit, the language model does not read the sequence, or templates are missing.
        WeightsError
            The language model's weights are missing, damaged or another model's.
        """
        choice = chosen(options)
        if choice is None:
            return None
        from openfoldpp.upstream.databases import searches_databases

        if choice.projector is None and (searches_databases(options) or has_embeddings(target, options)):
            return None  # OpenFold's own script embeds, or reads what there is
        import torch

        from openfoldpp.plm.embedder import windows_note
        from openfoldpp.upstream.single_row import FEATURE
        from openfoldpp.upstream.single_row_features import single_row_features

        features = single_row_features(target, options)
        with self._lock:
            embedder = self._embedder(choice)
            notes = self._require_fit(choice, embedder, options)
            sequences = [chain.sequence for chain in target.chains]
            windowed = windows_note(embedder.name, embedder.max_residues, list(map(len, sequences)))
            try:
                embeddings = _embed(embedder, sequences)
            except WeightsError as error:  # one damaged file of many, which is no matter of other targets
                raise InputError(f"target {target.tag!r}: {error}") from error
            source = f"the language model {embedder.name} ({embedder.fingerprint})"
            del embedder
            self._release_if_large()
        if choice.projector is None:
            features["seq_embedding"] = torch.cat(embeddings).numpy()
            source = f"sequence embedding by {source}"
        else:
            features[FEATURE] = torch.cat(embeddings).numpy()
            source = f"single row in place of the MSA by {source}, projected by {choice.projector}"
        if windowed is not None:
            source, notes = f"{source}; {windowed}", [*notes, windowed]
        return Features(features, source=source, notes=notes)

    @hookimpl
    def openfoldpp_prepare_model(self, model: Any, options: Namespace) -> str | None:
        """Give the model its single row, and say which language model is used.

        Raises
        ------
        InputError
            The model is not one that a single row can be put into.
        WeightsError
            The projector or the language model cannot be used, or they are not of each other.
        """
        choice = chosen(options)
        if choice is None:
            return None
        from openfoldpp.upstream.databases import searches_databases

        if choice.projector is None:
            if searches_databases(options):
                return None
            which = "chains without an embedding among the alignments"
            which = "each chain" if options.use_precomputed_alignments is None else which
            return f"language model: {choice.name}, for {which}"
        from openfoldpp.plm.projector import TokenProjector
        from openfoldpp.upstream.single_row import attach

        projector = TokenProjector.load(choice.projector)
        projector.require_preset(options.config_preset, c_m=model.input_embedder.linear_msa_m.weight.shape[0])
        attach(model, projector)
        text = f"language model: {choice.name}, projected by {choice.projector} in place of the MSA"
        if options.use_precomputed_alignments is not None:
            text += f"; of {options.use_precomputed_alignments} only the template hits are read"
        return text

    def _embedder(self, choice: Choice) -> Embedder:
        """Return the language model, loaded where it is not the one that is kept."""
        if self._loaded is None or self._loaded[0] != choice:
            from openfoldpp import plm

            self._loaded = None
            loaded = plm.load(choice.name, choice.weights, _layer(choice), choice.dtype, device=choice.device)
            self._loaded = choice, loaded
        return self._loaded[1]

    def _require_fit(self, choice: Choice, embedder: Embedder, options: Namespace) -> list[str]:
        """Make sure that the weights read this embedding; return what the user should know."""
        preset = options.config_preset
        if choice.projector is not None:
            from openfoldpp.plm.projector import TokenProjector

            projector = TokenProjector.load(choice.projector)
            difference = projector.require(embedder, c_m=self._channels, preset=preset)
            return [difference] if difference else []
        from openfoldpp.plm.layouts import SOLOSEQ_LAYER, SOLOSEQ_MODEL

        notes = []
        if hasattr(embedder, "model"):  # embeddings that were made before, and may not say by which
            model, layer = embedder.model, getattr(embedder, "layer", None)
            if model not in (None, SOLOSEQ_MODEL) or layer not in (None, SOLOSEQ_LAYER):
                which = "" if layer is None else f", layer {layer}"
                raise WeightsError(
                    f"--plm_weights {choice.weights}: these are embeddings of {model or 'a model'}{which}, "
                    f"and the weights of {preset} read layer {SOLOSEQ_LAYER} of ESM-1b: give its embeddings "
                    f"(openfoldpp embed --plm {SOLOSEQ_MODEL})"
                )
            unknown = ["model"] * (model is None) + ["layer"] * (layer is None)
            if unknown:
                notes.append(
                    f"the embeddings in {choice.weights} do not say their {' and '.join(unknown)}: taken for "
                    f"those of {SOLOSEQ_MODEL}, layer {SOLOSEQ_LAYER}"
                )
        if embedder.channels != self._channels:
            raise WeightsError(
                f"--plm {choice.name}: its embeddings have {embedder.channels} channels, and the weights of "
                f"{preset} read the {self._channels} of ESM-1b: give embeddings of ESM-1b"
            )
        if options.use_precomputed_alignments is not None:
            notes.append(
                f"no embedding (.pt) of it in {options.use_precomputed_alignments}: {choice.name} makes one"
            )
        return notes

    def _release_if_large(self) -> None:
        """Drop a language model whose memory OpenFold may need; the next target loads it again."""
        choice, embedder = self._loaded
        free = _free_bytes(choice.device)
        if free is not None and _weights_bytes(embedder) > free / 4:
            self._loaded = None


def _layer(choice: Choice) -> int | None:
    """Return the layer asked for, or else the one that the projector was trained on."""
    if choice.layer is not None or choice.projector is None:
        return choice.layer
    from openfoldpp.plm.projector import TokenProjector

    projector = TokenProjector.load(choice.projector)
    return projector.layer if projector.plm == choice.name else None


def _embed(embedder: Embedder, sequences: list[str]) -> list[Tensor]:
    """Return each sequence's embedding, from the cache where there is one."""
    from openfoldpp.plm import LongSequenceWarning

    if Settings.from_environment().cache_dir is not None:
        from openfoldpp.plm.cache import cached

        embedder = cached(embedder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LongSequenceWarning)  # a note says it, also of what the cache has
        return embedder.embed(sequences)


def _weights_bytes(embedder: Embedder) -> int:
    encoder = getattr(embedder, "encoder", None)
    if encoder is None:
        return 0
    # Not state_dict(): it lacks the bytes of an 8-bit model, in oneDNN's layout.
    return sum(tensor.nbytes for tensor in (*encoder.parameters(), *encoder.buffers()))


def _free_bytes(device: str) -> int | None:
    """Return the memory that is free on a device; None where that is not told."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(torch.device(device))[0]
    if device != "cpu" or not _MEMINFO.is_file():
        return None
    lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    available = lines.get("MemAvailable", "").split()
    return int(available[0]) << 10 if available else None


plugin = PLMPlugin()
