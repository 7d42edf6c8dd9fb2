"""Peak memory of a prediction by upstream's model, measured beside the estimate that a run is planned with.

    python benchmarks/memory.py [--openfold_home DIR] [--preset NAME ...] [--residues N ...]
                                [--rows CLUSTERS EXTRA] [--untuned] [--recycles N] [--blocks N] [--json FILE]

Each measurement is a process of its own: it builds the preset's model at full width, ``--blocks`` blocks deep
(peak memory does not depend on the depth, and ``--blocks 48`` shows it), makes features of the preset's full
size (or of ``--rows`` alignment rows), runs the model on the CPU, copies the output to numpy, and reads the
largest resident size from ``/proc/self/status``. The estimate beside it is that of the tensors, on top of
what the process held before the model was run. Linux alone. A measurement that the estimate puts above
``--most`` GiB is left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from pathlib import Path

GIB = 1 << 30
PRESETS = ("model_1_ptm", "seq_model_esm1b_ptm", "model_1_multimer_v3")
_MSA_CHANNELS = 49


def resident_bytes(name: str) -> int:
    """Read VmHWM (the largest so far) or VmRSS of this process."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[name].split()[0]) * 1024


def shallow_config(options: argparse.Namespace, preset: str):
    """Return the preset's configuration, few blocks deep."""
    from openfold.config import model_config

    config = model_config(preset)
    for stack in ("evoformer_stack", "extra_msa.extra_msa_stack"):
        config.update_from_flattened_dict({f"model.{stack}.no_blocks": options.blocks})
    config.model.template.template_pair_stack.no_blocks = 1
    config.model.structure_module.no_blocks = 2
    config.data.common.max_recycling_iters = options.recycles
    if options.rows:
        config.data.predict.max_msa_clusters, config.data.predict.max_extra_msa = options.rows
    if options.untuned:
        for stack in ("evoformer_stack", "extra_msa.extra_msa_stack", "template.template_pair_stack"):
            config.update_from_flattened_dict({f"model.{stack}.tune_chunk_size": False})
    return config


def random_features(config, n: int, iterations: int) -> dict:
    """Make features of the names, shapes and types that the model reads; the recycling dimension is last."""
    import torch

    predict, model, flags = config.data.predict, config.model, config.globals
    seq, extra, templ = predict.max_msa_clusters, predict.max_extra_msa, predict.max_templates

    def floats(*shape):
        return torch.randn(*shape, iterations)

    def ones(*shape):
        return torch.ones(*shape, iterations)

    def integers(high, *shape):
        return torch.randint(0, high, (*shape, iterations))

    batch = {
        "aatype": integers(20, n),
        "target_feat": floats(n, model.input_embedder.tf_dim),
        "residue_index": torch.arange(n)[:, None].repeat(1, iterations),
        "msa_feat": floats(seq, n, _MSA_CHANNELS),
        "msa_mask": ones(seq, n),
        "seq_mask": ones(n),
        "atom14_atom_exists": ones(n, 14),
        "atom37_atom_exists": ones(n, 37),
        "residx_atom37_to_atom14": integers(14, n, 37),
        "residx_atom14_to_atom37": integers(37, n, 14),
    }
    if flags.get("seqemb_mode_enabled", False):
        batch["seq_embedding"] = floats(n, model.preembedding_embedder.preembedding_dim)
    else:
        batch |= {"extra_msa": integers(22, extra, n), "extra_msa_mask": ones(extra, n)}
        batch |= {"extra_has_deletion": ones(extra, n), "extra_deletion_value": floats(extra, n)}
    if flags.get("is_multimer", False):
        chain = (torch.arange(n) >= n // 2).long()[:, None].repeat(1, iterations)
        batch |= {"asym_id": chain + 1, "entity_id": chain + 1, "sym_id": ones(n).long()}
        batch["extra_deletion_matrix"] = ones(extra, n)
    if model.template.enabled:
        batch |= {
            "template_aatype": integers(20, templ, n),
            "template_all_atom_positions": floats(templ, n, 37, 3),
            "template_all_atom_mask": ones(templ, n, 37),
            "template_mask": ones(templ),
            "template_pseudo_beta": floats(templ, n, 3),
            "template_pseudo_beta_mask": ones(templ, n),
            "template_torsion_angles_sin_cos": floats(templ, n, 7, 2),
            "template_alt_torsion_angles_sin_cos": floats(templ, n, 7, 2),
            "template_torsion_angles_mask": ones(templ, n, 7),
        }
    return batch


def measure(options: argparse.Namespace, preset: str, n: int) -> dict:
    """Run the model once, in this process."""
    warnings.simplefilter("ignore")
    from openfoldpp.inference import memory_estimate
    from openfoldpp.upstream import activate

    version = activate(options.openfold_home).version
    config = shallow_config(options, preset)
    stages = memory_estimate.stage_bytes(config, n)
    result = {"version": version, "preset": preset, "residues": n, "stage": max(stages, key=stages.get)}
    tensors = memory_estimate.with_slack(max(stages.values()))
    if tensors > options.most * GIB:
        return result | {"estimate_bytes": tensors, "peak_bytes": None}
    import torch
    from openfold.model.model import AlphaFold
    from openfold.utils.tensor_utils import tensor_tree_map

    with torch.no_grad():
        model = AlphaFold(config).eval()
        before = resident_bytes("VmRSS")
        output = model(random_features(config, n, options.recycles + 1))
        copies = tensor_tree_map(lambda tensor: tensor.cpu().numpy().copy(), output)
    del copies
    return result | {"estimate_bytes": before + tensors, "peak_bytes": resident_bytes("VmHWM")}


def main() -> None:
    """Parse the command line, measure each combination in a process of its own, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--openfold_home", type=Path)
    parser.add_argument("--preset", nargs="+", default=PRESETS)
    parser.add_argument("--residues", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--untuned", action="store_true", help="upstream's chunk size tuner off")
    parser.add_argument("--rows", nargs=2, type=int, metavar=("CLUSTERS", "EXTRA"))
    parser.add_argument("--recycles", type=int, default=0)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--most", type=float, default=8, help="GiB that a measurement may need")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options, options.preset[0], options.residues[0])))
        return
    flags = ["--untuned"] if options.untuned else []
    flags += ["--rows", *map(str, options.rows)] if options.rows else []
    for name in ("openfold_home", "recycles", "blocks", "most"):
        if getattr(options, name) is not None:
            flags += [f"--{name}", str(getattr(options, name))]
    results = []
    print(f"{'OpenFold':<9}{'preset':<22}{'residues':>8}{'measured':>10}{'estimate':>10}{'':>7}  worst stage")
    for preset in options.preset:
        for n in options.residues:
            command = [sys.executable, __file__, "--one", "--preset", preset, "--residues", str(n), *flags]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{preset}, {n} residues: {(done.stderr.splitlines() or ['no output'])[-1]}")
            results.append(json.loads(done.stdout.splitlines()[-1]))
            _print(results[-1])
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def _print(result: dict) -> None:
    peak, estimate = result["peak_bytes"], result["estimate_bytes"]
    measured = "left out" if peak is None else f"{peak / GIB:.2f} GiB"
    ratio = "" if peak is None else f"{100 * (estimate / peak - 1):+.0f} %"
    print(
        f"{result['version']:<9}{result['preset']:<22}{result['residues']:>8}{measured:>10}"
        f"{estimate / GIB:>6.2f} GiB{ratio:>7}  {result['stage']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
