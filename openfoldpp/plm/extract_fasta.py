"""Sequences of FASTA files by the thousand: each record an input of its own.

:mod:`openfoldpp.inference.fasta` reads a file as one target whose records are chains. Here a record is what
is embedded, a record with colons (``VH:VL``) one input for each chain, and a bad record does not spoil the
others. Letters are read as there: lower case counts as upper case, spaces are ignored, ``*`` ends a chain.
``-`` and ``.`` are tokens of some language models and are kept; a note says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from openfoldpp import fasta
from openfoldpp.errors import InputError
from openfoldpp.plm.extract_folder import LISTING, MANIFEST

#: A file name has 255 bytes at most; the suffix takes some.
MAX_TAG_BYTES = 240
_GAPS = "-."


class Record(NamedTuple):
    """A sequence and the name of its embedding.

    Attributes
    ----------
    tag : str
        Safe as the name of a file.
    sequence : str
        Capital letters, ``-`` and ``.``.
    """

    tag: str
    sequence: str


class Records(NamedTuple):
    """What was read, and what could not be.

    Attributes
    ----------
    records : tuple of Record
        In the order of the files; every tag once.
    failures : tuple of str
        A message for each file or record that cannot be embedded.
    notes : tuple of str
        What the user should know though it is no mistake.
    """

    records: tuple[Record, ...]
    failures: tuple[str, ...]
    notes: tuple[str, ...]


def read_records(paths: Iterable[Path], *, tag_rule: str = "first_word") -> Records:
    """Read FASTA files.

    Parameters
    ----------
    paths : iterable of pathlib.Path
        Files of any name; of a folder, its ``.fasta`` and ``.fa`` files, sorted by name.
    tag_rule : {"first_word", "word_characters"}
        How a header becomes a tag, see :data:`openfoldpp.fasta.TAG_RULES`. Records that get one tag are told
        apart by the next word of their headers, or by a number.

    Returns
    -------
    Records

    Raises
    ------
    InputError
        A path does not exist, or a folder has no FASTA file.
    """
    found: list[tuple[str, fasta.Record]] = []
    failures: list[str] = []
    for file in _files(paths):
        try:
            inside = fasta.split_records(fasta.read_text(file), str(file))
        except InputError as error:
            failures.append(str(error))
            continue
        for record in inside:
            where = f"{file}, line {record.line}, record '{record.header[:40]}'"
            tag = fasta.TAG_RULES[tag_rule](record.header) if record.header else ""
            problem = fasta.tag_problem(tag, MAX_TAG_BYTES)
            if problem is None:
                found.append((where, record))
            else:
                failures.append(f"{where}: {problem}")
    headers = [record.header for _, record in found]
    before = [fasta.TAG_RULES[tag_rule](header) for header in headers]
    tags = fasta.distinct_tags(headers, tag_rule, max_bytes=MAX_TAG_BYTES)
    renamed = [f"{first} is now {now}" for first, now in zip(before, tags, strict=True) if first != now]
    records, gaps = [], 0
    for tag, (where, record) in zip(tags, found, strict=True):
        try:
            sequences = fasta.chain_sequences(record.lines, where, gaps=_GAPS)
        except InputError as error:
            failures.append(str(error))
            continue
        gaps += any(letter in sequence for sequence in sequences for letter in _GAPS)
        if len(sequences) == 1:
            records.append(Record(tag, sequences[0]))
        else:
            records += [Record(f"{tag}_{number}", chain) for number, chain in enumerate(sequences, start=1)]
    records = _unique(records, failures)
    notes = []
    if renamed:
        notes.append(
            f"{len(renamed)} records share a name with another: the next word of the '>' line, or a number, "
            f"is added ({renamed[0]})"
        )
    if gaps:
        notes.append(
            f"{gaps} {'record has' if gaps == 1 else 'records have'} '-' or '.': these are embedded as the "
            "language model's own tokens. For residues alone, remove the gaps of the alignment"
        )
    return Records(tuple(records), tuple(failures), tuple(notes))


def _files(paths: Iterable[Path]) -> list[Path]:
    found = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                file for file in path.iterdir() if file.suffix in fasta.SUFFIXES and file.is_file()
            )
            # Of an output folder, its own account of what was embedded is no input.
            inside = [file for file in inside if file.name != LISTING or not (path / MANIFEST).exists()]
            if not inside:
                raise InputError(
                    f"the folder {path} has no FASTA file: expected names ending in .fasta or .fa"
                )
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"no such file or folder: {path}; give FASTA files, or a folder of them")
    return list(dict.fromkeys(found))


def _unique(records: list[Record], failures: list[str]) -> list[Record]:
    """Leave out records whose tag an earlier one has after all: ``A_1`` beside two of ``A``."""
    found: dict[str, Record] = {}
    for record in records:
        if record.tag in found:
            failures.append(f"two records are named '{record.tag}': change one of the '>' lines")
        else:
            found[record.tag] = record
    return list(found.values())
