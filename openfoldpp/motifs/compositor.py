"""The compositor: embeddings of motifs to features of each pair of them, by 2-simplicial attention.

``docs/compositor.md`` defines it; the numbers of lines below are those of its algorithm.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from openfoldpp.motifs.compositor_blob import CompositorSizes, pack, unpack
from openfoldpp.motifs.compositor_kernels import (
    Kernels,
    compose_cuda,
    compose_native,
    refuse_cuda,
    refuse_native,
)
from openfoldpp.ops.arrays import require_floating, require_like
from openfoldpp.ops.dispatch import Backend, Op
from openfoldpp.ops.simplicial_attention import simplicial_attention


def relative_offsets(length: int, max_offset: int, device: torch.device | None = None) -> Tensor:
    """Return ``clip(i - j, -max_offset, max_offset) + max_offset`` for each pair of nodes.

    Algorithm 4 of the AlphaFold 2 supplement, as the index of the one-hot code.

    Parameters
    ----------
    length : int
        Nodes.
    max_offset : int
        The largest offset that is told apart.
    device : torch.device, optional
        Of the result.

    Returns
    -------
    torch.Tensor of shape (length, length)
        int64, from 0 to ``2 * max_offset``.
    """
    place = torch.arange(length, device=device)
    return (place[:, None] - place[None, :]).clamp(-max_offset, max_offset) + max_offset


class SimplicialBlock(nn.Module):
    """2-simplicial attention with a bias of relative offsets, then a transition, both added to the nodes.

    Parameters
    ----------
    sizes : CompositorSizes
        Of the compositor.
    """

    def __init__(self, sizes: CompositorSizes):
        super().__init__()
        c, wide = sizes.channels, sizes.heads * sizes.head_channels
        self.sizes = sizes
        self.offset_bias = nn.Parameter(torch.zeros(sizes.heads, 2 * sizes.max_offset + 1))
        self.attention_norm = nn.LayerNorm(c, eps=sizes.eps)
        self.qkv = nn.Linear(c, 5 * wide, bias=False)
        self.output = nn.Linear(wide, c)
        self.transition_norm = nn.LayerNorm(c, eps=sizes.eps)
        self.expand = nn.Linear(c, sizes.hidden)
        self.contract = nn.Linear(sizes.hidden, c)

    def forward(self, x: Tensor) -> Tensor:
        """Update the nodes: lines 3 to 7.

        Parameters
        ----------
        x : torch.Tensor of shape (*, L, channels)
            Nodes.

        Returns
        -------
        torch.Tensor of shape (*, L, channels)
            A new tensor.
        """
        x = x + self.output(self._attend(self.attention_norm(x)))
        return x + self.contract(self.expand(self.transition_norm(x)).relu())

    def _attend(self, normed: Tensor) -> Tensor:
        sizes = self.sizes
        *batch, length, _ = normed.shape
        # [*, L, 5 * H * d] as five times [*, H, L, d]
        by_head = self.qkv(normed).unflatten(-1, (5, sizes.heads, sizes.head_channels))
        q, k, k2, v, v2 = by_head.movedim(-3, 0).transpose(-3, -2).unbind()
        bias = self.offset_bias[:, relative_offsets(length, sizes.max_offset, normed.device)]
        bias = bias.to(q.dtype).expand(*batch, -1, -1, -1)  # under autocast q is narrower
        window = (sizes.window_j, sizes.window_k)
        update = simplicial_attention(q, k, k2, v, v2, bias=bias, window=window)
        return update.transpose(-3, -2).flatten(-2)


class Compositor(nn.Module):
    """Nodes to pairs: blocks of 2-simplicial attention (arXiv 2507.02754), then a low-rank outer product.

    Without a gradient, float32 is computed by the native kernel or, on a GPU, by the CUDA kernels. Torch
    computes all else, also a module with a part that was replaced or parametrised or has a hook. The kernels
    have a copy of the parameters, made anew when these were changed; a write through ``parameter.data``, or
    into inference tensors, is not seen: write to the parameter itself under ``torch.no_grad()``.

    Parameters
    ----------
    sizes : CompositorSizes, optional
        The defaults without it.

    Examples
    --------
    >>> compositor = Compositor().eval().requires_grad_(False)
    >>> compositor(torch.zeros(5, 64)).shape
    torch.Size([5, 5, 64])
    >>> Compositor.unpack(compositor.pack()).sizes.pair_channels
    64
    """

    def __init__(self, sizes: CompositorSizes | None = None):
        super().__init__()
        self.sizes = sizes = sizes or CompositorSizes()
        c = sizes.channels
        # A sum of rank^2 products of two numbers near 1 begins near 1.
        self.outer = nn.Parameter(torch.randn(sizes.pair_channels, sizes.rank, sizes.rank) / sizes.rank)
        self.offsets = nn.Parameter(torch.zeros(2 * sizes.max_offset + 1, sizes.pair_channels))
        self.norm = nn.LayerNorm(c, eps=sizes.eps)
        self.blocks = nn.ModuleList(SimplicialBlock(sizes) for _ in range(sizes.blocks))
        self.pair_norm = nn.LayerNorm(c, eps=sizes.eps)
        self.left = nn.Linear(c, sizes.rank)
        self.right = nn.Linear(c, sizes.rank)
        self._kernels = Kernels(self)

    def forward(self, embedding: Tensor) -> Tensor:
        """Compute the features of all pairs of nodes.

        Parameters
        ----------
        embedding : torch.Tensor of shape (*, L, channels)
            Of motifs, in the order of the sequence; dtype and device of the parameters.

        Returns
        -------
        torch.Tensor of shape (*, L, L, pair_channels)
            Feature ``[i, j]`` is of motif i towards motif j.

        Raises
        ------
        InputError
            Where shape, dtype or device do not fit.
        BackendError
            Where ``OPENFOLDPP_BACKEND`` forces a backend that does not support the tensors.
        """
        require_floating("embedding", embedding, ("L", "channels"))
        require_like("embedding", embedding, self.outer, (*embedding.shape[:-1], self.sizes.channels))
        return _compositor(self, embedding)

    def pack(self) -> bytes:
        """Return the sizes and weights as the bytes that the kernels load.

        Returns
        -------
        bytes
            In the format of ``docs/compositor.md``; weights are rounded to float32.

        Raises
        ------
        WeightsError
            Where a weight is not finite.
        """
        state = {name: tensor.detach().cpu().double().numpy() for name, tensor in self.state_dict().items()}
        return pack(self.sizes, state)

    @classmethod
    def unpack(cls, blob: bytes) -> Compositor:
        """Make the compositor that was packed.

        Parameters
        ----------
        blob : bytes
            What :meth:`pack` returned.

        Returns
        -------
        Compositor
            In float32, for inference.

        Raises
        ------
        WeightsError
            Where the bytes are truncated, altered or something else.
        """
        sizes, weights = unpack(blob)
        made = cls(sizes)
        made.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
        return made.eval().requires_grad_(False)

    @property
    def kernels(self) -> Kernels:
        """What the parameters became for the kernels."""
        return self._kernels

    def _apply(self, *arguments: Any, **options: Any) -> Compositor:
        # torch does not count a change of dtype or device as a change of a parameter.
        self._kernels = Kernels(self)
        return super()._apply(*arguments, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_kernels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._kernels = Kernels(self)


def _refuse_modified(module: Compositor) -> str | None:
    """Why a kernel, which knows the stock parts alone, would not be the module; None where it is."""
    for name, part in module.named_modules():
        if part is module:
            continue
        if type(part) not in _PARTS:
            return f"{name} is a {type(part).__name__}"
        if part._forward_hooks or part._forward_pre_hooks:
            return f"{name} has a hook"
    return None


def _compose_torch(module: Compositor, embedding: Tensor) -> Tensor:
    x = module.norm(embedding)  # line 1
    for block in module.blocks:
        x = block(x)
    normed = module.pair_norm(x)  # line 8
    left, right = module.left(normed), module.right(normed)
    # Line 10, the weight first: the outer products of all pairs are never made.
    weighted = torch.einsum("...id,cde->...iec", left, module.outer)
    pair = right.unsqueeze(-3) @ weighted
    return pair + module.offsets[relative_offsets(x.shape[-2], module.sizes.max_offset, x.device)]


_PARTS = (SimplicialBlock, nn.LayerNorm, nn.Linear, nn.ModuleList)
_compositor = Op(
    "compositor",
    (
        Backend("native", lambda *given: _refuse_modified(given[0]) or refuse_native(*given), compose_native),
        Backend("cuda", lambda *given: _refuse_modified(given[0]) or refuse_cuda(*given), compose_cuda),
        Backend("torch", lambda *_: None, _compose_torch),
    ),
)
