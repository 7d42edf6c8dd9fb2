"""The transformer encoder that ESM-1b, ESM-2 and AntiBERTy share, on sequences laid end to end.

Sequences of a batch are concatenated and not padded: the linear layers see ``[N_tokens, C]``, attention sees
each sequence alone. So no work is done on padding, and a sequence's embedding does not depend on what it is
batched with, but for the rounding of a matrix product of another size. On a GPU, where a kernel for each
length would take longer to launch than to run, attention alone pads and masks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# ESM was trained with 15 % of the tokens chosen, 80 % of these masked, and unmasked input scaled to fit.
_TOKEN_DROPOUT_SCALE = 1 - 0.15 * 0.8


@dataclass(frozen=True)
class Architecture:
    """What distinguishes one encoder from another; all of it is stored beside quantised weights.

    Attributes
    ----------
    layers, channels, heads, hidden : int
        Blocks; width ``C_plm``; attention heads; width inside a transition.
    vocabulary : int
        Rows of the token embedding.
    positions : int
        Rows of the learned position embedding; 0 where rotary embeddings tell the positions.
    norm_first : bool
        Whether a block normalises its input (ESM) or its output (BERT).
    norm_embedding : bool
        Whether the embedding is normalised before the first block.
    scale_embedding : bool
        Whether token embeddings are scaled as ESM's token dropout asks for.
    eps : float
        Of the layer norms.
    """

    layers: int
    channels: int
    heads: int
    hidden: int
    vocabulary: int
    positions: int = 0
    norm_first: bool = True
    norm_embedding: bool = False
    scale_embedding: bool = True
    eps: float = 1e-5

    def to_dict(self) -> dict[str, int | float | bool]:
        """Return the fields by name."""
        return asdict(self)


class Attention(nn.Module):
    """Self-attention of each sequence, with rotary positions (arXiv 2104.09864) where they are given.

    Parameters
    ----------
    channels, heads : int
        Width, and how many heads it is split into.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, x: Tensor, lengths: Sequence[int], rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        """Return the update of `x`, ``[N_tokens, C]``; `lengths` sum to ``N_tokens``."""
        q, k, v = self.qkv(x).view(len(x), 3, self.heads, -1).unbind(1)
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        attend = _attend_padded if x.is_cuda else _attend_by_length
        return self.output(attend(q, k, v, lengths).flatten(1))


