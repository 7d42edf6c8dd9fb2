"""How long a search of one Fv takes, from its sequence to an adapter's features, and how long loading takes.

Run from the repository's folder, with one thread and with two::

    OMP_NUM_THREADS=1 python benchmarks/motif_search.py [LIB] [--json FILE]
    OMP_NUM_THREADS=2 python benchmarks/motif_search.py [LIB] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# 1AHW's Fv.
QUERY = (
    "EIQLQQSGAELVRPGALVKLSCKASGFNIKDYYMHWVKQRPEQGLEWIGLIDPENGNTIYDPKFQGKASITADTSSNTAYLQLSSLTSEDTAVYYCARDNSYYFDYWGQGTTLTVSS",
    "DIKMTQSPSSMYASLGERVTITCKASQDIRKYLNWYQQKPWKSPKTLIYYATSLADGVPSRFSGSGSGQDYSLTISSLESDDTATYYCLQHGESPYTFGGGTKLEIN",
)
RUNS = 25


def main() -> None:
    """Time the steps and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", nargs="?", type=Path, help="by default the one of openfoldpp")
    parser.add_argument("--runs", type=int, default=RUNS, help="of which medians are taken")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error(f"--runs {arguments.runs}: expected 1 or more")

    # Imports of torch and FAISS are a process's, not the library's.
    import numpy as np
    import torch

    from openfoldpp.motifs import default_library
    from openfoldpp.motifs.chaining import chain
    from openfoldpp.motifs.embedder import shingle_embedder
    from openfoldpp.motifs.features import motif_features
    from openfoldpp.motifs.index import import_faiss
    from openfoldpp.motifs.library import Library
    from openfoldpp.motifs.retriever import Retriever

    import_faiss()
    start = time.perf_counter()
    library = Library.open(arguments.library or default_library.path())
    library.load_index()
    retriever = Retriever(library, embedder=shingle_embedder())
    found: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "load_s": time.perf_counter() - start,
    }
    start = time.perf_counter()
    retriever.search([":".join(QUERY)])
    found["first_search_s"] = time.perf_counter() - start

    vectors = np.concatenate([v[::4] for _, v in retriever.embedder.embed_both(QUERY)])
    blocks = retriever.blocks(QUERY)
    finalists = [retriever.finalists(one) for one in blocks]
    windows = retriever.windows([":".join(QUERY)])[0]
    hits = chain(library, windows)
    steps: dict[str, Callable[[], object]] = {
        "embed, one chain": lambda: retriever.embedder.embed_both(QUERY[:1]),
        "nearest": lambda: library.nearest(vectors, retriever.candidates),
        "candidates (embed both, nearest)": lambda: retriever.blocks(QUERY),
        "score, first step": lambda: [retriever.finalists(one) for one in blocks],
        "score, second step": lambda: [
            retriever.score.second(retriever.features(one, np.arange(one.windows), *some))
            for one, some in zip(blocks, finalists, strict=True)
        ],
        "chain": lambda: chain(library, windows),
        "features": lambda: motif_features(hits, QUERY),
        "search to features": lambda: motif_features(retriever.search([":".join(QUERY)])[0], QUERY),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(arguments.runs):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    found["steps_s"] = {name: statistics.median(some) for name, some in times.items()}
    found["motifs"] = len(hits)
    print(f"threads: {found['threads']}")
    print(f"load {found['load_s']:.2f} s, first search {found['first_search_s']:.2f} s, {len(hits)} motifs")
    for name, seconds in found["steps_s"].items():
        print(f"{name:34} {1e3 * seconds:7.1f} ms")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
