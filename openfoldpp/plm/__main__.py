"""``python -m openfoldpp.plm``: embed one sequence, and measure how long 100 residues take."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings

from openfoldpp.errors import OpenFoldPPError
from openfoldpp.plm.registry import load, names

_RUNS = 20
_BENCHMARK_RESIDUES = 100


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, embed, print; the exit code is 1 after an error that a message explains.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; by default the process's own.

    Returns
    -------
    int
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m openfoldpp.plm", description=__doc__.split(": ", 1)[1])
    parser.add_argument("--seq", required=True, help="one sequence")
    parser.add_argument("--plm", default="plm_lite", metavar="NAME", help=", ".join(names()))
    parser.add_argument("--plm_weights", metavar="FILE", help="its weights, where they do not come with it")
    parser.add_argument("--plm_layer", type=int, metavar="N", help="whose output; by default the last")
    parser.add_argument("--plm_dtype", metavar="DTYPE", help="float32 (default), bfloat16 or float16")
    parser.add_argument(
        "--benchmark",
        action="store_true",
        help=f"print the time of {_BENCHMARK_RESIDUES} residues: the sequence, repeated or cut",
    )
    options = parser.parse_args(argv)
    sequence = "".join(options.seq.upper().split())
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model = load(options.plm, options.plm_weights, options.plm_layer, options.plm_dtype)
            [embedding] = model.embed([sequence])
    except OpenFoldPPError as error:
        print(f"python -m openfoldpp.plm: {error}", file=sys.stderr)
        return 1
    for warning in said:
        print(warning.message, file=sys.stderr)
    n_res, channels = embedding.shape
    print(
        f"{model.name}: {n_res} residues, {channels} channels, "
        f"mean norm of a vector {_mean_norm(embedding):.2f}"
    )
    if options.benchmark:
        seconds = []
        piece = (sequence * _BENCHMARK_RESIDUES)[:_BENCHMARK_RESIDUES]
        model.embed([piece])
        for _ in range(_RUNS):
            start = time.perf_counter()
            model.embed([piece])
            seconds.append(time.perf_counter() - start)
        print(
            f"{1e3 * statistics.median(seconds):.1f} ms per {_BENCHMARK_RESIDUES} residues "
            f"(median of {_RUNS} runs, fastest {1e3 * min(seconds):.1f} ms, {_threads()} threads)"
        )
    return 0


def _mean_norm(embedding) -> float:
    return float(embedding.norm(dim=-1).mean())


def _threads() -> int:
    import torch

    return torch.get_num_threads()


if __name__ == "__main__":
    sys.exit(main())
