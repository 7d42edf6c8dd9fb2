"""Triton kernels of 2-simplicial attention, backward (arXiv 2507.02754); importing this file needs triton.

Probabilities are made again, from logits rounded as forward rounded them. No gradient is added to by two
programs: sums over programs are written as parts, which the caller adds, so that a result has the same bits
at every run.
"""

# ruff: noqa: N803
# Arguments in capitals are known when a kernel is compiled, as in triton's own code.

import triton
import triton.language as tl

from openfoldpp.ops._simplicial_triton.parts import (
    dense,
    entry_of,
    keys_kept,
    load_added,
    load_gradients,
    load_key,
    load_tile,
    part,
    probabilities,
    reach,
    row_starts,
)


@triton.jit
def rows_kernel(
    q, k, k2, v, v2, mask, bias, statistics, d_out, delta, d_q, d_k, d_v, d_bias,
    q_strides, k_strides, k2_strides, v_strides, v2_strides, mask_strides, bias_strides, d_out_strides,
    length, channels, kv_heads, window_j, window_k, scale, parts, slots, ONLY_DELTA: tl.constexpr,
    GROUP: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, CHANNELS: tl.constexpr,
    HAS_MASK: tl.constexpr, HAS_BIAS: tl.constexpr, WINDOW_J: tl.constexpr, WINDOW_K: tl.constexpr,
    CHECK_KEYS: tl.constexpr, FOLD: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of ROWS rows of q and the bias, and what these rows give to k and v; grid as forward's.

    With ONLY_DELTA instead, into ``d_q``: the sum over pairs of probability times its gradient, and that of
    probability.
    """
    batch = tl.program_id(2) // kv_heads
    batches = tl.num_programs(2) // kv_heads
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
    rest = scale
    if FOLD:
        queries *= scale
        rest = 1.0
    entry = entry_of(0, batch, batches, head, kv_heads * GROUP, i, length)
    grads, top, delta_i = load_gradients(d_out, d_out_strides, statistics, delta, entry, batch, head, i,
                                         channel, tile_in, row_in, ONLY_DELTA, OPERAND)  # fmt: skip
    sums = tl.zeros([ROWS, CHANNELS], tl.float32)
    delta_sum = tl.zeros([ROWS], tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    for j in range(j_begin, j_end):
        key_j = load_key(k, k_strides, mask, mask_strides[1], batch, kv_head, j, channel, channels, HAS_MASK)
        value_j = load_key(
            v, v_strides, mask, mask_strides[1], batch, kv_head, j, channel, channels, HAS_MASK
        )
        added = load_added(bias, bias_strides[3], mask, mask_strides[1], i, j, window_j, row_in, HAS_BIAS,
                           HAS_MASK, WINDOW_J)  # fmt: skip
        queries_j = queries * key_j.to(OPERAND)[None, :]
        grads_j = grads * value_j.to(OPERAND)[None, :]
        by_keys = tl.zeros([ROWS, CHANNELS], tl.float32)
        by_values = tl.zeros([ROWS, CHANNELS], tl.float32)
        d_added = tl.zeros([ROWS], tl.float32)
        for k_start in range(k_begin, k_end, KEYS):
            key = k_start + tl.arange(0, KEYS)
            kept = keys_kept(mask, mask_strides[1], key, k_end, HAS_MASK)
            keys_in = kept[:, None] & channel_in[None, :]
            keys = load_tile(k2, k2_strides, batch, kv_head, key, channel, keys_in).to(OPERAND)
            values = load_tile(v2, v2_strides, batch, kv_head, key, channel, keys_in).to(OPERAND)
            logits = tl.dot(queries_j, tl.trans(keys), input_precision=PRECISION)
            if CHECK_KEYS:
                allowed = kept[None, :]
                if WINDOW_K:
                    allowed = allowed & (tl.abs(i[:, None] - key[None, :]) <= window_k)
                logits = tl.where(allowed, logits, float("-inf"))
            d_p = tl.dot(grads_j, tl.trans(values), input_precision=PRECISION)
            p = probabilities(logits, added[:, None], top[:, None], rest, FOLD)
            if ONLY_DELTA:
                delta_sum += tl.sum(p * d_p, 1)
                total += tl.sum(p, 1)
            else:
                d_logits = p * (d_p - delta_i[:, None])
                d_added += tl.sum(d_logits, 1)
                by_keys = tl.dot(d_logits.to(OPERAND), keys, by_keys, input_precision=PRECISION)
                by_values = tl.dot(p.to(OPERAND), values, by_values, input_precision=PRECISION)
        if not ONLY_DELTA:
            sums += by_keys * key_j.to(tl.float32)[None, :]
            # All rows of the block have the same j: what they give to it is a sum over the block.
            d_key = tl.sum(by_keys * queries.to(tl.float32), 0) * rest
            d_value = tl.sum(by_values * grads.to(tl.float32), 0)
            # Blocks that share a slot have no j in common.
            slot = tl.program_id(0) % slots
            to_j = entry_of(slot, batch, batches, kv_head, kv_heads, j, length) * channels + channel
            tl.store(d_k + to_j, d_key, mask=channel_in)
            tl.store(d_v + to_j, d_value, mask=channel_in)
            if HAS_BIAS:
                tl.store(d_bias + entry * length + j, d_added.to(d_bias.dtype.element_ty), mask=row_in)

    entry = entry_of(tl.program_id(1), batch, batches, head, kv_heads * GROUP, i, length)
    if ONLY_DELTA:
        tl.store(d_q + entry * 2, delta_sum, mask=row_in)
        tl.store(d_q + entry * 2 + 1, total, mask=row_in)
    else:
        tl.store(d_q + dense(entry, channel, channels), sums * scale, mask=tile_in)


@triton.jit
def keys_kernel(
    q, k, k2, v, v2, mask, bias, statistics, d_out, delta, d_k2, d_v2,
    q_strides, k_strides, k2_strides, v_strides, v2_strides, mask_strides, bias_strides, d_out_strides,
    length, channels, kv_heads, window_j, window_k, scale, parts,
    GROUP: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, CHANNELS: tl.constexpr,
    HAS_MASK: tl.constexpr, HAS_BIAS: tl.constexpr, WINDOW_J: tl.constexpr, WINDOW_K: tl.constexpr,
    CHECK_KEYS: tl.constexpr, FOLD: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of KEYS rows of k2 and v2 over one part of j; grid (key blocks, parts, batch * kv_heads)."""
    batch = tl.program_id(2) // kv_heads
    batches = tl.num_programs(2) // kv_heads
    kv_head = tl.program_id(2) % kv_heads
    k_start = tl.program_id(0) * KEYS
    key = k_start + tl.arange(0, KEYS)
    channel = tl.arange(0, CHANNELS)
    channel_in = channel < channels
    if HAS_MASK:
        mask += batch.to(tl.int64) * mask_strides[0]
    kept = keys_kept(mask, mask_strides[1], key, length, HAS_MASK)
    keys_in = kept[:, None] & channel_in[None, :]
    keys = load_tile(k2, k2_strides, batch, kv_head, key, channel, keys_in).to(OPERAND)
    values = load_tile(v2, v2_strides, batch, kv_head, key, channel, keys_in).to(OPERAND)

    d_keys = tl.zeros([KEYS, CHANNELS], tl.float32)
    d_values = tl.zeros([KEYS, CHANNELS], tl.float32)
    i_begin, i_end = reach(k_start, k_start + KEYS - 1, window_k, length)
    for row_start in range(i_begin * GROUP, i_end * GROUP, ROWS):
        row = row_start + tl.arange(0, ROWS)
        row_in = row < i_end * GROUP
        i = row // GROUP
        head = kv_head * GROUP + row % GROUP
        tile_in = row_in[:, None] & channel_in[None, :]
        j_low, j_high = reach(row_start // GROUP, (row_start + ROWS - 1) // GROUP, window_j, length)
        j_begin, j_end = part(j_low, j_high, tl.program_id(1), parts)
        bias_i = bias
        if HAS_BIAS:
            bias_i += row_starts(bias_strides, batch, head, i)
        allowed = kept[:, None]
        if WINDOW_K:
            allowed = allowed & (tl.abs(i[None, :] - key[:, None]) <= window_k)

        queries = load_tile(q, q_strides, batch, head, i, channel, tile_in).to(OPERAND)
        if FOLD:
            queries *= scale
        entry = entry_of(0, batch, batches, head, kv_heads * GROUP, i, length)
        grads, top, delta_i = load_gradients(d_out, d_out_strides, statistics, delta, entry, batch, head, i,
                                             channel, tile_in, row_in, False, OPERAND)  # fmt: skip
        for j in range(j_begin, j_end):
            key_j = load_key(
                k, k_strides, mask, mask_strides[1], batch, kv_head, j, channel, channels, HAS_MASK
            )
            value_j = load_key(
                v, v_strides, mask, mask_strides[1], batch, kv_head, j, channel, channels, HAS_MASK
            )
            added = load_added(bias_i, bias_strides[3], mask, mask_strides[1], i, j, window_j, row_in,
                               HAS_BIAS, HAS_MASK, WINDOW_J)  # fmt: skip
            # k_j goes to the queries, as in forward, not to the keys: large logits would differ from there.
            queries_j = queries * key_j.to(OPERAND)[None, :]
            grads_j = grads * value_j.to(OPERAND)[None, :]
            logits = tl.dot(keys, tl.trans(queries_j), input_precision=PRECISION)
            if CHECK_KEYS:
                logits = tl.where(allowed, logits, float("-inf"))
            d_p = tl.dot(values, tl.trans(grads_j), input_precision=PRECISION)
            p = probabilities(logits, added[None, :], top[None, :], scale, FOLD)
            d_logits = p * (d_p - delta_i[None, :])
            if FOLD:  # a sum for each j: one running sum of float32 over all pairs loses digits
                d_keys += tl.dot(d_logits, queries, input_precision=PRECISION) * key_j.to(tl.float32)[None, :]
                d_values += tl.dot(p, grads, input_precision=PRECISION) * value_j.to(tl.float32)[None, :]
            else:
                d_keys = tl.dot(d_logits.to(OPERAND), queries_j, d_keys, input_precision=PRECISION)
                d_values = tl.dot(p.to(OPERAND), grads_j, d_values, input_precision=PRECISION)

    entry = entry_of(tl.program_id(1), batch, batches, kv_head, kv_heads, key, length)
    tile_in = (key < length)[:, None] & channel_in[None, :]
    tl.store(d_k2 + dense(entry, channel, channels), d_keys * (1.0 if FOLD else scale), mask=tile_in)
    tl.store(d_v2 + dense(entry, channel, channels), d_values, mask=tile_in)
