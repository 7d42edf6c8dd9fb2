"""Operations and bytes: what torch counts in upstream's modules, and what the docs say."""

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from openfoldpp.upstream import activate

N, ROWS = 6, 5
DOCS = (Path(__file__).parents[2] / "docs/kernels.md").read_text()
# What the docs call the sizes.
SYMBOLS = {
    "N": "n_res", "S": "n_seq", "C": "c_z", "M": "c_m", "E": "c_s", "d": "c_att", "H": "heads_pair",
    "G": "heads_msa", "T": "c_mul", "c": "c_opm", "t": "transition", "A": "heads_ipa", "a": "c_ipa",
    "P": "query_points", "V": "value_points",
}  # fmt: skip


@pytest.fixture
def floor(load):
    return load("floor")


def count(call):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops()


def modules(sizes):
    """Upstream's modules at these sizes, each with a call of it."""
    activate()
    from openfold.model.evoformer import MSATransition
    from openfold.model.msa import MSAColumnAttention, MSARowAttentionWithPairBias
    from openfold.model.outer_product_mean import OuterProductMean
    from openfold.model.pair_transition import PairTransition
    from openfold.model.triangular_attention import TriangleAttention
    from openfold.model.triangular_multiplicative_update import TriangleMultiplicationOutgoing

    m, z = torch.randn(ROWS, N, sizes.c_m), torch.randn(N, N, sizes.c_z)
    msa = sizes.c_att, sizes.heads_msa
    row_attention = MSARowAttentionWithPairBias(sizes.c_m, sizes.c_z, *msa)
    return {
        "triangle_attention": (TriangleAttention(sizes.c_z, sizes.c_att, sizes.heads_pair), [z]),
        "triangle_multiplication": (TriangleMultiplicationOutgoing(sizes.c_z, sizes.c_mul), [z]),
        "pair_transition": (PairTransition(sizes.c_z, sizes.transition), [z]),
        "msa_transition": (MSATransition(sizes.c_m, sizes.transition), [m]),
        "row_attention": (row_attention, [m, z]),
        "column_attention": (MSAColumnAttention(sizes.c_m, *msa), [m]),
        "outer_product_mean": (OuterProductMean(sizes.c_m, sizes.c_z, sizes.c_opm), [m]),
    }


def test_operations_are_those_that_torch_counts_in_upstreams_modules(floor):
    # So few hidden channels that to sum over the rows first is the cheaper order, which is upstream's.
    sizes = floor.Sizes(N, ROWS, c_z=4, c_mul=3, c_opm=2)
    for name, (module, inputs) in modules(sizes).items():
        counted = count(lambda module=module, inputs=inputs: module(*inputs))
        if name == "outer_product_mean":
            counted -= 2 * ROWS * N**2  # how many rows count for each pair
        assert getattr(floor, name)(sizes).operations == counted, name


def test_the_outer_product_mean_of_one_row_takes_the_weight_first(floor):
    sizes = floor.Sizes(N)
    left, right = torch.randn(2, N, sizes.c_opm)
    weight = torch.randn(sizes.c_z, sizes.c_opm, sizes.c_opm)
    projections = 4 * N * sizes.c_m * sizes.c_opm
    weight_first = count(
        lambda: torch.einsum("jd,idz->ijz", right, torch.einsum("ic,zcd->idz", left, weight))
    )
    outer_first = count(
        lambda: torch.einsum("ijcd,zcd->ijz", torch.einsum("ic,jd->ijcd", left, right), weight)
    )
    assert floor.outer_product_mean(sizes).operations == projections + weight_first
    assert weight_first < outer_first / 3


def test_operations_of_invariant_point_attention(floor):
    activate()
    from openfold.model.structure_module import InvariantPointAttention
    from openfold.utils.rigid_utils import Rigid

    sizes = floor.Sizes(N)
    module = InvariantPointAttention(
        sizes.c_s, sizes.c_z, sizes.c_ipa, sizes.heads_ipa, sizes.query_points, sizes.value_points
    )
    rigids = Rigid.identity((N,), requires_grad=False)
    s, z = torch.randn(N, sizes.c_s), torch.randn(N, N, sizes.c_z)
    counted = count(lambda: module(s, z, rigids, torch.ones(N), inplace_safe=True))
    # Upstream subtracts and squares the points, which torch does not count.
    distances = 2 * N**2 * sizes.heads_ipa * 3 * sizes.query_points
    assert floor.invariant_point_attention(sizes).operations == counted + distances


def test_a_block_is_the_sum_of_its_steps(floor):
    one, many = floor.Sizes(N), floor.Sizes(N, ROWS)
    pair = 2 * floor.triangle_attention(one).operations + 2 * floor.triangle_multiplication(one).operations
    once = ("row_attention", "msa_transition", "outer_product_mean", "pair_transition")
    for sizes, names in ((one, once), (many, (*once, "column_attention"))):
        expected = pair + sum(getattr(floor, name)(sizes).operations for name in names)
        assert floor.evoformer_block(sizes).operations == expected
    # Six steps read and write z, row attention reads it, both multiplications write and read two projections.
    z_bytes = floor.evoformer_block(one).bytes - 5 * one.m_bytes
    assert z_bytes == (6 * 2 + 1 + 2 * 4) * one.z_bytes


def evaluated(formula, sizes):
    """Value of a sum of products such as ``2 N^2 C H + 4 N^3 d H``."""
    total = 0
    for term in formula.split(" + "):
        product = 1
        for factor in term.split():
            base, _, power = factor.partition("^")
            value = int(base) if base.isdigit() else getattr(sizes, SYMBOLS[base])
            product *= value ** int(power or 1)
        total += product
    return total


def test_the_docs_have_the_same_formulas(floor):
    rows = re.findall(r"^\| `(\w+)`(?:, [^|]*)? \| `([^`]+)` \| `([^`]+)` \|$", DOCS, flags=re.M)
    names = {name for name, _, _ in rows}
    assert names == {name for name in vars(floor) if callable(getattr(floor, name)) and name in names}
    assert len(names) == 8
    for sizes in (floor.Sizes(7), floor.Sizes(7, 128)):
        for name in names:
            operations = [evaluated(formula, sizes) for other, formula, _ in rows if other == name]
            moved = {evaluated(formula, sizes) for other, _, formula in rows if other == name}
            expected = getattr(floor, name)(sizes)
            assert (min(operations), moved) == (expected.operations, {expected.bytes}), name
    symbols = dict(re.findall(r"`(\w)` (\d+)", DOCS))
    assert {symbol: getattr(floor.Sizes(1), SYMBOLS[symbol]) for symbol in symbols} == {
        symbol: int(value) for symbol, value in symbols.items()
    }
    assert set(SYMBOLS) - set(symbols) == {"N", "S"}


def test_the_docs_figures_of_a_block_are_those_of_the_formulas(floor):
    sizes = floor.Sizes(256)
    block = floor.evoformer_block(sizes)
    assert f"{block.operations / 1e9:.1f} GFLOP" in DOCS
    assert f"{block.bytes / 1e9:.2f} GB" in DOCS
    assert f"{block.operations / block.bytes:.0f} operations a byte" in DOCS
    assert f"pair representation {block.bytes // sizes.z_bytes} times" in DOCS
    n, c = sizes.n_res, sizes.c_opm
    outer_first = 4 * n * sizes.c_m * c + 2 * n**2 * c**2 + 2 * n**2 * c**2 * sizes.c_z
    assert f"{100 * floor.outer_product_mean(sizes).operations / outer_first:.1f} %" in DOCS
