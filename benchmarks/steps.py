"""The steps of an Evoformer block as upstream's modules do them and as ours do, on the same tensors.

A step is what the block does in inference: it adds an update to a representation, in place. Upstream's
settings are the chunk sizes among which its fastest is looked for; for a module that has none, whether it
works in place.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import floor
import numpy as np
import torch
from floor import FLOAT_BYTES, Floor, Sizes
from inputs import ALIGNMENT, ALIGNMENT_ROWS, SINGLE_ROW
from torch.nn import Module

import openfoldpp
from openfoldpp.ops.invariant_point_attention import invariant_point_attention
from openfoldpp.ops.msa_attention import column_attention, row_attention_with_pair_bias
from openfoldpp.ops.outer_product_mean import outer_product_mean
from openfoldpp.ops.transition import transition
from openfoldpp.ops.triangle_attention import triangle_attention
from openfoldpp.ops.triangle_multiplication import triangle_multiplication
from openfoldpp.upstream.acceleration import weights

CHUNKS = {"unchunked": {"chunk_size": None}} | {f"chunk {c}": {"chunk_size": c} for c in (2, 4, 8, 16)}
IN_PLACE_OR_NOT = {"in place": {"inplace_safe": True}, "not in place": {"inplace_safe": False}}
#: What OpenFold's configuration passes to each block unless its tuner is on.
CONFIGURED_CHUNK = 4


class State:
    """The representations that a step changes, drawn at random, and the masks: everything counts."""

    def __init__(self, sizes: Sizes, *, seed: int = 0):
        draw = torch.Generator().manual_seed(seed)
        n, rows = sizes.n_res, sizes.n_seq
        self.m = torch.randn(rows, n, sizes.c_m, generator=draw)
        self.z = torch.randn(n, n, sizes.c_z, generator=draw)
        self.s = torch.randn(n, sizes.c_s, generator=draw)
        self.msa_mask, self.pair_mask, self.seq_mask = torch.ones(rows, n), torch.ones(n, n), torch.ones(n)
        rotations, _ = torch.linalg.qr(torch.randn(n, 3, 3, generator=draw))
        self.rotations = rotations * torch.linalg.det(rotations)[:, None, None]
        self.translations = 10 * torch.randn(n, 3, generator=draw)
        self._first: tuple[np.ndarray, ...] = ()

    def remember(self) -> None:
        """Keep the present values of m and z for :meth:`restore`."""
        self._first = self.m.numpy().copy(), self.z.numpy().copy()

    def restore(self) -> None:
        """Give m and z the values remembered, by numpy: torch's threads would spin into the next step."""
        for tensor, first in zip((self.m, self.z), self._first, strict=True):
            np.copyto(tensor.numpy(), first)


def draw_parameters(module: Module, seed: int) -> Module:
    """Draw every parameter at random: upstream's output layers start at zero, and would hide the rest."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter.shape[-1] ** 0.5)
            else:
                parameter.add_(noise, alpha=0.1)
    return module.eval()


def upstream_block(rows: int) -> Module:
    """Return upstream's Evoformer block: SoloSeq's for one row, else one with attention along the columns."""
    from openfold.config import model_config
    from openfold.model.evoformer import EvoformerBlock

    config = model_config(SINGLE_ROW if rows == 1 else ALIGNMENT).model.evoformer_stack
    wanted = list(inspect.signature(EvoformerBlock.__init__).parameters)[1:]
    return draw_parameters(EvoformerBlock(**{name: config[name] for name in wanted}), seed=1)


def upstream_invariant_point_attention(rows: int) -> Module:
    """Return upstream's invariant point attention, of a model for one chain."""
    from openfold.config import model_config
    from openfold.model.structure_module import InvariantPointAttention

    config = model_config(ALIGNMENT).model.structure_module
    names = ("c_s", "c_z", "c_ipa", "no_heads_ipa", "no_qk_points", "no_v_points")
    module = InvariantPointAttention(*(config[name] for name in names), inf=config.inf, eps=config.epsilon)
    return draw_parameters(module, seed=1)


