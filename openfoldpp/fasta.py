"""Records of FASTA text: what predictions and embeddings read alike.

Windows line ends, a byte order mark, blank lines and spaces inside a sequence are accepted. A last line of
``>`` alone is ignored, as OpenFold does. What becomes of each character of a sequence is in
:mod:`openfoldpp.inference.fasta`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from openfoldpp.errors import InputError

#: What OpenFold's script looks for in its FASTA folder.
SUFFIXES = (".fasta", ".fa")

#: How a header becomes a tag: 0.0.1 takes the first word; 2.x takes what precedes the first character that
#: is not a letter, a digit or an underscore.
TAG_RULES: dict[str, Callable[[str], str]] = {
    "first_word": lambda header: header.split()[0],
    "word_characters": lambda header: re.split(r"\W", header)[0],
}

_HOW_TO_WRITE = "write a line '>NAME' and the amino acid letters on the lines below it"


class Record(NamedTuple):
    """A record as it stands in the text.

    Attributes
    ----------
    header : str
        The line after ``>``; empty where there is nothing.
    lines : list of (int, str)
        Lines of the sequence, each with its number in the file.
    line : int
        Number of the header's line.
    """

    header: str
    lines: list[tuple[int, str]]
    line: int


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a FASTA file's text.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    str

    Raises
    ------
    InputError
        It cannot be read, or is not UTF-8.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8 text; save the file as plain text, not compressed"
        ) from error


def split_records(text: str, where: str) -> list[Record]:
    """Cut text into records.

    Parameters
    ----------
    text : str
        Of a FASTA file.
    where : str
        The file, for messages.

    Returns
    -------
    list of Record
        At least one.

    Raises
    ------
    InputError
        There is no record, or something before the first.
    """
    records: list[Record] = []
    text = re.sub(r">\s*\Z", "", text)
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if line.startswith(">"):
            records.append(Record(line[1:].strip(), [], number))
        elif line.strip() and not records:
            raise InputError(
                f"{where}, line {number}: expected a line that begins with '>', found {line[:20]!r}; "
                f"{_HOW_TO_WRITE}"
            )
        elif line.strip():
            records[-1].lines.append((number, line))
    if not records:
        state = "has no record" if text.strip() else "is empty"
        raise InputError(f"{where}: the file {state}; {_HOW_TO_WRITE}")
    return records


def require_header(record: Record, where: str) -> None:
    """Raise :class:`InputError`, which names the place `where`, if a `record` has no name."""
    if not record.header:
        raise InputError(f"{where}, line {record.line}: the '>' line has no name: {_HOW_TO_WRITE}")


def distinct_tags(headers: Sequence[str], rule: str, *, max_bytes: int | None = None) -> list[str]:
    """Make a tag of each header; where the rule makes one of several, the next word or a number is added.

    Parameters
    ----------
    headers : sequence of str
        Of the records, none empty.
    rule : str
        One of :data:`TAG_RULES`.
    max_bytes : int, optional
        A number is added where a tag with the next word would be longer.

    Returns
    -------
    list of str
        ``1ABC_H`` and ``1ABC_L`` where the rule makes ``1ABC`` of both ``1ABC|H`` and ``1ABC|L``.
    """
    tags = [TAG_RULES[rule](header) for header in headers]
    places: dict[str, list[int]] = {}
    for place, tag in enumerate(tags):
        places.setdefault(tag, []).append(place)
    for tag, same in places.items():
        if len(same) == 1:
            continue
        words = [next(iter(re.findall(r"\w+", headers[place][len(tag) :])), "") for place in same]
        differ = len(set(words)) == len(same) and "" not in words
        longest = max(len(f"{tag}_{word}".encode()) for word in words)
        differ = differ and (max_bytes is None or longest <= max_bytes)
        for number, (place, word) in enumerate(zip(same, words, strict=True), start=1):
            tags[place] = f"{tag}_{word if differ else number}"
    return tags


def tag_problem(tag: str, max_bytes: int, what: str = "the name") -> str | None:
    """Say why a tag cannot be the start of a file's name.

    Parameters
    ----------
    tag : str
        The tag.
    max_bytes : int
        How long it may be.
    what : str
        What it is the name of, for the message.

    Returns
    -------
    str or None
        The problem and its cure; None where there is none.
    """
    if not tag:
        return "the name is empty: begin it with a letter or a digit"
    if tag.startswith((".", "-")) or not tag.isprintable() or re.search(r"[/\\\s]", tag):
        return (
            f"{tag!r} cannot name output files: use letters, digits, '_', '-' or '.', and begin with a "
            "letter, a digit or '_'"
        )
    if len(tag.encode()) > max_bytes:
        return (
            f"{what} is {len(tag.encode())} bytes long and {max_bytes} fit into a file name: shorten the '>' "
            "lines"
        )
    return None


def chain_sequences(lines: Sequence[tuple[int, str]], where: str, *, gaps: str = "") -> list[str]:
    """Cut a record's lines into chains at colons, and check every character.

    Parameters
    ----------
    lines : sequence of (int, str)
        Each with its number in the file.
    where : str
        File and record, for messages.
    gaps : str
        Characters that are kept beside letters.

    Returns
    -------
    list of str
        A sequence for each chain, upper case.

    Raises
    ------
    InputError
        A chain is empty, or has another character.
    """
    pieces: list[list[str]] = [[]]
    for number, line in lines:
        for column, letter in enumerate(line, start=1):
            ended = pieces[-1][-1:] == ["*"]
            if letter == ":":
                pieces.append([])
            elif (letter.isascii() and letter.isalpha()) or letter in gaps:
                if ended:
                    raise _letter_error("*", where, "before the end of the chain")
                pieces[-1].append(letter.upper())
            elif letter == "*" and not ended:
                pieces[-1].append(letter)
            elif not letter.isspace():
                raise _letter_error(letter, where, f"at line {number}, column {column}")
    sequences = ["".join(piece).removesuffix("*") for piece in pieces]
    for number, sequence in enumerate(sequences, start=1):
        if not sequence:
            chain = f"chain {number} of {len(sequences)}" if len(sequences) > 1 else "the sequence"
            raise InputError(f"{where}: {chain} is empty: write its amino acid letters, or remove it")
    return sequences


def _letter_error(letter: str, where: str, position: str) -> InputError:
    cure = "remove the gaps of the alignment" if letter in "-." else "use one-letter amino acid codes"
    return InputError(f"{where}: {letter!r} {position} is not an amino acid: {cure}")
