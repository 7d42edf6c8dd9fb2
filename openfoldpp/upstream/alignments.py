"""Alignments and embeddings that the user brings, checked before a run.

Upstream reads whatever lies in a chain's folder. What it cannot read ends in a traceback that names no file;
and an alignment of another sequence with the same length is used without a word.
"""

from __future__ import annotations

import difflib
import pickle
import shlex
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
# A mutant is often predicted with the wild type's alignment; what differs more was made for another sequence.
_MOST_MUTATED = 0.1

_ESM1B_LAYER, _ESM1B_CHANNELS = 33, 1280
_MAKE_EMBEDDINGS = (
    "make it with OpenFold's scripts/precompute_embeddings.py (python scripts/precompute_embeddings.py "
    "FASTA_DIR EMBEDDINGS_DIR), which takes one sequence in one line from each file and names its folder by "
    "the file"
)


def check_alignments(folder: str | Path, target: Target, preset: str) -> tuple[str, ...]:
    """Check what upstream will read for each chain of a target, and nothing else.

    Parameters
    ----------
    folder : path-like
        What ``--use_precomputed_alignments`` names: one folder for each chain, by the chain's tag. Multimer
        presets read that of the first of equal chains only.
    target : Target
        The chains.
    preset : str
        The configuration preset. Those of SoloSeq (``seq...``) need an embedding and read no multiple
        sequence alignment; multimer presets need ``uniprot_hits.sto`` where the chains differ, and no other
        case reads it.

    Returns
    -------
    tuple of str
        What the user should know though it is no mistake: a chain without any alignment, or an alignment
        whose first sequence differs from the chain's by a few letters, as a wild type's does from a mutant.

    Raises
    ------
    InputError
        A folder or file is missing, a file is damaged or malformed (with its line), or is about another
        sequence.
    """
    folder = Path(folder)
    multimer, solo = "multimer" in preset, preset.startswith("seq")
    chains: dict[str, Chain] = {}
    for chain in target.chains:
        chains.setdefault(chain.sequence if multimer else chain.tag, chain)
    pairs = multimer and len(chains) > 1
    notes: list[str] = []
    for chain in chains.values():
        own = folder / chain.tag
        if not own.is_dir():
            raise _no_folder(folder, chain)
        files = sorted(file for file in own.iterdir() if file.is_file())
        read = [file for file in files if _is_read(file, solo, pairs)]
        for file in read:
            if file.name.startswith("."):
                raise InputError(
                    f"{file} is a hidden file, which OpenFold reads as any other: remove it "
                    f"(rm {shlex.quote(str(file))})"
                )
        if solo:
            _check_embeddings(own, [file for file in read if file.suffix == ".pt"], chain)
        if pairs and own / _PAIRING not in read:
            raise InputError(
                f"{own} has no {_PAIRING}: a multimer preset pairs different chains by the species in it. "
                "Search UniProt for this chain (--uniprot_database_path), or put the file there"
            )
        shown = [file for file in files if not file.name.startswith(".")]
        if shown and not any(file.suffix in _SUFFIXES for file in shown):
            raise InputError(
                f"{own} has nothing that OpenFold reads, but {shown[0].name}: expected files ending in .a3m, "
                ".sto or .hhr; unpack what is packed, or leave the folder empty to predict from the sequence "
                "alone"
            )
        alignments = [f for f in read if f.suffix in (".a3m", ".sto") and f.name != _TEMPLATE_HITS]
        mutated: dict[str, list[str]] = {}
        for file in alignments:
            difference = _check_alignment(file, chain)
            if difference:
                mutated.setdefault(difference, []).append(file.name)
        for difference, names in mutated.items():
            notes.append(
                f"{own}: the first sequence of {', '.join(names)} is not quite that of chain {chain.tag} "
                f"({difference}); OpenFold uses it as it is"
            )
        for file in read:
            if file.suffix == ".hhr":
                _check_hits(file)
        if not (alignments or solo):
            notes.append(f"{own} has no alignment: chain {chain.tag} is predicted from its sequence alone")
    return tuple(notes)


def template_hits(folder: str | Path, chain: Chain) -> list[Path]:
    """Return the files of a chain's folder that hold hits of a template search; no other file is read.

    Parameters
    ----------
    folder : path-like
        What ``--use_precomputed_alignments`` names.
    chain : Chain
        The chain.

    Returns
    -------
    list of pathlib.Path
        Those ending in ``.hhr``, and ``hmm_output.sto``, which OpenFold 2 reads too.

    Raises
    ------
    InputError
        There is no folder for the chain, or a file is damaged.
    """
    own = Path(folder) / chain.tag
    if not own.is_dir():
        raise _no_folder(Path(folder), chain)
    shown = sorted(file for file in own.iterdir() if file.is_file() and not file.name.startswith("."))
    for file in (file for file in shown if file.suffix == ".hhr"):
        _check_hits(file)
    return [file for file in shown if file.suffix == ".hhr" or file.name == _TEMPLATE_HITS]


def has_embedding(folder: str | Path, chain: Chain) -> bool:
    """Say whether the `folder` of alignments has an embedding (``.pt``) in that of a `chain`."""
    return any((Path(folder) / chain.tag).glob("*.pt"))


def _is_read(file: Path, solo: bool, pairs: bool) -> bool:
    """Say whether upstream opens a file of a chain's folder."""
    if file.suffix == ".hhr" or file.name == _TEMPLATE_HITS:
        return True
    if solo:
        return file.suffix == ".pt"
    return file.suffix in (".a3m", ".sto") and (pairs or file.name != _PAIRING)


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


def _check_alignment(file: Path, chain: Chain) -> str:
    """Check one multiple sequence alignment: it can be read, and its first sequence is the chain's.

    Returns how that differs from the chain's by few letters, as in a mutant; "" where it is the same.
    """
    rows = list((_a3m_rows if file.suffix == ".a3m" else _stockholm_rows)(_read(file), file))
    if not rows:
        raise InputError(f"{file} has no sequence: make it again, or remove it")
    first, columns = rows[0][1], len(rows[0][1])
    difference, share = _difference(first.replace("-", ""), chain.sequence)
    if share > _MOST_MUTATED:
        raise InputError(
            f"{file}: its first sequence is not that of chain {chain.tag} ({difference}): it was made for "
            "another sequence; make it again for this one, or remove it"
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
    return difference


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
    lines = [line for line in _read(file).splitlines() if line.strip()]
    if lines and not any(line.startswith(("Query", "No ")) for line in lines):
        raise InputError(
            f"{file}: no line begins with 'Query' or 'No ', as in a result of hhsearch; it begins with "
            f"{lines[0][:20]!r}: make it again, or remove it"
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


def _differ(found: str, expected: str) -> bool:
    return found != expected and not {found, expected} & _AMBIGUOUS


def _difference(found: str, expected: str) -> tuple[str, float]:
    """Return how a sequence differs from the chain's, in words, and the share of letters that do."""
    if len(found) != len(expected):
        return f"{len(found)} letters, the chain has {len(expected)}", 1.0
    places = [i for i, letters in enumerate(zip(found, expected, strict=True)) if _differ(*letters)]
    if not places:
        return "", 0.0
    first = places[0]
    words = f"letter {first + 1} is {found[first]}, that of the chain is {expected[first]}"
    if len(places) > 1:
        words += f"; {len(places)} of {len(expected)} letters differ"
    return words, len(places) / len(expected)
