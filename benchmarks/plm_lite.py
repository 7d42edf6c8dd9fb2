"""What plm_lite reaches, on sequences that it did not learn from, and how long it takes.

    python benchmarks/plm_lite.py RUN [--fv FOLDER]

RUN is the folder of ``openfoldpp train plm-lite``. Writes ``docs/reports/plm_lite.md`` and the description
that lies beside the shipped weights. With ``--fv``, a folder with ``chains.json`` (sequences of crystal
structures by name and chain), these are measured too. Every sequence that was learned from is generated once
more, to tell which others are near to it: for 10,000 steps of 16,384 residues that takes two cores half an
hour. RUN/near.json keeps the answer.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import machine
import numpy as np
import plm_lite_report
import torch
from torch import Tensor

from openfoldpp import plm
from openfoldpp.files import write_json, write_text
from openfoldpp.motifs.sequence_identity import near
from openfoldpp.plm import plm_lite
from openfoldpp.plm.embedder import LanguageModel
from openfoldpp.plm.weights import sha256_of
from openfoldpp.training.antibody_sequences import generate
from openfoldpp.training.distillation import make_head, make_student
from openfoldpp.training.plm_lite import Settings
from openfoldpp.training.plm_lite_data import held_out_sequences, training_sequences

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "openfoldpp" / "weights" / "plm_lite.safetensors"
REPORT = ROOT / "docs" / "reports" / "plm_lite.md"
LATENCY_RESIDUES = 100
# What follows the seed where no training step, nor anything else, draws from: see plm_lite_data.
_WHOLE, _COMPONENTS = 8, 9
# Training steps whose sequences are looked through at once.
_STEPS_AT_ONCE = 50


def main() -> None:
    """Measure, print, and write report and description."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of the training run")
    parser.add_argument("--fv", type=Path, help="folder with chains.json, crystal structures' sequences")
    parser.add_argument("--sequences", type=int, default=300, help="held-out sequences")
    parser.add_argument("--rounds", type=int, default=50, help="repetitions of each timing")
    options = parser.parse_args()
    report = measure(options.run, options.fv, options.sequences, options.rounds)
    write_json(WEIGHTS.with_suffix(".json"), plm_lite_report.describe(report))
    text = plm_lite_report.render(report)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    write_text(REPORT, text)
    print(text)


def measure(run: Path, fv: Path | None, count: int, rounds: int) -> dict:
    """Return every figure of the report, by name.

    Parameters
    ----------
    run, fv : pathlib.Path
        Folders of the training run, and of crystal structures, if any.
    count, rounds : int
        Held-out sequences; repetitions of timings.
    """
    teacher, lite = plm.load("antiberty"), plm_lite.load()
    settings = Settings(**lite.settings["training"])
    drawn = {
        "held out": held_out_sequences(settings.seed, 4 * count),
        "held out, whole and human": [one.sequence for one in generate(4 * count, (settings.seed, _WHOLE))],
    }
    if fv is not None:
        chains = json.loads((fv / "chains.json").read_text())
        drawn["crystals"] = [one["sequence"] for fv in chains.values() for one in fv["chains"].values()]
    known = near_to_taught(drawn, settings, run / "near.json")
    sets = {
        name: [sequence for sequence, near_one in zip(drawn[name], known[name], strict=True) if not near_one]
        for name in drawn
        if name != "crystals"
    }
    if len(min(sets.values(), key=len)) < count:
        raise SystemExit(f"of {4 * count} sequences fewer than {count} are apart; give fewer --sequences")
    sets = {name: sequences[:count] for name, sequences in sets.items()}
    if fv is not None:
        sets["crystals"] = drawn["crystals"]
        apart = [
            one for one, is_near in zip(drawn["crystals"], known["crystals"], strict=True) if not is_near
        ]
        sets["crystals, those apart"] = apart
    models = {
        "untrained, the 1st, 3rd, 5th, 7th block": student(teacher, settings, shift=1),
        "untrained, the 2nd, 4th, 6th, 8th block": student(teacher, settings, shift=0),
        "trained, before rounding": student(teacher, settings, trained=run / "checkpoint.pt"),
        "plm_lite: trained, 4 bits": lite,
    }
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    report = {
        "machine": machine.describe() | machine.limits(),
        "settings": lite.settings,
        "file": WEIGHTS.name,
        "bytes": WEIGHTS.stat().st_size,
        "sha256": sha256_of(WEIGHTS),
        "learned_from": {"tokens": sum(line.get("tokens", 0) for line in log)},
        "minutes": sum(line.get("seconds", 0) for line in log) / 60,
        "drawn": 4 * count,
        "near": {name: float(np.mean(found)) for name, found in known.items()},
        "log": log,
        "sets": {},
    }
    for name, sequences in sets.items():
        expected = teacher.embed(sequences)
        report["sets"][name] = {
            "sequences": len(sequences),
            "cosine": {key: cosines(model.embed(sequences), expected) for key, model in models.items()},
            "head": head_figures(lite, teacher, sequences, expected, settings),
        }
    report["latency"] = latency(lite, sets["held out"][0], rounds)
    return report


