"""Alignments and embeddings that the user brings, checked before a run.

Upstream reads whatever lies in a chain's folder. What it cannot read ends in a traceback that names no file;
and an alignment of another sequence with the same length is used without a word.
"""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Iterator
from pathlib import Path

from openfoldpp.errors import InputError
from openfoldpp.types import Chain, Target

# Names as upstream's searches give them. What ends in .a3m or .sto is an alignment, but for the hits in the
# sequences of the PDB, which are templates.
_TEMPLATE_HITS = "hmm_output.sto"
_PAIRING = "uniprot_hits.sto"
_SUFFIXES = (".a3m", ".sto", ".hhr", ".pt")

_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ-")
_LOWER_CASE = str.maketrans("", "", "abcdefghijklmnopqrstuvwxyz")
# Programs that search databases write some of these for the others.
_AMBIGUOUS = frozenset("BJOUXZ")

_ESM1B_LAYER, _ESM1B_CHANNELS = 33, 1280
_MAKE_EMBEDDINGS = (
    "make it with OpenFold's scripts/precompute_embeddings.py (python scripts/precompute_embeddings.py "
    "FASTA_DIR EMBEDDINGS_DIR), which takes one sequence in one line from each file and names its folder by "
    "the file"
)


def check_alignments(folder: str | Path, target: Target, preset: str) -> tuple[str, ...]:
    """Check what upstream will read for each chain of a target.

    Parameters
    ----------
    folder : path-like
        What ``--use_precomputed_alignments`` names: one folder for each chain, by the chain's tag.
    target : Target
        The chains.
    preset : str
        The configuration preset. Those of SoloSeq (``seq...``) need an embedding; multimer presets need
        ``uniprot_hits.sto`` where the chains differ.

    Returns
    -------
    tuple of str
        What the user should know though it is no mistake, such as a chain without any alignment.

    Raises
    ------
    InputError
        A folder or file is missing, a file is damaged or malformed (with its line), or is about another
        sequence.
    """
    folder = Path(folder)
    solo = preset.startswith("seq")
    pairs = "multimer" in preset and len({chain.sequence for chain in target.chains}) > 1
    notes = []
    for chain in target.chains:
        own = folder / chain.tag
        if not own.is_dir():
            raise _no_folder(folder, chain)
        files = sorted(file for file in own.iterdir() if file.is_file() and not file.name.startswith("."))
        read = [file for file in files if file.suffix in _SUFFIXES]
        if solo:
            _check_embeddings(own, [file for file in read if file.suffix == ".pt"], chain)
        if pairs and own / _PAIRING not in read:
            raise InputError(
                f"{own} has no {_PAIRING}: a multimer preset pairs different chains by the species in it. "
                "Search UniProt for this chain (--uniprot_database_path), or put the file there"
            )
        if files and not read:
            raise InputError(
                f"{own} has nothing that OpenFold reads, but {files[0].name}: expected files ending in .a3m, "
                ".sto or .hhr; unpack what is packed, or leave the folder empty to predict from the sequence "
                "alone"
            )
        alignments = [f for f in read if f.suffix in (".a3m", ".sto") and f.name != _TEMPLATE_HITS]
        for file in alignments:
            _check_alignment(file, chain)
        for file in read:
            if file.suffix == ".hhr":
                _check_hits(file)
        if not (alignments or solo):
            notes.append(f"{own} has no alignment: chain {chain.tag} is predicted from its sequence alone")
    return tuple(notes)


def _no_folder(folder: Path, chain: Chain) -> InputError:
    there = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    near = difflib.get_close_matches(chain.tag, there, n=1)
    if near:
        found = f"did you mean {near[0]}?"
    elif there:
        found = f"it has {', '.join(there[:5])}{' and more' if len(there) > 5 else ''}."
    else:
        found = "it has none."
    return InputError(
        f"the alignments folder {folder} has no folder for {chain.tag}: {found} Expected one for each chain, "
        "named as the chain's tag; an empty one stands for a chain without alignments"
    )


def _check_alignment(file: Path, chain: Chain) -> None:
    """Check one multiple sequence alignment: it can be read, and its first sequence is the chain's."""
    rows = list((_a3m_rows if file.suffix == ".a3m" else _stockholm_rows)(_read(file), file))
    if not rows:
        raise InputError(f"{file} has no sequence: make it again, or remove it")
    first, columns = rows[0][1], len(rows[0][1])
    if not _same_sequence(first.replace("-", ""), chain.sequence):
        raise InputError(
            f"{file}: its first sequence is not that of chain {chain.tag} ({_difference(first, chain)}): it "
            "was made for another sequence; make it again for this one, or remove it"
        )
    if file.suffix == ".a3m" and "-" in first:
        raise InputError(f"{file}, line {rows[0][0]}: the first sequence, that of the chain, has gaps")
    for line, row in rows:
        if len(row) != columns:
            raise InputError(
                f"{file}, line {line}: the sequence has {len(row)} aligned letters, the first has {columns}: "
                "the file is cut short or damaged; make it again"
            )
        strange = set(row) - _LETTERS
        if strange:
            raise InputError(
                f"{file}, line {line}: {min(strange)!r} is neither an amino acid in upper case nor the gap "
                "'-': write gaps as '-', and make the file again"
            )


