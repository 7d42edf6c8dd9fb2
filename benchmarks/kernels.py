"""The native kernels beside upstream's own modules: each step of an Evoformer block, and the whole block.

    python benchmarks/kernels.py [--openfold_home DIR] [--n N_RES ...] [--alignment_n N_RES ...]
                                 [--memory_n N_RES ...] [--steps NAME ...] [--rounds N] [--json FILE]
    python benchmarks/kernels.py --markdown FILE

One process, float32 on the CPU, every parameter random, the same weights and inputs for both sides. Upstream
is at its best: each of its settings (chunk sizes with the tuner off, in place or not where a module has no
chunks) runs once, and the fastest goes into the rounds, A B A B, whose medians are compared. A whole block is
compared with upstream's default as well: the sizes that its tuner picks. The machine's sgemm rate is measured
for each line, the peak memory of a block in a process of its own. The second form prints the tables of a
``--json`` file, as ``docs/kernels.md`` has them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import kernel_tables
import machine
import torch
from floor import Sizes
from memory import GIB, resident_bytes
from steps import CHUNKS, CONFIGURED_CHUNK, STEPS, State, Step

from openfoldpp.inference.free_memory import available_bytes
from openfoldpp.ops.workspace import kept
from openfoldpp.upstream import activate

# A sample is at least this long: a step of a short chain takes less than a timer and a busy machine allow.
SAMPLE_S = 0.1
# Of the free memory, what upstream's estimated need may be.
USABLE = 0.8
# Where the rounds of upstream's best would take longer, there are fewer, at least one.
PATIENCE_S = 30.0


class Sides:
    """A step, made once, for any size.

    Parameters
    ----------
    step : Step
        What to make.
    """

    def __init__(self, step: Step):
        self.step = step
        self.module = step.make(step.rows)
        self.converted = step.convert(self.module)
        # Libraries load, threads start and weights are packed before anything is measured.
        state = State(Sizes(16, step.rows))
        for setting in step.settings.values():
            self.upstream(state, setting)()
        self.ours(state)()

    def upstream(self, state: State, setting: dict) -> Callable[[], object]:
        """Return upstream's step on a state."""
        return partial(self.step.upstream, self.module, state, **setting)

    def ours(self, state: State) -> Callable[[], object]:
        """Return our step on a state; as in a whole stack, the kernels keep their workspace."""
        return partial(self.step.ours, self.converted, state)

    def refusal(self, sizes: Sizes, setting: dict) -> str | None:
        """Say why upstream's step would not fit into the free memory, or return None."""
        needed, free = self.step.upstream_bytes(sizes, setting), available_bytes()
        if needed <= USABLE * free:
            return None
        return f"needs about {needed / GIB:.0f} GiB of {free / GIB:.0f} free"


def sample(call: Callable[[], object], state: State) -> float:
    """Return the mean time of a call, over at least :data:`SAMPLE_S`; each begins with the same inputs."""
    total, count = 0.0, 0
    while total < SAMPLE_S:
        state.restore()
        start = time.perf_counter()
        call()
        total += time.perf_counter() - start
        count += 1
    return total / count


