"""What the steps of an Evoformer block need at least: operations and bytes, whoever computes them.

Operations are those of the matrix products, a multiplication and an addition counted as 2; norms, softmax,
gates and sums are left out. Bytes are those of the representations, float32, each read or written as often
as it must be where it does not fit into the cache; weights and single rows are left out.
``docs/kernels.md`` has the same formulas, and a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Sizes:
    """Sizes of the representations, and those that all presets of AlphaFold 2 share."""

    n_res: int
    n_seq: int = 1
    c_m: int = 256
    c_z: int = 128
    c_s: int = 384
    c_att: int = 32
    heads_pair: int = 4
    heads_msa: int = 8
    c_mul: int = 128
    c_opm: int = 32
    transition: int = 4
    heads_ipa: int = 12
    c_ipa: int = 16
    query_points: int = 4
    value_points: int = 8

    @property
    def z_bytes(self) -> int:
        """Bytes of the pair representation."""
        return FLOAT_BYTES * self.n_res**2 * self.c_z

    @property
    def m_bytes(self) -> int:
        """Bytes of the MSA representation."""
        return FLOAT_BYTES * self.n_seq * self.n_res * self.c_m


@dataclass(frozen=True)
class Floor:
    """Operations and bytes of a step."""

    operations: int
    bytes: int

    def __add__(self, other: Floor) -> Floor:
        return Floor(self.operations + other.operations, self.bytes + other.bytes)

    def seconds(self, operations_per_s: float, bytes_per_s: float) -> float:
        """Return the least time of a step on a machine with these limits, the two overlapping wholly."""
        return max(self.operations / operations_per_s, self.bytes / bytes_per_s)


def attention(rows: int, columns: int, channels: int, heads: int, head_channels: int) -> int:
    """Return the operations of gated self-attention along the columns of each row.

    Query, key, value, gate and output projections; logits and weighted sum.
    """
    hidden = heads * head_channels
    return 10 * rows * columns * channels * hidden + 4 * rows * columns**2 * hidden


def triangle_attention(sizes: Sizes) -> Floor:
    """Algorithms 13 and 14: attention, and the bias of the pairs."""
    n = sizes.n_res
    bias = 2 * n**2 * sizes.c_z * sizes.heads_pair
    operations = attention(n, n, sizes.c_z, sizes.heads_pair, sizes.c_att)
    return Floor(operations + bias, 2 * sizes.z_bytes)


def triangle_multiplication(sizes: Sizes) -> Floor:
    """Algorithms 11 and 12: four projections, the sum over the third residue, gate and output.

    Every sum needs all of both projections, so these are written once and read once.
    """
    n, c, hidden = sizes.n_res, sizes.c_z, sizes.c_mul
    operations = 8 * n**2 * c * hidden + 2 * n**3 * hidden + 2 * n**2 * c * c + 2 * n**2 * hidden * c
    return Floor(operations, 2 * sizes.z_bytes + 4 * FLOAT_BYTES * n**2 * hidden)


def pair_transition(sizes: Sizes) -> Floor:
    """Algorithm 15: two linear layers."""
    return Floor(4 * sizes.n_res**2 * sizes.c_z**2 * sizes.transition, 2 * sizes.z_bytes)


def msa_transition(sizes: Sizes) -> Floor:
    """Algorithm 9: two linear layers."""
    operations = 4 * sizes.n_seq * sizes.n_res * sizes.c_m**2 * sizes.transition
    return Floor(operations, 2 * sizes.m_bytes)


def outer_product_mean(sizes: Sizes) -> Floor:
    """Algorithm 10: two projections, then the cheaper order of the two products.

    Either the outer products are summed over the rows and multiplied by the output weight, or the left
    projection is multiplied by that weight first, which is cheaper for few rows.
    """
    n, rows, c, hidden = sizes.n_res, sizes.n_seq, sizes.c_z, sizes.c_opm
    projections = 4 * rows * n * sizes.c_m * hidden
    outer_first = 2 * rows * n**2 * hidden**2 + 2 * n**2 * hidden**2 * c
    weight_first = 2 * rows * n * hidden**2 * c + 2 * rows * n**2 * hidden * c
    return Floor(projections + min(outer_first, weight_first), sizes.m_bytes + 2 * sizes.z_bytes)


def row_attention(sizes: Sizes) -> Floor:
    """Algorithm 7: attention along each row, and the bias of the pairs."""
    bias = 2 * sizes.n_res**2 * sizes.c_z * sizes.heads_msa
    operations = attention(sizes.n_seq, sizes.n_res, sizes.c_m, sizes.heads_msa, sizes.c_att)
    return Floor(operations + bias, 2 * sizes.m_bytes + sizes.z_bytes)


def column_attention(sizes: Sizes) -> Floor:
    """Algorithm 8: attention along each column."""
    operations = attention(sizes.n_res, sizes.n_seq, sizes.c_m, sizes.heads_msa, sizes.c_att)
    return Floor(operations, 2 * sizes.m_bytes)


def invariant_point_attention(sizes: Sizes) -> Floor:
    """Algorithm 22; a squared distance counts as the inner product that it has in it."""
    n, heads, c, c_s, c_z = sizes.n_res, sizes.heads_ipa, sizes.c_ipa, sizes.c_s, sizes.c_z
    points = 3 * (2 * sizes.query_points + sizes.value_points)
    projections = 2 * n * c_s * heads * (3 * c + points)
    logits = 2 * n**2 * heads * (c_z + c + 3 * sizes.query_points)
    sums = 2 * n**2 * heads * (c + 3 * sizes.value_points + c_z)
    output = 2 * n * heads * (c + 4 * sizes.value_points + c_z) * c_s
    return Floor(projections + logits + sums + output, sizes.z_bytes)


def evoformer_block(sizes: Sizes) -> Floor:
    """One block; with more than one row it attends along the columns too."""
    pair = [triangle_multiplication, triangle_attention]
    once = [row_attention, msa_transition, outer_product_mean, pair_transition]
    if sizes.n_seq > 1:
        once.append(column_attention)
    return sum((step(sizes) for step in [*once, *pair, *pair]), Floor(0, 0))
