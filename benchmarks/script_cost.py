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
import tempfile
from pathlib import Path

import inputs


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
        of_targets = enumerate(inputs.sequences(given.targets, given.residues))
        inputs.write(folder, {f"t{number}": sequence for number, sequence in of_targets})
        made = (folder, home, inputs.SINGLE_ROW)
        vanilla = inputs.vanilla(*made, "vanilla", settings)
        host = inputs.host(*made, "host", settings)
        sides = {
            "vanilla": lambda: inputs.run(vanilla, folder, PYTHONPATH=str(home)),
            "host": lambda: inputs.run(host, folder, OPENFOLDPP_BACKEND="torch"),
        }
        sides["vanilla"]()  # writes the weights, and brings both sides' files into memory
        for _ in range(given.rounds):
            for side, measure in sides.items():
                times[side].append(measure())
                in_model = sum(inputs.model_seconds(folder / side).values())
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