def near_to_taught(
    sets: Mapping[str, Sequence[str]], settings: Settings, kept: Path
) -> dict[str, np.ndarray]:
    """Tell which of `sets` are 90 % identical or more to one that a run with `settings` learned from.

    The file `kept` is used where it has the answer, and written where not.
    """
    queries = [sequence for sequences in sets.values() for sequence in sequences]
    asked = {"settings": asdict(settings), "queries": queries}
    known = json.loads(kept.read_text()) if kept.is_file() else {}
    if known.get("asked") != asked:
        known = {"asked": asked, "near": search(queries, settings).tolist()}
        write_json(kept, known)
    ends = np.cumsum([len(sequences) for sequences in sets.values()])
    return dict(zip(sets, np.split(np.array(known["near"]), ends[:-1]), strict=True))


def search(queries: Sequence[str], settings: Settings) -> np.ndarray:
    """Tell which of `queries` are near to one that was learned from, with all cores: ``[N]``, bool."""
    found = np.zeros(len(queries), bool)
    pieces = np.array_split(np.arange(settings.steps), -(-settings.steps // _STEPS_AT_ONCE))
    cores = os.cpu_count() or 1
    # Each process takes one core; their products would take all of them each.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        jobs: list = []
        for number, steps in enumerate(pieces):
            # What has a near one needs no other.
            (left,) = np.nonzero(~found)
            jobs.append(
                (left, pool.apply_async(_near_to_steps, ([queries[i] for i in left], steps, settings)))
            )
            while len(jobs) > cores or (jobs and number + 1 == len(pieces)):
                those, job = jobs.pop(0)
                found[those] |= job.get()
                done = f"{number + 1 - len(jobs)} of {len(pieces)}"
                print(f"\r{done}: {found.sum()} of {len(found)} are near", end="", flush=True)
    print()
    return found


def _near_to_steps(queries: Sequence[str], steps: Sequence[int], settings: Settings) -> np.ndarray:
    return near(
        queries,
        [
            one
            for step in steps
            for one in training_sequences(settings.seed, int(step), settings.batch_tokens)
        ],
    )


def student(
    teacher: LanguageModel, settings: Settings, *, shift: int = 0, trained: Path | None = None
) -> LanguageModel:
    """Return a student as a checkpoint has it, or untrained, of blocks `shift` earlier than those kept."""
    encoder, kept = make_student(teacher.encoder, settings.keep_every, settings.width, settings.seed)
    if trained is not None:
        encoder.load_state_dict(torch.load(trained, weights_only=True)["parts"]["student"])
    else:
        for block, number in zip(encoder.blocks, kept, strict=True):
            block.load_state_dict(teacher.encoder.blocks[number - shift].state_dict())
    return LanguageModel(
        "student",
        encoder,
        teacher.alphabet,
        max_residues=teacher.max_residues,
        fingerprint=lambda _layer: "none",
    )


def cosines(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> dict[str, float]:
    """Return mean and 5th percentile over residues, and the lowest mean of a sequence."""
    each = [torch.cosine_similarity(a, b, dim=-1) for a, b in zip(ours, theirs, strict=True)]
    residues = torch.cat(each)
    return {
        "mean": float(residues.mean()),
        "percentile_5": float(residues.quantile(0.05)),
        "worst_sequence": float(min(one.mean() for one in each)),
    }


def head_figures(
    lite: plm_lite.LiteModel,
    teacher: LanguageModel,
    sequences: Sequence[str],
    expected: Sequence[Tensor],
    settings: Settings,
) -> dict[str, float]:
    """Return correlations of distances between residues with those between the teacher's whole embeddings."""
    some = torch.randperm(sum(map(len, sequences)), generator=torch.Generator().manual_seed(0))[:2000]
    theirs, ours = torch.cat(list(expected))[some], torch.cat(lite.embed(sequences))[some]
    # Without any learning: the directions in which the teacher's own embeddings vary most.
    pca = make_head(
        torch.cat(teacher.embed([one.sequence for one in generate(50, (settings.seed, _COMPONENTS))]))
    )
    wanted = torch.pdist(theirs)
    with torch.no_grad():
        sides = {"plm_lite_512": ours, "plm_lite_64": lite.project(ours), "teacher_pca_64": pca(theirs)}
        return {
            name: float(torch.corrcoef(torch.stack([torch.pdist(side), wanted]))[0, 1])
            for name, side in sides.items()
        }


def latency(lite: plm_lite.LiteModel, sequence: str, rounds: int) -> dict[str, float]:
    """Return median milliseconds for 100 residues, of the embedding and of the head."""
    piece = sequence[:LATENCY_RESIDUES]
    [embedding] = lite.embed([piece])
    return {
        "residues": len(piece),
        "threads": torch.get_num_threads(),
        "embed_ms": median_ms(lambda: lite.embed([piece]), rounds),
        "head_ms": median_ms(lambda: lite.project(embedding), rounds),
    }


def median_ms(call: Callable[[], object], rounds: int) -> float:
    """Return the median time of a `call` in milliseconds, over `rounds`, after three that do not count."""
    times = []
    for _ in range(rounds + 3):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[3:])


if __name__ == "__main__":
    main()
