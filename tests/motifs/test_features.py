"""Features of motif hits: where they lie, how overlapping hits are combined, what they do not depend on."""

from dataclasses import replace

import numpy as np
import pytest

from openfoldpp.errors import InputError
from openfoldpp.geometry import residues
from openfoldpp.motifs.features import (
    DISTANCE_BINS,
    PAIR,
    PAIR_CHANNELS,
    SINGLE,
    SINGLE_CHANNELS,
    motif_features,
)
from openfoldpp.motifs.hits import MotifHit

LETTERS = residues.LETTERS[:20]
CHAINS = ["ACDEFGHIKLMNPQRSTVWYACDEF", "GHIKLMNPQRSTVW"]
N_RES = sum(map(len, CHAINS))


def backbone(length, phi=-57.0, psi=-47.0):
    """N, CA, C and O of a chain with these torsions, bond by bond; omega is 180 degrees."""
    at = [np.array([0.0, 0, 0]), np.array([1.458, 0, 0]), np.array([2.0, 1.42, 0])]

    def place(bond, angle, torsion):
        a, b, c = at[-3:]
        angle, torsion = np.radians([angle, torsion])
        x = (c - b) / np.linalg.norm(c - b)
        n = np.cross(b - a, x)
        n /= np.linalg.norm(n)
        local = [-np.cos(angle), np.sin(angle) * np.cos(torsion), np.sin(angle) * np.sin(torsion)]
        return c + bond * (local[0] * x + local[1] * np.cross(n, x) + local[2] * n)

    made = []
    for _ in range(length):
        oxygen = place(1.23, 120.5, psi + 180)
        made.append([*at[-3:], oxygen])
        for bond, angle, torsion in ((1.329, 116.2, psi), (1.458, 121.7, 180), (1.525, 111.0, phi)):
            at.append(place(bond, angle, torsion))
    return np.array(made, np.float32)


def hit(offset, length, *, score=0.8, seed=None, coords=None, sequence=None, **more):
    """A hit with a helix's coordinates, or a random sequence and torsions with a seed."""
    draw = np.random.default_rng(seed)
    if coords is None:
        coords = backbone(length) if seed is None else backbone(length, *draw.uniform(-150, 150, 2))
    sequence = sequence or "".join(draw.choice(list(LETTERS), length))
    values = {"distance": 0.7, "tm": 0.6, "segment": 0, "start": 0} | more
    return MotifHit(
        offset=offset, length=length, source="1abc_A", residue="5", sequence=sequence, score=score,
        coords=coords, **values,
    )  # fmt: skip


def test_no_hits_give_zeros():
    for hits in ([], [hit(0, 12, score=0.0)]):
        single, pair = motif_features(hits, CHAINS)
        assert single.shape == (N_RES, 256)
        assert pair.shape == (N_RES, N_RES, PAIR_CHANNELS)
        assert single.dtype == pair.dtype == np.float32
        assert not single.any()
        assert not pair.any()
    assert SINGLE_CHANNELS == 256


def test_features_lie_where_the_hits_do():
    single, pair = motif_features([hit(3, 12, seed=1), hit(26, 10, seed=2)], CHAINS)
    covered = np.zeros(N_RES, bool)
    covered[3:15] = covered[26:36] = True
    np.testing.assert_array_equal(single.any(axis=1), covered)
    both = np.zeros((N_RES, N_RES), bool)
    both[3:15, 3:15] = both[26:36, 26:36] = True
    np.testing.assert_array_equal(pair.any(axis=2), both)
    assert pair.flags.c_contiguous


