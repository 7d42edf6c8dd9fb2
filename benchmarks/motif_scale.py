"""What libraries of other sizes take, computed from what ``benchmarks/motifs.py`` measured on one.

    python benchmarks/motif_scale.py FILE [--shingles 500000000 50000000000]

FILE is of ``benchmarks/motifs.py --json``. Nothing of what is printed was measured at that size. The files
and the memory of an index grow with the shingles; so do the seconds of embedding, and those of indexing, as a
part never has more than a million shingles; the seconds of a search grow with the parts, as each is searched.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from motif_tables import point

SIZES = (500_000_000, 50_000_000_000)
#: Shingles of a part, see ``openfoldpp.motifs.library_files.Options``.
PART = 1_000_000
#: What a large machine has: cores, and bytes of memory of which so much goes to the index.
CORES, MEMORY, USED = 64, 1e12, 0.8
#: Vectors that the retriever searches for one Fv of 230 residues: every third window, and as many nearest.
VECTORS, NEAREST = 76, 128
#: A graph on disk (DiskANN) as Milvus has it: links of a vector, and memory as a part of the float32 vectors.
DEGREE, IN_MEMORY = 56, 0.125 + 0.125
BLOCK = 4096


def computed(report: dict, shingles: int) -> dict[str, float]:
    """Compute what a library takes.

    Parameters
    ----------
    report : dict
        Of ``benchmarks/motifs.py --json``.
    shingles : int
        Of the library.

    Returns
    -------
    dict of str to float
        Bytes, seconds and numbers by name.
    """
    size = report["bytes"]
    parts = math.ceil(shingles / PART)
    index = size["index.faiss"] * shingles
    # A part of a million is searched more slowly than the measured one, by the logarithm of its size.
    growth = math.log(PART) / math.log(report["shingles"])
    vector = point(report, "openfoldpp", NEAREST)["batch_one_thread_s"] * growth * parts
    machines = math.ceil(index / (USED * MEMORY))
    raw = 4 * report["channels"] * shingles
    row = 4 * report["channels"] + 4 * DEGREE
    return {
        "parts": parts,
        "files_bytes": sum(size.values()) * shingles,
        "index_bytes": index,
        "embedding_core_s": report["embedding_s"] * report["threads"] * shingles,
        "indexing_core_s": report["build"]["openfoldpp"]["1"]["seconds"]
        / report["shingles"]
        * growth
        * shingles,
        "machines": machines,
        "vector_core_s": vector,
        "vectors_per_s": machines * CORES / vector,
        "fv_core_s": VECTORS * vector,
        "fvs_per_s": machines * CORES / vector / VECTORS,
        "disk_graph_bytes": math.ceil(shingles / (BLOCK // row)) * BLOCK,
        "disk_graph_memory_bytes": IN_MEMORY * raw,
        "qdrant_memory_bytes": raw * 1.5,
        "qdrant_int8_bytes": report["channels"] * shingles,
    }


def table(report: dict, sizes: list[int]) -> str:
    """Return the table of some sizes."""
    columns = [computed(report, size) for size in sizes]
    rows = {
        "parts": ("parts of a million", "{:,.0f}", 1),
        "files_bytes": ("all files, TB", "{:,.2f}", 1e12),
        "index_bytes": ("of them the index, which is in memory, TB", "{:,.2f}", 1e12),
        "embedding_core_s": ("embedding, core hours", "{:,.0f}", 3600),
        "indexing_core_s": ("indexing, core hours", "{:,.0f}", 3600),
        "machines": (
            f"machines of {MEMORY / 1e12:.0f} TB and {CORES} cores that hold the index",
            "{:,.0f}",
            1,
        ),
        "vector_core_s": (f"a vector and its {NEAREST} nearest, core seconds", "{:,.2f}", 1),
        "vectors_per_s": ("vectors a second on these machines", "{:,.1f}", 1),
        "fv_core_s": (f"an Fv of {VECTORS} vectors, core seconds", "{:,.1f}", 1),
        "fvs_per_s": ("Fvs a second on these machines", "{:,.2f}", 1),
        "disk_graph_bytes": ("a DiskANN graph with its vectors, on NVMe, TB", "{:,.2f}", 1e12),
        "disk_graph_memory_bytes": ("and in memory, TB", "{:,.2f}", 1e12),
        "qdrant_memory_bytes": ("Qdrant's formula for all in memory, TB", "{:,.2f}", 1e12),
        "qdrant_int8_bytes": ("its int8 vectors alone, in memory, TB", "{:,.2f}", 1e12),
    }
    lines = [
        f"| computed | {' | '.join(f'{size:,} shingles' for size in sizes)} |",
        "|---|" + "---|" * len(sizes),
    ]
    for name, (label, form, unit) in rows.items():
        lines.append(f"| {label} | {' | '.join(form.format(column[name] / unit) for column in columns)} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--shingles", type=int, nargs="+", default=list(SIZES))
    arguments = parser.parse_args()
    print(table(json.loads(arguments.file.read_text()), arguments.shingles))


if __name__ == "__main__":
    main()
