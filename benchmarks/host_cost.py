"""What the plugin host costs: upstream's own steps with and without it, side by side in one process.

    python benchmarks/host_cost.py [--residues 128] [--blocks 4] [--rounds 5] [--json FILE]

Both sides featurise one sequence, run an ``openfold`` 0.0.1 model of full width (randomly initialised,
``--blocks`` blocks deep), and write the PDB and the output pickle. The host's side also writes protein,
provenance and timings, each flushed to disk and renamed. Rounds alternate A B A B; medians are compared:
of the whole run, and of what is outside the model's forward pass, whose own time varies by more
between two runs than the host costs. Beside it, the time of ``import openfoldpp``
in a new interpreter, less that of the interpreter alone, and of one CoordAdapter call.
"""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKRQTLGQHDFS"


def overrides(blocks: int) -> dict:
    """Make the model shallow; its width and number of sequences stay."""
    return {
        "model.evoformer_stack.no_blocks": blocks,
        "model.extra_msa.extra_msa_stack.no_blocks": 1,
        "model.template.template_pair_stack.no_blocks": 1,
        "data.common.max_recycling_iters": 0,
        "data.predict.max_extra_msa": 32,
        "data.predict.max_msa_clusters": 32,
    }


def vanilla_side(target, model, config, folder: Path):
    """Return upstream's steps as its script does them, a callable that gives the model's own seconds."""
    import numpy as np
    import torch
    from openfold.data import data_pipeline, feature_pipeline
    from openfold.np import protein
    from openfold.utils import script_utils
    from openfold.utils.tensor_utils import tensor_tree_map

    fasta = folder / "target.fasta"
    fasta.write_text(f">{target.tag}\n{target.sequence}")
    (folder / "none").mkdir()
    processor = data_pipeline.DataPipeline(template_featurizer=None)
    features = feature_pipeline.FeaturePipeline(config.data)

    def run():
        raw = processor.process_fasta(fasta_path=str(fasta), alignment_dir=str(folder / "none"))
        batch = features.process_features(raw, mode="predict")
        batch = {key: torch.as_tensor(value, device="cpu") for key, value in batch.items()}
        output = script_utils.run_model(model, batch, target.tag, str(folder))
        batch = tensor_tree_map(lambda x: np.array(x[..., -1].cpu()), batch)
        output = tensor_tree_map(lambda x: np.array(x.cpu()), output)
        unrelaxed = script_utils.prep_output(output, batch, raw, features, "model_1_ptm", 200, False)
        (folder / "unrelaxed.pdb").write_text(protein.to_pdb(unrelaxed))
        with (folder / "output_dict.pkl").open("wb") as file:
            pickle.dump(output, file, protocol=pickle.HIGHEST_PROTOCOL)
        return json.loads((folder / "timings.json").read_text())["inference"]

    return run


def host_side(target, pipeline, loaded, folder: Path):
    """Return the same through the pipeline, its hooks and its writers."""
    from openfoldpp.inference.driver import Run
    from openfoldpp.inference.fasta import FastaInputs

    command = Run(pipeline.options, pipeline.host, FastaInputs((target,), ()))

    def run():
        result = command.predict_one(pipeline, target, loaded, folder, seed=0)
        if result.error:
            raise RuntimeError(result.error)
        return json.loads((folder.parent / "timings.json").read_text())["inference"]

    return run


def import_seconds() -> float:
    """Median time of ``import openfoldpp`` in a new interpreter, less the interpreter's own."""

    def median(code: str) -> float:
        times = []
        for _ in range(11):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, cwd=tempfile.gettempdir())
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    return median("import openfoldpp") - median("pass")


def coord_adapter_seconds(n_res: int = 250) -> float:
    """Best of five calls with pLDDT and PAE given."""
    import numpy as np

    from openfoldpp import CoordAdapter
    from openfoldpp.geometry.residues import ATOM37_OF_ATOM14

    adapter = CoordAdapter()
    coords = np.random.default_rng(0).normal(size=(n_res, 14, 3))
    mask = ATOM37_OF_ATOM14[np.zeros(n_res, int)] >= 0
    times = []
    for _ in range(5):
        start = time.perf_counter()
        adapter.output(
            coords, "A" * n_res, mask=mask, plddt=np.full(n_res, 70.0), pae=np.ones((n_res, n_res))
        )
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--residues", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    import torch

    from openfoldpp.inference import options as command_line
    from openfoldpp.inference.fasta import parse_sequence_argument
    from openfoldpp.inference.pipeline import Pipeline, settle

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a").mkdir()
        weights = folder / "random.pt"
        given = [
            "--openfold_checkpoint_path",
            str(weights),
            "--save_outputs",
            "--output_dir",
            str(folder / "b"),
        ]
        options, host = command_line.defaults(*given)
        settle(options)
        pipeline = Pipeline(options, host)
        pipeline.config.update_from_flattened_dict(overrides(arguments.blocks))
        from openfold.model.model import AlphaFold

        torch.save(AlphaFold(pipeline.config).state_dict(), weights)
        loaded = next(pipeline.models())
        torch.set_grad_enabled(False)
        repeats = -(-arguments.residues // len(SEQUENCE))
        target = parse_sequence_argument((SEQUENCE * repeats)[: arguments.residues])
        sides = {
            "vanilla": vanilla_side(target, loaded.model, pipeline.config, folder / "a"),
            "host": host_side(target, pipeline, loaded, folder / "b" / "predictions"),
        }
        times: dict[str, list[float]] = {side: [] for side in sides}
        outside: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(arguments.rounds + 1):
            for side, run in sides.items():
                start = time.perf_counter()
                in_model = run()
                times[side].append(time.perf_counter() - start)
                outside[side].append(times[side][-1] - in_model)
    # The first round warms both sides up.
    medians = {side: statistics.median(values[1:]) for side, values in times.items()}
    outside_medians = {side: statistics.median(values[1:]) for side, values in outside.items()}
    cost = outside_medians["host"] - outside_medians["vanilla"]
    figures = {
        "residues": arguments.residues,
        "blocks": arguments.blocks,
        "vanilla_s": medians["vanilla"],
        "host_s": medians["host"],
        "whole_run_difference_percent": 100 * (medians["host"] / medians["vanilla"] - 1),
        "vanilla_outside_model_s": outside_medians["vanilla"],
        "host_outside_model_s": outside_medians["host"],
        "host_cost_percent": 100 * cost / medians["vanilla"],
        "import_openfoldpp_s": import_seconds(),
        "coord_adapter_250_residues_s": coord_adapter_seconds(),
        "torch_threads": torch.get_num_threads(),
    }
    for key, value in figures.items():
        print(f"{key:32} {value:.4g}" if isinstance(value, float) else f"{key:32} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
