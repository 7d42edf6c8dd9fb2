"""Letters of a sequence as the token numbers of a language model."""

from __future__ import annotations

import string
from dataclasses import dataclass

from openfoldpp.errors import InputError

_READABLE = frozenset(string.ascii_uppercase + "-.")


@dataclass(frozen=True)
class Alphabet:
    """The vocabulary of a language model.

    Attributes
    ----------
    tokens : tuple of str
        Every token, by its number.
    begin, end, unknown : str
        The tokens before a sequence, after it, and for a letter that is not in the vocabulary.
    """

    tokens: tuple[str, ...]
    begin: str
    end: str
    unknown: str

    def encode(self, sequence: str) -> list[int]:
        """Return the token numbers of a sequence, its begin and end among them.

        Parameters
        ----------
        sequence : str
            Capital letters, ``-`` and ``.``; those that the vocabulary lacks become its unknown token.

        Returns
        -------
        list of int
            ``len(sequence) + 2`` numbers.

        Raises
        ------
        InputError
            There is another character, or none at all.
        """
        if not sequence:
            raise InputError("a sequence without residues has no embedding; leave it out")
        other = next(((letter, i) for i, letter in enumerate(sequence, 1) if letter not in _READABLE), None)
        if other:
            raise InputError(
                f"a sequence has {other[0]!r} at {other[1]}, and language models read capital letters, "
                "'-' and '.'; correct it"
            )
        number = {token: index for index, token in enumerate(self.tokens)}
        unknown = number[self.unknown]
        letters = [number.get(letter, unknown) for letter in sequence]
        return [number[self.begin], *letters, number[self.end]]


#: ESM-1b's and ESM-2's: X, B, U, Z, O, '.' and '-' have tokens of their own; J is unknown.
ESM = Alphabet(
    ("<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"),
    begin="<cls>",
    end="<eos>",
    unknown="<unk>",
)
#: AntiBERTy's: the 20 amino acids alone.
ANTIBERTY = Alphabet(
    ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACDEFGHIKLMNPQRSTVWY"),
    begin="[CLS]",
    end="[SEP]",
    unknown="[UNK]",
)