@dataclass(frozen=True)
class Step:
    """A step of both sides.

    Attributes
    ----------
    floor : callable
        What it needs at least, given the sizes.
    make : callable
        Makes upstream's module, given the alignment's rows.
    upstream : callable
        Upstream's step, given the module, the state and a setting's arguments.
    convert : callable
        Makes of upstream's module what our step runs: weights of an op, or an accelerated copy.
    ours : callable
        Our step, given that and the state.
    largest : callable
        Bytes of upstream's largest intermediate, given the sizes and how many rows are done at a time.
    rows : int
        Rows of the alignment.
    settings : dict
        Upstream's settings, by name.
    """

    floor: Callable[[Sizes], Floor]
    make: Callable[[int], Module]
    upstream: Callable[..., None]
    convert: Callable[[Module], Any]
    ours: Callable[[Any, State], object]
    largest: Callable[[Sizes, int], int]
    rows: int = 1
    settings: dict[str, dict] = field(default_factory=lambda: CHUNKS)

    def upstream_bytes(self, sizes: Sizes, setting: dict) -> int:
        """Return about how much memory upstream's step takes with a setting, the representations included."""
        rows = setting.get("_attn_chunk_size") or setting.get("chunk_size") or max(sizes.n_res, sizes.n_seq)
        return 8 * (sizes.z_bytes + sizes.m_bytes) + self.largest(sizes, rows)


def _block(module, state, **setting):
    masks = {"msa_mask": state.msa_mask, "pair_mask": state.pair_mask}
    state.m, state.z = module(state.m, state.z, **masks, inplace_safe=True, _mask_trans=False, **setting)


def _starting(module, state, **setting):
    state.z += module(state.z, mask=state.pair_mask, inplace_safe=True, **setting)


def _ending(module, state, **setting):
    z = state.z.transpose(0, 1).contiguous()
    z += module(z, mask=state.pair_mask.transpose(0, 1), inplace_safe=True, **setting)
    state.z = z.transpose(0, 1).contiguous()


def _our_attention(made, s, *, starting):
    triangle_attention(s.z, *made, starting=starting, mask=s.pair_mask, residual=s.z, out=s.z)


def _multiplication(module, state, inplace_safe):
    result = module(state.z, mask=state.pair_mask, inplace_safe=inplace_safe, _add_with_inplace=True)
    if not inplace_safe:
        state.z += result


def _our_multiplication(made, s, *, outgoing):
    triangle_multiplication(s.z, made, outgoing=outgoing, mask=s.pair_mask, residual=s.z, out=s.z)


def _pair_transition(module, state, **setting):
    state.z += module(state.z, **setting)


def _our_pair_transition(made, s):
    transition(s.z, made, residual=s.z, out=s.z)


def _outer_product_mean(module, state, **setting):
    state.z += module(state.m, mask=state.msa_mask, inplace_safe=True, **setting)


def _our_outer_product_mean(made, s):
    outer_product_mean(s.m, made, mask=s.msa_mask, residual=s.z, out=s.z)


def _row_attention(module, state, **setting):
    state.m += module(state.m, z=state.z, mask=state.msa_mask, **setting)


def _our_row_attention(made, s):
    row_attention_with_pair_bias(s.m, s.z, *made, mask=s.msa_mask, residual=s.m, out=s.m)


def _column_attention(module, state, **setting):
    state.m += module(state.m, mask=state.msa_mask, **setting)


def _column_weights(module):
    return weights.attention_weights(module._msa_att.layer_norm_m, module._msa_att.mha)


def _our_column_attention(made, s):
    column_attention(s.m, made, mask=s.msa_mask, residual=s.m, out=s.m)


def _msa_transition(module, state, **setting):
    state.m += module(state.m, **setting)


def _our_msa_transition(made, s):
    transition(s.m, made, residual=s.m, out=s.m)


def _invariant_point_attention(module, state, **setting):
    from openfold.utils.rigid_utils import Rigid, Rotation

    rigids = Rigid(Rotation(rot_mats=state.rotations), state.translations)
    return module(state.s, state.z, rigids, state.seq_mask, **setting)


def _our_invariant_point_attention(made, s):
    return invariant_point_attention(s.s, s.z, s.rotations, s.translations, made, mask=s.seq_mask)


def _accelerated(module):
    return openfoldpp.accelerate(copy.deepcopy(module))


def _our_block(module, state):
    _block(module, state, chunk_size=CONFIGURED_CHUNK)


# Upstream's intermediates are in memory about twice, before and after an operation that is not in place; the
# outer products three times.


