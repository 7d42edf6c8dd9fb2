"""What passes between the parts, and the glossary of shapes.

========== ============================================= ========= ==================================
symbol     meaning                                       symbol    meaning
========== ============================================= ========= ==================================
``N_res``  residues, all chains concatenated             ``C_m``   256, MSA and single-row channels
``N_seq``  MSA rows; 1 with a protein language model     ``C_z``   128, pair channels
``C_s``    384, single channels
========== ============================================= ========= ==================================

Coordinates are angstrom, float32, atom37 order ``[N_res, 37, 3]`` unless a name says ``atom14``.
pLDDT is 0 to 100, float32 ``[N_res]``; predicted aligned error (PAE) is angstrom ``[N_res, N_res]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Chain:
    """One chain of a target.

    Attributes
    ----------
    tag : str
        The first word of its FASTA header.
    sequence : str
        One-letter codes, upper case.
    """

    tag: str
    sequence: str


@dataclass(frozen=True)
class Target:
    """What is predicted together: one FASTA file, all of its records.

    Attributes
    ----------
    tag : str
        The records' tags joined by ``-``, as upstream names its outputs.
    chains : tuple of Chain
        In the order of the file.
    source : pathlib.Path or None
        The file, or None where the sequences came from elsewhere.
    """

    tag: str
    chains: tuple[Chain, ...]
    source: Path | None = None

    @property
    def sequence(self) -> str:
        """All chains concatenated, ``N_res`` letters."""
        return "".join(chain.sequence for chain in self.chains)

    @property
    def chain_lengths(self) -> tuple[int, ...]:
        """Residues of each chain."""
        return tuple(len(chain.sequence) for chain in self.chains)


@dataclass(frozen=True)
class OutputPaths:
    """Where the files of one target go: upstream's folder and upstream's names.

    Attributes
    ----------
    directory : pathlib.Path
        ``OUTPUT_DIR/predictions``, or a folder below it where several models are run.
    name : str
        ``TAG_PRESET``, with ``_POSTFIX`` where ``--output_postfix`` is given.
    """

    directory: Path
    name: str

    def file(self, suffix: str) -> Path:
        """Path of ``NAME_SUFFIX`` in the target's folder, for example ``file("notes.txt")``."""
        return self.directory / f"{self.name}_{suffix}"


class Features(dict):
    """Raw features that a plugin has made of a target, with what is to be said of them.

    As a mapping they have the values that upstream's data pipeline returns. A plain ``dict`` does as well.

    Attributes
    ----------
    source : str
        What made them, for the provenance: ``"sequence embedding by esm1b (...)"``.
    notes : tuple of str
        What the user should know though it is no error.
    """

    def __init__(self, values: Mapping, *, source: str, notes: tuple[str, ...] = ()):
        super().__init__(values)
        self.source = source
        self.notes = tuple(notes)


class Output(dict):
    """An OpenFold output dictionary that also says where its values come from.

    As a mapping it is exactly what upstream's model returns, as numpy arrays without the recycling
    dimension. It pickles as a plain ``dict``, so that readers need nothing of openfoldpp.

    Attributes
    ----------
    source : str
        What predicted it, for example ``"flash-abb 0.0.5"``.
    chain_ids : tuple of str
        One label for each chain of the target, in its order.
    provenance : dict of str to str
        For each path in the dictionary (``"sm/frames"``): it starts with ``"predicted"``, ``"derived"`` or
        ``"filled"``, and may go on to say how.
    """

    def __init__(
        self,
        values: Mapping,
        *,
        source: str,
        chain_ids: tuple[str, ...],
        provenance: Mapping[str, str],
    ):
        super().__init__(values)
        self.source = source
        self.chain_ids = tuple(chain_ids)
        self.provenance = dict(provenance)

    def __reduce__(self):
        return dict, (dict(self),)


@dataclass(frozen=True)
class ProgressEvent:
    """One step of a run.

    Attributes
    ----------
    phase : str
        ``"load"``, ``"features"``, ``"trace"``, ``"predict"``, ``"relax"``, ``"write"``, ``"done"`` or
        ``"failed"``.
    fraction : float
        Of the whole run, 0 to 1.
    target : Target or None
        None where the step is not about one target.
    """

    phase: str
    fraction: float
    target: Target | None = None