def _attend_by_length(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """Attend within each sequence, ``[N_tokens, H, width]``, neighbours of equal length together."""
    counts = [(length, len(list(equal))) for length, equal in groupby(lengths)]
    sizes = [length * count for length, count in counts]
    updates = []
    for (length, count), *group in zip(counts, *(t.split(sizes) for t in (q, k, v)), strict=True):
        batch = [t.unflatten(0, (count, length)).transpose(1, 2) for t in group]
        updates.append(F.scaled_dot_product_attention(*batch).transpose(1, 2).flatten(0, 1))
    return torch.cat(updates) if len(updates) > 1 else updates[0]


def _attend_padded(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """Attend within each sequence, ``[N_tokens, H, width]``, all sequences at once."""
    places, mask = _padding(tuple(lengths), q.device)
    batch = [
        t.new_zeros(mask.numel(), *t.shape[1:]).index_copy(0, places, t).unflatten(0, mask.shape)
        for t in (q, k, v)
    ]
    update = F.scaled_dot_product_attention(
        *(t.transpose(1, 2) for t in batch), attn_mask=mask[:, None, None]
    )
    return update.transpose(1, 2).flatten(0, 1)[places]


@functools.lru_cache(maxsize=2)
def _padding(lengths: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where each token stands among padded sequences, ``[N_tokens]``, and which places are taken."""
    with torch.inference_mode(False):
        sizes = torch.tensor(lengths)
        # Kernels want keys in multiples of eight.
        longest = -(-max(lengths) // 8) * 8
        mask = torch.arange(longest) < sizes[:, None]
        return mask.flatten().nonzero()[:, 0].to(device), mask.to(device)


class Block(nn.Module):
    """Attention and a transition, each with a residual.

    Parameters
    ----------
    architecture : Architecture
        Sizes and variants.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        channels, eps = architecture.channels, architecture.eps
        self.norm_first = architecture.norm_first
        self.attention = Attention(channels, architecture.heads)
        self.norm_attention = nn.LayerNorm(channels, eps=eps)
        self.expand = nn.Linear(channels, architecture.hidden)
        self.contract = nn.Linear(architecture.hidden, channels)
        self.norm_transition = nn.LayerNorm(channels, eps=eps)

    def forward(self, x: Tensor, lengths: Sequence[int], rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        """Return the block's output, ``[N_tokens, C]``."""
        if self.norm_first:
            x = x + self.attention(self.norm_attention(x), lengths, rotation)
            return x + self.contract(F.gelu(self.expand(self.norm_transition(x))))
        x = self.norm_attention(x + self.attention(x, lengths, rotation))
        return self.norm_transition(x + self.contract(F.gelu(self.expand(x))))


class Encoder(nn.Module):
    """Token embedding, blocks, and a last layer norm where the blocks normalise their input.

    Parameters
    ----------
    architecture : Architecture
        Sizes and variants.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture = architecture
        channels, eps = architecture.channels, architecture.eps
        self.tokens = make_table(architecture.vocabulary, channels)
        if architecture.positions:
            self.positions = make_table(architecture.positions, channels)
        else:
            self.register_buffer("frequencies", rotary_frequencies(channels // architecture.heads))
        if architecture.norm_embedding:
            self.norm_embedding = nn.LayerNorm(channels, eps=eps)
        self.blocks = nn.ModuleList(Block(architecture) for _ in range(architecture.layers))
        if architecture.norm_first:
            self.norm_last = nn.LayerNorm(channels, eps=eps)

    def forward(self, tokens: Tensor, lengths: Sequence[int], layer: int | None = None) -> Tensor:
        """Embed token numbers.

        Parameters
        ----------
        tokens : torch.Tensor of shape (N_tokens,), int64
            Sequences end to end, each with its begin and end tokens.
        lengths : sequence of int
            Tokens of each sequence.
        layer : int, optional
            How many blocks to run; by default all. 0 is the embedding. The last layer norm belongs to the
            last.

        Returns
        -------
        torch.Tensor of shape (N_tokens, C)
            In the dtype of the weights.
        """
        architecture = self.architecture
        count = architecture.layers if layer is None else layer
        x = self.embedding(tokens, lengths)
        rotation = None
        if not architecture.positions:
            rotation = rotary_table(lengths, self.frequencies, x.dtype)
        for block in self.blocks[:count]:
            x = block(x, lengths, rotation)
        return self.norm_last(x) if architecture.norm_first and count == architecture.layers else x

    def embedding(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return what the first block sees of `tokens` of sequences of these `lengths`: ``[N_tokens, C]``."""
        architecture = self.architecture
        x = self.tokens(tokens)
        if architecture.scale_embedding:
            x = x * _TOKEN_DROPOUT_SCALE
        if architecture.positions:
            x = x + torch.cat([self.positions.weight[:length] for length in lengths])
        return self.norm_embedding(x) if architecture.norm_embedding else x


def make_table(rows: int, channels: int) -> nn.Embedding:
    """Return an embedding of `rows` tokens or positions, each of so many `channels`.

    On the meta device its weights are not drawn: torch would import its compiler for that, which takes a
    second.
    """
    weight = torch.empty(rows, channels)
    if weight.is_meta:
        return nn.Embedding.from_pretrained(weight, freeze=False)
    return nn.Embedding(rows, channels)


def rotary_frequencies(width: int) -> Tensor:
    """Return the frequencies of rotary embeddings for heads of `width` channels, ``[width / 2]``, float32."""
    return 1.0 / (10000 ** (torch.arange(0, width, 2, dtype=torch.float32) / width))


def rotary_table(lengths: Sequence[int], frequencies: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of each token's position, for :func:`rotate`.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each sequence; positions start at 0 in each.
    frequencies : torch.Tensor of shape (width / 2,)
        From :func:`rotary_frequencies`, or a file's.
    dtype : torch.dtype
        Of the result; the angles are float32.

    Returns
    -------
    torch.Tensor, torch.Tensor
        ``[N_tokens, 1, width]`` each.
    """
    angles = torch.outer(torch.arange(max(lengths), device=frequencies.device).float(), frequencies.float())
    # The sign of the sine's first half stands in for that of the rotated half.
    cosines, sines = angles.cos().repeat(1, 2), torch.cat([-angles.sin(), angles.sin()], 1)
    table = [torch.cat([t[:length] for length in lengths])[:, None].to(dtype) for t in (cosines, sines)]
    return table[0], table[1]


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate queries or keys `x`, ``[N_tokens, H, width]``, by the `cosines` and `sines` of positions."""
    return x * cosines + x.roll(x.shape[-1] // 2, -1) * sines
