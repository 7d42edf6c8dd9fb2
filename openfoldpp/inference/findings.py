"""What the doctor finds: findings in sections, each with a level and, where something is wrong, a cure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    checkpoint, jax_parameters : pathlib.Path or None
        ``--openfold_checkpoint_path`` and ``--jax_param_path``.
    preset : str
        ``--config_preset``.
    """

    home: Path | None = None
    checkpoint: Path | None = None
    jax_parameters: Path | None = None
    preset: str = DEFAULT_PRESET


def one_line(error: BaseException) -> str:
    """Return an error's message without its line breaks."""
    return " ".join(str(error).split())
