"""2-simplicial attention on the CPU beside torch's best form of it, the cost of windows, and peak memory.

    python benchmarks/simplicial.py [--n N ...] [--channels D] [--rounds N] [--json FILE]

One process, float32, one head, random inputs. torch computes ``softmax(q @ (k * k2)^T) @ (v * v2)`` over all
pairs: with the logits of all queries at once, of some at a time, or by its ``scaled_dot_product_attention``.
Each form runs once, the fastest goes into the rounds, A B A B, and medians are compared; forward alone, and
forward with backward, torch's by autograd. The rate counts a multiplication and an addition as 2: ``4 N^3 d``
forward and ``16 N^3 d`` with backward, which computes the logits again. torch's sgemm rate is measured with
each line. Peak memory is that of a process of its own, beyond what it held before, less results.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import machine
import torch
from kernel_tables import table
from memory import resident_bytes
from torch.nn.functional import scaled_dot_product_attention

from openfoldpp.ops import simplicial_attention

SAMPLE_S = 0.1
WINDOWS = ((64, 8), (32, 8), (128, 8), (64, 16), (64, 32))
WINDOWED_N = 1024
MEMORY_N = 512
MIB = 1 << 20


def pairs(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the products of all pairs of vectors, ``[1, 1, N * N, d]``."""
    return (first.unsqueeze(-2) * second.unsqueeze(-3)).flatten(-3, -2)


def by_softmax(q, k, k2, v, v2, queries: int | None) -> torch.Tensor:
    """Attend with torch, so many queries at a time; None for all."""
    keys, values, q = pairs(k, k2).mT, pairs(v, v2), q * q.shape[-1] ** -0.5
    parts = q.split(queries or q.shape[-2], dim=-2)
    return torch.cat([(part @ keys).softmax(dim=-1) @ values for part in parts], dim=-2)


def fused(q, k, k2, v, v2) -> torch.Tensor:
    """Attend with torch's fused attention."""
    return scaled_dot_product_attention(q, pairs(k, k2), pairs(v, v2))


FORMS: dict[str, Callable[..., torch.Tensor]] = {
    "all queries": partial(by_softmax, queries=None),
    "32 queries": partial(by_softmax, queries=32),
    "8 queries": partial(by_softmax, queries=8),
    "fused": fused,
}


def ours(q, k, k2, v, v2, window=None) -> torch.Tensor:
    """Attend with the op."""
    return simplicial_attention(q, k, k2, v, v2, window=window)


def draw(n: int, channels: int) -> list[torch.Tensor]:
    """Return random q, k, k2, v and v2, ``[1, 1, n, channels]``."""
    generator = torch.Generator().manual_seed(n)
    return [torch.randn(1, 1, n, channels, generator=generator) for _ in range(5)]


def forward(attend: Callable[..., torch.Tensor], inputs: list[torch.Tensor]) -> None:
    """Run without a gradient."""
    with torch.no_grad():
        attend(*inputs)


def with_backward(attend: Callable[..., torch.Tensor], inputs: list[torch.Tensor]) -> None:
    """Run with the gradients of all inputs."""
    leaves = [x.requires_grad_() for x in inputs]
    out = attend(*leaves)
    torch.autograd.grad(out, leaves, torch.ones_like(out))


def sample(call: Callable[[], None]) -> float:
    """Return the mean time of a call, over at least :data:`SAMPLE_S`."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < SAMPLE_S:
        call()
        count += 1
    return (time.perf_counter() - start) / count


def compare(run: Callable, operations: float, n: int, channels: int, rounds: int) -> dict:
    """Time ours beside torch's forms.

    Parameters
    ----------
    run : callable
        :func:`forward` or :func:`with_backward`.
    operations : float
        Of the matrix products.
    n, channels : int
        Sizes.
    rounds : int
        Of A B A B.

    Returns
    -------
    dict
        Median seconds of ours, of torch's fastest form, and of the fastest that is not fused; all samples.
    """
    inputs = draw(n, channels)
    rate = machine.sgemm_gflops(SAMPLE_S)
    run(ours, inputs)
    search = {}
    for name, form in FORMS.items():
        run(form, inputs)
        search[name] = sample(partial(run, form, inputs))
    softmaxes = {name: seconds for name, seconds in search.items() if name != "fused"}
    chosen = {"softmax": min(softmaxes, key=softmaxes.__getitem__), "fused": "fused"}
    calls = {"openfoldpp": partial(run, ours, inputs)}
    calls |= {side: partial(run, FORMS[name], inputs) for side, name in chosen.items()}
    samples: dict[str, list[float]] = {side: [] for side in calls}
    for _ in range(rounds):
        for side, call in calls.items():
            samples[side].append(sample(call))
    return {
        "n": n,
        "operations": operations,
        "sgemm_gflops": max(rate, machine.sgemm_gflops(SAMPLE_S)),
        "seconds": {side: statistics.median(values) for side, values in samples.items()},
        "softmax_form": chosen["softmax"],
        "search": search,
        "samples": samples,
    }


def windowed(channels: int, rounds: int) -> list[dict]:
    """Time ours with windows, the pairs in a query's reach beside it."""
    inputs = draw(WINDOWED_N, channels)
    calls = {window: partial(forward, partial(ours, window=window), inputs) for window in WINDOWS}
    samples: dict[tuple[int, int], list[float]] = {window: [] for window in WINDOWS}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for window, call in calls.items():
            samples[window].append(sample(call))
    return [
        {"n": WINDOWED_N, "window": window, "seconds": statistics.median(values), "pairs": reach(window)}
        for window, values in samples.items()
    ]


