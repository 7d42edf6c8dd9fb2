"""Motif hits as raw template features: which are chosen, and what they hold."""

import numpy as np

from openfoldpp.geometry import residues
from openfoldpp.motifs.hits import MotifHit
from openfoldpp.motifs.templates import choose_templates, template_features

CHAINS = ["ACDEFGHIKLMNPQRSTVWY", "GHIKLMNPQRSTVW"]


def hit(offset, length, score, source="1abc_A"):
    draw = np.random.default_rng(offset)
    # Three atoms off a line, at a place of their own for each residue.
    coords = draw.normal(size=(length, 4, 3)) + 3.8 * np.arange(length)[:, None, None]
    sequence = "GX" + "".join(draw.choice(list(residues.LETTERS[:20]), length - 2))
    return MotifHit(offset, length, source, "7", sequence, score, 0.5, 0.5, coords.astype(np.float32), 0, 0)


def test_each_next_template_adds_most_to_what_is_known():
    whole, same = hit(0, 20, 0.8), hit(1, 18, 0.79)
    other, better = hit(22, 10, 0.6), hit(4, 10, 0.99)
    unlikely = hit(20, 14, 0.49)
    hits = [same, unlikely, other, better, whole]
    assert choose_templates(hits, 4) == [whole, other, better, same]
    assert choose_templates(hits, 2) == [whole, other]
    assert choose_templates([unlikely], 4) == choose_templates([], 4) == []


def test_features_are_those_of_upstreams_featurizer():
    hits = [hit(2, 12, 0.75), hit(21, 10, 0.5, "2xyz_B")]
    found = template_features(hits, CHAINS)
    kinds = {name: (value.shape, value.dtype) for name, value in found.items()}
    assert kinds == {
        "template_aatype": ((2, 34, 22), np.int64),
        "template_all_atom_mask": ((2, 34, 37), np.float32),
        "template_all_atom_positions": ((2, 34, 37, 3), np.float32),
        "template_domain_names": ((2,), object),
        "template_sequence": ((2,), object),
        "template_sum_probs": ((2, 1), np.float32),
    }
    assert list(found["template_domain_names"]) == [b"1abc_A:7", b"2xyz_B:7"]
    assert found["template_sequence"][0] == b"--" + hits[0].sequence.encode() + b"-" * 20
    np.testing.assert_array_equal(found["template_sum_probs"], [[0.75], [0.5]])
    assert (found["template_aatype"].sum(-1) == 1).all()
    gaps = found["template_aatype"][..., 21]
    assert not gaps[0, 2:14].any()
    assert gaps[0].sum() == 22
    mask = found["template_all_atom_mask"]
    assert mask[0, 2:14, [0, 1, 2, 4]].all()
    assert not mask[:, :2].any()
    # GLY and X have no CB.
    assert mask.sum() == sum(4 * one.length + sum(c not in "GX" for c in one.sequence) for one in hits)
    places = found["template_all_atom_positions"]
    np.testing.assert_array_equal(places[1, 21:31][:, [0, 1, 2, 4]], hits[1].coords)
    assert not places[mask == 0].any()


def test_the_letters_are_those_of_upstream():
    from openfoldpp.upstream import activate

    activate()
    from openfold.np import residue_constants

    one = hit(0, 12, 0.9)
    found = template_features([one], CHAINS)["template_aatype"][0, :12].argmax(-1)
    assert [residue_constants.HHBLITS_AA_TO_ID[letter] for letter in one.sequence] == list(found)


def test_the_beta_carbon_is_at_its_bonds_length_and_not_mirrored():
    one = hit(0, 12, 0.9)
    # An alanine as in a crystal: N, CA, C of an L amino acid.
    alanine = np.array([[-0.525, 1.363, 0], [0, 0, 0], [1.526, 0, 0], [2.1, -1.1, 0]], np.float32)
    one.coords[:] = alanine
    found = template_features([one], CHAINS)
    places = found["template_all_atom_positions"][0, 2:12, residues.CB]
    places = places[found["template_all_atom_mask"][0, 2:12, residues.CB] > 0]
    assert len(places) >= 8
    np.testing.assert_allclose(places, np.broadcast_to([-0.53, -0.77, -1.21], places.shape), atol=0.05)
