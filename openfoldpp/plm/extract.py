"""Embed many sequences into a folder, so that a run that was killed goes on where it was.

Equal sequences are embedded once, whatever the names; every record gets its embedding. The longest come
first: what does not fit into memory shows at once. Files are written by other threads while the model
computes.
"""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from openfoldpp.errors import InputError, OpenFoldPPError, WeightsError, is_out_of_memory
from openfoldpp.plm.embedder import (
    BATCH_TOKENS,
    Embedder,
    LanguageModel,
    LongSequenceWarning,
    windows_note,
)
from openfoldpp.plm.extract_fasta import Record
from openfoldpp.plm.extract_folder import MANIFEST, EmbeddingFolder
from openfoldpp.plm.extract_shards import ShardLayout
from openfoldpp.plm.layouts import Layout, SoloSeqLayout, TokensLayout

LAYOUTS: dict[str, Callable[[Path, Embedder], Layout]] = {
    "tokens": TokensLayout,
    "soloseq": SoloSeqLayout,
    "safetensors": ShardLayout,
}
# Residues given to the embedder at once, in batches: enough that the last, smaller one of them does not
# count.
_CHUNK_BATCHES = 64
# What may wait to be written.
_WAITING_BYTES = 256 << 20
# Temporary files of openfoldpp.files.atomic_write that a killed run left.
_TEMPORARY = ".openfoldpp-*.tmp"


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    tokens, total_tokens : int
        Residues that this run has embedded, and that it will have.
    sequences, total_sequences : int
        The same in sequences.
    elapsed_s : float
        Since the first was begun.
    """

    tokens: int
    total_tokens: int
    sequences: int
    total_sequences: int
    elapsed_s: float

    @property
    def tokens_per_s(self) -> float:
        """The rate so far; 0 at the start."""
        return self.tokens / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def left_s(self) -> float | None:
        """The time left at this rate; None at the start."""
        rate = self.tokens_per_s
        return (self.total_tokens - self.tokens) / rate if rate else None


@dataclass
class Report:
    """What a run did.

    Attributes
    ----------
    written : int
        Records whose embedding was written, copies of equal sequences among them.
    there : int
        Records whose embedding was there already.
    sequences, tokens : int
        What was embedded, each distinct sequence once.
    elapsed_s : float
        Time for that.
    failures : list of str
        A message for each record without an embedding.
    notes : list of str
        What the user should know though it is no mistake.
    """

    written: int = 0
    there: int = 0
    sequences: int = 0
    tokens: int = 0
    elapsed_s: float = 0.0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def extract(
    records: Sequence[Record],
    embedder: Embedder,
    folder: Path,
    layout: str,
    *,
    batch_tokens: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Report:
    """Embed records into a folder.

    Parameters
    ----------
    records : sequence of Record
        Each tag once.
    embedder : Embedder
        Makes the embeddings.
    folder : pathlib.Path
        Made where it is not there. Embeddings of the same records that it has are kept.
    layout : str
        One of :data:`LAYOUTS`.
    batch_tokens : int, optional
        Residues that a language model embeds at once; by default its own choice.
    progress : callable, optional
        Called at the start and whenever embeddings have been written.
    note : callable, optional
        Called with each note of the report as soon as it is known.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        The layout is unknown or does not go with the embedder, the folder has other embeddings, or another
        run is writing into it.
    DiskFullError
        There is no space; what was written stays.
    """
    if layout not in LAYOUTS:
        raise InputError(f"layout {layout!r}: expected one of {', '.join(LAYOUTS)}")
    options = {}
    if batch_tokens is not None:
        if not isinstance(embedder, LanguageModel) or batch_tokens < 1:
            raise InputError(
                f"--batch_tokens {batch_tokens}: expected 1 or more, and a language model, not "
                f"{embedder.name}"
            )
        options["batch_tokens"] = batch_tokens
    place = EmbeddingFolder(folder)
    report = Report()
    run = _Run(place, LAYOUTS[layout](folder, embedder), report, note or (lambda text: None))
    with place.locked() as said:
        place.claim(embedder, layout)
        run.layout.open()
        try:
            if said:
                run.note(said)
            waiting = run.plan(records)
            run.embed(waiting, embedder, options, progress or (lambda state: None))
            run.layout.finish()
        finally:
            run.layout.close()
    return report


class _Run:
    """One run into a folder."""

    def __init__(self, place: EmbeddingFolder, layout: Layout, report: Report, tell: Callable[[str], None]):
        self.place = place
        self.layout = layout
        self.report = report
        self._tell = tell

    def note(self, text: str) -> None:
        self.report.notes.append(text)
        self._tell(text)

    def plan(self, records: Sequence[Record]) -> dict[str, list[str]]:
        """Return the tags to write by their sequences; list them in the folder, and copy what is there."""
        listed = self.place.read_listing()
        folded = _ignores_case(self.place.path)
        names = {tag.casefold(): tag for tag in listed} if folded else {}
        waiting: dict[str, list[str]] = {}
        added = {}
        for tag, sequence in records:
            same = names.setdefault(tag.casefold(), tag) if folded else tag
            if same != tag:
                self._fail(tag, f"this file system takes it for '{same}'; change the '>' line")
            elif listed.get(tag, sequence) != sequence and self.layout.has(tag):
                self._fail(
                    tag,
                    f"{self.place.path} has another sequence under this name; change the '>' line, "
                    "or name another folder with --out",
                )
            elif not self.layout.has(tag):
                waiting.setdefault(sequence, []).append(tag)
                added[tag] = sequence
            elif tag in listed:
                self.report.there += 1
            else:
                self._fail(
                    tag, f"{self.layout.place(tag)} is there and is not of openfoldpp embed; move it away"
                )
        # A record without an embedding may have been given another sequence since: cut, for one.
        if added.items() - listed.items():
            self.place.write_listing(listed | added)
        _remove_temporaries({self.place.path} | {self.layout.place(tag).parent for tag in added})
        self._copy(listed, waiting)
        return waiting

    def _copy(self, listed: dict[str, str], waiting: dict[str, list[str]]) -> None:
        """Give records whose sequence is embedded already, under another name, a copy."""
        for tag, sequence in listed.items():
            if sequence not in waiting or not self.layout.has(tag):
                continue
            try:
                embedding = self.layout.read(tag, sequence)
            except WeightsError as error:
                self._fail(tag, f"{error} (remove the file, and run again)")
                continue
            for other in waiting.pop(sequence):
                self._count(*self._write(other, sequence, embedding))

    def embed(
        self,
        waiting: dict[str, list[str]],
        embedder: Embedder,
        options: dict[str, int],
        progress: Callable[[Progress], None],
    ) -> None:
        """Embed the sequences, and write each for all of its tags."""
        report = self.report
        sequences = sorted(waiting, key=len, reverse=True)
        note = windows_note(embedder.name, embedder.max_residues, list(map(len, sequences)))
        if note is not None:
            self.note(note)
        total = sum(map(len, sequences))
        start = time.perf_counter()

        def tell() -> None:
            report.elapsed_s = time.perf_counter() - start
            progress(Progress(report.tokens, total, report.sequences, len(sequences), report.elapsed_s))

        tell()
        chunk_tokens = _CHUNK_BATCHES * options.get("batch_tokens", BATCH_TOKENS)
        with _Writing(self.layout.writers) as writing, warnings.catch_warnings():
            warnings.simplefilter("ignore", LongSequenceWarning)  # said above, once for all
            for chunk in _chunks(sequences, chunk_tokens):
                for sequence, found in _embed_each(embedder, chunk, options):
                    report.sequences += 1
                    report.tokens += len(sequence)
                    try:
                        embedding = _converted(found, self.layout.dtype)
                    except OpenFoldPPError as error:
                        for tag in waiting[sequence]:
                            self._fail(tag, str(error))
                    else:
                        for tag in waiting[sequence]:
                            writing.submit(embedding.nbytes, self._write, tag, sequence, embedding)
                    for tag, problem in writing.done():
                        self._count(tag, problem)
                    tell()
            for tag, problem in writing.rest():
                self._count(tag, problem)
            tell()

    def _write(self, tag: str, sequence: str, embedding: Tensor) -> tuple[str, str | None]:
        """Write one file; runs in another thread, and so leaves the counting to the caller."""
        try:
            self.layout.write(tag, sequence, embedding)
        except InputError as error:
            return tag, str(error)
        return tag, None

    def _count(self, tag: str, problem: str | None) -> None:
        if problem is None:
            self.report.written += 1
        else:
            self._fail(tag, problem)

    def _fail(self, tag: str, reason: str) -> None:
        self.report.failures.append(f"record '{tag}': {reason}")


class _Writing:
    """Threads that write: their errors are raised here, and no more waits than memory is to hold."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="openfoldpp-write")
        self._jobs: deque[tuple[Future[tuple[str, str | None]], int]] = deque()
        self._bytes = 0

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # Interrupted: what has been computed is written. After an error, a full disk for one, it cannot be.
        self._pool.shutdown(cancel_futures=isinstance(error, Exception))

    def submit(self, size: int, write: Callable[..., tuple[str, str | None]], *arguments: object) -> None:
        self._jobs.append((self._pool.submit(write, *arguments), size))
        self._bytes += size

    def done(self) -> Iterator[tuple[str, str | None]]:
        """Yield what is finished, the oldest first, and wait for it where too much is not."""
        while self._jobs and (self._bytes > _WAITING_BYTES or self._jobs[0][0].done()):
            job, size = self._jobs.popleft()
            self._bytes -= size
            yield job.result()

    def rest(self) -> Iterator[tuple[str, str | None]]:
        """Wait for all."""
        while self._jobs:
            yield self._jobs.popleft()[0].result()


