"""Whole predictions on the CPU: OpenFold 2's script at its default, at its best, and with openfoldpp.

    OPENFOLD_HOME=CHECKOUT python benchmarks/openfold_cpu.py [--residues 191 256] [--preset PRESET]
        [--alignment] [--best_chunk CHUNK] [--blocks 48] [--recycles 3] [--rounds 1] [--json FILE]

Whole processes, rounds A B C A B C, medians; every parameter is random. ``default``: upstream's script as it
is, with a torch softmax in place of the extension that it needs. ``best``: the same with the tuner off and
the chunk size that is fastest for one block here, which ``kernels.py`` finds first unless ``--best_chunk``
names it. ``openfoldpp``: ``run_pretrained_openfold.py --plugins openfoldpp``. The model's seconds are those
that each run writes to ``timings.json``; the others are of the whole process, which also imports torch, reads
the weights and writes the files.

Without ``--alignment`` the model is SoloSeq's, of one row. With it, it is ``model_1`` with an alignment of
128 rows, and its MSA sizes are set to 128, so that no row is padding.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import inputs
import kernel_tables
import machine
from inputs import ALIGNMENT, ALIGNMENT_ROWS, SINGLE_ROW

SIDES = ("default", "best", "openfoldpp")
STACKS = ("evoformer_stack", "extra_msa.extra_msa_stack", "template.template_pair_stack")


def untuned(chunk: int | None) -> dict:
    """Return the settings of one chunk size for all, with the tuners off."""
    return {"globals.chunk_size": chunk} | {f"model.{stack}.tune_chunk_size": False for stack in STACKS}


def fastest_chunk(n: int, home: Path, *, alignment: bool) -> int | None:
    """Return the chunk size of upstream's fastest block at this size, as ``kernels.py`` measures it."""
    name = "evoformer_block" + ("_alignment" if alignment else "")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernels.json"
        program = Path(__file__).with_name("kernels.py")
        flags = ["--steps", name, "--n", str(n), "--alignment_n", str(n), "--memory_n", "--rounds", "1"]
        command = [sys.executable, str(program), "--openfold_home", str(home), *flags, "--json", str(file)]
        inputs.run(command, Path(folder))
        (result,) = json.loads(file.read_text())["results"][name]
    if "best" not in result["upstream"]:
        raise SystemExit(f"{n} residues: upstream's block was left out: {result['search']}")
    return chunk_size(result["upstream"]["best"].removeprefix("chunk "))


def chunk_size(text: str) -> int | None:
    """Read a chunk size; ``unchunked`` is None."""
    return None if text == "unchunked" else int(text)


def measure(folder: Path, home: Path, n: int, options: argparse.Namespace) -> dict:
    """Run all sides on one target of `n` residues.

    Parameters
    ----------
    folder : pathlib.Path
        To work in; ``random.pt`` is made there by the first target and used by all.
    home : pathlib.Path
        The checkout of OpenFold.
    n : int
        Residues.
    options : argparse.Namespace
        The command line's.

    Returns
    -------
    dict
        Seconds of the model and of the whole run for each side, medians and samples, and the chunk size.
    """
    (sequence,) = inputs.sequences(1, n)
    target = folder / f"{n}"
    inputs.write(target, {"target": sequence}, rows=ALIGNMENT_ROWS if options.alignment else 0)
    (target / "random.pt").symlink_to(folder / "random.pt")
    if options.best_chunk:
        chunk = chunk_size(options.best_chunk)
    else:
        chunk = fastest_chunk(n, home, alignment=options.alignment)
    shared = common_settings(options)
    made = (target, home, options.preset)
    commands = {
        "default": inputs.vanilla(*made, "default", shared),
        "best": inputs.vanilla(*made, "best", shared | untuned(chunk)),
        "openfoldpp": inputs.host(*made, "openfoldpp", shared),
    }
    samples = {side: {"model_s": [], "whole_s": []} for side in SIDES}
    for _ in range(options.rounds):
        for side, command in commands.items():
            environment = {} if side == "openfoldpp" else {"PYTHONPATH": str(home)}
            samples[side]["whole_s"].append(inputs.run(command, target, **environment))
            samples[side]["model_s"].append(inputs.model_seconds(target / side)["target"])
            print(f"{n} residues, {side}: {samples[side]['model_s'][-1]:.1f} s in the model", flush=True)
    medians = {
        side: {name: statistics.median(values) for name, values in found.items()}
        for side, found in samples.items()
    }
    return {"residues": n, "best_chunk": chunk, "seconds": medians, "samples": samples}


