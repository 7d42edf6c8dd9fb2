"""How near ``openfoldpp embed`` comes to the rate of its language model.

    python benchmarks/embed.py [--plm antiberty] [--plm_weights FILE] [--sequences 2000] [--rounds 2]
                               [--layout tokens] [--json FILE]

A is ``LanguageModel.embed`` on all sequences at once: batches by length, results in memory. B is
``openfoldpp.plm.extract.extract``: from records to files, in an empty folder. Rounds A B A B in one process,
medians. C is the whole command, once in each round, with the start of Python and the loading of the weights.
Sequences are random and of the lengths of antibody chains; their letters have no influence on the time.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import machine
import torch

from openfoldpp import plm
from openfoldpp.plm.extract import LAYOUTS, extract
from openfoldpp.plm.extract_fasta import Record

SHORTEST, LONGEST = 105, 130


def records(count: int) -> list[Record]:
    """Draw as many different sequences."""
    draw = random.Random(0)  # noqa: S311
    return [
        Record(f"s{i}", "".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=draw.randint(SHORTEST, LONGEST))))
        for i in range(count)
    ]


def model_s(model: plm.LanguageModel, given: list[Record]) -> float:
    """Return the seconds that the model itself takes."""
    start = time.perf_counter()
    model.embed([record.sequence for record in given])
    return time.perf_counter() - start


def extract_s(model: plm.LanguageModel, given: list[Record], layout: str) -> float:
    """Return the seconds that the same takes with all files written."""
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        report = extract(given, model, Path(folder), layout)
        seconds = time.perf_counter() - start
    assert report.written == len(given), report
    return seconds


def command_s(options: argparse.Namespace, given: list[Record]) -> float:
    """Return the seconds that the whole command takes."""
    with TemporaryDirectory() as folder:
        fasta = Path(folder) / "in.fasta"
        fasta.write_text("".join(f">{tag}\n{sequence}\n" for tag, sequence in given))
        command = [Path(sys.executable).with_name("openfoldpp"), "embed", fasta, "--plm", options.plm]
        command += ["--plm_weights", options.plm_weights] if options.plm_weights else []
        command += ["--out", Path(folder) / "out", "--layout", options.layout]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plm", default="antiberty")
    parser.add_argument("--plm_weights", type=Path, metavar="FILE")
    parser.add_argument("--sequences", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--layout", choices=LAYOUTS, default="tokens")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = plm.load(options.plm, options.plm_weights)
    given = records(options.sequences)
    tokens = sum(len(record.sequence) for record in given)
    model_s(model, given[:20])
    sides = {
        "model": lambda: model_s(model, given),
        "extract": lambda: extract_s(model, given, options.layout),
        "command": lambda: command_s(options, given),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side, run in sides.items():
            seconds[side].append(run())
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    print(f"{options.plm}, {len(given):,} sequences, {tokens:,} residues, layout {options.layout}")
    print(f"{options.rounds} rounds, {torch.get_num_threads()} threads, {machine.cpu_name()}\n")
    for side, median in medians.items():
        part = 100 * medians["model"] / median
        print(
            f"{side:<10}{median:8.1f} s{tokens / median:10,.0f} tokens/s{part:7.1f} % of the model's own rate"
        )
    if options.json:
        report = {"machine": machine.describe(), "tokens": tokens, "medians": medians, "seconds": seconds}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
