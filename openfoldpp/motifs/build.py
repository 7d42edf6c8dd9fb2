"""Make a library of motifs from structures: so that a run that was killed goes on, and all of it or nothing.

Work is done in ``LIB.building``: ``plan.json`` says of what and how, ``blocks-*`` what a few files gave,
``library`` the parts that are complete, ``parts`` what the manifest will say of them. A run of the same plan
goes on with what is there. At the end ``library`` takes the name ``LIB``; with ``add`` the parts move into
``LIB``, which has them once its manifest is replaced.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openfoldpp.errors import InputError
from openfoldpp.files import locked_folder
from openfoldpp.motifs.build_inputs import Source, find_structures, hash_structures
from openfoldpp.motifs.build_parts import BuildFolder, make_parts
from openfoldpp.motifs.embedder import PLM, installed_embedding
from openfoldpp.motifs.library_files import (
    MANIFEST,
    Counts,
    Manifest,
    Options,
    Skipped,
    building_folder,
    check_sizes,
    read_manifest,
    write_manifest,
)
from openfoldpp.motifs.part_files import read_sources


@dataclass(frozen=True)
class Progress:
    """How far a build is.

    Attributes
    ----------
    phase : str
        What is being done.
    done, total : int
        Of what.
    unit : str
        In what.
    elapsed_s : float
        Since the phase began.
    """

    phase: str
    done: int
    total: int
    unit: str
    elapsed_s: float


@dataclass
class Report:
    """What a build did.

    Attributes
    ----------
    counts : Counts
        What is in the library now.
    added : Counts
        What this run added.
    there : int
        Files that the library had already.
    resumed : int
        Files that an earlier run, which was stopped, had read.
    skipped : list of Skipped
        Files that gave nothing.
    mended, left_out : collections.Counter
        See :class:`openfoldpp.motifs.structures.Structure`; of what this run added.
    elapsed_s : float
        Time of this run.
    """

    counts: Counts
    added: Counts = field(default_factory=Counts)
    there: int = 0
    resumed: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    mended: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    elapsed_s: float = 0.0


def build_library(
    structures: Iterable[str | Path],
    out: str | Path,
    *,
    plm: str = PLM,
    jobs: int = 1,
    add: bool = False,
    options: Options | None = None,
    made_by: str = "",
    progress: Callable[[Progress], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Report:
    """Make a library of motifs, or add to one.

    The same files and options give the same library, byte for byte, however many jobs make it.

    Parameters
    ----------
    structures : iterable of path-like
        PDB, mmCIF and BinaryCIF files, also with ``.gz``; folders are searched with their subfolders.
    out : path-like
        Folder of the library.
    plm : str
        Name of the language model: ``"plm_lite"``.
    jobs : int
        Processes that read and embed, and threads that index.
    add : bool
        Add what is new to a library that is there.
    options : Options, optional
        Of a new library; one that is added to keeps its own.
    made_by : str
        The command, for the manifest.
    progress : callable, optional
        Told now and then how far it is.
    note : callable, optional
        Told in a line what the user should know.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        There are no structures, or none gave a motif; the library is there, or with `add` is not there, is
        damaged, or made with other options; another run is making it; or jobs is less than 1.
    DiskFullError
        There is no space; the same call goes on once there is.
    """
    if jobs < 1:
        raise InputError(f"--jobs {jobs}: expected 1 or more")
    start = time.perf_counter()
    out = Path(out)
    embedding = installed_embedding(plm)
    found = find_structures(Path(path) for path in structures)
    if not found:
        raise InputError("a library is made of structures: got none; name files or folders")
    base = _base(out, Manifest(embedding, options or Options(), made_by=made_by), add, options)
    tell = _Teller(progress or (lambda state: None))
    known = _known(out, base)
    sources, there, skipped = hash_structures(found, known, tell.of("looking at files", len(found), "files"))
    if out.exists() and not add:
        return _finished(out, base, sources, there, skipped, start)
    # A name that clashed, or a file that was damaged, may be all right by now.
    old = [one for one in base.skipped if one.name not in {name for name, _ in found}]
    plan = {
        "openfoldpp": Manifest(embedding, base.options).openfoldpp,
        "embedding": dataclasses.asdict(embedding),
        "options": dataclasses.asdict(base.options),
        "first_part": len(base.parts),
        "sources": [[source.name, source.sha256] for source in sources],
    }
    place = BuildFolder(building_folder(out), plan)
    with locked_folder(place.path, "lock", "openfoldpp motifs build") as said:
        for text in filter(None, (said, place.claim())):
            (note or (lambda text: None))(text)
        made = make_parts(place, sources, base.options, plm, len(base.parts), jobs, tell.of)
        report = Report(
            base.counts + made.counts,
            made.counts,
            there,
            made.resumed,
            skipped + made.skipped,
            made.mended,
            made.left_out,
        )
        if not report.counts.shingles:
            shutil.rmtree(place.path)
            raise InputError(_nothing(report.skipped))
        manifest = dataclasses.replace(
            base,
            parts=base.parts + tuple(made.parts),
            mended=dict(sorted((Counter(base.mended) + made.mended).items())),
            left_out=dict(sorted((Counter(base.left_out) + made.left_out).items())),
            skipped=tuple(sorted(old + report.skipped, key=lambda one: one.name)),
            made_by="; ".join(dict.fromkeys(filter(None, (base.made_by, made_by if made.parts else "")))),
        )
        if add:
            place.move_parts(out, made.parts)
            write_manifest(out, manifest)
        else:
            write_manifest(place.library, manifest)
            place.library.rename(out)
        shutil.rmtree(place.path)
    report.elapsed_s = time.perf_counter() - start
    return report


def _base(out: Path, empty: Manifest, add: bool, options: Options | None) -> Manifest:
    """Return the manifest that the library has before this run."""
    if not add and not out.exists():
        return empty
    if not add and not (out / MANIFEST).exists():
        raise InputError(f"{out}: is there and is no library of motifs; name another folder with --out")
    base = read_manifest(out)
    if base.embedding != empty.embedding:
        raise InputError(
            f"{out}: its vectors were made with other weights of {base.embedding.plm}; make a library "
            "anew in another folder"
        )
    if options is not None and base.options != options:
        raise InputError(
            f"{out}: was made with other options ({base.options}); leave them out, or name another folder "
            "with --out"
        )
    check_sizes(out, base)
    return base


def _known(out: Path, manifest: Manifest) -> dict[str, str]:
    """Return SHA-256 by name of the files that a library was made of."""
    return {
        source["name"]: source["sha256"]
        for part in manifest.parts
        for source in read_sources(out / part.name)
    }


def _finished(
    out: Path, base: Manifest, new: list[Source], there: int, skipped: list[Skipped], start: float
) -> Report:
    """Say that a library is there and complete, if it is one of these very files."""
    gave_nothing = {one.name: one.sha256 for one in base.skipped}
    if there != base.counts.files or any(gave_nothing.get(one.name) != one.sha256 for one in new):
        raise InputError(
            f"{out}: is there, made of other files; give --add to add what is new, or name another folder "
            "with --out"
        )
    # Of a run that was killed after its last step but one.
    shutil.rmtree(building_folder(out), ignore_errors=True)
    elapsed = time.perf_counter() - start
    return Report(base.counts, there=there, skipped=list(base.skipped), elapsed_s=elapsed)


def _nothing(skipped: list[Skipped]) -> str:
    some = "; ".join(f"{one.name}: {one.reason}" for one in skipped[:3])
    more = f" (and {len(skipped) - 3:,} more)" if len(skipped) > 3 else ""
    return f"no structure gave a motif: {some}{more}"


class _Teller:
    """Makes of counts what a caller is told."""

    def __init__(self, progress: Callable[[Progress], None]):
        self._progress = progress

    def of(self, phase: str, total: int, unit: str) -> Callable[[int], Any]:
        start = time.perf_counter()
        return lambda done: self._progress(Progress(phase, done, total, unit, time.perf_counter() - start))
