"""Invariant point attention: residues attend to each other by content, by pair and by distance in space.

Neither the points' distances nor the logits of more than a few residues are ever in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import linear, softplus

from openfoldpp import _native
from openfoldpp.errors import InputError
from openfoldpp.ops.arrays import (
    Weights,
    native_or_torch,
    refuse_unless_native,
    require_channels,
    require_floating,
    require_like,
    run_native,
)
from openfoldpp.ops.dispatch import threads


@dataclass(frozen=True, eq=False)
class InvariantPointAttentionWeights(Weights):
    """Parameters of an invariant point attention, laid out as upstream's monomer models have them.

    ``H`` heads have ``d`` channels, ``P`` points of queries and keys and ``V`` points of values. A linear
    layer ``name`` with the bias ``name_bias`` is laid out as ``torch.nn.Linear`` has it; the outputs of the
    point layers are ordered by coordinate, then head, then point.

    Attributes
    ----------
    query, query_bias : torch.Tensor
        ``[H * d, C_s]`` and ``[H * d]``.
    key_value, key_value_bias : torch.Tensor
        ``[H * 2 * d, C_s]`` and ``[H * 2 * d]``: of each head the keys, then the values.
    query_point, query_point_bias : torch.Tensor
        ``[3 * H * P, C_s]`` and ``[3 * H * P]``.
    key_value_point, key_value_point_bias : torch.Tensor
        ``[3 * H * (P + V), C_s]`` and ``[3 * H * (P + V)]``: of each head the keys' points, then the values'.
    pair, pair_bias : torch.Tensor
        ``[H, C_z]`` and ``[H]``: from the pair representation to the logits.
    head_weights : torch.Tensor
        ``[H]``, how much distance counts; softplus makes them positive.
    output, output_bias : torch.Tensor
        ``[C_s, H * (d + 4 * V + C_z)]`` and ``[C_s]``. Its inputs: values; x, y, z and norms of the points;
        values of the pair representation; each for all heads.
    eps : float
        In the norm of a point, ``sqrt(x^2 + y^2 + z^2 + eps)``.

    Raises
    ------
    InputError
        Where the tensors do not fit each other.
    """

    query: torch.Tensor
    query_bias: torch.Tensor
    key_value: torch.Tensor
    key_value_bias: torch.Tensor
    query_point: torch.Tensor
    query_point_bias: torch.Tensor
    key_value_point: torch.Tensor
    key_value_point_bias: torch.Tensor
    pair: torch.Tensor
    pair_bias: torch.Tensor
    head_weights: torch.Tensor
    output: torch.Tensor
    output_bias: torch.Tensor
    eps: float = 1e-8

    def __post_init__(self):
        require_floating("pair", self.pair, ("H", "C_z"))
        heads, pair_channels = self.pair.shape[-2:]
        for name, parts in (("query", heads), ("query_point", 3 * heads), ("key_value_point", 3 * heads)):
            weight = getattr(self, name)
            require_floating(name, weight, ("outputs", "C_s"))
            if not parts or weight.shape[-2] % parts or not weight.shape[-2]:
                raise InputError(
                    f"{name} has {weight.shape[-2]} outputs; expected a multiple of {parts}, "
                    f"for pair has {heads} heads"
                )
        points, all_points = self.query_points, self.query_points + self.value_points
        if self.value_points < 1:
            raise InputError(
                f"key_value_point has {all_points} points for each head; "
                f"expected more than query_point's {points}"
            )
        wide, channels = self.query.shape[-2:]
        features = wide + heads * (4 * self.value_points + pair_channels)
        layers = {
            "pair": (heads, pair_channels), "query": (wide, channels), "key_value": (2 * wide, channels),
            "query_point": (3 * heads * points, channels),
            "key_value_point": (3 * heads * all_points, channels), "output": (channels, features),
        }  # fmt: skip
        biases = {f"{name}_bias": shape[:1] for name, shape in layers.items()}
        self._require_shapes(**layers, **biases, head_weights=(heads,))

    @classmethod
    def from_multimer(
        cls,
        *,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        query_point: torch.Tensor,
        key_point: torch.Tensor,
        value_point: torch.Tensor,
        query_point_bias: torch.Tensor,
        key_point_bias: torch.Tensor,
        value_point_bias: torch.Tensor,
        head_weights: torch.Tensor,
        **others: torch.Tensor,
    ) -> InvariantPointAttentionWeights:
        """Lay out the parameters of upstream's multimer models as the monomer's.

        Their ``InvariantPointAttentionMultimer`` computes the same but for two things. It scales the mask
        with the logits: pass ``inf=1e5 / 3**0.5`` to :func:`invariant_point_attention`. It takes
        ``max(x^2 + y^2 + z^2, 1e-16)`` in the norm of a point; with ``eps`` = 1e-16, as here, norms differ by
        5e-9 at most.

        Parameters
        ----------
        query, key, value : torch.Tensor
            ``[H * d, C_s]``; they have no bias.
        query_point, key_point : torch.Tensor
            ``[H * 3 * P, C_s]``, ordered by head, then coordinate, then point.
        value_point : torch.Tensor
            ``[H * 3 * V, C_s]``, in the same order.
        query_point_bias, key_point_bias, value_point_bias : torch.Tensor
            One number for each of these outputs.
        head_weights : torch.Tensor
            ``[H]``.
        **others : torch.Tensor
            ``pair``, ``pair_bias``, ``output`` and ``output_bias``, as for the class.

        Returns
        -------
        InvariantPointAttentionWeights

        Raises
        ------
        InputError
            Where the tensors do not fit each other.
        """
        heads = len(head_weights)

        def by_head(name: str, layer: torch.Tensor, *sizes: int) -> torch.Tensor:
            parts = heads * math.prod(sizes)
            if not parts or len(layer) % parts:
                raise InputError(f"{name} has {len(layer)} outputs; expected a multiple of {parts}")
            return layer.unflatten(0, (heads, *sizes, -1))

        def by_coordinate(**layers: torch.Tensor) -> torch.Tensor:
            parts = [by_head(name, layer, 3).transpose(0, 1) for name, layer in layers.items()]
            return torch.cat(parts, dim=2).flatten(0, 2)

        key_value = torch.cat([by_head("key", key), by_head("value", value)], dim=1).flatten(0, 1)
        return cls(
            query=query,
            query_bias=query.new_zeros(len(query)),
            key_value=key_value,
            key_value_bias=key_value.new_zeros(len(key_value)),
            query_point=by_coordinate(query_point=query_point),
            query_point_bias=by_coordinate(query_point_bias=query_point_bias),
            key_value_point=by_coordinate(key_point=key_point, value_point=value_point),
            key_value_point_bias=by_coordinate(
                key_point_bias=key_point_bias, value_point_bias=value_point_bias
            ),
            head_weights=head_weights,
            eps=1e-16,
            **others,
        )

    @property
    def heads(self) -> int:
        """``H``, attention heads."""
        return self.pair.shape[0]

    @property
    def query_points(self) -> int:
        """``P``, points of the queries and of the keys of a head."""
        return self.query_point.shape[0] // (3 * self.heads)

    @property
    def value_points(self) -> int:
        """``V``, points of the values of a head."""
        return self.key_value_point.shape[0] // (3 * self.heads) - self.query_points

    def _pack(self) -> _native.InvariantPointAttention:
        return _native.InvariantPointAttention(**self.arrays(), eps=self.eps)


def invariant_point_attention(
    s: torch.Tensor,
    z: torch.Tensor,
    rotations: torch.Tensor,
    translations: torch.Tensor,
    weights: InvariantPointAttentionWeights,
    *,
    mask: torch.Tensor | None = None,
    inf: float = 1e5,
) -> torch.Tensor:
    """Attend over residues with frames: algorithm 22 of the AlphaFold 2 supplement.

    Moving all frames together changes nothing. The linear layers have the biases that AlphaFold's code gives
    them and the supplement leaves out.

    Parameters
    ----------
    s : torch.Tensor
        ``[*, N_res, C_s]``, the single representation; the native kernel takes float32 on the CPU with a
        contiguous last dimension.
    z : torch.Tensor
        ``[*, N_res, N_res, C_z]``, the pair representation; same dtype and device, as of all tensors here.
    rotations : torch.Tensor
        ``[*, N_res, 3, 3]``, from the frame of each residue to the global one.
    translations : torch.Tensor
        ``[*, N_res, 3]``, in the unit of length that the weights were trained for: 10 angstrom in upstream's
        structure module.
    weights : InvariantPointAttentionWeights
        Of the same dtype and device.
    mask : torch.Tensor, optional
        ``[*, N_res]``, 1 for the residues that count: logits get ``inf * (mask_i * mask_j - 1)`` in the end.
        A row masked whole attends as upstream's does: ``inf`` swallows the smaller digits of its logits.
    inf : float
        What the logit of a masked pair loses.

    Returns
    -------
    torch.Tensor
        ``[*, N_res, C_s]``, the update of the single representation.

    Raises
    ------
    InputError
        Where shapes, dtypes or devices do not fit.
    BackendError
        Where ``OPENFOLDPP_BACKEND`` forces a backend that does not support the arguments.
    """
    require_floating("s", s, ("N_res", "C_s"))
    require_channels("s", s, weights.query)
    *residues, _ = s.shape
    require_like("z", z, s, (*residues, residues[-1], weights.pair.shape[1]))
    require_like("rotations", rotations, s, (*residues, 3, 3))
    require_like("translations", translations, s, (*residues, 3))
    if mask is not None:
        require_like("mask", mask, s, residues)
        mask = mask.contiguous()
    # What is small may have any strides.
    return _invariant_point_attention(
        s, z, rotations.contiguous(), translations.contiguous(), weights, mask, inf
    )


def _native_attention(s, z, rotations, translations, weights, mask, inf):
    def kernel(s, z, rotations, translations, mask, out):
        weights.packed(s, z, rotations, translations, mask, inf, out, threads())

    tensors = (s, 2), (z, 3), (rotations, 3), (translations, 2), (mask, 1)
    return run_native(kernel, *tensors, (s.new_empty(s.shape), 2))


def _torch_attention(s, z, rotations, translations, weights, mask, inf):
    heads, points = weights.heads, weights.query_points

    def by_head(values, *sizes):  # [*, N, H * ...] -> [*, H, N, ...]
        return values.unflatten(-1, (heads, *sizes)).movedim(-1 - len(sizes), -2 - len(sizes))

    def global_points(weight, bias):  # [*, H, N, P, 3]
        local = linear(s, weight, bias).unflatten(-1, (3, heads, -1)).movedim((-2, -3), (-4, -1))
        return local @ rotations.mT.unsqueeze(-4) + translations[..., None, :, None, :]

    query = by_head(linear(s, weights.query, weights.query_bias), -1)
    key, value = by_head(linear(s, weights.key_value, weights.key_value_bias), -1).chunk(2, dim=-1)
    query_point = global_points(weights.query_point, weights.query_point_bias)
    key_value_point = global_points(weights.key_value_point, weights.key_value_point_bias)
    key_point, value_point = key_value_point[..., :points, :], key_value_point[..., points:, :]

    logits = query @ key.mT * math.sqrt(1 / (3 * query.shape[-1]))
    logits = logits + linear(z, weights.pair, weights.pair_bias).movedim(-1, -3) * math.sqrt(1 / 3)
    distances = query_point.unsqueeze(-3) - key_point.unsqueeze(-4)  # [*, H, N, N, P, 3]
    # The variance of a squared distance is taken as 9/2 for each point; the logits are a sum of three.
    scale = -0.5 * softplus(weights.head_weights) * math.sqrt(1 / (3 * points * 9 / 2))
    logits = logits + distances.square().sum(dim=(-1, -2)) * scale[:, None, None]
    if mask is not None:
        logits = logits + (inf * (mask.unsqueeze(-1) * mask.unsqueeze(-2) - 1)).unsqueeze(-3)
    attention = logits.softmax(dim=-1)

    attended = (attention @ value_point.flatten(-2)).unflatten(-1, (-1, 3))  # [*, H, N, V, 3]
    local = (attended - translations[..., None, :, None, :]) @ rotations.unsqueeze(-4)
    norms = (local.square().sum(dim=-1) + weights.eps).sqrt()
    pairs = attention.transpose(-2, -3) @ z  # [*, N, H, C_z]
    features = [attention @ value, *local.unbind(dim=-1), norms]
    features = [feature.transpose(-2, -3).flatten(-2) for feature in features]
    return linear(torch.cat([*features, pairs.flatten(-2)], dim=-1), weights.output, weights.output_bias)


_invariant_point_attention = native_or_torch(
    "invariant_point_attention",
    lambda s, z, rotations, translations, weights, mask, inf: refuse_unless_native(
        weights, s, z, rotations, translations, mask=mask
    ),
    _native_attention,
    _torch_attention,
)
