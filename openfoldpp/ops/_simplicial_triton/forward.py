"""Triton kernels of 2-simplicial attention, forward (arXiv 2507.02754); importing this file needs triton.

In ``q_i k_j k2_k`` one j at a time is multiplied into the queries, and the sum over channels for all k of a
tile is a matrix product; so is the sum over k of ``p_ijk v2_k``, which ``v_j`` then multiplies. Tiles of
``k2`` and ``v2`` stay where they are while j runs, and what is added to (i, j) is one number for each row.
"""

# ruff: noqa: N803
# Arguments in capitals are known when a kernel is compiled, as in triton's own code.

import triton
import triton.language as tl

from openfoldpp.ops._simplicial_triton.parts import (
    LOG2_E,
    dense,
    entry_of,
    keys_kept,
    load_added,
    load_key,
    load_tile,
    part,
    probabilities,
    reach,
    row_starts,
)


@triton.jit
def forward_kernel(
    q, k, k2, v, v2, mask, bias, out, statistics,
    q_strides, k_strides, k2_strides, v_strides, v2_strides, mask_strides, bias_strides,
    length, channels, kv_heads, window_j, window_k, scale, parts,
    GROUP: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, CHANNELS: tl.constexpr,
    HAS_MASK: tl.constexpr, HAS_BIAS: tl.constexpr, WINDOW_J: tl.constexpr, WINDOW_K: tl.constexpr,
    CHECK_KEYS: tl.constexpr, FOLD: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Output and statistics of ROWS rows over one part of j; grid (row blocks, parts, batch * kv_heads)."""
    batch = tl.program_id(2) // kv_heads
    kv_head = tl.program_id(2) % kv_heads
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_in = row < length * GROUP
    i = row // GROUP
    head = kv_head * GROUP + row % GROUP
    channel = tl.arange(0, CHANNELS)
    channel_in = channel < channels
    tile_in = row_in[:, None] & channel_in[None, :]
    first = tl.program_id(0) * ROWS // GROUP
    last = tl.minimum((tl.program_id(0) * ROWS + ROWS - 1) // GROUP, length - 1)
    j_low, j_high = reach(first, last, window_j, length)
    j_begin, j_end = part(j_low, j_high, tl.program_id(1), parts)
    k_begin, k_end = reach(first, last, window_k, length)
    if HAS_MASK:
        mask += batch.to(tl.int64) * mask_strides[0]
    if HAS_BIAS:
        bias += row_starts(bias_strides, batch, head, i)

    queries = load_tile(q, q_strides, batch, head, i, channel, tile_in).to(OPERAND)
    if FOLD:
        queries *= scale
        scale = 1.0
    total = tl.zeros([ROWS], tl.float32)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    sums = tl.zeros([ROWS, CHANNELS], tl.float32)
    for k_start in range(k_begin, k_end, KEYS):
        key = k_start + tl.arange(0, KEYS)
        kept = keys_kept(mask, mask_strides[1], key, k_end, HAS_MASK)
        keys_in = kept[:, None] & channel_in[None, :]
        keys = load_tile(k2, k2_strides, batch, kv_head, key, channel, keys_in).to(OPERAND)
        values = load_tile(v2, v2_strides, batch, kv_head, key, channel, keys_in).to(OPERAND)
        allowed = kept[None, :]
        if WINDOW_K:
            allowed = allowed & (tl.abs(i[:, None] - key[None, :]) <= window_k)
        for j in range(j_begin, j_end):
            key_j = load_key(
                k, k_strides, mask, mask_strides[1], batch, kv_head, j, channel, channels, HAS_MASK
            )
            value_j = load_key(
                v, v_strides, mask, mask_strides[1], batch, kv_head, j, channel, channels, HAS_MASK
            )
            added = load_added(bias, bias_strides[3], mask, mask_strides[1], i, j, window_j, row_in, HAS_BIAS,
                               HAS_MASK, WINDOW_J)  # fmt: skip
            logits = tl.dot(queries * key_j.to(OPERAND)[None, :], tl.trans(keys), input_precision=PRECISION)
            if CHECK_KEYS:
                logits = tl.where(allowed, logits, float("-inf"))
            new_top = tl.maximum(top, tl.max(logits, 1) * scale + added)
            # -inf as long as no pair was allowed: every logit then is -inf, and their difference no number
            base = tl.where(new_top == float("-inf"), 0.0, new_top)
            p = probabilities(logits, added[:, None], base[:, None], scale, FOLD)
            decay = tl.exp2((top - base) * LOG2_E)
            total = total * decay + tl.sum(p, 1)
            mixed = tl.dot(p.to(OPERAND), values, input_precision=PRECISION)
            sums = sums * decay[:, None] + mixed * value_j.to(tl.float32)[None, :]
            top = new_top

    total = tl.where(total > 0, total, 1.0)  # without a pair, sums are 0
    entry = entry_of(
        tl.program_id(1), batch, tl.num_programs(2) // kv_heads, head, kv_heads * GROUP, i, length
    )
    tl.store(
        out + dense(entry, channel, channels), (sums / total[:, None]).to(out.dtype.element_ty), mask=tile_in
    )
    tl.store(statistics + entry * 2, top, mask=row_in)
    tl.store(statistics + entry * 2 + 1, total, mask=row_in)


@triton.jit
def merge_kernel(
    part_out,
    part_statistics,
    out,
    statistics,
    rows,
    channels,
    parts,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Merge what the parts of j made of ROWS rows, in order; grid (blocks of batch * heads * length)."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    row_in = row < rows
    channel = tl.arange(0, CHANNELS)
    tile = dense(row, channel, channels)
    tile_in = row_in[:, None] & (channel < channels)[None, :]
    total = tl.zeros([ROWS], tl.float32)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    sums = tl.zeros([ROWS, CHANNELS], tl.float32)
    for _ in range(parts):
        part_top = tl.load(part_statistics + row * 2, mask=row_in, other=float("-inf"))
        part_total = tl.load(part_statistics + row * 2 + 1, mask=row_in, other=1.0)
        new_top = tl.maximum(top, part_top)
        base = tl.where(new_top == float("-inf"), 0.0, new_top)
        decay = tl.exp2((top - base) * LOG2_E)
        weight = tl.exp2((part_top - base) * LOG2_E) * part_total
        total = total * decay + weight
        sums = sums * decay[:, None] + tl.load(part_out + tile, mask=tile_in, other=0.0) * weight[:, None]
        top = new_top
        part_out += tl.cast(rows, tl.int64) * channels
        part_statistics += tl.cast(rows, tl.int64) * 2

    total = tl.where(total > 0, total, 1.0)
    tl.store(out + tile, (sums / total[:, None]).to(out.dtype.element_ty), mask=tile_in)
    tl.store(statistics + row * 2, top, mask=row_in)
    tl.store(statistics + row * 2 + 1, total, mask=row_in)
