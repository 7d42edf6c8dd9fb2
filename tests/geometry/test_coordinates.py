import numpy as np
import pytest
import torch

from openfoldpp.errors import InputError
from openfoldpp.geometry import residues
from openfoldpp.geometry.coordinates import Coordinates

SEQUENCE = "MKX:GW"
KIND = residues.residue_types("MKXGW")


@pytest.fixture
def atom37():
    """All atoms of the five residues, NaN elsewhere."""
    xyz = np.random.default_rng(0).normal(scale=10, size=(5, 37, 3))
    xyz[~residues.ATOM37_EXISTS[KIND]] = np.nan
    return xyz


def read(coords, sequence=SEQUENCE, **keywords):
    return Coordinates.from_arrays(coords, sequence, **keywords)


@pytest.mark.parametrize("seed", range(5))
def test_nan_and_mask_say_the_same_in_both_orders(ideal_chain, seed):
    rng = np.random.default_rng(seed)
    chain = ideal_chain("".join(rng.permutation(list(residues.LETTERS))), seed)
    present = chain.mask14 & (rng.random((21, 14)) < 0.7)
    with_nan = np.where(present[..., None], chain.atom14, np.nan)
    by_nan = read(with_nan, chain.sequence)
    by_mask = read(chain.atom14 + 1e3 * ~present[..., None], chain.sequence, mask=present)
    again = read(np.where(by_nan.mask37[..., None], by_nan.atom37, np.nan), chain.sequence)
    for other in (by_mask, again):
        assert np.array_equal(by_nan.atom37, other.atom37)
        assert np.array_equal(by_nan.mask37, other.mask37)
    assert by_nan.mask37.sum() == present.sum()
    assert not by_nan.atom37[~by_nan.mask37].any()
    expected = chain.mask14[chain.kind != 20].sum()
    missing = expected - present[chain.kind != 20].sum()
    assert by_nan.notes == (f"{missing} of {expected} atoms missing, mask 0",)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float32),
        lambda x: x.astype(np.float16),
        lambda x: x.tolist(),
        torch.tensor,
        lambda x: torch.tensor(x, dtype=torch.bfloat16),
        lambda x: torch.tensor(x, requires_grad=True),
        lambda x: np.asfortranarray(x),
    ],
)
def test_any_array_is_read(atom37, convert):
    found = read(convert(atom37))
    assert found.atom37.dtype == np.float64
    there = residues.ATOM37_EXISTS[KIND]
    assert np.array_equal(found.mask37, there)
    np.testing.assert_allclose(found.atom37[there], atom37[there], rtol=0.01)


def test_numbers_and_labels_of_chains(atom37):
    found = read(atom37)
    assert found.chain_index.tolist() == [0, 0, 0, 1, 1]
    assert found.residue_index.tolist() == [0, 1, 2, 203, 204]
    assert found.chain_ids == ("A", "B")
    found = read(atom37, residue_index=torch.tensor([5, 6, 9, 1, 2]), chain_ids=["H", "L"])
    assert found.residue_index.tolist() == [5, 6, 9, 1, 2]
    assert found.chain_ids == ("H", "L")


@pytest.mark.parametrize("shape", [(5, 3), (5, 1, 3)])
def test_ca_trace_is_enough(atom37, shape):
    ca = atom37[:, residues.CA].reshape(shape)
    found = read(ca)
    assert np.array_equal(found.mask37.sum(1), np.ones(5))
    assert np.array_equal(found.atom37[:, residues.CA], ca.reshape(5, 3))
    assert read(ca, mask=[1, 1, 0, 1, 1]).mask37[:, residues.CA].tolist() == [1, 1, 0, 1, 1]


def test_oxt_and_side_chain_of_x_are_dropped_and_noted(atom37):
    atom37[4, residues.ATOM37.index("OXT")] = 1.0
    atom37[2, residues.ATOM37.index("SD")] = 2.0
    found = read(atom37)
    assert np.array_equal(found.mask37, residues.ATOM37_EXISTS[KIND])
    assert found.notes == ("2 dropped: OXT, or of an X all but N, CA, C, O and CB",)


