"""What a command is asked to predict and where to: read and checked before any work."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from pathlib import Path

from openfoldpp.errors import InputError
from openfoldpp.inference.fasta import FastaInputs, parse_sequence_argument, read_targets
from openfoldpp.inference.options import weights_given
from openfoldpp.inference.pipeline import tag_rule as rule_in_use
from openfoldpp.types import Target

#: Formats of ``openfoldpp predict --out FILE``.
OUT_SUFFIXES = (".pdb", ".cif", ".json")

# A single chain on the command line is taken for a file's name below this length.
_SHORTEST_SEQUENCE = 30


def read_inputs(options: Namespace, targets: bool, *, tag_rule: str = "first_word") -> FastaInputs:
    """Read the FASTA folder, or the files and sequences that were named.

    Parameters
    ----------
    options : argparse.Namespace
        With ``fasta_dir``, or with ``targets``.
    targets : bool
        Whether they are those of ``openfoldpp predict``.
    tag_rule : str
        As for :func:`openfoldpp.inference.fasta.read_targets`.

    Returns
    -------
    FastaInputs
        Targets, and the files that hold none.

    Raises
    ------
    InputError
        Nothing is given, a path does not exist, or two targets have one name.
    """
    if not targets:
        return read_targets(options.fasta_dir, tag_rule=tag_rule)
    if not options.targets:
        raise InputError("no target: give FASTA files, folders of them, or a sequence such as VH:VL")
    sequences = [text for text in options.targets if _is_sequence(text)]
    files = [text for text in options.targets if text not in sequences]
    read = read_targets(files, tag_rule=tag_rule) if files else FastaInputs((), ())
    tags = ["prediction"] if len(sequences) == 1 else [f"prediction{i + 1}" for i in range(len(sequences))]
    given = tuple(parse_sequence_argument(text, tag=tag) for text, tag in zip(sequences, tags, strict=True))
    taken = {target.tag for target in given} & {target.tag for target in read.targets}
    if taken:
        raise InputError(
            f"a sequence of the command line is named {sorted(taken)[0]!r}, and a file's target is too: "
            "change the '>' line of the file"
        )
    return FastaInputs(given + read.targets, read.failures, read.notes)


def _is_sequence(text: str) -> bool:
    """Tell a sequence from a path: letters alone, several chains or one too long for a file's name."""
    parts = text.split(":")
    return all(part.isalpha() for part in parts) and (len(parts) > 1 or len(text) >= _SHORTEST_SEQUENCE)


def check_out(out: Path, inputs: FastaInputs, options: Namespace) -> None:
    """Refuse an ``--out`` that cannot be written, or beside which other options have no effect.

    Parameters
    ----------
    out : pathlib.Path
        The file.
    inputs : FastaInputs
        What was read; there must be one.
    options : argparse.Namespace
        The other options.

    Raises
    ------
    InputError
        Says which option, and what to do.
    """
    if out.suffix not in OUT_SUFFIXES:
        raise InputError(f"--out {out}: expected a name ending in {', '.join(OUT_SUFFIXES)}")
    if len(inputs.targets) + len(inputs.failures) != 1:
        count = len(inputs.targets) + len(inputs.failures)
        raise InputError(f"--out is for one target, there are {count}: use --output_dir DIR")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}")
    if options.relax and out.suffix == ".json":
        raise InputError(f"--relax writes a structure: give --out a name ending in .pdb or .cif, not {out}")
    unused = [
        flag
        for flag, given in (
            ("--output_dir", options.output_dir != "."),
            ("--output_postfix", options.output_postfix is not None),
            ("--cif_output", options.cif_output),
        )
        if given
    ]
    if unused:
        raise InputError(f"--out {out} is the only file written: leave out {', '.join(unused)}")


# Of a file's name, on every file system in use.
_MAX_NAME_BYTES = 255
_LONGEST_SUFFIX = "_output_dict.pkl"


def check_names(inputs: FastaInputs, options: Namespace) -> None:
    """Refuse names of output files that cannot be, or are too long.

    Parameters
    ----------
    inputs : FastaInputs
        Whose tags the names begin with.
    options : argparse.Namespace
        ``output_postfix``, ``config_preset`` and what says whether OpenFold 2's script will write.

    Raises
    ------
    InputError
        Says which name, and what to do.
    """
    postfix = options.output_postfix
    if postfix is not None and (not postfix.isprintable() or any(letter in postfix for letter in "/\\")):
        raise InputError(
            f"--output_postfix {postfix!r} cannot be part of a file's name: use letters, digits, '_', '-' or "
            "'.'; --output_dir chooses the folder"
        )
    parts = [part for part in (options.config_preset, postfix) if part is not None]
    # Wherever the files go in the end: OpenFold 2's script writes them under the tags of all chains.
    joins = weights_given(options) and rule_in_use(options) == "word_characters"
    for target in inputs.targets:
        _check_name_length("_".join([target.tag, *parts]), target, "shorten it, or --output_postfix")
        if joins:
            tags = "-".join(chain.tag for chain in target.chains)
            cure = f"shorten its '>' line, or split its {len(target.chains)} chains into several targets"
            _check_name_length("_".join([tags, *parts]), target, cure)


def _check_name_length(name: str, target: Target, cure: str) -> None:
    name += _LONGEST_SUFFIX
    count = len(name.encode())
    if count > _MAX_NAME_BYTES:
        raise InputError(
            f"target {target.tag!r}: the name of a file, {name[:40]}..., would be {count} bytes long, and "
            f"{_MAX_NAME_BYTES} are allowed: {cure}"
        )


def check_writable(folder: Path) -> None:
    """Make the output folder and try to write in it, so that nobody waits for a prediction that is lost.

    Raises
    ------
    InputError
        The folder, or ``predictions`` in it where that exists, cannot be made or written to.
    """
    for place in (folder, folder / "predictions"):
        try:
            if place == folder:
                place.mkdir(parents=True, exist_ok=True)
            elif not place.exists():
                continue
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            raise InputError(
                f"--output_dir {folder}: {place} cannot be written to ({error.strerror}): give another "
                "folder, or change its permissions"
            ) from error