def _chunks(sequences: list[str], tokens: int) -> Iterator[list[str]]:
    chunk, total = [], 0
    for sequence in sequences:
        chunk.append(sequence)
        total += len(sequence)
        if total >= tokens:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


def _embed_each(
    embedder: Embedder, sequences: list[str], options: dict[str, int]
) -> Iterator[tuple[str, Tensor | Exception]]:
    """Yield each sequence with its embedding, or with what went wrong with it alone."""
    left = dict(enumerate(sequences))
    try:
        for number, embedding in embedder.embed_each(sequences, **options):
            yield left.pop(number), embedding
    except (OpenFoldPPError, MemoryError, RuntimeError) as error:
        if not isinstance(error, OpenFoldPPError) and not is_out_of_memory(error):
            raise
        rest = list(left.values())
        if len(rest) == 1:
            yield rest[0], error
        elif rest:
            # Halves of halves find the one that cannot be embedded.
            yield from _embed_each(embedder, rest[: len(rest) // 2], options)
            yield from _embed_each(embedder, rest[len(rest) // 2 :], options)


def _converted(found: Tensor | Exception, dtype: torch.dtype) -> Tensor:
    if isinstance(found, OpenFoldPPError):
        raise found
    if isinstance(found, Exception):
        raise InputError(
            "there is not enough memory to embed it; cut the sequence, or take a smaller model"
        ) from found
    embedding = found.to(dtype).contiguous()
    if torch.isfinite(embedding).all():
        return embedding
    if torch.isfinite(found).all():
        raise InputError(
            f"its embedding has values up to {found.abs().max():.3g}, beyond float16's 65,504; the last "
            "layer (without --plm_layer) has smaller ones"
        )
    raise InputError("its embedding holds NaN or infinity; try --plm_dtype float32")


def _remove_temporaries(folders: set[Path]) -> None:
    # The lock is held, so nobody is writing them.
    for folder in folders:
        for file in folder.glob(_TEMPORARY):
            file.unlink(missing_ok=True)


def _ignores_case(folder: Path) -> bool:
    """Whether the file system takes upper and lower case for the same, as macOS's does."""
    return (folder / MANIFEST.upper()).exists()