def test_zero_padding_of_other_places_is_no_atom(atom37):
    assert np.array_equal(read(np.nan_to_num(atom37)).mask37, residues.ATOM37_EXISTS[KIND])


def test_one_atom_may_lie_at_the_origin(atom37):
    atom37[0, residues.CA] = 0
    assert read(atom37).mask37[0, residues.CA]


def test_input_is_left_as_it_was(atom37):
    before = atom37.copy()
    read(atom37, mask=residues.ATOM37_EXISTS[KIND] & (np.arange(37) < 5))
    assert np.array_equal(before, atom37, equal_nan=True)


def broken(atom37, residue, atom, value):
    atom37 = atom37.copy()
    atom37[residue, residues.ATOM37.index(atom)] = value
    return atom37


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: (x[:4], {}), r"4 residues, but the sequence has 5 \(chains of 3, 2\)"),
        (lambda x: (x[None], {}), r"shape \[1, 5, 37, 3\], expected .* Drop a batch dimension"),
        (lambda x: (x[:, :12], {}), r"shape \[5, 12, 3\]"),
        (lambda x: (x[..., :2], {}), r"shape \[5, 37, 2\]"),
        (lambda x: ([[1.0], [2.0, 3.0]], {}), "coords: cannot be read as an array"),
        (lambda x: (x.astype(str), {}), "coords: dtype .*, expected numbers"),
        (lambda x: (broken(x, 1, "NZ", np.inf), {}), "residue 2 .*infinite"),
        (lambda x: (broken(x, 1, "NZ", [np.nan, 0, 0]), {}), "residue 2 has coordinates that are partly NaN"),
        (lambda x: (broken(x, 3, "CB", 1.0), {}), "residue 4 is GLY and has an atom CB"),
        (lambda x: (np.where(np.isnan(x), x, 0.0), {}), "lie at exactly"),
        (lambda x: (np.full((5, 37, 3), np.nan), {}), "not one atom is there"),
        (lambda x: (x, {"mask": np.ones((5, 14))}), r"mask: shape \[5, 14\], expected \[5, 37\]"),
        (lambda x: (x, {"mask": np.full((5, 37), 0.5)}), "mask: holds values other than 0 and 1"),
        (lambda x: (x, {"mask": np.ones((5, 37))}), "is in the mask, but NaN"),
        (lambda x: (np.nan_to_num(x), {"mask": np.ones((5, 37))}), "residue 1 is MET and has an atom"),
        (lambda x: (np.nan_to_num(x)[:, :14] + 1, {}), "place 8 of atom14"),
        (lambda x: (x, {"sequence": "MKXGW:"}), "chain 2 of 2 is empty"),
        (lambda x: (x, {"sequence": ""}), "chain 1 of 1 is empty"),
        (lambda x: (x, {"sequence": "MKx:GW"}), "'x' at residue 3"),
        (lambda x: (x, {"residue_index": [0, 1, 2, 3]}), r"int64 \[4\], expected integers \[5\]"),
        (lambda x: (x, {"residue_index": np.arange(5.0)}), "float64"),
        (lambda x: (x, {"residue_index": [0, 1, 1, 3, 4]}), "1 is followed by 1 at residue 3"),
        (lambda x: (x, {"chain_ids": ["H"]}), "expected 2 different labels"),
        (lambda x: (x, {"chain_ids": ["H", "H"]}), "expected 2 different labels"),
        (lambda x: (x, {"chain_ids": ["H", ""]}), "expected 2 different labels"),
        (lambda x: (np.ones((63, 3)), {"sequence": ":".join("A" * 63)}), "63 chains, but only 62"),
    ],
)
def test_what_does_not_fit_is_refused(atom37, make, message):
    coords, keywords = make(atom37)
    with pytest.raises(InputError, match=message):
        read(coords, **keywords)