def _a3m_rows(text: str, file: Path) -> Iterator[tuple[int, str]]:
    """Yield the line at which each sequence begins, and the sequence without its insertions."""
    header, parts = 0, []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if line.startswith(">"):
            if header:
                yield header, "".join(parts).translate(_LOWER_CASE)
            header, parts = number, []
        elif line and not line.startswith("#"):
            if not header:
                raise InputError(
                    f"{file}, line {number}: expected a line that begins with '>', found {line[:20]!r}: this "
                    "is no alignment in A3M format"
                )
            parts.append(line)
    if header:
        yield header, "".join(parts).translate(_LOWER_CASE)


def _stockholm_rows(text: str, file: Path) -> Iterator[tuple[int, str]]:
    """Yield the line at which each sequence begins, and the sequence in the columns of the first one."""
    lines: dict[str, int] = {}
    parts: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith(("#", "//")):
            continue
        if len(words) != 2:
            raise InputError(
                f"{file}, line {number}: expected a name and a piece of its sequence, found "
                f"{line.strip()[:40]!r}: this is no alignment in Stockholm format"
            )
        lines.setdefault(words[0], number)
        parts.setdefault(words[0], []).append(words[1])
    sequences = {name: "".join(pieces) for name, pieces in parts.items()}
    first = next(iter(sequences.values()), "")
    for name, sequence in sequences.items():
        if len(sequence) != len(first):
            raise InputError(
                f"{file}, line {lines[name]}: {name} has {len(sequence)} columns, the first sequence has "
                f"{len(first)}: the file is cut short or damaged; make it again"
            )
        yield lines[name], "".join(a for a, b in zip(sequence, first, strict=True) if b != "-")


def _check_hits(file: Path) -> None:
    lines = _read(file).split("\n")
    if any(lines) and not lines[0].startswith("Query"):
        raise InputError(
            f"{file}, line 1: expected 'Query', as hhsearch begins its result, found {lines[0][:20]!r}: make "
            "it again, or remove it"
        )


def _check_embeddings(folder: Path, files: list[Path], chain: Chain) -> None:
    import torch

    if not files:
        raise InputError(
            f"{folder} has no embedding (.pt) of chain {chain.tag}, which a SoloSeq preset reads: "
            f"{_MAKE_EMBEDDINGS}"
        )
    for file in files:
        try:
            embedding = torch.load(file, map_location="cpu", weights_only=True)["representations"][
                _ESM1B_LAYER
            ]
            shape = tuple(embedding.shape)
        except (
            pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError,
            KeyError, IndexError, TypeError, AttributeError,
        ) as error:  # fmt: skip
            reason = (str(error).splitlines() or [""])[0]
            raise InputError(
                f"{file} is no embedding of ESM-1b ({type(error).__name__}: {reason}): expected "
                f"['representations'][{_ESM1B_LAYER}]; {_MAKE_EMBEDDINGS}"
            ) from error
        if shape != (len(chain.sequence), _ESM1B_CHANNELS):
            raise InputError(
                f"{file} has an embedding of shape {list(shape)}, and chain {chain.tag} needs "
                f"{[len(chain.sequence), _ESM1B_CHANNELS]}: it was made for another sequence or by another "
                f"model than ESM-1b; {_MAKE_EMBEDDINGS}"
            )


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): check its permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}: byte {error.start} is not text: unpack it if it is packed, or make it again"
        ) from error


def _same_sequence(found: str, expected: str) -> bool:
    return len(found) == len(expected) and not any(map(_differ, found, expected))


def _differ(found: str, expected: str) -> bool:
    return found != expected and not {found, expected} & _AMBIGUOUS


def _difference(first: str, chain: Chain) -> str:
    found = first.replace("-", "")
    if len(found) != len(chain.sequence):
        return f"{len(found)} letters, the chain has {len(chain.sequence)}"
    place = next(i for i, letters in enumerate(zip(found, chain.sequence, strict=True)) if _differ(*letters))
    return f"letter {place + 1} is {found[place]}, that of the chain is {chain.sequence[place]}"
