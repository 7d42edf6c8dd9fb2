"""What every backbone can do: turn sequences into per-residue embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from openfoldpp.errors import InputError
from openfoldpp.plm.alphabet import Alphabet
from openfoldpp.plm.batching import Window, batches, blend, windows
from openfoldpp.plm.transformer import Encoder

#: Residues that are embedded at once. More do not run faster on a CPU, and take more memory.
BATCH_TOKENS = 2048


class LongSequenceWarning(UserWarning):
    """A sequence was embedded in overlapping windows, as it is longer than the model's limit."""


@runtime_checkable
class Embedder(Protocol):
    """A language model, or something that stands in for one.

    Attributes
    ----------
    name : str
        As :func:`openfoldpp.plm.load` takes it.
    channels : int
        ``C_plm``.
    max_residues : int or None
        The longest sequence that is embedded at once; None: any.

    Notes
    -----
    Two more are read where they are there: ``layer``, the number of the layer whose output this is, and
    ``model``, whose embeddings these are where that is not `name`. None: not known.
    """

    name: str
    channels: int
    max_residues: int | None

    @property
    def fingerprint(self) -> str:
        """What decides the numbers beside the sequence: weights, layer, dtype. Equal only where all are."""
        ...

    def embed(self, sequences: Sequence[str]) -> list[Tensor]:
        """Return an embedding ``[N_res, C_plm]``, float32 on the CPU, of each sequence, in their order."""
        ...

    def embed_each(self, sequences: Sequence[str]) -> Iterator[tuple[int, Tensor]]:
        """Yield each sequence's number and embedding as soon as it is there, in any order."""
        ...


class LanguageModel:
    """An encoder with its alphabet: the :class:`Embedder` of ESM, of AntiBERTy and of what is made of them.

    Parameters
    ----------
    name : str
        As :func:`openfoldpp.plm.load` takes it.
    encoder : Encoder
        With its weights.
    alphabet : Alphabet
        Its tokens.
    max_residues : int, optional
        The longest sequence that it takes at once; longer ones are embedded in overlapping windows.
    layer : int, optional
        Whose output is the embedding; by default the last. 0 is the embedding of the tokens.
    fingerprint : callable
        Returns what identifies weights, layer and dtype, of a layer's number; see
        :func:`openfoldpp.plm.weights.fingerprint`.

    Raises
    ------
    InputError
        The model has no such layer.
    """

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        alphabet: Alphabet,
        *,
        max_residues: int | None,
        layer: int | None = None,
        fingerprint: Callable[[int], str],
    ):
        layers = encoder.architecture.layers
        if layer is not None and not 0 <= layer <= layers:
            raise InputError(f"layer {layer}: {name} has layers 0 (its input) to {layers}")
        self.name = name
        self.encoder = encoder.eval().requires_grad_(False)
        self.alphabet = alphabet
        self.channels = encoder.architecture.channels
        self.max_residues = max_residues
        self.layer = layers if layer is None else layer
        self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> str:
        """See :class:`Embedder`."""
        return self._fingerprint(self.layer)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.encoder.tokens.weight.device

    def embed(self, sequences: Sequence[str], *, batch_tokens: int = BATCH_TOKENS) -> list[Tensor]:
        """Embed sequences.

        Parameters
        ----------
        sequences : sequence of str
            Capital letters; see :class:`openfoldpp.plm.alphabet.Alphabet`.
        batch_tokens : int
            Residues that are embedded at once.

        Returns
        -------
        list of torch.Tensor
            ``[N_res, C_plm]``, float32 on the CPU, without the begin and end tokens.

        Raises
        ------
        InputError
            A sequence is empty, or has a character that no alphabet has; or an embedding is not finite.

        Warns
        -----
        LongSequenceWarning
            A sequence is longer than the model's limit.
        """
        found = dict(self.embed_each(sequences, batch_tokens=batch_tokens))
        return [found[index] for index in range(len(sequences))]

    def embed_each(
        self, sequences: Sequence[str], *, batch_tokens: int = BATCH_TOKENS
    ) -> Iterator[tuple[int, Tensor]]:
        """Embed sequences, the longest first, and yield each as soon as its last window is done.

        Parameters
        ----------
        sequences : sequence of str
            See :meth:`embed`.
        batch_tokens : int
            Residues that are embedded at once.

        Yields
        ------
        (int, torch.Tensor)
            The sequence's number and its embedding, ``[N_res, C_plm]``, float32 on the CPU.
        """
        require_several(sequences)
        encoded = [torch.tensor(self.alphabet.encode(sequence)) for sequence in sequences]
        cut = [windows(i, len(sequence), self.max_residues) for i, sequence in enumerate(sequences)]
        note = windows_note(self.name, self.max_residues, list(map(len, sequences)))
        if note is not None:
            warnings.warn(note, LongSequenceWarning, stacklevel=2)
        waiting: dict[int, list[tuple[Window, Tensor]]] = {}
        for batch in batches([window for found in cut for window in found], batch_tokens):
            for window, embedding in zip(batch, self._run(batch, encoded), strict=True):
                index = window.sequence
                waiting.setdefault(index, []).append((window, embedding))
                if len(waiting[index]) == len(cut[index]):
                    yield index, blend(waiting.pop(index), len(sequences[index]))

    def _run(self, batch: list[Window], encoded: list[Tensor]) -> list[Tensor]:
        tokens = []
        for window in batch:
            whole = encoded[window.sequence]
            # Every window begins and ends as a sequence does.
            tokens += [whole[:1], whole[1 + window.start : 1 + window.end], whole[-1:]]
        lengths = [len(window) + 2 for window in batch]
        with torch.inference_mode():
            hidden = self.encoder(torch.cat(tokens).to(self.device), lengths, self.layer)
            hidden = hidden.float().cpu()
        if not torch.isfinite(hidden).all():
            dtype = self.encoder.tokens.weight.dtype
            cure = "give --plm_dtype float32" if dtype != torch.float32 else "its weights are damaged"
            raise InputError(f"{self.name}: an embedding holds NaN or infinity, computed in {dtype}; {cure}")
        # Copies: a view would keep the whole batch in memory.
        return [piece[1:-1].clone() for piece in hidden.split(lengths)]


def require_several(sequences: Sequence[str]) -> None:
    """Raise :class:`InputError` for one text in place of `sequences`: its letters would be taken for them."""
    if isinstance(sequences, str):
        raise InputError(
            f"sequences is the text {sequences[:20]!r}: expected a list, such as [{sequences[:20]!r}]"
        )


def windows_note(name: str, limit: int | None, lengths: Sequence[int]) -> str | None:
    """Say which sequences are embedded in windows.

    Parameters
    ----------
    name : str
        Of the model.
    limit : int or None
        The longest sequence that it takes at once.
    lengths : sequence of int
        Residues of the sequences.

    Returns
    -------
    str or None
        A line for the user; None where each is embedded whole.
    """
    longer = [length for length in lengths if limit is not None and length > limit]
    if not longer:
        return None
    which = "a sequence is" if len(longer) == 1 else f"{len(longer)} sequences are"
    return (
        f"{which} longer than the {limit:,} residues that {name} takes at once (up to {max(longer):,}): "
        "embedded in windows that overlap by a quarter, and blended"
    )
