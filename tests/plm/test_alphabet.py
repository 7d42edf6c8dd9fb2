import pytest

from openfoldpp.errors import InputError
from openfoldpp.plm.alphabet import ANTIBERTY, ESM

CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ-."


@pytest.mark.parametrize("letter", CAPITALS)
def test_esm_letters_have_the_numbers_of_fair_esm(letter):
    import esm

    theirs = esm.Alphabet.from_architecture("ESM-1b")
    assert ESM.tokens == tuple(theirs.all_toks)
    assert ESM.encode(letter) == [theirs.cls_idx, theirs.get_idx(letter), theirs.eos_idx]


def test_antiberty_has_the_20_amino_acids_and_no_other():
    unknown = ANTIBERTY.tokens.index("[UNK]")
    known = [letter for letter in CAPITALS if ANTIBERTY.encode(letter)[1] != unknown]
    assert known == list("ACDEFGHIKLMNPQRSTVWY")
    assert [ANTIBERTY.tokens[i] for i in ANTIBERTY.encode("WX")] == ["[CLS]", "W", "[UNK]", "[SEP]"]


@pytest.mark.parametrize(
    ("sequence", "message"),
    [("", "without residues"), ("Acd", "'c' at 2"), ("AC*", r"'\*'"), ("A C", "' '"), ("AÄ", "Ä")],
)
@pytest.mark.parametrize("alphabet", [ESM, ANTIBERTY], ids=["esm", "antiberty"])
def test_other_characters_are_refused(alphabet, sequence, message):
    with pytest.raises(InputError, match=message):
        alphabet.encode(sequence)