def tuned(sides: Sides, state: State) -> dict:
    """Return what upstream's stack passes to its blocks by default, by its own tuner on this machine."""
    from openfold.utils.chunk_utils import ChunkSizeTuner

    masks = {"msa_mask": state.msa_mask, "pair_mask": state.pair_mask}
    chunk = ChunkSizeTuner().tune_chunk_size(
        representative_fn=partial(sides.module, **masks, inplace_safe=True, _mask_trans=False),
        args=(state.m.clone(), state.z.clone()),
        min_chunk_size=CONFIGURED_CHUNK,
    )
    return {"chunk_size": chunk, "_attn_chunk_size": max(CONFIGURED_CHUNK, chunk // 4)}


def measure(sides: Sides, n: int, rounds: int) -> dict:
    """Measure one step at one size.

    Parameters
    ----------
    sides : Sides
        The step.
    n : int
        Residues.
    rounds : int
        At most; one where a round takes long.

    Returns
    -------
    dict
        Settings and seconds of each side, every sample, and what was left out, with the reason.
    """
    sizes = Sizes(n, sides.step.rows)
    state = State(sizes)
    state.remember()
    rate = machine.sgemm_gflops(SAMPLE_S)
    calls = {"openfoldpp": sides.ours(state)}
    search: dict[str, float | str] = {}
    for name, setting in sides.step.settings.items():
        refusal = sides.refusal(sizes, setting)
        search[name] = refusal or sample(sides.upstream(state, setting), state)
    timed = {name: value for name, value in search.items() if not isinstance(value, str)}
    chosen = {}
    if timed:
        best = min(timed, key=timed.__getitem__)
        chosen["best"] = best
        calls["best"] = sides.upstream(state, sides.step.settings[best])
    if isinstance(sides.module, _block_class()):
        refusal = sides.refusal(sizes, CHUNKS["unchunked"])
        if refusal:
            chosen["default_left_out"] = f"its tuner tries the largest chunk first, which {refusal}"
        else:
            setting = tuned(sides, state)
            chosen["default"] = "chunk {chunk_size}, attention {_attn_chunk_size}".format(**setting)
            calls["default"] = sides.upstream(state, setting)
    samples: dict[str, list[float]] = {side: [] for side in calls}
    affordable = int(PATIENCE_S / min(timed.values())) if timed else rounds
    for _ in range(max(1, min(rounds, affordable))):
        for side, call in calls.items():
            with kept():
                samples[side].append(sample(call, state))
    floor = sides.step.floor(sizes)
    return {
        "residues": n,
        "rows": sides.step.rows,
        "operations": floor.operations,
        "bytes": floor.bytes,
        "sgemm_gflops": max(rate, machine.sgemm_gflops(SAMPLE_S)),
        "seconds": {side: statistics.median(values) for side, values in samples.items()},
        "upstream": chosen,
        "search": search,
        "samples": samples,
    }


def _block_class():
    from openfold.model.evoformer import EvoformerBlock

    return EvoformerBlock


def measure_memory(name: str, n: int, setting: dict | None) -> dict:
    """Run a step once in this process, upstream's with a setting or ours with None, and return its peak."""
    sides = Sides(STEPS[name])
    state = State(Sizes(n, sides.step.rows))
    call = sides.ours(state) if setting is None else sides.upstream(state, setting)
    Path("/proc/self/clear_refs").write_text("5")  # the largest so far becomes the present one
    before = resident_bytes("VmHWM")
    with kept():
        call()
    peak = resident_bytes("VmHWM")
    return {"extra_bytes": peak - before, "peak_bytes": peak}


def peaks(name: str, n: int, results: list[dict], home: list[str]) -> list[dict]:
    """Measure the peak memory of both sides in processes of their own; upstream's at its fastest setting."""
    step = STEPS[name]
    sizes = Sizes(n, step.rows)
    found = [result["upstream"].get("best") for result in results if result["residues"] == n]
    best = next((name for name in found if name), f"chunk {CONFIGURED_CHUNK}")
    measured = []
    for side, setting in (("openfoldpp", None), (best, CHUNKS[best])):
        job = json.dumps({"name": name, "n": n, "setting": setting})
        done = subprocess.run(
            [sys.executable, __file__, "--one", job, *home], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{name}, {n} residues: {(done.stderr.splitlines() or ['no output'])[-1]}")
        result = json.loads(done.stdout.splitlines()[-1])
        result |= {"step": name, "residues": n, "side": side, "z_bytes": sizes.z_bytes}
        print(
            f"{name}, {n} residues, {side}: {result['extra_bytes'] / sizes.z_bytes:.2f} copies of z",
            flush=True,
        )
        measured.append(result)
    return measured


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--openfold_home", type=Path, help="checkout of OpenFold 2; default: OPENFOLD_HOME")
    parser.add_argument("--n", nargs="*", type=int, default=[64, 96, 128, 192, 256, 384, 512, 768, 1024])
    parser.add_argument("--alignment_n", nargs="*", type=int, default=[128, 256], help="for 128 rows")
    parser.add_argument("--memory_n", nargs="*", type=int, default=[512, 1024])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="print the tables of a --json file")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure what the command line asks for, print the tables and write the figures."""
    options = parse()
    if options.markdown:
        print(kernel_tables.markdown(json.loads(options.markdown.read_text())))
        return
    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    version = activate(options.openfold_home).version
    if options.one:
        print(json.dumps(measure_memory(**options.one)))
        return
    report = {
        "machine": machine.describe(),
        "openfold": version,
        "copy_gbytes_per_s": machine.copy_gbytes_per_s(),
        "rounds": options.rounds,
        "results": {},
        "memory": [],
    }

    def save():
        if options.json:
            options.json.write_text(json.dumps(report, indent=2) + "\n")

    for name in options.steps:
        results = report["results"][name] = []
        sides = Sides(STEPS[name])
        for n in options.n if sides.step.rows == 1 else options.alignment_n:
            results.append(measure(sides, n, options.rounds))
            print(kernel_tables.line(name, results[-1]), flush=True)
            save()
    home = ["--openfold_home", str(options.openfold_home)] if options.openfold_home else []
    for n in options.memory_n if "evoformer_block" in options.steps else []:
        report["memory"] += peaks("evoformer_block", n, report["results"]["evoformer_block"], home)
        save()
    print("\n" + kernel_tables.markdown(report))


if __name__ == "__main__":
    main()
