"""What the Triton kernels of 2-simplicial attention share; importing this file needs triton.

Rows of a program are pairs (position, head of the group that shares a key/value head): row ``r`` is position
``r // GROUP``, and what shared keys are given by their heads is one sum over rows.
"""

# ruff: noqa: N803
# Arguments in capitals are known when a kernel is compiled, as in triton's own code.

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def reach(first, last, window, length):
    """Keys that positions ``first`` to ``last`` may use: from, and up to without."""
    return tl.maximum(first - window, 0), tl.minimum(last + window + 1, length)


@triton.jit
def part(low, high, index, parts):
    """Part ``index`` of a range that is split into ``parts``; the last ones may be empty."""
    size = tl.cdiv(high - low, parts)
    begin = low + index * size
    return begin, tl.minimum(begin + size, high)


@triton.jit
def entry_of(index, batch, batches, head, heads, row, length):
    """Place of a row in a dense ``[parts, B, H, N]`` tensor."""
    return (tl.cast(index * batches + batch, tl.int64) * heads + head) * length + row


@triton.jit
def dense(entry, channel, channels):
    """Offsets ``[ROWS, CHANNELS]`` of the rows of a dense ``[parts, B, H, N, d]`` tensor."""
    return entry[:, None] * channels + channel[None, :]


@triton.jit
def row_starts(strides, batch, heads, rows):
    """Offsets ``[ROWS]`` of the rows of a strided ``[B, H, N, d]`` tensor."""
    return (
        batch.to(tl.int64) * strides[0]
        + tl.cast(heads, tl.int64) * strides[1]
        + tl.cast(rows, tl.int64) * strides[2]
    )


@triton.jit
def load_tile(data, strides, batch, heads, rows, channel, kept):
    """Rows of a ``[B, H, N, d]`` tensor: ``[ROWS, CHANNELS]``, 0 where they are not kept."""
    start = row_starts(strides, batch, heads, rows)
    return tl.load(data + start[:, None] + channel[None, :] * strides[3], mask=kept, other=0.0)


@triton.jit
def load_key(data, strides, mask, mask_stride, batch, head, j, channel, channels, HAS_MASK: tl.constexpr):
    """Key or value j: ``[CHANNELS]``; 0 where the mask has it out, since it may hold anything."""
    if HAS_MASK:
        channels = tl.where(tl.load(mask + j * mask_stride) != 0, channels, 0)
    start = row_starts(strides, batch, head, j)
    return tl.load(data + start + channel * strides[3], mask=channel < channels, other=0.0)


@triton.jit
def keys_kept(mask, mask_stride, key, end, HAS_MASK: tl.constexpr):
    """Which keys count: ``[KEYS]``."""
    kept = key < end
    if HAS_MASK:
        kept = kept & (tl.load(mask + key * mask_stride, mask=kept, other=0.0) != 0)
    return kept


@triton.jit
def load_added(bias, bias_stride, mask, mask_stride, i, j, window, row_in, HAS_BIAS: tl.constexpr,
               HAS_MASK: tl.constexpr, WINDOW: tl.constexpr):  # fmt: skip
    """Read what is added to the logits of each row for this j: the bias; -inf where j is not allowed."""
    added = tl.zeros(i.shape, tl.float32)
    if HAS_BIAS:
        added = tl.load(bias + tl.cast(j, tl.int64) * bias_stride, mask=row_in, other=0.0).to(tl.float32)
    if WINDOW:
        added = tl.where(tl.abs(i - j) <= window, added, float("-inf"))
    if HAS_MASK:
        added = tl.where(tl.load(mask + j * mask_stride) != 0, added, float("-inf"))
    return added


@triton.jit
def probabilities(logits, added, top, scale, FOLD: tl.constexpr):
    """Make e^(logit + added - top). With FOLD the scale is in the logits already.

    float32 is computed as torch does it, and is 1 for the largest logit. Otherwise a product and a difference
    in one rounding do the same in a third of the instructions, with an error far below bfloat16's own.
    """
    if FOLD:
        return tl.exp2(((logits + added) - top) * LOG2_E)
    return tl.exp2(logits * (scale * LOG2_E) - (top - added) * LOG2_E)


@triton.jit
def load_gradients(d_out, strides, statistics, delta, entry, batch, heads, rows, channel, kept, row_in,
                   ONLY_GRADS: tl.constexpr, OPERAND: tl.constexpr):  # fmt: skip
    """Read what the gradients of rows need: of the output, largest logit, delta (0 with ONLY_GRADS).

    Probabilities are ``e^(logit - largest) / sum``. The division is done once, in the first, and not in every
    probability: a log-sum added to a large logit would lose its digits. Where there is no pair, the largest
    logit is made +inf, and every probability 0. The last holds the division already.
    """
    top = tl.load(statistics + entry * 2, mask=row_in, other=float("-inf"))
    share = 1.0 / tl.load(statistics + entry * 2 + 1, mask=row_in, other=1.0)
    grads = load_tile(d_out, strides, batch, heads, rows, channel, kept).to(tl.float32)
    grads = (grads * share[:, None]).to(OPERAND)
    top = tl.where(top == float("-inf"), float("inf"), top)
    delta_i = tl.zeros(top.shape, tl.float32)
    if not ONLY_GRADS:
        delta_i = tl.load(delta + entry, mask=row_in, other=0.0)
    return grads, top, delta_i
