"""Inputs of the benchmarks."""


def test_an_alignment_is_of_related_rows_and_the_same_each_time(load):
    inputs = load("inputs")
    (sequence,) = inputs.sequences(1, 200)
    rows = inputs.alignment(sequence, 128)
    assert rows == inputs.alignment(sequence, 128) != inputs.alignment(sequence, 128, seed=1)
    assert rows[0] == sequence
    assert len(set(rows)) == 128
    assert {len(row) for row in rows} == {200}
    same = [sum(a == b for a, b in zip(sequence, row, strict=True)) / 200 for row in rows[1:]]
    assert 0.6 < min(same) < max(same) < 0.95
    assert any("-" in row for row in rows)


def test_sequences_have_the_length_asked_for_and_differ(load):
    found = load("inputs").sequences(5, 700)
    assert {len(sequence) for sequence in found} == {700}
    assert len(set(found)) == 5