def reach(window: tuple[int, int]) -> int:
    """Return how many pairs a query has far from both ends."""
    return (2 * window[0] + 1) * (2 * window[1] + 1)


def peak_bytes(channels: int, with_gradient: bool) -> int:
    """Return what a call of this process holds at most, beyond inputs, output and gradients."""
    run = with_backward if with_gradient else forward
    run(ours, draw(16, channels))
    inputs = draw(MEMORY_N, channels)
    Path("/proc/self/clear_refs").write_text("5")  # the largest so far becomes the present one
    before = resident_bytes("VmHWM")
    run(ours, inputs)
    results = (1 + 5 * with_gradient) * inputs[0].nbytes
    return resident_bytes("VmHWM") - before - results


def main() -> None:
    """Measure, print the tables and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", nargs="+", type=int, default=[64, 128, 256], help="positions")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7, help="few are noisy")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--peak", choices=["forward", "backward"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(peak_bytes(options.channels, options.peak == "backward"))
        return
    report = {"machine": machine.describe(), "channels": options.channels, "results": {}, "memory": {}}
    print("{cpu}, {threads} threads, {simd}, torch {torch}".format_map(report["machine"]))
    for name, run, products in (("forward", forward, 4), ("forward and backward", with_backward, 16)):
        report["results"][name] = [
            compare(run, products * n**3 * options.channels, n, options.channels, options.rounds)
            for n in options.n
        ]
        print(f"\n{name}, {options.channels} channels\n\n{compared(report['results'][name])}", flush=True)
    report["windows"] = windowed(options.channels, options.rounds)
    print(f"\nforward in windows, {WINDOWED_N} positions\n\n{windows(report['windows'])}", flush=True)
    for name in ("forward", "backward"):
        command = [sys.executable, __file__, "--channels", str(options.channels), "--peak", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        report["memory"][name] = int(done.stdout.split()[-1])
    held = ", ".join(f"{name} {found / MIB:.1f} MiB" for name, found in report["memory"].items())
    print(f"\npeak memory beyond inputs and results, {MEMORY_N} positions: {held}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def compared(results: list[dict]) -> str:
    """Return the table of a comparison in Markdown."""
    rows = []
    for result in results:
        seconds = result["seconds"]
        share = result["operations"] / seconds["openfoldpp"] / 1e9 / result["sgemm_gflops"]
        rows.append(
            [
                str(result["n"]),
                f"{seconds['openfoldpp'] * 1e3:.3g} ms",
                f"{100 * share:.0f} % of {result['sgemm_gflops']:.0f} GFLOP/s",
                f"{seconds['softmax'] * 1e3:.3g} ms ({result['softmax_form']}), "
                f"{seconds['softmax'] / seconds['openfoldpp']:.2f}x",
                f"{seconds['fused'] * 1e3:.3g} ms, {seconds['fused'] / seconds['openfoldpp']:.2f}x",
            ]
        )
    return table(("N", "openfoldpp", "of the sgemm rate", "torch, softmax", "torch, fused"), rows)


def windows(results: list[dict]) -> str:
    """Return the table of the windows in Markdown; costs are compared with the first's, pair by pair."""
    first = results[0]
    rows = [
        [
            f"{result['window']}",
            f"{result['seconds'] * 1e3:.3g} ms",
            str(result["pairs"]),
            f"{result['seconds'] / first['seconds'] / (result['pairs'] / first['pairs']):.2f}",
        ]
        for result in results
    ]
    return table(("window", "openfoldpp", "pairs of a query", "time of a pair, of the first's"), rows)


if __name__ == "__main__":
    main()
