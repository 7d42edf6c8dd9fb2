"""The folder of a training run: its log, and the checkpoint from which it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openfoldpp.errors import ConfigError, WeightsError
from openfoldpp.files import atomic_write, write_text
from openfoldpp.plm.weights import read_torch_file


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
        self.log, self.checkpoint = path / "log.jsonl", path / "checkpoint.pt"
        self.settings, self.parts = dict(settings), parts

    def resume(self) -> int:
        """Set the parts as the checkpoint has them, and cut the log to it.

        Returns
        -------
        int
            Steps done; 0 where there is no checkpoint.

        Raises
        ------
        ConfigError
            The checkpoint is of a run with other settings.
        """
        if not self.checkpoint.is_file():
            self.log.unlink(missing_ok=True)
            return 0
        found = read_torch_file(self.checkpoint)
        then = found["settings"]
        other = [
            f"{key} {then.get(key)!r}, not {now!r}"
            for key, now in self.settings.items()
            if then.get(key) != now
        ]
        if other:
            raise ConfigError(
                f"{self.checkpoint} is of a run with {'; '.join(other)}: give its settings, or another --out"
            )
        load_parts(self.checkpoint, self.parts)
        lines = self.log.read_text().splitlines(keepends=True)
        write_text(self.log, "".join(line for line in lines if json.loads(line)["step"] <= found["step"]))
        return found["step"]

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
    found = read_torch_file(checkpoint).get("parts", {})
    try:
        for name, part in parts.items():
            part.load_state_dict(found[name])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"checkpoint {checkpoint}: not of such a run ({reason}); give another") from error
