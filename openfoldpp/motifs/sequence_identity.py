"""Which sequences are near to one of many others: what a model may be tested on, and what not.

Two sequences are as identical as the share of the shorter one's residues that stand opposite an equal one
in the best global alignment (BLOSUM62, gaps 10 and 1, ends free).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# A residue that differs spoils three words of three letters, a gap two more than it has letters.
_WORD = 3
# Alignments of sequences that are alike have fewer gaps than this; it decides what is aligned at all.
_GAPS = 4
_CHUNK = 2048


def near(queries: Sequence[str], references: Sequence[str], identity: float = 0.9) -> np.ndarray:
    """Tell which sequences have a near one among others.

    Parameters
    ----------
    queries, references : sequence of str
        The sequences asked about, and the others.
    identity : float
        From which share of identical residues on two sequences are near.

    Returns
    -------
    numpy.ndarray of shape (len(queries),), bool

    Notes
    -----
    Only pairs that share enough words of three letters are aligned: a sequence with `d` residues that differ
    in at most four gaps keeps all of its words but 3 d and 8 more. So what is told is exact.
    """
    found = np.zeros(len(queries), bool)
    words = _words(queries)
    sizes, lengths = words.sum(1), np.array([len(query) for query in queries])
    for start in range(0, len(references), _CHUNK):
        chunk = references[start : start + _CHUNK]
        # A query that has a near one needs no other.
        (left,) = np.nonzero(~found)
        shared = words[left] @ _words(chunk).T
        others = np.array([len(reference) for reference in chunk])
        shorter = np.minimum(lengths[left, None], others)
        # Residues of the query that are opposite an unequal one, and those opposite none.
        lost = _WORD * (1 - identity) * shorter + np.maximum(lengths[left, None] - others, 0) + 2 * _GAPS
        for row, reference in zip(*np.nonzero(shared >= sizes[left, None] - lost), strict=True):
            if not found[left[row]]:
                found[left[row]] = identical(queries[left[row]], chunk[reference]) >= identity
    return found


def identical(a: str, b: str) -> float:
    """Return the share of residues of the shorter of `a` and `b` that are opposite an equal one, 0 to 1."""
    from biotite.sequence import ProteinSequence
    from biotite.sequence.align import SubstitutionMatrix, align_optimal, get_sequence_identity

    sequences = ProteinSequence(a), ProteinSequence(b)
    matrix = SubstitutionMatrix.std_protein_matrix()
    (alignment,) = align_optimal(*sequences, matrix, (-10, -1), terminal_penalty=False, max_number=1)
    return float(get_sequence_identity(alignment, mode="shortest"))


def _words(sequences: Sequence[str]) -> np.ndarray:
    """Return which words of three letters each sequence has, ``[N, 26 ** 3]``, float32 for a fast product."""
    found = np.zeros((len(sequences), 26**_WORD), np.float32)
    for row, sequence in zip(found, sequences, strict=True):
        letters = np.frombuffer(sequence.encode(), np.uint8).astype(int) - ord("A")
        row[letters[:-2] * 676 + letters[1:-1] * 26 + letters[2:]] = 1
    return found
