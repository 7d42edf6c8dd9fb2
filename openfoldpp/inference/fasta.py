"""Targets from FASTA files, named as upstream names them.

A file is one target. Its records are the target's chains, and the records' tags joined by ``-`` are the
target's tag. A record's tag is the start of its header, read as the upstream release in use reads it.

On top of upstream's parsing:

- A sequence with colons (``VH:VL``) is cut into chains, ``NAME_1`` and ``NAME_2``. The target's tag
  counts the record once: ``NAME``.
- Where upstream's rule gives two records of a file one tag, the chain is added: the next word of the
  header (where the rule makes ``1ABC`` of both, ``1ABC|H`` and ``1ABC|L`` become ``1ABC_H`` and
  ``1ABC_L``), or a number where that word does not tell them apart.
- Windows line ends, a byte order mark, blank lines and spaces inside a sequence are accepted. A last line of
  ``>`` alone is ignored.

What becomes of each character of a sequence:

=================== ==============================================================================
the 20 letters      amino acids
lower case          read as upper case: soft-masking leaves it behind (upstream stops with an error)
``B J O U X Z``     kept. Upstream predicts an unknown residue: a gap in the structure, without atoms
                    (in the row of the MSA, B counts as D, U as C and Z as E). Such a structure cannot be
                    relaxed. FlashABB refuses them. :func:`unknown_residues_note` says so
``*``               dropped at the end of a chain, where a translation has its stop codon; elsewhere an error
``:``               ends a chain
``-`` ``.``         an error: the gaps of an alignment
any other           an error: digits, punctuation, letters beyond ASCII, control characters
=================== ==============================================================================

A target has at least two residues: upstream's features of a single one end in an error of indices. Its
sequences have 100,000 letters at most, more than any machine predicts.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from openfoldpp.errors import InputError
from openfoldpp.fasta import (
    SUFFIXES,
    TAG_RULES,
    chain_sequences,
    distinct_tags,
    read_text,
    require_header,
    split_records,
    tag_problem,
)
from openfoldpp.types import Chain, Target

# What looks like FASTA to a reader and is passed over, as upstream does; she is told.
_PASSED_OVER = (".faa", ".fas", ".fna", ".seq", ".txt", ".gz", ".zip", ".bz2", ".xz")

#: Letters of no one amino acid: B is D or N, J is I or L, Z is E or Q, O pyrrolysine, U selenocysteine.
UNKNOWN_LETTERS = "BJOUXZ"
_FEWEST_RESIDUES = 2
# More would fit no machine's memory: a genome or a proteome, given by mistake.
_MOST_LETTERS = 100_000

# A file's name may be 255 bytes long; upstream adds preset, postfix and suffix to the tag.
MAX_TAG_BYTES = 180

_WHAT_TO_GIVE = "give a FASTA file or a folder of them (a sequence has letters alone, and ':' between chains)"


class FastaInputs(NamedTuple):
    """What was read, and what could not be.

    Attributes
    ----------
    targets : tuple of Target
        Shortest first, as upstream runs them; targets of one length in the order of their files.
    failures : tuple of (Path, InputError)
        Each file that holds no usable target, with the reason. They do not stop the others.
    notes : tuple of str
        What the user should know though it is no mistake, such as files of the folder that were passed over.
    """

    targets: tuple[Target, ...]
    failures: tuple[tuple[Path, InputError], ...]
    notes: tuple[str, ...] = ()


def read_targets(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, tag_rule: str = "first_word"
) -> FastaInputs:
    """Read the targets of a folder, of files, or of both.

    Parameters
    ----------
    paths : path-like or iterable of path-like
        Of a folder, its ``.fasta`` and ``.fa`` files are read, sorted by name, not those of folders below.
    tag_rule : {"first_word", "word_characters"}
        How upstream makes a tag of a header: 0.0.1 takes the first word, 2.x its leading word characters.

    Returns
    -------
    FastaInputs
        Targets and failures. Of two files with the same tag, whose outputs would overwrite each other, the
        second is a failure.

    Raises
    ------
    InputError
        A path does not exist or cannot be read, or a folder has no FASTA file.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    targets: dict[str, Target] = {}
    failures: list[tuple[Path, InputError]] = []
    files, notes = _fasta_files([Path(path) for path in paths])
    for path in files:
        try:
            target = read_target(path, tag_rule=tag_rule)
            name = target.tag.casefold()  # some file systems do not tell upper from lower case
            if name in targets:
                raise InputError(
                    f"{path}: its target has the name '{target.tag}', as has that of "
                    f"{targets[name].source}, and one would overwrite the other's outputs: "
                    "change a '>' line in one of them"
                )
        except InputError as error:
            failures.append((path, error))
        else:
            targets[name] = target
    return FastaInputs(
        tuple(sorted(targets.values(), key=lambda target: len(target.sequence))),
        tuple(failures),
        tuple(notes),
    )


