"""The folder of a training run: its log, and the checkpoint from which it goes on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openfoldpp.errors import ConfigError, WeightsError
from openfoldpp.files import atomic_write, locked_folder, write_text
from openfoldpp.plm.weights import read_torch_file

_CHECKPOINT = "checkpoint.pt"


class RunFolder:
    """A folder with ``log.jsonl``, a line for each step, and ``checkpoint.pt``.

    Parameters
    ----------
    path : pathlib.Path
        Made where it is missing.
    settings : mapping
        What decides the run: a checkpoint of other settings is refused.
    parts : mapping of str to object
        Modules and optimisers by name: all that the next step depends on, beside its number.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], parts: Mapping[str, Any]):
        path.mkdir(parents=True, exist_ok=True)
        self.log, self.checkpoint = path / "log.jsonl", path / _CHECKPOINT
        self.settings, self.parts = dict(settings), parts

    def resume(self) -> int:
        """Set the parts as the checkpoint has them, and cut the log to it, and before a torn line.

        Returns
        -------
        int
            Steps done; 0 where there is no checkpoint.

        Raises
        ------
        ConfigError
            The checkpoint is of a run with other settings.
        WeightsError
            It is no checkpoint of such a run, or damaged.
        """
        steps = steps_done(self.checkpoint.parent, self.settings)
        if not steps:
            self.log.unlink(missing_ok=True)
            return 0
        load_parts(self.checkpoint, self.parts)
        kept = []
        for line in self.log.read_text().splitlines(keepends=True):
            try:
                step = json.loads(line)["step"]
            except ValueError:
                break  # half a line, which a killed run or a full disk left
            if step <= steps:
                kept.append(line.rstrip() + "\n")
        write_text(self.log, "".join(kept))
        return steps

    def note(self, step: int, **figures: Tensor | float) -> None:
        """Add a line to the log.

        Parameters
        ----------
        step : int
            Steps done.
        **figures : torch.Tensor or float
            Numbers by name; tensors of one value.
        """
        plain = {key: value.item() if isinstance(value, Tensor) else value for key, value in figures.items()}
        short = {
            key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in plain.items()
        }
        with self.log.open("a") as file:
            file.write(json.dumps({"step": step, **short}) + "\n")

    def save(self, step: int) -> None:
        """Write the checkpoint after a `step`, complete or not at all."""
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        with atomic_write(self.checkpoint) as file:
            torch.save({"step": step, "settings": self.settings, "parts": parts}, file)


@contextlib.contextmanager
def one_run_in(folder: Path, say: Callable[[str], Any]) -> Iterator[None]:
    """Make a folder, and keep other runs out of it.

    Parameters
    ----------
    folder : pathlib.Path
        Of the run.
    say : callable
        Gets a line where the file system has no locks.

    Raises
    ------
    InputError
        Another run is writing into it.
    """
    with locked_folder(folder, ".run.lock", "openfoldpp train") as note:
        if note:
            say(note)
        yield


def steps_done(folder: Path, settings: Mapping[str, Any]) -> int:
    """Return how far a run is, and refuse one of other settings.

    Parameters
    ----------
    folder : pathlib.Path
        Of the run.
    settings : mapping
        What decides it.

    Returns
    -------
    int
        Steps; 0 where there is no checkpoint.

    Raises
    ------
    ConfigError
        The checkpoint is of a run with other settings.
    WeightsError
        It is no checkpoint, or damaged.
    """
    checkpoint = folder / _CHECKPOINT
    if not checkpoint.is_file():
        return 0
    found = _read(checkpoint)
    then = found["settings"]
    other = [f"{key} {then.get(key)!r}, not {now!r}" for key, now in settings.items() if then.get(key) != now]
    if other:
        raise ConfigError(
            f"{checkpoint} is of a run with {'; '.join(other)}: give its settings, or another --out"
        )
    return found["step"]


def _read(checkpoint: Path) -> Mapping[str, Any]:
    found = read_torch_file(checkpoint)
    kinds = {"step": int, "settings": Mapping, "parts": Mapping}
    if not all(isinstance(found.get(name), kind) for name, kind in kinds.items()):
        raise WeightsError(
            f"checkpoint {checkpoint}: has {', '.join(map(str, found))[:80] or 'nothing'}, expected "
            f"{', '.join(kinds)}, as openfoldpp train writes it; move it away, or name another"
        )
    return found


def load_parts(checkpoint: Path, parts: Mapping[str, Any]) -> None:
    """Set modules and optimisers as a checkpoint has them.

    Parameters
    ----------
    checkpoint : pathlib.Path
        ``checkpoint.pt`` of a run.
    parts : mapping of str to object
        Some or all of that run's, by name.

    Raises
    ------
    WeightsError
        There is no such file, it is damaged, or its parts have other names or shapes.
    """
    found = _read(checkpoint)["parts"]
    try:
        for name, part in parts.items():
            part.load_state_dict(found[name])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"checkpoint {checkpoint}: not of such a run ({reason}); give another") from error