def common_settings(options: argparse.Namespace) -> dict:
    """Return the settings of all sides."""
    settings = {
        "model.evoformer_stack.no_blocks": options.blocks,
        "data.common.max_recycling_iters": options.recycles,
    }
    if options.alignment:
        settings |= {f"data.predict.max_{name}": ALIGNMENT_ROWS for name in ("msa_clusters", "extra_msa")}
    return settings


def write_weights(folder: Path, home: Path, options: argparse.Namespace) -> None:
    """Let upstream draw the weights of all runs, by a run on a few residues."""
    first = folder / "first"
    inputs.write(first, {"target": inputs.SEQUENCE[:8]}, rows=2 if options.alignment else 0)
    command = inputs.vanilla(first, home, options.preset, "out", common_settings(options))
    inputs.run(command, first, PYTHONPATH=str(home))
    (first / "random.pt").rename(folder / "random.pt")


def markdown(report: dict) -> str:
    """Return the table of a run."""
    header = ["N_res", "what", *SIDES, "default / openfoldpp", "best / openfoldpp"]
    rows = []
    for result in report["results"]:
        for name, words in (("model_s", "model"), ("whole_s", "whole run")):
            times = {side: result["seconds"][side][name] for side in SIDES}
            ratios = [f"{times[side] / times['openfoldpp']:.2f}x" for side in ("default", "best")]
            rows.append([str(result["residues"]), words, *(f"{t:.1f} s" for t in times.values()), *ratios])
    chunks = ", ".join(f"{r['best_chunk'] or 'unchunked'} at {r['residues']}" for r in report["results"])
    return (
        f"{report['preset']}, {report['blocks']} blocks, {report['recycles']} recycles, {report['rounds']} "
        f"rounds; upstream's best chunk size: {chunks}.\n\n{kernel_tables.table(header, rows)}"
    )


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--residues", nargs="+", type=int, help="default: 191 256; with --alignment, 128")
    parser.add_argument("--preset", help=f"default: {SINGLE_ROW}; with --alignment, {ALIGNMENT}")
    parser.add_argument("--alignment", action="store_true", help=f"give {ALIGNMENT_ROWS} rows")
    parser.add_argument("--best_chunk", metavar="CHUNK", help="a number, or unchunked")
    parser.add_argument("--blocks", type=int, default=48)
    parser.add_argument("--recycles", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="print the table of a --json file")
    options = parser.parse_args()
    options.residues = options.residues or ([128] if options.alignment else [191, 256])
    options.preset = options.preset or (ALIGNMENT if options.alignment else SINGLE_ROW)
    return options


def main() -> None:
    """Measure and print."""
    options = parse()
    if options.markdown:
        print(markdown(json.loads(options.markdown.read_text())))
        return
    home = Path(os.environ["OPENFOLD_HOME"]).resolve()
    names = ("preset", "alignment", "blocks", "recycles", "rounds")
    report = {
        "machine": machine.describe(),
        **{name: getattr(options, name) for name in names},
        "results": [],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_weights(folder, home, options)
        for n in options.residues:
            report["results"].append(measure(folder, home, n, options))
            if options.json:
                options.json.write_text(json.dumps(report, indent=2) + "\n")
    print("\n" + markdown(report))


if __name__ == "__main__":
    main()
