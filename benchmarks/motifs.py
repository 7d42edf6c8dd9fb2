"""The index of a library of motifs beside hnswlib, usearch and exact search, on the same shingles.

    python benchmarks/motifs.py [--shingles 200000] [--library LIB] [--rounds 5] [--quick] [--json FILE]
    python benchmarks/motifs.py --markdown FILE

Shingles are those of generated antibody domains (``openfoldpp[train]`` brings OLGA), embedded as
``openfoldpp motifs build`` does; with ``--library`` those of that library. Queries are shingles of other
generated domains, none of which is in the library. hnswlib and usearch come with ``openfoldpp[test]``.

All sides have the same vectors, neighbours of a vector in the graph, and candidates at construction. What
differs in a search is how many candidates it looks at, so that each side gives a curve of speed over recall;
sides are compared at equal recall. Single queries are one call each, on one thread; batches are one call, on
one thread and on all. Exact search is at its best: of the ways in :mod:`motif_indices`, on one thread and on
all, the fastest. Rounds A B A B in one process, medians. Building and memory are measured in a process of
their own for each side.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import machine
import motif_tables
import numpy as np
from memory import resident_bytes
from motif_indices import Exact, graphs, recall

from openfoldpp.motifs.embedder import installed_embedding, shingle_embedder
from openfoldpp.motifs.index import EF_SEARCH, import_faiss
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.library_files import Options, read_manifest
from openfoldpp.motifs.part_files import write_library
from openfoldpp.motifs.segments import BACKBONE, Segment, SegmentInfo
from openfoldpp.plm.cheap_head import CHANNELS, K
from openfoldpp.training.antibody_sequences import generate

CANDIDATES = (10, 11, 12, 14, 16, 20, 24, 32, 40, 48, 64, 96, 128, 192)
SEED = 20
# Residues of a generated domain, at least.
_SHORTEST = 100


def library_of(domains: int, least: int, folder: Path) -> set[str]:
    """Make a library of generated domains, without structures, in one part with a graph.

    Parameters
    ----------
    domains : int
        Of which as many are taken as have
    least : int
        shingles together.
    folder : pathlib.Path
        The library's.

    Returns
    -------
    set of str
        The sequences that are in it.
    """
    sequences = [domain.sequence for domain in generate(domains, (SEED, 0))]
    counts = np.cumsum([len(sequence) - K + 1 for sequence in sequences])
    sequences = sequences[: int(np.searchsorted(counts, least)) + 1]
    vectors = np.concatenate(shingle_embedder().embed(sequences))
    segments = [
        Segment(
            SegmentInfo(f"domain{i}_A", f"1..{len(sequence)}", sequence),
            np.zeros((len(sequence), len(BACKBONE), 3), np.float32),
        )
        for i, sequence in enumerate(sequences)
    ]
    write_library(folder, segments, vectors, installed_embedding(), Options(flat_below=0))
    return set(sequences)


def held_out(known: set[str], count: int) -> tuple[np.ndarray, float]:
    """Embed shingles of generated domains that are not known.

    Parameters
    ----------
    known : set of str
        Sequences that are left out.
    count : int
        How many shingles.

    Returns
    -------
    vectors : numpy.ndarray of shape (count, 64), float32
    embedding_s : float
        Seconds of embedding one shingle.
    """
    sequences = [d.sequence for d in generate(1 + count // 8, (SEED, 1)) if d.sequence not in known]
    embedder = shingle_embedder()
    embedder.embed(sequences[:2])
    start = time.perf_counter()
    vectors = np.concatenate(embedder.embed(sequences))
    embedding_s = (time.perf_counter() - start) / len(vectors)
    chosen = np.random.default_rng(SEED).permutation(len(vectors))[:count]
    return np.ascontiguousarray(vectors[chosen]), embedding_s


def seconds_single(call: Callable[[np.ndarray], object], queries: np.ndarray) -> float:
    """Return the mean time of a call with one query."""
    start = time.perf_counter()
    for i in range(len(queries)):
        call(queries[i : i + 1])
    return (time.perf_counter() - start) / len(queries)


def seconds_batch(call: Callable[[np.ndarray], object], queries: np.ndarray) -> float:
    """Return the time of a query in a call with all."""
    start = time.perf_counter()
    call(queries)
    return (time.perf_counter() - start) / len(queries)


def measure(sides: dict, exact: Exact, vectors: np.ndarray, queries: np.ndarray, arguments) -> dict:
    """Measure recall and time of every side at every number of candidates, and of exact search."""
    faiss, most = import_faiss(), threads()
    # Exact search takes a hundred times as long: a tenth of the single queries, half of a batch.
    singles, few = queries[: arguments.singles], queries[: arguments.singles // 10]
    half = queries[: len(queries) // 2]
    tenth = exact.distances(queries)
    curves = {
        name: [
            {"ef": ef, "recall": recall(vectors, queries, side.search(queries, ef, most), tenth)}
            for ef in CANDIDATES
        ]
        for name, side in sides.items()
    }
    samples: dict[tuple, list[float]] = {}
    for _ in range(arguments.rounds):
        for count in sorted({1, most}):
            faiss.omp_set_num_threads(count)
            for name, way in exact.ways().items():
                samples.setdefault((name, 0, "single", count), []).append(seconds_single(way, few))
                samples.setdefault((name, 0, "batch", count), []).append(seconds_batch(way, half))
        for ef in CANDIDATES:
            for name, side in sides.items():
                one = lambda some, side=side, ef=ef: side.search(some, ef, 1)  # noqa: E731
                every = lambda some, side=side, ef=ef: side.search(some, ef, most)  # noqa: E731
                one(queries)
                samples.setdefault((name, ef, "single", 1), []).append(seconds_single(one, singles))
                samples.setdefault((name, ef, "batch", 1), []).append(seconds_batch(one, queries))
                every(queries)
                samples.setdefault((name, ef, "batch", most), []).append(seconds_batch(every, queries))
    medians = {key: statistics.median(times) for key, times in samples.items()}
    for name, curve in curves.items():
        for point in curve:
            of = {
                key: medians[name, point["ef"], *key]
                for key in (("single", 1), ("batch", 1), ("batch", most))
            }
            point |= {"single_s": of["single", 1], "batch_one_thread_s": of["batch", 1]}
            point["batch_s"] = of["batch", most]
    ways = {
        name: {
            f"{kind}_s": {str(count): medians[name, 0, kind, count] for count in sorted({1, most})}
            for kind in ("single", "batch")
        }
        for name in exact.ways()
    }
    return {"curves": curves, "exact": ways}


def build_alone(side: str, library: Path, count: int) -> dict[str, float]:
    """Build a side in a process of its own with a number of threads."""
    command = [sys.executable, __file__, "--build", side, "--library", library, "--threads", str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def build(side: str, library: Path, count: int) -> dict[str, float]:
    """Build a side; return seconds, and bytes beyond those of the process with the vectors."""
    with Library.open(library, gpu=False) as opened:
        vectors = opened.vectors(np.arange(len(opened)))
    one = graphs(library)[side]
    before = resident_bytes("VmRSS")
    start = time.perf_counter()
    one.build(vectors, count)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "bytes": resident_bytes("VmRSS") - before,
        "peak_bytes": resident_bytes("VmHWM") - before,
    }


def sizes(library: Path) -> dict[str, float]:
    """Return by file the bytes of a shingle."""
    manifest = read_manifest(library)
    found: dict[str, float] = {}
    for part in manifest.parts:
        for name, entry in part.files.items():
            found[name] = found.get(name, 0) + entry.bytes / manifest.counts.shingles
    return found


def threads() -> int:
    """Return the threads of the machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(arguments: argparse.Namespace, folder: Path) -> dict:
    """Make what is compared, measure it."""
    library, known = arguments.library, set()
    if library is None:
        library = folder / "library"
        domains = 2 + arguments.shingles // (_SHORTEST - K)
        known = library_of(domains, arguments.shingles, library)
    with Library.open(library, gpu=False) as opened:
        vectors = opened.vectors(np.arange(len(opened)))
        segments = range(opened.counts.segments) if not known else ()
        known |= {opened.segment(number).sequence for number in segments}
    queries, embedding_s = held_out(known, arguments.queries)
    sides = graphs(library)
    for name, side in sides.items():
        if name != "openfoldpp":
            side.build(vectors, threads())
    report = {
        "machine": machine.describe() | machine.limits(),
        "threads": threads(),
        "versions": motif_tables.versions(),
        "shingles": len(vectors),
        "channels": CHANNELS,
        "queries": len(queries),
        "ef": EF_SEARCH,
        "embedding_s": embedding_s,
        "bytes": sizes(library),
    }
    report |= measure(sides, Exact(vectors, threads()), vectors, queries, arguments)
    counts = sorted({1, threads()}) if not arguments.quick else [1]
    report["build"] = {
        name: {
            str(count): build_alone(name, library, count)
            for count in (counts if name != "openfoldpp" else [1])
        }
        for name in sides
    }
    report["recall_at_10"] = motif_tables.point(report, "openfoldpp", EF_SEARCH)["recall"]
    return report


def main() -> None:
    """Parse the command line, measure, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shingles", type=int, default=200_000)
    parser.add_argument("--library", type=Path, help="use its vectors; it must have its graph and one part")
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--singles", type=int, default=500, help="of the queries, asked one by one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="20,000 shingles, one round")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="print the tables of a --json file")
    parser.add_argument("--build", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        print(json.dumps(build(arguments.build, arguments.library, arguments.threads)))
        return
    if arguments.markdown:
        print(motif_tables.markdown(json.loads(arguments.markdown.read_text())))
        return
    if arguments.quick:
        arguments.shingles, arguments.queries, arguments.singles, arguments.rounds = 20_000, 300, 50, 1
    with TemporaryDirectory() as folder:
        report = run(arguments, Path(folder))
    print(motif_tables.markdown(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
