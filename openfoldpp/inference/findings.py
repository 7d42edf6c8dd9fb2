"""What the doctor finds: findings in sections, each with a level and, where something is wrong, a cure."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from openfoldpp.errors import UpstreamError
from openfoldpp.inference.options import DEFAULT_PRESET

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
        What, in a word or two.
    level : str
        ``"ok"``, ``"note"`` or ``"problem"``. A problem is what a run would fail at.
    text : str
        What was found.
    cure : str or None
        A command or a flag; every problem has one.
    facts : dict
        The same for programs: text, numbers and lists alone.
    """

    name: str
    level: str
    text: str
    cure: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """The findings on one subject.

    Attributes
    ----------
    title : str
        The subject.
    findings : tuple of Finding
        At least one.
    """

    title: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Diagnosis:
    """All that the doctor found.

    Attributes
    ----------
    version : str
        Of openfoldpp.
    sections : tuple of Section
        In the order in which they are shown.
    """

    version: str
    sections: tuple[Section, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What a run would fail at."""
        return tuple(f for section in self.sections for f in section.findings if f.level == PROBLEM)


@dataclass(frozen=True)
class Question:
    """What the doctor is asked to look at beside the environment.

    Attributes
    ----------
    home : pathlib.Path or None
        ``--openfold_home``.
    checkpoint, jax_parameters : path-like or None
        ``--openfold_checkpoint_path`` and ``--jax_param_path``; several files are separated by commas.
    preset : str or None
        ``--config_preset``; None: the one that a run would take.
    """

    home: Path | None = None
    checkpoint: str | Path | None = None
    jax_parameters: str | Path | None = None
    preset: str | None = None

    @property
    def names_weights(self) -> bool:
        """Whether weights are named."""
        return bool(self.checkpoint or self.jax_parameters)

    def settled(self) -> Question:
        """Fill in the preset and the weights as a run does; see :func:`openfoldpp.inference.pipeline.settle`.

        Returns
        -------
        Question
            With a preset, and with the weights that a run finds by itself where none are named.
        """
        from openfoldpp.inference.pipeline import settle

        options = Namespace(
            openfold_home=self.home,
            openfold_checkpoint_path=self.checkpoint and str(self.checkpoint),
            jax_param_path=self.jax_parameters and str(self.jax_parameters),
            config_preset=self.preset,
            save_outputs=None,
        )
        try:
            settle(options)
        except UpstreamError:  # an OpenFold that cannot be used: no run would look for weights
            return replace(self, preset=self.preset or DEFAULT_PRESET)
        return replace(self, jax_parameters=options.jax_param_path, preset=options.config_preset)


def one_line(error: BaseException) -> str:
    """Return an error's message without its line breaks."""
    return " ".join(str(error).split())
