"""What OpenFold 2's own script writes, exported in AlphaFold 2's layout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openfoldpp.inference import export, results
from openfoldpp.inference.structure_files import chain_lengths
from openfoldpp.upstream import schema

SEQUENCE = "EVQLVESGGGLVQPGGSLRLSCAAS"


@pytest.mark.upstream
@pytest.mark.skipif(not os.environ.get("OPENFOLD_HOME"), reason="OPENFOLD_HOME is not set")
def test_openfold_2s_own_output_is_exported_whole(tmp_path):
    """A homodimer by upstream's script alone, with random weights."""
    preset = "model_1_multimer_v3"
    root, script = Path(os.environ["OPENFOLD_HOME"]), "run_pretrained_openfold.py"
    for folder in ("fasta", "mmcif", "alignments/one", "alignments/two"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "fasta" / "x.fasta").write_text(f">one\n{SEQUENCE}\n>two\n{SEQUENCE}\n")
    (tmp_path / "mmcif" / "none.cif").touch()  # upstream asks for one, and reads none without a hit
    stacks = ("evoformer_stack", "extra_msa.extra_msa_stack", "template.template_pair_stack")
    weights = str(tmp_path / f"params_{preset}.npz")
    job = {
        "script": str(root / script),
        "preset": preset,
        "checkpoint": weights,
        "overrides": {f"model.{stack}.no_blocks": 1 for stack in stacks}
        | {"data.common.max_recycling_iters": 0, "data.predict.max_extra_msa": 4},
        "argv": [
            *map(str, (tmp_path / "fasta", tmp_path / "mmcif", "--output_dir", tmp_path)),
            *("--use_precomputed_alignments", str(tmp_path / "alignments"), "--config_preset", preset),
            *("--jax_param_path", weights, "--skip_relaxation", "--save_outputs", "--subtract_plddt"),
        ],
    }
    (tmp_path / "jobs.json").write_text(json.dumps([job]))
    vanilla = Path(__file__).parents[1] / "upstream" / "vanilla_script.py"
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", vanilla, tmp_path / "jobs.json"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    (result,) = results.find([tmp_path])
    output = result.read()
    done = export.export_alphafold2([result], tmp_path / "out")
    (model,) = done.models
    assert (done.folder.name, model.name) == ("one-two", f"{preset}_pred_0")
    assert model.left_out == ()
    assert ["100 - pLDDT" in note for note in model.notes] == [True]
    assert (model.ptm, model.iptm) == (float(output["ptm_score"]), float(output["iptm_score"]))
    assert model.ranking_confidence == float(output["weighted_ptm_score"])
    assert chain_lengths((done.folder / "ranked_0.pdb").read_text()) == {"A": 25, "B": 25}
    unnamed = {path.split("/")[0] for path, _ in schema.flatten(output)} - set(export.ALPHAFOLD2_NAMES)
    assert unnamed <= export.NOT_IN_ALPHAFOLD2