def _fasta_files(paths: list[Path]) -> tuple[list[Path], list[str]]:
    """Return the files to read, and notes on those passed over."""
    missing = []
    listings: list[tuple[Path, list[Path] | None]] = []
    for path in paths:
        try:
            folder = stat.S_ISDIR(path.stat().st_mode)
            listings.append((path, sorted(path.iterdir()) if folder else None))
        except FileNotFoundError:
            missing.append(str(path))
        except (OSError, ValueError) as error:  # no rights, a name too long, a zero byte in it
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{_shortened(str(path))} cannot be read ({reason}); {_WHAT_TO_GIVE}") from error
    if missing:
        raise InputError(f"no such file or folder: {', '.join(missing)}; {_WHAT_TO_GIVE}")
    files: list[Path] = []
    notes: list[str] = []
    for path, names in listings:
        if names is None:
            files.append(path)
            continue
        found = [file for file in names if file.name.endswith(SUFFIXES) and file.is_file()]
        passed_over = [file.name for file in names if _looks_like_fasta(file)]
        note = ""
        if passed_over:
            listed = ", ".join(passed_over[:5]) + (" and more" if len(passed_over) > 5 else "")
            note = f"{listed} passed over, as OpenFold does: rename to .fasta or unpack what is a target"
        if not found:
            raise InputError(
                f"the folder {path} has no FASTA file: expected names ending in {' or '.join(SUFFIXES)}"
                + (f"; {note}" if note else "")
            )
        if note:
            notes.append(f"{path}: {note}")
        files.extend(found)
    return list(dict.fromkeys(files)), notes


def _looks_like_fasta(file: Path) -> bool:
    name = file.name.casefold()
    suffixes = (*SUFFIXES, *_PASSED_OVER)
    return name.endswith(suffixes) and not file.name.endswith(SUFFIXES) and file.is_file()


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text):,} characters)"


def unknown_residues_note(target: Target) -> str | None:
    """Say what OpenFold's model makes of letters that stand for no one amino acid.

    Parameters
    ----------
    target : Target
        Its chains are looked through.

    Returns
    -------
    str or None
        A line for the user; None where every letter is one of the 20.
    """
    found = [
        f"{letter} at residue {number} of {chain.tag}"
        for chain in target.chains
        for number, letter in enumerate(chain.sequence, start=1)
        if letter in UNKNOWN_LETTERS
    ]
    if not found:
        return None
    listed = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    return (
        f"target {target.tag!r} has letters of no one amino acid ({listed}): OpenFold predicts them as "
        "unknown residues without atoms, and cannot relax the structure. Write the nearest amino acid (U: C, "
        "O: K, B: D or N, Z: E or Q, J: L or I), if that is what you want"
    )


def read_target(path: str | os.PathLike[str], *, tag_rule: str = "first_word") -> Target:
    """Read one FASTA file.

    Parameters
    ----------
    path : path-like
        The file, of any suffix.
    tag_rule : {"first_word", "word_characters"}
        As for :func:`read_targets`.

    Returns
    -------
    Target
        All records of the file.

    Raises
    ------
    InputError
        It cannot be read, has no record, an empty sequence, a character that is no amino acid, or a name
        that cannot be part of a file's name. The message has file, record, line and column.
    """
    path = Path(path)
    records = split_records(read_text(path), str(path))
    for record in records:
        require_header(record, str(path))
    _check_length((line for record in records for _, line in record.lines), str(path))
    headers = [record.header for record in records]
    for header in headers:
        _checked_tag(TAG_RULES[tag_rule](header), f"{path}, record '{header[:40]}'")
    tags = distinct_tags(headers, tag_rule)
    chains = [
        chain
        for tag, record in zip(tags, records, strict=True)
        for chain in _chains(tag, record.lines, f"{path}, record '{tag}'")
    ]
    repeated = [tag for tag, count in Counter(chain.tag for chain in chains).items() if count > 1]
    if repeated:
        raise InputError(f"{path}: two chains are named '{repeated[0]}': change one of the '>' lines")
    return _checked_target(Target(_checked_tag("-".join(tags), str(path)), tuple(chains), path), str(path))


def parse_sequence_argument(text: str, *, tag: str = "prediction") -> Target:
    """Make a target of a sequence given on the command line, ``"VH:VL"`` for two chains.

    Parameters
    ----------
    text : str
        Amino acid letters, chains separated by colons; spaces and lower case are accepted.
    tag : str
        The target's tag. One chain has the same; several are ``TAG_1``, ``TAG_2``.

    Returns
    -------
    Target
        Without a source.

    Raises
    ------
    InputError
        A chain is empty or has a character that is no amino acid, or the tag cannot name a file.
    """
    _check_length([text], "the sequence")
    target = Target(_checked_tag(tag, "the name"), tuple(_chains(tag, [(1, text)], "the sequence")))
    return _checked_target(target, "the sequence")


def _check_length(lines: Iterable[str], where: str) -> None:
    """Refuse a genome before each of its letters is looked at."""
    count = sum(map(len, lines))
    if count > _MOST_LETTERS:
        raise InputError(
            f"{where}: its sequences have {count:,} letters, and no machine predicts more than "
            f"{_MOST_LETTERS:,} at once: the records of a file are one target's chains; write one target in "
            "each file"
        )


def _checked_target(target: Target, where: str) -> Target:
    """Return the target if it has residues enough."""
    if len(target.sequence) < _FEWEST_RESIDUES:
        raise InputError(
            f"{where}: the target has one residue, {target.sequence!r}, and OpenFold predicts two or more: "
            "write the whole sequence"
        )
    return target


def _checked_tag(tag: str, where: str) -> str:
    """Return the tag if it can be the start of a file's name."""
    problem = tag_problem(tag, MAX_TAG_BYTES, "the target's name, its records' names joined by '-',")
    if problem is not None:
        raise InputError(f"{where}: {problem}")
    return tag


def _chains(tag: str, lines: list[tuple[int, str]], where: str) -> list[Chain]:
    """Cut a record's lines into chains at colons, and name them."""
    sequences = chain_sequences(lines, where)
    if len(sequences) == 1:
        return [Chain(tag, sequences[0])]
    return [Chain(f"{tag}_{number}", sequence) for number, sequence in enumerate(sequences, start=1)]
