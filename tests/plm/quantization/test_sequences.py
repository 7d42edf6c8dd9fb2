import pytest

from openfoldpp.errors import InputError
from openfoldpp.plm.alphabet import ANTIBERTY, ESM
from openfoldpp.plm.quantization.sequences import sequence_set


@pytest.mark.parametrize(("alphabet", "name"), [(ANTIBERTY, "antibodies"), (ESM, "proteins")])
def test_the_shipped_sets_have_64_sequences_and_others_to_measure_on(alphabet, name):
    found = sequence_set(alphabet)
    assert found.name == f"calibration_{name}.fasta"
    assert (len(found.calibration), len(found.held_out)) == (64, 16)
    assert not set(found.calibration) & set(found.held_out)


def test_the_users_sequences_are_not_measured_on(tmp_path):
    shipped = sequence_set(ANTIBERTY)
    (tmp_path / "mine.fasta").write_text(f">a\n{shipped.held_out[0]}\n>b\nEVQLVESGG\n")
    found = sequence_set(ANTIBERTY, tmp_path / "mine.fasta")
    assert found == ((shipped.held_out[0], "EVQLVESGG"), shipped.held_out[1:], "mine.fasta")


def test_all_sequences_to_measure_on_cannot_be_calibrated_with(tmp_path):
    text = "".join(f">{i}\n{sequence}\n" for i, sequence in enumerate(sequence_set(ESM).held_out))
    (tmp_path / "mine.fasta").write_text(text)
    with pytest.raises(InputError, match="leave some of them out"):
        sequence_set(ESM, tmp_path / "mine.fasta")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "mine.fasta").write_text(">a\nEVQL?ESGG\n")
    with pytest.raises(InputError, match=r"--calibration .*mine\.fasta"):
        sequence_set(ESM, tmp_path / "mine.fasta")
