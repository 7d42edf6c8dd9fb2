"""What one execution of OpenFold 2's script per target costs, against the script's single run over all.

    OPENFOLD_HOME=CHECKOUT python benchmarks/script_cost.py [--targets 5] [--residues 100] [--blocks 48]
        [--rounds 3] [--json FILE]

Both sides are whole processes: upstream's script alone, with a torch softmax in place of the extension that
it needs, and ``run_pretrained_openfold.py --plugins``, its softmax by torch too. The model is SoloSeq's,
every parameter drawn at random, ``--blocks`` deep. Rounds alternate A B A B; medians are compared: of the
whole run, and of what is outside the model's forward pass, whose own time varies by more between two runs
than the host costs. What the host does beside (plugins, checks, two more files for each target) is part of
its side.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKRQTLGQHDFS"
PRESET = "seq_model_esm1b_ptm"
REPOSITORY = Path(__file__).parents[1]


def write_inputs(folder: Path, targets: int, residues: int) -> None:
    """Write FASTA files of one length, embeddings, and the file that vanilla wants among the templates."""
    import torch

    (folder / "fasta").mkdir()
    (folder / "templates").mkdir()
    (folder / "templates" / "none.cif").touch()
    long = SEQUENCE * (-(-residues // len(SEQUENCE)) + 1)
    for number in range(targets):
        (folder / "fasta" / f"t{number}.fasta").write_text(
            f">t{number}\n{long[number : number + residues]}\n"
        )
        (folder / "alignments" / f"t{number}").mkdir(parents=True)
        embedding = torch.randn(residues, 1280, generator=torch.Generator().manual_seed(number))
        file = folder / "alignments" / f"t{number}" / f"t{number}.pt"
        torch.save({"label": f"t{number}", "representations": {33: embedding}}, file)


def arguments(folder: Path) -> list[str]:
    """Return what both commands are given."""
    return [
        str(folder / "fasta"), str(folder / "templates"),
        "--use_precomputed_alignments", str(folder / "alignments"),
        "--openfold_checkpoint_path", str(folder / "random.pt"), "--config_preset", PRESET,
        "--data_random_seed", "1", "--skip_relaxation", "--save_outputs",
    ]  # fmt: skip


def run(command: list[str], folder: Path, **environment: str) -> float:
    """Run one side and return its seconds."""
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=5)
    parser.add_argument("--residues", type=int, default=100)
    parser.add_argument("--blocks", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    home = Path(os.environ["OPENFOLD_HOME"]).resolve()
    settings = {"model.evoformer_stack.no_blocks": given.blocks}
    times: dict[str, list[float]] = {"vanilla": [], "host": []}
    outside: dict[str, list[float]] = {"vanilla": [], "host": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, given.targets, given.residues)
        (folder / "settings.json").write_text(json.dumps(settings))
        job = {
            "script": str(home / "run_pretrained_openfold.py"),
            "argv": [*arguments(folder), "--output_dir", str(folder / "vanilla")],
            "preset": PRESET,
            "overrides": settings,
            "checkpoint": str(folder / "random.pt"),
        }
        (folder / "jobs.json").write_text(json.dumps([job]))
        program = REPOSITORY / "tests" / "upstream" / "vanilla_script.py"
        sides = {
            "vanilla": lambda: run(
                [sys.executable, str(program), str(folder / "jobs.json")], folder, PYTHONPATH=str(home)
            ),
            "host": lambda: run(
                [
                    str(Path(sys.executable).parent / "run_pretrained_openfold.py"), *arguments(folder),
                    "--plugins", "openfoldpp", "--openfold_home", str(home),
                    "--experiment_config_json", str(folder / "settings.json"),
                    "--output_dir", str(folder / "host"),
                ],
                folder,
                OPENFOLDPP_BACKEND="torch",
            ),
        }  # fmt: skip
        sides["vanilla"]()  # writes the weights, and brings both sides' files into memory
        for _ in range(given.rounds):
            for side, measure in sides.items():
                times[side].append(measure())
                timings = json.loads((folder / side / "timings.json").read_text())
                in_model = sum(target["inference"] for target in timings.values())
                outside[side].append(times[side][-1] - in_model)
    medians = {side: statistics.median(values) for side, values in times.items()}
    outside_medians = {side: statistics.median(values) for side, values in outside.items()}
    cost = outside_medians["host"] - outside_medians["vanilla"]
    figures = {
        "targets": given.targets,
        "residues": given.residues,
        "blocks": given.blocks,
        **{f"{side}_s": value for side, value in medians.items()},
        "whole_run_difference_percent": 100 * (medians["host"] / medians["vanilla"] - 1),
        **{f"{side}_outside_model_s": value for side, value in outside_medians.items()},
        "host_cost_percent": 100 * cost / medians["vanilla"],
        "all_s": {side: [round(value, 2) for value in values] for side, values in times.items()},
    }
    for key, value in figures.items():
        print(f"{key:30} {value:.4g}" if isinstance(value, float) else f"{key:30} {value}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
