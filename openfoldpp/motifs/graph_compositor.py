"""GraphCompositor: what a coarse model of motifs is after a network has looked at how they fit.

It begins from :func:`openfoldpp.motifs.assembly.lay_out` and learns three things: how far each fragment is
drawn to each other one that it overlaps with, which moves it by a rotation and a shift; what each residue of
each fragment counts in the mean; and how far to trust the result. Untrained it changes nothing: the model is
:func:`openfoldpp.motifs.assembly.assemble`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openfoldpp.motifs.coarse_graph import EDGES, NODES, RESIDUES, CoarseGraph, arrays_of
from openfoldpp.motifs.compositor import Compositor
from openfoldpp.motifs.compositor_blob import CompositorSizes

#: Features of a residue that the confidence sees.
CONFIDENCE = 10

# Channels of a node's state, as its residues see it, and of the two small networks.
_STATE, _HIDDEN = 16, 32
# Residues that a convolution of the confidence sees.
_WINDOW = 9
# Angstrom between CA of neighbours.
_BOND = 3.8
_FAR = 6.0


@dataclass(frozen=True, eq=False)
class Composed:
    """What GraphCompositor makes of a graph.

    Attributes
    ----------
    ca : torch.Tensor of shape (N_res, 3)
        Angstrom, in the graph's frame; 0 where no fragment has the residue.
    confidence : torch.Tensor of shape (N_res,)
        Log-odds; their logistic is the expected lDDT of CA, 0 to 1. They carry no gradient to the
        coordinates.
    shares : torch.Tensor of shape (L, N_res)
        What each fragment counts for each residue; they sum to 1 where there is one.
    rotations : torch.Tensor of shape (L, 3, 3)
        Of each fragment, about its middle: a column vector is rotated by multiplication from the left.
    shifts : torch.Tensor of shape (L, 3)
        Of each fragment, angstrom.
    """

    ca: Tensor
    confidence: Tensor
    shares: Tensor
    rotations: Tensor
    shifts: Tensor


class GraphCompositor(nn.Module):
    """Fragments to a coarse model: 2-simplicial attention over fragments, then a rigid motion of each.

    Rotating and shifting what the graph was made of rotates and shifts the model, and changes nothing else:
    the motions are sums of ways and moments between fragments, and the network sees lengths alone.

    Parameters
    ----------
    sizes : CompositorSizes, optional
        Of the :class:`openfoldpp.motifs.Compositor` within.
    """

    def __init__(self, sizes: CompositorSizes | None = None):
        super().__init__()
        self.embed = nn.Linear(NODES, (sizes or CompositorSizes()).channels)
        self.compositor = Compositor(sizes)
        channels = self.compositor.sizes.pair_channels
        self.edge = nn.Linear(EDGES, channels, bias=False)
        self.pull = nn.Linear(channels, 2)
        self.state = nn.Linear(channels, _STATE)
        self.weigh = nn.Linear(RESIDUES + _STATE, _HIDDEN)
        self.weight = nn.Linear(_HIDDEN, 1)
        self.around = nn.Conv1d(CONFIDENCE, _HIDDEN, _WINDOW, padding="same")
        self.trust = nn.Conv1d(_HIDDEN, 1, _WINDOW, padding="same")
        for last in (self.pull, self.weight, self.trust):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, graph: dict[str, Tensor]) -> Composed:
        """Compose.

        Parameters
        ----------
        graph : dict of str to torch.Tensor
            Arrays of a :class:`openfoldpp.motifs.coarse_graph.CoarseGraph`, see :func:`tensors_of`.

        Returns
        -------
        Composed
        """
        pair = F.relu(self.compositor(self.embed(graph["nodes"])) + self.edge(graph["edges"]))
        touching = (graph["edges"][..., 0] > 0).to(pair.dtype)
        touching = touching / touching.sum(1, keepdim=True)
        rotations, shifts = self._motions(pair, touching, graph)
        arms = graph["placed"] - graph["centres"][:, None]
        moved = arms @ rotations.mT + (graph["centres"] + shifts)[:, None]
        shares = self._shares(pair, touching, graph)
        ca = torch.einsum("ir,ira->ra", shares, moved)
        with torch.no_grad():
            features = _confidence_features(graph, shares, moved, ca)
        odds = self.trust(F.relu(self.around(features.T))).squeeze(0) + features[:, 0]
        return Composed(ca, odds, shares, rotations, shifts)

    def _motions(self, pair: Tensor, touching: Tensor, graph: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        strength = torch.tanh(self.pull(pair)) * touching[..., None]
        shifts = torch.einsum("ij,ija->ia", strength[..., 0], graph["shifts"])
        turns = torch.einsum("ij,ija->ia", strength[..., 1], graph["turns"])
        return rotation_of(turns), shifts

    def _shares(self, pair: Tensor, touching: Tensor, graph: dict[str, Tensor]) -> Tensor:
        state = self.state(torch.einsum("ij,ijc->ic", touching, pair))
        seen = torch.cat([graph["residues"], state[:, None].expand(*graph["residues"].shape[:2], -1)], dim=-1)
        more = self.weight(F.relu(self.weigh(seen))).squeeze(-1)
        odds = (graph["log_weights"] + more).masked_fill(~graph["mask"], -1e9)
        return odds.softmax(0) * graph["mask"]


def rotation_of(vectors: Tensor) -> Tensor:
    """Return the rotation matrices ``[*, 3, 3]`` of rotation `vectors` ``[*, 3]`` (Rodrigues)."""
    # The square root's slope at zero is infinite.
    angle = (vectors.square().sum(-1) + 1e-12).sqrt()[..., None, None]
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    first, second = angle.sin() / angle, (1 - angle.cos()) / angle.square()
    return torch.eye(3, dtype=vectors.dtype, device=vectors.device) + first * cross + second * (cross @ cross)


def tensors_of(graph: CoarseGraph) -> dict[str, Tensor]:
    """Return the arrays of a `graph` as tensors, by name."""
    return {name: torch.from_numpy(array) for name, array in arrays_of(graph).items()}


def _confidence_features(graph: dict[str, Tensor], shares: Tensor, moved: Tensor, ca: Tensor) -> Tensor:
    """Return ``[N_res, CONFIDENCE]``; the first is the log-odds that the others correct."""
    similarity, support, depth, *_ = graph["residues"].unbind(-1)
    away = (moved - ca).norm(dim=-1).clamp(max=_FAR) / _FAR
    bonds = (ca[1:] - ca[:-1]).norm(dim=-1)
    bent = ((bonds - _BOND).abs() / _BOND).clamp(max=1)
    total = (graph["log_weights"].exp() * graph["mask"]).sum(0)
    columns = [
        torch.logit(graph["confidence"], eps=0.02),
        torch.log1p(total) / 4,
        *((shares * column).sum(0) for column in (similarity, support, depth)),
        (shares * away.square()).sum(0).sqrt(),
        shares.amax(0),
        graph["ends"],
        F.pad(bent, (1, 0)),
        F.pad(bent, (0, 1)),
    ]
    return torch.stack(columns, -1)
