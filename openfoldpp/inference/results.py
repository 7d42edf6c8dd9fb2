"""What an output folder holds, ours or vanilla OpenFold's: the files of each prediction."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openfoldpp.errors import InputError
from openfoldpp.pickles import read_pickle
from openfoldpp.upstream import schema

_SUFFIX = "_output_dict.pkl"


@dataclass(frozen=True)
class Result:
    """The files of one prediction, which stand beside each other.

    Attributes
    ----------
    output_dict : pathlib.Path
        ``NAME_output_dict.pkl``.
    target : str
        The tag in its name.
    preset : str
        The preset in its name, for example ``"model_1_ptm"``.
    unrelaxed, relaxed : pathlib.Path or None
        ``NAME_unrelaxed.pdb`` or ``.cif``; ``NAME_relaxed.pdb`` or ``.cif``.
    source : str or None
        What predicted it, where ``NAME_provenance.json`` says so.
    provenance : dict of str to str
        What that file says of each path; empty where there is none, as with vanilla OpenFold, whose model
        predicts everything in its output.
    problem : str or None
        Why the files of this prediction cannot be used: its name or its provenance is not OpenFold's. The
        target is then the file's name, and the preset is empty.
    """

    output_dict: Path
    target: str
    preset: str
    unrelaxed: Path | None = None
    relaxed: Path | None = None
    source: str | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None

    def read(self) -> dict[str, Any]:
        """Read the output dictionary with the restricted unpickler.

        Returns
        -------
        dict
            As OpenFold's model returned it: nested, numpy arrays.

        Raises
        ------
        InputError
            The file cannot be read, or has no ``plddt`` of shape ``[N_res]``; or its PAE is filled, and the
            provenance that would say so is not beside it; or there is a `problem`.
        UnsafePickleError
            It names more than arrays and plain data.
        """
        if self.problem:
            raise InputError(self.problem)
        output = read_pickle(self.output_dict)
        plddt = output.get("plddt") if isinstance(output, dict) else None
        if not isinstance(plddt, np.ndarray) or plddt.dtype.kind != "f" or plddt.ndim != 1:
            raise InputError(
                f"{self.output_dict} is not an output of OpenFold: expected a dictionary with 'plddt' [N_res]"
            )
        pae, bound = (output.get(f"{which}predicted_aligned_error") for which in ("", "max_"))
        if pae is not None and not self.provenance and np.all(pae == bound):
            missing = f"{self.output_dict.name.removesuffix(_SUFFIX)}_provenance.json"
            raise InputError(
                f"{self.output_dict}: its predicted aligned error is the largest possible everywhere, as "
                f"openfoldpp writes it where nobody predicted it. {missing}, which would say so, is not "
                "beside it: copy it too"
            )
        return output

    def is_filled(self, path: str) -> bool:
        """Say whether nobody predicted the value at a path, such as ``"predicted_aligned_error"``."""
        return self.provenance.get(path, "").startswith("filled")


def find(paths: Iterable[str | os.PathLike[str]]) -> list[Result]:
    """Find predictions.

    Parameters
    ----------
    paths : iterable of path-like
        Output folders (``--output_dir``, its ``predictions``, or one model's folder in that) and single
        ``NAME_output_dict.pkl`` files.

    Returns
    -------
    list of Result
        Each once, those of a folder sorted by path. One in a folder that is not named as an output of
        OpenFold is there with its `problem`, so that it fails alone.

    Raises
    ------
    InputError
        A path is missing, a folder has no prediction with an output dictionary, or the name of a file that
        was itself given is not ``TAG_PRESET_output_dict.pkl``.
    """
    found: dict[Path, Result] = {}
    for path in map(Path, paths):
        for file in _pickles(path):
            if file.resolve() not in found:
                found[file.resolve()] = _result(file) if file == path else _result_of_folder(file)
    return list(found.values())


def _result_of_folder(file: Path) -> Result:
    try:
        return _result(file)
    except InputError as error:
        return Result(file, file.name, "", problem=str(error))


def _pickles(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path} is not there: expected an output folder or a NAME{_SUFFIX}")
    folder = path / "predictions" if (path / "predictions").is_dir() else path
    # Several models have a folder each. Hidden folders are those of runs that have not ended.
    found = [
        file
        for pattern in (f"*{_SUFFIX}", f"*/*{_SUFFIX}")
        for file in sorted(folder.glob(pattern))
        if not file.parent.name.startswith(".") or file.parent == folder
    ]
    if not found:
        raise InputError(
            f"{folder} has no NAME{_SUFFIX}, which holds the confidence: predict again with --save_outputs"
        )
    return found


def _result(file: Path) -> Result:
    name = file.name.removesuffix(_SUFFIX)
    match = _name_pattern().fullmatch(name)
    if match is None or name == file.name:
        raise InputError(
            f"{file}: its name is not that of an output, TAG_PRESET{_SUFFIX} with a preset such as "
            "model_1_ptm: give it OpenFold's name back"
        )

    def structure(state: str) -> Path | None:
        candidates = (file.with_name(f"{name}_{state}.{ending}") for ending in ("pdb", "cif"))
        return next((candidate for candidate in candidates if candidate.is_file()), None)

    said = _provenance(file.with_name(f"{name}_provenance.json"))
    return Result(
        file, match["tag"], match["preset"], unrelaxed=structure("unrelaxed"), relaxed=structure("relaxed"),
        source=said.get("predicted_by"), provenance=said.get("values", {}),
    )  # fmt: skip


@functools.cache
def _name_pattern() -> re.Pattern[str]:
    """TAG_PRESET or TAG_PRESET_POSTFIX. The tag is greedy: where it looks like a preset, the last counts."""
    presets = sorted({preset for _, preset in schema.available()}, key=len, reverse=True)
    return re.compile(rf"(?P<tag>.+)_(?P<preset>{'|'.join(map(re.escape, presets))})(?:_.+)?")


def _provenance(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_bytes())
        values = said.get("values", {}).items()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"{file} cannot be read ({error}), so what was predicted and what filled is not known: "
            "write it again by predicting again"
        ) from error
    if not all(isinstance(text, str) for _, text in values):
        raise InputError(f"{file}: 'values' is not text by path, as openfoldpp writes it: predict again")
    return said