def test_one_hit_is_told_as_it_is():
    one = hit(3, 12, score=0.8)
    single, pair = motif_features([one], CHAINS)
    expected = {"coverage": 0.8, "score": 0.8, "tm": 0.6, "rmsd": 0.7, "hits": np.log(2)}
    for name, value in expected.items():
        np.testing.assert_allclose(single[3:15, SINGLE[name]], value, rtol=1e-5)
    np.testing.assert_allclose(single[3:15, SINGLE["from_start"]][:, 0], 1 / np.arange(1, 13), rtol=1e-6)
    np.testing.assert_allclose(single[3:15, SINGLE["to_end"]][:, 0], 1 / np.arange(12, 0, -1), rtol=1e-6)
    np.testing.assert_array_equal(single[3:15, SINGLE["rmsd_bins"]], np.tile([0, 1, 0, 0, 0], (12, 1)))
    types = residues.residue_types(one.sequence)
    np.testing.assert_array_equal(single[3:15, SINGLE["residue_type"]].argmax(1), types)
    np.testing.assert_array_equal(
        single[3:15, SINGLE["identity"]][:, 0], types == residues.residue_types(CHAINS[0][3:15])
    )
    np.testing.assert_allclose(pair[3:15, 3:15, PAIR["tm"]], 0.6, rtol=1e-6)
    np.testing.assert_allclose(pair[3:15, 3:15, PAIR["coverage"]], 0.8, rtol=1e-6)


def test_torsions_are_those_of_the_coordinates():
    single, pair = motif_features([hit(3, 12)], CHAINS)
    phi, psi, omega = np.moveaxis(single[3:15, SINGLE["torsions"]].reshape(12, 3, 2), 1, 0)
    angles = [np.degrees(np.arctan2(a[1:-1, 0], a[1:-1, 1])) for a in (phi, psi, omega)]
    np.testing.assert_allclose(angles[0], -57, atol=0.1)
    np.testing.assert_allclose(angles[1], -47, atol=0.1)
    np.testing.assert_allclose(np.abs(angles[2]), 180, atol=0.1)
    assert not phi[0].any()  # there is no residue before it
    assert not omega[0].any()
    # -57 degrees is in the fifth of twelve bins, -47 too.
    rama = single[3:15, SINGLE["ramachandran"]].reshape(12, 12, 12)
    assert not rama[0].any()
    assert (rama[1:, 4, 4] == 1).all()
    assert rama.sum() == 11
    values = pair[3:15, 3:15, PAIR["phi"]]
    np.testing.assert_allclose(values[:, 2, :2], phi, atol=1e-6)
    np.testing.assert_allclose(values[2, :, 2:], phi, atol=1e-6)
    values = pair[3:15, 3:15, PAIR["psi"]]
    np.testing.assert_allclose(values[:, 2, :2], psi, atol=1e-6)
    np.testing.assert_allclose(values[2, :, 2:], psi, atol=1e-6)


def test_distances_and_directions_are_those_of_the_coordinates():
    one = hit(3, 12, sequence="G" * 12)  # whose pseudo-beta atom is CA
    single, pair = motif_features([one], CHAINS)
    ca = one.coords[:, 1].astype(float)
    distances = np.linalg.norm(ca[:, None] - ca, axis=-1)
    bins = pair[3:15, 3:15, PAIR["distance"]]
    edges = np.linspace(3.25, 50.75, DISTANCE_BINS)
    expected = (distances[..., None] > edges) & (distances[..., None] < np.append(edges[1:], 1e8))
    np.testing.assert_array_equal(bins, expected)
    assert not bins[np.arange(12), np.arange(12)].any()
    directions = pair[3:15, 3:15, PAIR["orientation"]]
    np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1 - np.eye(12), atol=1e-6)
    # x points towards C, N is in the xy-plane: the same in every residue of a helix.
    np.testing.assert_allclose(directions[2, 6], directions[5, 9], atol=1e-3)
    neighbours = single[3:15, SINGLE["neighbours"]].reshape(12, 24, 3)
    np.testing.assert_allclose(neighbours[2, 15] * 10, directions[2, 6] * distances[2, 6], atol=1e-3)
    assert not neighbours[0, :12].any()
    assert not neighbours[11, 12:].any()


def test_other_residues_have_their_beta_carbon():
    _, glycine = motif_features([hit(3, 12, sequence="G" * 12)], CHAINS)
    _, alanine = motif_features([hit(3, 12, sequence="A" * 12)], CHAINS)
    assert (glycine[..., PAIR["distance"]] != alanine[..., PAIR["distance"]]).any()
    np.testing.assert_array_equal(glycine[..., PAIR["orientation"]], alanine[..., PAIR["orientation"]])


