"""The quick bound finds every near sequence that aligning all pairs finds."""

import numpy as np
import pytest

from openfoldpp.motifs.sequence_identity import identical, near

LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def relatives(rng, sequence, count):
    """Return sequences with up to a fifth of the residues replaced, and up to three short gaps."""
    found = []
    for _ in range(count):
        letters = np.array(list(sequence))
        places = rng.choice(len(letters), rng.integers(len(letters) // 5), replace=False)
        letters[places] = rng.choice(LETTERS, len(places))
        for _ in range(rng.integers(4)):
            start = rng.integers(len(letters))
            letters = np.delete(letters, slice(start, start + rng.integers(1, 4)))
        found.append("".join(letters))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_near_is_what_aligning_every_pair_says(seed):
    rng = np.random.default_rng(seed)
    founders = ["".join(rng.choice(LETTERS, rng.integers(95, 125))) for _ in range(3)]
    queries = [one for founder in founders for one in relatives(rng, founder, 8)]
    references = [one for founder in founders[:2] for one in relatives(rng, founder, 6)]
    best = np.array([max(identical(query, other) for other in references) for query in queries])
    assert 0 < (best >= 0.9).mean() < 1
    assert near(queries, references).tolist() == (best >= 0.9).tolist()
    assert near(queries, references, 0.8).tolist() == (best >= 0.8).tolist()


def test_identity_counts_residues_of_the_shorter_sequence():
    assert identical("ACDEFGHIKL", "ACDEFGHIKL") == 1
    assert identical("ACDEFGHIKL", "ACDEFGHIKV") == 0.9
    assert identical("DEFGHIKLMN", "ACDEFGHIKLMNPQ") == 1
