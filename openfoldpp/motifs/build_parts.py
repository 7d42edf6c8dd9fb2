"""The folder in which a library is made, and the steps from files to blocks to parts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openfoldpp.files import write_json
from openfoldpp.motifs.build_blocks import FILES, block_shingles, read_block
from openfoldpp.motifs.build_inputs import Source
from openfoldpp.motifs.build_worker import Task, make_blocks
from openfoldpp.motifs.library_files import Counts, Options, PartEntry, Skipped, part_entry, part_name
from openfoldpp.motifs.part_files import write_part

# Between two looks at how far the parts are.
_LOOK_S = 0.2

#: Starts a phase: its name, how much there is, in what; returns what is told how much is done.
Phase = Callable[[str, int, str], Callable[[int], Any]]


class BuildFolder:
    """Where a library is made.

    Parameters
    ----------
    path : pathlib.Path
        ``LIB.building``.
    plan : mapping
        All that decides the library, as JSON has it.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any]):
        self.path = path
        self.plan = dict(plan)
        self.library = path / "library"
        # A process of a killed run may still be writing a block, which must not become one of another plan.
        digest = hashlib.sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()
        self.blocks = path / f"blocks-{digest[:16]}"
        self.parts = path / "parts"
        self._plan = path / "plan.json"
        self._groups = path / "groups.json"

    def block(self, number: int) -> Path:
        """Return the file of block `number`."""
        return self.blocks / f"{number:06d}.npz"

    def record(self, part: int) -> Path:
        """Return the file of what the manifest will say of `part` number so and so."""
        return self.parts / f"{part_name(part)}.json"

    def write_groups(self, groups: list[list[int]]) -> None:
        """Keep which blocks each part has, `groups` of their numbers: from now on all blocks are there."""
        write_json(self._groups, groups)

    def read_groups(self) -> list[list[int]] | None:
        """Return which blocks each part has; None where blocks are missing."""
        return json.loads(self._groups.read_text(encoding="utf-8")) if self._groups.is_file() else None

    def claim(self) -> str | None:
        """Keep what an earlier run of the same plan has done, and clear away all else.

        Returns
        -------
        str or None
            A note where the work of a run with another plan was cleared away.
        """
        there = None
        if self._plan.is_file():
            try:
                there = json.loads(self._plan.read_text(encoding="utf-8"))
            except ValueError:
                there = {}  # damaged: as good as that of another run
        if there != self.plan:
            # First what says that the rest counts.
            self._plan.unlink(missing_ok=True)
            self._groups.unlink(missing_ok=True)
            for old in self.path.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            write_json(self._plan, self.plan)
        for folder in (self.blocks, self.parts, self.library):
            folder.mkdir(exist_ok=True)
            # What a killed run was in the middle of writing.
            for file in folder.glob(".*.tmp"):
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        if there is None or there == self.plan:
            return None
        return f"{self.path}: has an unfinished library of other files or options; begun anew"

    def move_parts(self, library: Path, parts: Sequence[PartEntry]) -> None:
        """Move new `parts` into a `library`, whose manifest does not name them yet."""
        for part in parts:
            made, final = self.library / part.name, library / part.name
            if made.exists():
                # Of a run that was killed before it wrote the manifest, and that another plan has replaced.
                shutil.rmtree(final, ignore_errors=True)
                made.rename(final)


@dataclass
class Made:
    """What a run made.

    Attributes
    ----------
    parts : list of PartEntry
        In order.
    skipped : list of Skipped
        Files that gave nothing.
    mended, left_out : collections.Counter
        See :class:`openfoldpp.motifs.structures.Structure`.
    resumed : int
        Files that an earlier run had read.
    """

    parts: list[PartEntry] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    mended: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    resumed: int = 0

    @property
    def counts(self) -> Counts:
        """What is in the parts."""
        return sum((part.counts for part in self.parts), Counts())


