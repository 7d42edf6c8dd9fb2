"""What plm_lite reaches, on sequences that it did not learn from, and how long it takes.

    python benchmarks/plm_lite.py RUN [--fv FOLDER]

RUN is the folder of ``openfoldpp train plm-lite``. Writes ``docs/reports/plm_lite.md`` and the description
that lies beside the shipped weights. With ``--fv``, a folder with ``chains.json`` (sequences of crystal
structures by name and chain), these are measured too. Where RUN has ``before.txt``, its lines are sequences
that the model had learned from before; where it has ``history.md``, the report has that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import machine
import numpy as np
import plm_lite_report
import torch
from torch import Tensor

from openfoldpp import plm
from openfoldpp.files import write_json, write_text
from openfoldpp.plm import plm_lite
from openfoldpp.plm.embedder import LanguageModel
from openfoldpp.plm.weights import sha256_of
from openfoldpp.training.antibody_sequences import generate
from openfoldpp.training.distillation import make_head, make_student
from openfoldpp.training.plm_lite import Settings
from openfoldpp.training.plm_lite_data import held_out_sequences, training_sequences
from openfoldpp.training.sequence_identity import near

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "openfoldpp" / "weights" / "plm_lite.safetensors"
REPORT = ROOT / "docs" / "reports" / "plm_lite.md"
LATENCY_RESIDUES = 100
# What follows the seed where no training step, nor anything else, draws from: see plm_lite_data.
_WHOLE, _COMPONENTS = 8, 9


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
    taught = [
        sequence
        for step in range(settings.steps)
        for sequence in training_sequences(settings.seed, step, settings.batch_tokens)
    ]
    before = run / "before.txt"
    if before.is_file():
        taught += before.read_text().split()
    drawn = {
        "held out": held_out_sequences(settings.seed, 4 * count),
        "held out, whole and human": [one.sequence for one in generate(4 * count, (settings.seed, _WHOLE))],
    }
    apart = {name: ~near(sequences, taught) for name, sequences in drawn.items()}
    sets = {
        name: [sequence for sequence, far in zip(drawn[name], apart[name], strict=True) if far][:count]
        for name in drawn
    }
    if len(min(sets.values(), key=len)) < count:
        raise SystemExit(f"of {4 * count} sequences fewer than {count} are apart; give fewer --sequences")
    models = {
        "untrained, the 1st, 3rd, 5th, 7th block": student(teacher, settings, shift=1),
        "untrained, the 2nd, 4th, 6th, 8th block": student(teacher, settings, shift=0),
        "trained, before rounding": student(teacher, settings, trained=run / "checkpoint.pt"),
        "plm_lite: trained, 4 bits": lite,
    }
    if fv is not None:
        chains = json.loads((fv / "chains.json").read_text())
        sets["crystals"] = [one["sequence"] for fv in chains.values() for one in fv["chains"].values()]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    report = {
        "machine": machine.describe() | machine.limits(),
        "settings": lite.settings,
        "file": WEIGHTS.name,
        "bytes": WEIGHTS.stat().st_size,
        "sha256": sha256_of(WEIGHTS),
        "learned_from": {"tokens": sum(line.get("tokens", 0) for line in log)},
        "history": (run / "history.md").read_text() if (run / "history.md").is_file() else "",
        "drawn": 4 * count,
        "apart": {name: float(np.mean(far)) for name, far in apart.items()},
        "log": log,
        "sets": {},
    }
    for name, sequences in sets.items():
        expected = teacher.embed(sequences)
        report["sets"][name] = {
            "sequences": len(sequences),
            "near": float(np.mean(near(sequences, taught))),
            "cosine": {key: cosines(model.embed(sequences), expected) for key, model in models.items()},
            "head": head_figures(lite, teacher, sequences, expected, settings),
        }
    report["latency"] = latency(lite, sets["held out"][0], rounds)
    return report


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
        "student", encoder, teacher.alphabet, max_residues=teacher.max_residues, fingerprint=lambda: "none"
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
