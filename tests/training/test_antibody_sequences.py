"""Generated antibodies: what they must have, where they are mutated, and that a seed repeats them."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openfoldpp.errors import InputError, MissingDependencyError
from openfoldpp.teachers.antibody import classify
from openfoldpp.training import antibody_sequences
from openfoldpp.training.antibody_sequences import CHAIN_TYPES, generate

pytest.importorskip("olga")

# OLGA 1.3.0 leaves the files of its models open.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(0, 60), st.booleans())
def test_generated_domains_keep_what_every_antibody_has(seed, count, most, whole):
    found = generate(count, seed, chain_types="HKLhkl", max_substitutions=most, whole=whole)
    assert len(found) == count
    for domain in found:
        (cdr1, _), (cdr2, _), (cdr3, after) = domain.cdrs
        sequence = domain.sequence
        assert set(sequence) <= set("ACDEFGHIKLMNPQRSTVWY")
        assert 80 <= len(sequence) <= 160
        assert 0 <= domain.substitutions <= most
        kept = sequence[cdr1 - 4], sequence[cdr2 - 15], sequence[cdr3 - 1]
        assert kept == ("C", "W", "C")
        assert sequence[after] in "FVW"


def test_a_seed_repeats_its_domains_and_a_smaller_count_gives_the_first():
    assert generate(30, 5) == generate(30, 5)
    assert generate(10, 5) == generate(30, 5)[:10]
    assert generate(30, (5, 1)) != generate(30, (5, 2))


def test_some_lack_their_ends_and_are_the_same_else():
    whole, found = generate(300, 4), generate(300, 4, whole=False)
    # What is drawn for the ends of one moves the draws of those after it.
    assert whole[0].sequence.find(found[0].sequence) >= 0
    lengths = [len(one.sequence) - one.cdrs[2][1] for one in found if one.chain_type == "H"]
    assert min(lengths) == 8
    assert max(lengths) == 11
    firsts = [one.cdrs[0][0] for one in found if one.chain_type == "H"]
    assert min(firsts) == 25 - 8
    assert 0.65 < firsts.count(25) / len(firsts) < 0.85


def test_numpys_global_generator_is_left_as_it_was():
    np.random.seed(7)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    generate(5, 0)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_half_of_the_chains_are_heavy_and_every_number_of_substitutions_occurs():
    found = generate(600, 1)
    kinds = [domain.chain_type for domain in found]
    for kind in "HKL":
        share = CHAIN_TYPES[kind][1]
        # Three standard deviations of 600 draws.
        assert abs(kinds.count(kind) / 600 - share) < 3 * (share * (1 - share) / 600) ** 0.5
    assert {domain.substitutions for domain in found} == set(range(26))
    assert {domain.chain_type for domain in generate(20, 1, chain_types="KL")} == {"K", "L"}


def test_mutations_fall_on_cdrs_three_times_as_often():
    sequence, cdrs = antibody_sequences._recombine("H")
    rng = np.random.default_rng(0)
    inside = np.zeros(len(sequence), bool)
    for start, end in cdrs:
        inside[start:end] = True
    hits = np.zeros(len(sequence))
    for _ in range(2000):
        mutated = antibody_sequences._mutate(sequence, cdrs, 4, rng)
        different = np.array([a != b for a, b in zip(sequence, mutated, strict=True)])
        assert different.sum() == 4
        hits += different
    # The four that are kept are never hit.
    assert (hits == 0).sum() == 4
    assert hits[inside].mean() / hits[~inside & (hits > 0)].mean() == pytest.approx(3, rel=0.1)


def test_exchanges_follow_blosum62():
    chances = antibody_sequences._exchanges()
    letters = antibody_sequences._AMINO_ACIDS
    assert chances.sum(1) == pytest.approx(1)
    assert not chances.diagonal().any()
    isoleucine = dict(zip(letters, chances[letters.index("I")], strict=True))
    assert isoleucine["V"] > isoleucine["L"] > isoleucine["A"] > isoleucine["G"]


def test_cdrs_are_those_that_anarcii_numbers():
    pytest.importorskip("anarcii")
    junctions = {
        "H": "CARDYYYGMDVWGQGTLVTVSS",
        "K": "CQQYNSYPLTFGGGTKVEIK",
        "L": "CQSYDSSLSVFGGGTKLTVL",
    }
    genes = [
        (kind, *framework)
        for kind in CHAIN_TYPES
        for framework in set(antibody_sequences._model(kind).frameworks[::4]) - {None}
    ]
    assert len(genes) > 40
    numbered = classify([before + junctions[kind.upper()] for kind, before, _, _ in genes])
    assert [(domain.chain_type, *domain.cdrs[:2]) for domain in numbered] == [
        (kind.upper(), cdr1, cdr2) for kind, _, cdr1, cdr2 in genes
    ]
    found = generate(10, 2, max_substitutions=0)
    assert [domain.cdrs for domain in classify([one.sequence for one in found])] == [
        one.cdrs for one in found
    ]


@pytest.mark.parametrize("wrong", [{"chain_types": ""}, {"chain_types": "HA"}, {"max_substitutions": 61}])
def test_what_cannot_be_generated_is_refused(wrong):
    with pytest.raises(InputError):
        generate(1, 0, **wrong)


def test_without_olga_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "olga", None)
    antibody_sequences._model.cache_clear()
    with pytest.raises(MissingDependencyError, match="pip install"):
        generate(1, 0)