def test_overlapping_hits_are_combined_by_their_scores():
    first, second = hit(0, 12, score=0.9, seed=1, tm=0.8), hit(4, 12, score=0.3, seed=2, tm=0.2)
    (a, pair_a), (b, pair_b) = (motif_features([one], CHAINS) for one in (first, second))
    single, pair = motif_features([first, second], CHAINS)
    shared = slice(5, 12)  # residue 4 has no phi in the second
    for name in ("score", "tm", "rmsd", "residue_type", "torsions", "ramachandran"):
        mixed = (0.9 * a[shared, SINGLE[name]] + 0.3 * b[shared, SINGLE[name]]) / 1.2
        np.testing.assert_allclose(single[shared, SINGLE[name]], mixed, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(single[shared, SINGLE["coverage"]], 1 - 0.1 * 0.7, rtol=1e-5)
    np.testing.assert_allclose(single[4, SINGLE["torsions"]][:2], a[4, SINGLE["torsions"]][:2], rtol=1e-5)
    mixed = (0.9 * pair_a + 0.3 * pair_b) / 1.2
    for name in ("tm", "phi", "psi", "distance", "orientation"):
        found = pair[shared, shared, PAIR[name]]
        np.testing.assert_allclose(found, mixed[shared, shared, PAIR[name]], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(pair[shared, shared, PAIR["coverage"]], 1 - 0.1 * 0.7, rtol=1e-5)
    alone = slice(13, 16)
    np.testing.assert_allclose(single[alone, SINGLE["torsions"]], b[alone, SINGLE["torsions"]], rtol=1e-5)


def test_nothing_depends_on_the_frame_or_the_order_of_the_hits():
    hits = [hit(0, 12, score=0.9, seed=1), hit(4, 14, score=0.3, seed=2), hit(27, 11, score=0.5, seed=3)]
    draw = np.random.default_rng(0)
    moved = []
    for one in hits:
        turn, _ = np.linalg.qr(draw.normal(size=(3, 3)))
        turn *= np.sign(np.linalg.det(turn))
        moved.append(replace(one, coords=(one.coords @ turn + draw.normal(size=3)).astype(np.float32)))
    for ours, theirs in zip(motif_features(hits, CHAINS), motif_features(moved[::-1], CHAINS), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_hits_that_fill_the_same_space_clash():
    """A helix whose continuation is the helix itself, turned round: its residues lie on the first's."""
    helix = backbone(16)
    first = hit(0, 16, coords=helix, score=0.9)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    # Continues where the first began; in a frame of its own.
    second_coords = np.concatenate([helix[8:], helix[:8]]) @ turn + 5
    second = hit(8, 16, coords=second_coords.astype(np.float32), score=0.5)
    _, pair = motif_features([first, second], CHAINS)
    clash = pair[..., PAIR["clash"]][..., 0]
    expected = np.zeros_like(clash)
    for i in range(8):
        expected[i, i + 16] = expected[i + 16, i] = 0.45
    np.testing.assert_allclose(clash, expected, rtol=1e-6)
    going_on = hit(8, 16, coords=backbone(24)[8:], score=0.5)
    _, pair = motif_features([first, going_on], CHAINS)
    assert not pair[..., PAIR["clash"]].any()


@pytest.mark.parametrize(
    ("offset", "length", "said"),
    [
        (20, 10, "go across chains, which end at 25, 39"),
        (30, 10, "do not lie within the target's 39"),
        (-1, 10, "do not lie within the target's 39"),
    ],
)
def test_a_hit_that_does_not_fit_the_target_is_refused(offset, length, said):
    with pytest.raises(InputError, match=f"motif 1abc_A 5 at residue {offset + 1} .*{said}"):
        motif_features([hit(offset, length)], CHAINS)


def test_a_hit_whose_arrays_do_not_fit_is_refused():
    with pytest.raises(InputError, match=r"12 residues with coordinates \[11, 4, 3\] and a sequence of 12"):
        motif_features([replace(hit(0, 12), coords=backbone(11))], CHAINS)
