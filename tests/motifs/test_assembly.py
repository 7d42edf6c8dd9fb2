import dataclasses

import numpy as np
import pytest

from openfoldpp.errors import InputError
from openfoldpp.geometry.superposition import ca_rmsd
from openfoldpp.motifs.assembly import UNRELATED, CoarseModel, assemble
from openfoldpp.motifs.library import Library


@pytest.fixture
def query(chains, coarse):
    """A chain, and pieces of it, each turned its own way, that overlap by ten residues."""
    sequence = (chains.sequence * 3)[:80]
    atoms = chains.backbone(80, seed=7)
    hits = [
        coarse.hit(coarse.turned(atoms[i : i + 20], i), sequence[i : i + 20], i, f"s{i}_A", 0.9)
        for i in range(0, 61, 10)
    ]
    return sequence, atoms[:, 1], hits


def same(a: CoarseModel, b: CoarseModel):
    return all(
        np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a)
    )


def test_pieces_of_one_structure_make_it_again(query):
    sequence, ca, hits = query
    made = assemble(sequence, hits)
    assert ca_rmsd(made.ca, ca) < 0.05
    assert made.ca.dtype == made.confidence.dtype == np.float32
    assert made.covered.all()
    assert not made.bodies.any()
    assert not made.related.any()
    np.testing.assert_allclose(made.confidence, UNRELATED, rtol=1e-5)
    assert made.sources[0] == "s0_A"
    assert same(made, assemble(sequence, hits))


def test_how_a_hit_is_turned_does_not_matter(query, coarse):
    sequence, _, hits = query
    noise = np.random.default_rng(0)
    hits = [
        dataclasses.replace(hit, coords=hit.coords + noise.normal(size=hit.coords.shape) * 0.2)
        for hit in hits
    ]
    again = [
        dataclasses.replace(hit, coords=coarse.turned(hit.coords, 50 + i).astype(np.float32))
        for i, hit in enumerate(hits)
    ]
    one, other = assemble(sequence, hits), assemble(sequence, again)
    assert ca_rmsd(one.ca, other.ca) < 1e-3
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-6)


def test_of_two_that_disagree_the_one_with_the_score_wins(query, coarse):
    sequence, ca, hits = query
    wrong = hits[2].coords + np.random.default_rng(1).normal(size=(20, 1, 3)) * 3
    unlike = dataclasses.replace(hits[2], coords=wrong, score=0.02, source="wrong_A")
    made = assemble(sequence, [*hits, unlike])
    worse = assemble(sequence, [*hits, dataclasses.replace(unlike, score=0.9)])
    assert ca_rmsd(made.ca, ca) < 0.35 < ca_rmsd(worse.ca, ca)


def test_what_no_hit_covers_is_said_and_lies_between(query):
    sequence, ca, hits = query
    made = assemble(sequence, [hits[1], hits[2], hits[5]])
    assert made.covered.tolist() == [10 <= i < 40 or 50 <= i < 70 for i in range(80)]
    assert (made.confidence[~made.covered] == 0).all()
    assert (made.confidence[made.covered] > 0).all()
    assert made.bodies[10] == 0
    assert made.bodies[50] == 1
    assert set(made.bodies[~made.covered]) == {-1}
    assert made.sources[0] == ""
    assert np.isfinite(made.ca).all()
    for part in (slice(10, 40), slice(50, 70)):
        assert ca_rmsd(made.ca[part], ca[part]) < 0.05
    # Two parts that nothing joins do not lie in each other; a line goes from one to the other.
    between = np.linalg.norm(made.ca[10:40, None] - made.ca[50:70], axis=-1)
    assert between.min() > 3.8
    steps = np.diff(made.ca[39:51], axis=0)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(np.diff(made.ca[:11], axis=0), axis=1), 3.8, rtol=1e-4)


def test_without_any_hit_nothing_is_covered():
    made = assemble("ACDEFGHIKLMN:ACDEFGHIKL", [])
    assert not made.covered.any()
    assert np.isfinite(made.ca).all()
    assert len(np.unique(made.ca, axis=0)) == 22
    assert not made.confidence.any()


def test_chains_lie_as_in_the_structures_that_have_both(tmp_path, coarse):
    sequence, ca, hits, folder = coarse.fv(tmp_path / "lib", noise=0.0)
    with Library.open(folder) as library:
        made = assemble(sequence, hits, library)
        assert ca_rmsd(made.ca, ca) < 0.05
        # No hit of the second chain: the structures have it too.
        half = assemble(sequence, [hit for hit in hits if hit.offset < 60], library)
        assert ca_rmsd(half.ca, ca) < 0.05
        # Hits of either chain that no structure has both of.
        apart = assemble(sequence, [hit for hit in hits if (hit.source[1] == "0") == (hit.offset < 60)])
    assert apart.bodies[0] != apart.bodies[60]
    assert made.bodies[0] == made.bodies[-1] == 0
    # Hits end before the chains do; alignments do not.
    assert made.covered.all()
    assert made.related.all()
    assert made.confidence.max() > UNRELATED
    assert not assemble(sequence, hits).covered.all()


def test_a_chain_that_the_search_left_out_is_not_used_either(tmp_path, coarse):
    sequence, _, hits, folder = coarse.fv(tmp_path / "lib", noise=0.0)
    with Library.open(folder) as library:
        made = assemble(sequence, [hit for hit in hits if hit.offset < 60], library, max_identity=0.9)
    assert made.covered[:60].all()
    assert not made.covered[60:].any()


def test_the_mean_of_structures_is_better_than_any(tmp_path, coarse):
    sequence, ca, hits, folder = coarse.fv(tmp_path / "lib", structures=8, noise=1.0)
    with Library.open(folder) as library:
        together = ca_rmsd(assemble(sequence, hits, library).ca, ca)
        alone = [
            ca_rmsd(assemble(sequence, [hit for hit in hits if hit.source[1] == number], library).ca, ca)
            for number in "01234567"
        ]
    assert together < min(alone)


@pytest.mark.parametrize("offset", [-1, 70])
def test_hits_of_another_sequence_are_refused(query, offset):
    sequence, _, hits = query
    with pytest.raises(InputError, match="the hits are of another sequence"):
        assemble(sequence, [dataclasses.replace(hits[0], offset=offset)])
