"""The compositor on the CPU: the kernel beside the module in torch.

    python benchmarks/compositor.py [--n N ...] [--rounds N] [--json FILE]

One process, float32, default sizes, random weights and embeddings; both sides in rounds A B A B, and medians
are compared. Torch holds the logits of all pairs of keys, also those outside the window. Operations are those
of the matrix products in ``docs/compositor.md``; torch's sgemm rate is measured with each line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import machine
import torch
from kernel_tables import table

from openfoldpp.motifs import Compositor, CompositorSizes
from openfoldpp.ops import settings

SAMPLE_S = 0.1


def operations(sizes: CompositorSizes, n: int) -> int:
    """Return the operations for so many nodes, a multiplication and an addition counted as 2."""
    wide = sizes.heads * sizes.head_channels

    def reach(node: int, window: int | None) -> int:
        return n if window is None else min(n, node + window + 1) - max(0, node - window)

    pairs = sum(reach(node, sizes.window_j) * reach(node, sizes.window_k) for node in range(n))
    layers = 12 * n * sizes.channels * wide + 4 * n * sizes.channels * sizes.hidden
    outer = 2 * n * sizes.rank**2 * sizes.pair_channels + 2 * n**2 * sizes.rank * sizes.pair_channels
    return sizes.blocks * (4 * pairs * wide + layers) + 4 * n * sizes.channels * sizes.rank + outer


def sample(module: Compositor, embedding: torch.Tensor, backend: str) -> float:
    """Return the median time of a run by a backend, over at least :data:`SAMPLE_S`."""
    os.environ["OPENFOLDPP_BACKEND"] = backend
    settings.cache_clear()
    times: list[float] = []
    while sum(times) < SAMPLE_S:
        start = time.perf_counter()
        module(embedding)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def compare(module: Compositor, n: int, rounds: int) -> dict:
    """Time the kernel beside torch.

    Parameters
    ----------
    module : Compositor
        Without gradients.
    n : int
        Nodes.
    rounds : int
        Of A B A B, after one that does not count.

    Returns
    -------
    dict
        Median seconds of both sides, operations, and the sgemm rate.
    """
    embedding = torch.randn(n, module.sizes.channels, generator=torch.Generator().manual_seed(n))
    rate = machine.sgemm_gflops(SAMPLE_S)
    samples: dict[str, list[float]] = {"native": [], "torch": []}
    for _ in range(rounds + 1):
        for backend, values in samples.items():
            values.append(sample(module, embedding, backend))
    return {
        "n": n,
        "operations": operations(module.sizes, n),
        "sgemm_gflops": max(rate, machine.sgemm_gflops(SAMPLE_S)),
        "seconds": {backend: statistics.median(values[1:]) for backend, values in samples.items()},
    }


def compared(results: list[dict]) -> str:
    """Return the table of a comparison in Markdown."""
    rows = []
    for result in results:
        ours, torchs = result["seconds"]["native"], result["seconds"]["torch"]
        share = result["operations"] / ours / 1e9 / result["sgemm_gflops"]
        rows.append(
            [
                str(result["n"]),
                f"{ours * 1e3:.3g} ms",
                f"{100 * share:.0f} % of {result['sgemm_gflops']:.0f} GFLOP/s",
                f"{torchs * 1e3:.3g} ms, {torchs / ours:.1f}x",
            ]
        )
    return table(("nodes", "openfoldpp", "of the sgemm rate", "torch"), rows)


def main() -> None:
    """Measure, print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", nargs="+", type=int, default=[16, 64, 128, 256], help="motifs")
    parser.add_argument("--rounds", type=int, default=7, help="few are noisy")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    report = {"machine": machine.describe()}
    torch.manual_seed(0)
    module = Compositor().eval().requires_grad_(False)
    report["results"] = [compare(module, n, options.rounds) for n in options.n]
    print("{cpu}, {threads} threads, {simd}, torch {torch}\n".format_map(report["machine"]))
    print(compared(report["results"]))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
