"""Make the default library of motifs: pieces of generated antibody Fvs, modelled by FlashABB.

    openfoldpp train motif-library --out runs/motif_library

Fvs are generated and modelled. The first go in whole, heavy and light chain as two segments with one name
before their chain's letter. Of the others CDR-H3 goes in with what lies around it: there Fvs differ, and a
stretch takes a sixth of the space. The graph is left out: it is made at first use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from openfoldpp.errors import InputError
from openfoldpp.motifs.embedder import installed_embedding, shingle_embedder
from openfoldpp.motifs.library_files import Options, read_manifest, write_manifest
from openfoldpp.motifs.part_files import write_library
from openfoldpp.motifs.segments import BACKBONE, Segment, SegmentInfo
from openfoldpp.plm.cheap_head import K
from openfoldpp.training import fragments
from openfoldpp.training.fragments import Chain
from openfoldpp.training.run_folder import one_run_in

# Residues before and after CDR-H3 that go with it: all that the score of its windows looks at.
_BEFORE, _AFTER = 18, 11
# Fvs whose sequences are embedded at once.
_AT_ONCE = 50


@dataclass(frozen=True)
class Settings:
    """What decides the library.

    Attributes
    ----------
    fvs : int
        How many go in whole.
    stretches : int
        Of how many more CDR-H3 goes in.
    seed : int
        What they are drawn from.
    """

    fvs: int = 850
    stretches: int = 3150
    seed: int = 10


def make(settings: Settings, out: Path, *, made_by: str = "", say: Callable[[str], None] = print) -> Path:
    """Generate and model Fvs and write the library.

    Parameters
    ----------
    settings : Settings
        What decides it.
    out : pathlib.Path
        Folder for the Fvs' models, with which a run that was stopped goes on, and for the library,
        ``library``; of one run at a time.
    made_by : str
        The command, for the manifest.
    say : callable
        Gets a line of text now and then.

    Returns
    -------
    pathlib.Path
        The library's folder.

    Raises
    ------
    InputError
        The library is there, or another run is writing into the folder.
    MissingDependencyError
        OLGA or flash-abb is not installed.
    """
    path = out / "library"
    if path.exists():
        raise InputError(f"{path}: is there; name another folder with --out")
    with one_run_in(out, say):
        pairs = fragments.draw(settings.fvs + settings.stretches, settings.seed)
        fvs = fragments.model_fvs(
            pairs,
            out / "models",
            "pool",
            atoms=len(BACKBONE),
            progress=lambda done: say(f"modelled {done:,} of {len(pairs):,} Fvs"),
        )
        segments, vectors = [], []
        for first in range(0, len(fvs), _AT_ONCE):
            some = list(_segments(fvs[first : first + _AT_ONCE], first, settings.fvs))
            chains = shingle_embedder().embed([chain.sequence for chain, _, _, _ in some])
            for (chain, name, start, end), found in zip(some, chains, strict=True):
                info = SegmentInfo(name, f"{start + 1}..{end}", chain.sequence[start:end])
                segments.append(Segment(info, chain.backbone[start:end]))
                vectors.append(found[start : end - K + 1])
        options = Options(vectors="int8", graph=False)
        write_library(path, segments, np.concatenate(vectors), installed_embedding(), options)
        note = f"{made_by or 'openfoldpp.training.motif_library.make'} # {asdict(settings)}"
        write_manifest(path, replace(read_manifest(path), made_by=note))
    return path


def _segments(
    fvs: Sequence[tuple[Chain, Chain]], first: int, whole: int
) -> Iterator[tuple[Chain, str, int, int]]:
    """Yield chains, with the segment's name, its first residue and the one after its last."""
    for number, (heavy, light) in enumerate(fvs, first):
        if number < whole:
            yield heavy, f"fv{number:04d}_H", 0, len(heavy.sequence)
            yield light, f"fv{number:04d}_L", 0, len(light.sequence)
        else:
            start, end = heavy.cdrs[2]
            yield heavy, f"fv{number:04d}_H", max(start - _BEFORE, 0), min(end + _AFTER, len(heavy.sequence))