def _logits(sizes, rows):
    return 2 * FLOAT_BYTES * min(rows, sizes.n_res) * sizes.heads_pair * sizes.n_res**2


def _row_logits(sizes, rows):
    return 2 * FLOAT_BYTES * min(rows, sizes.n_seq) * sizes.heads_msa * sizes.n_res**2


def _column_logits(sizes, rows):
    return 2 * FLOAT_BYTES * min(rows, sizes.n_res) * sizes.heads_msa * sizes.n_seq**2


def _outer_products(sizes, rows):
    return 3 * FLOAT_BYTES * min(rows, sizes.n_res) * sizes.n_res * sizes.c_opm**2


def _pair_hidden(sizes, rows):
    return 2 * FLOAT_BYTES * min(rows, sizes.n_res) * sizes.n_res * sizes.transition * sizes.c_z


def _msa_hidden(sizes, rows):
    return 2 * FLOAT_BYTES * min(rows, sizes.n_seq) * sizes.n_res * sizes.transition * sizes.c_m


def _points(sizes, rows):
    return 2 * 3 * FLOAT_BYTES * sizes.n_res**2 * sizes.heads_ipa * sizes.query_points


def _none(sizes, rows):
    return 0


def _any(sizes, rows):
    made = (_logits, _row_logits, _column_logits, _outer_products, _pair_hidden, _msa_hidden)
    return max(largest(sizes, rows) for largest in made)


def _part(name):
    return lambda rows: upstream_block(rows).get_submodule(name)


def _triangle_attention(part, upstream, **which):
    return Step(
        floor.triangle_attention, _part(f"pair_stack.{part}"), upstream, weights.triangle_attention_weights,
        partial(_our_attention, **which), _logits,
    )  # fmt: skip


def _triangle_multiplication(part, **which):
    return Step(
        floor.triangle_multiplication, _part(f"pair_stack.{part}"), _multiplication,
        weights.triangle_multiplication_weights, partial(_our_multiplication, **which), _none,
        settings=IN_PLACE_OR_NOT,
    )  # fmt: skip


_BLOCK = Step(floor.evoformer_block, upstream_block, _block, _accelerated, _our_block, _any)
_OUTER_PRODUCT_MEAN = Step(
    floor.outer_product_mean, _part("outer_product_mean"), _outer_product_mean,
    weights.outer_product_mean_weights, _our_outer_product_mean, _outer_products,
)  # fmt: skip
STEPS = {
    "evoformer_block": _BLOCK,
    "triangle_attention_starting": _triangle_attention("tri_att_start", _starting, starting=True),
    "triangle_attention_ending": _triangle_attention("tri_att_end", _ending, starting=False),
    "triangle_multiplication_outgoing": _triangle_multiplication("tri_mul_out", outgoing=True),
    "triangle_multiplication_incoming": _triangle_multiplication("tri_mul_in", outgoing=False),
    "pair_transition": Step(
        floor.pair_transition, _part("pair_stack.pair_transition"), _pair_transition,
        weights.transition_weights, _our_pair_transition, _pair_hidden,
    ),
    "outer_product_mean": _OUTER_PRODUCT_MEAN,
    "invariant_point_attention": Step(
        floor.invariant_point_attention, upstream_invariant_point_attention, _invariant_point_attention,
        weights.invariant_point_attention_weights, _our_invariant_point_attention, _points,
        settings=IN_PLACE_OR_NOT,
    ),
    "evoformer_block_alignment": replace(_BLOCK, rows=ALIGNMENT_ROWS),
    "row_attention_alignment": Step(
        floor.row_attention, _part("msa_att_row"), _row_attention, weights.msa_attention_weights,
        _our_row_attention, _row_logits, ALIGNMENT_ROWS,
    ),
    "column_attention_alignment": Step(
        floor.column_attention, _part("msa_att_col"), _column_attention, _column_weights,
        _our_column_attention, _column_logits, ALIGNMENT_ROWS,
    ),
    "msa_transition_alignment": Step(
        floor.msa_transition, _part("msa_transition"), _msa_transition, weights.transition_weights,
        _our_msa_transition, _msa_hidden, ALIGNMENT_ROWS,
    ),
    "outer_product_mean_alignment": replace(_OUTER_PRODUCT_MEAN, rows=ALIGNMENT_ROWS),
}  # fmt: skip