def make_parts(
    place: BuildFolder,
    sources: Sequence[Source],
    options: Options,
    plm: str,
    first: int,
    jobs: int,
    phase: Phase,
) -> Made:
    """Read, embed and index structure files.

    Parameters
    ----------
    place : BuildFolder
        Has what an earlier run did.
    sources : sequence of Source
        The files, in order.
    options : Options
        Of the library.
    plm : str
        Name of the language model.
    first : int
        Number of the first part.
    jobs : int
        Processes for the blocks, threads for the parts.
    phase : callable
        See :data:`Phase`.

    Returns
    -------
    Made
    """
    blocks = [sources[i : i + FILES] for i in range(0, len(sources), FILES)]
    made = Made()
    groups = place.read_groups()
    if groups is None:
        groups = _make_blocks(place, blocks, options, plm, jobs, phase, made)
    else:
        made.resumed = len(sources)
    numbers = [number for number in range(len(groups)) if not place.record(first + number).is_file()]
    _index_parts(place, groups, numbers, options, first, jobs, phase)
    for number in range(len(groups)):
        record = json.loads(place.record(first + number).read_text(encoding="utf-8"))
        made.parts += [part_entry(record["part"])] if record["part"] else []
        made.skipped += [Skipped(**one) for one in record["skipped"]]
        made.mended += Counter(record["mended"])
        made.left_out += Counter(record["left_out"])
    return made


def _make_blocks(
    place: BuildFolder,
    blocks: Sequence[Sequence[Source]],
    options: Options,
    plm: str,
    jobs: int,
    phase: Phase,
    made: Made,
) -> list[list[int]]:
    """Make the blocks that are missing, and return which of them each part has."""
    shingles = {
        number: block_shingles(place.block(number))
        for number in range(len(blocks))
        if place.block(number).is_file()
    }
    made.resumed = done = sum(len(blocks[number]) for number in shingles)
    tell = phase("reading and embedding", sum(map(len, blocks)), "files")
    tell(done)
    todo = [number for number in range(len(blocks)) if number not in shingles]
    tasks = [Task(number, place.block(number), tuple(blocks[number]), plm) for number in todo]
    # A process takes as long to start as a block.
    for number, count in make_blocks(tasks, min(jobs, len(tasks) // 2)):
        shingles[number] = count
        done += len(blocks[number])
        tell(done)
    groups: list[list[int]] = [[]]
    size = 0
    for number in range(len(blocks)):
        if size >= options.part_shingles:
            groups.append([])
            size = 0
        groups[-1].append(number)
        size += shingles[number]
    place.write_groups(groups)
    return groups


def _index_parts(
    place: BuildFolder,
    groups: Sequence[Sequence[int]],
    numbers: Sequence[int],
    options: Options,
    first: int,
    jobs: int,
    phase: Phase,
) -> None:
    """Make the parts of these numbers."""
    indexed: dict[int, int] = {}
    total = sum(block_shingles(place.block(block)) for number in numbers for block in groups[number])
    tell = phase("indexing", total, "shingles")
    stopped = threading.Event()

    def make(number: int) -> None:
        def progress(count: int) -> None:
            if stopped.is_set():
                raise _StoppedError
            indexed[number] = count

        indexed[number] = _make_part(place, first + number, groups[number], options, progress)

    pool = ThreadPoolExecutor(jobs, thread_name_prefix="openfoldpp-index")
    try:
        waiting = {pool.submit(make, number) for number in numbers}
        while waiting:
            done, waiting = wait(waiting, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            tell(sum(indexed.values()))
    finally:
        # Otherwise an interrupted run would wait for all of it.
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _make_part(
    place: BuildFolder, number: int, blocks: Sequence[int], options: Options, progress: Callable[[int], None]
) -> int:
    """Write a part and its record, and return how many shingles it has."""
    found = [read_block(place.block(block)) for block in blocks]
    entry = None
    segments = [segment for block in found for segment in block.segments]
    folder = place.library / part_name(number)
    # Of a run that was killed before it wrote the record.
    shutil.rmtree(folder, ignore_errors=True)
    if segments:
        vectors = np.concatenate([block.vectors for block in found])
        sources = [source for block in found for source in block.sources]
        entry = write_part(folder, segments, vectors, options, sources, progress)
    record = {
        "part": entry and dataclasses.asdict(entry),
        "skipped": [dataclasses.asdict(one) for block in found for one in block.skipped],
        "mended": sum((block.mended for block in found), Counter()),
        "left_out": sum((block.left_out for block in found), Counter()),
    }
    write_json(place.record(number), record)
    for block in blocks:
        place.block(block).unlink()
    return entry.counts.shingles if entry else 0


class _StoppedError(Exception):
    pass
