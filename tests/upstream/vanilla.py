"""Run OpenFold 0.0.1 by upstream's own code alone: the other side of every parity test.

A program of its own, started in a subprocess: it knows nothing of openfoldpp. Upstream 0.0.1 cannot
be imported beside today's numpy and Biopython, and its attention needs a compiled extension that
throws on a CPU; what is put in their place here is the least that lets the import pass, and a softmax
by torch.

    python vanilla.py JOBS.json

The jobs are a list of JSON objects: ``preset``, ``fasta`` (a file), ``alignments`` (a folder or null),
``templates`` (a folder of mmCIF files or null), ``gap`` (in the residue index, between chains), ``seed``,
``overrides`` (dotted configuration path -> value), ``checkpoint`` (read; where there is none, a random one
is written first), ``output_dict`` and ``pdb`` (files to write).
"""

import json
import pickle
import sys
import types
from pathlib import Path


def stand_in_for_what_is_missing():
    import Bio.Data
    import numpy as np
    import torch
    from Bio.Data import PDBData

    def forward_(logits, rows, cols):
        logits.copy_(torch.softmax(logits, dim=-1))

    extension = types.ModuleType("attn_core_inplace_cuda")
    extension.forward_ = forward_
    sys.modules["attn_core_inplace_cuda"] = extension

    scop = types.ModuleType("Bio.Data.SCOPData")
    scop.protein_letters_3to1 = PDBData.protein_letters_3to1_extended
    sys.modules["Bio.Data.SCOPData"] = Bio.Data.SCOPData = scop
    vars(np)["object"] = object

    deepspeed = types.ModuleType("pytorch_lightning.utilities.deepspeed")
    deepspeed.convert_zero_checkpoint_to_fp32_state_dict = None
    lightning = types.ModuleType("pytorch_lightning")
    lightning.utilities = types.ModuleType("pytorch_lightning.utilities")
    sys.modules.update(
        {
            "pytorch_lightning": lightning,
            "pytorch_lightning.utilities": lightning.utilities,
            "pytorch_lightning.utilities.deepspeed": deepspeed,
        }
    )


def write_random_checkpoint(config, path):
    """Every parameter drawn at random: upstream's output layers start at zero and would hide the trunk."""
    import torch
    from openfold.model.model import AlphaFold

    model = AlphaFold(config)
    generator = torch.Generator().manual_seed(20210715)
    state = {}
    for name, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        fan_in = value.shape[-1] if value.dim() > 1 else 1
        if value.dim() > 1:
            state[name] = noise / fan_in**0.5
        else:
            state[name] = value + 0.1 * noise
    torch.save(state, path)


def run(job):
    import numpy as np
    import torch
    from openfold.config import model_config
    from openfold.data import data_pipeline, feature_pipeline, templates
    from openfold.np import protein
    from openfold.utils import script_utils
    from openfold.utils.tensor_utils import tensor_tree_map

    config = model_config(job["preset"])
    config.update_from_flattened_dict(job.get("overrides", {}))
    if not Path(job["checkpoint"]).exists():
        write_random_checkpoint(config, job["checkpoint"])
    torch.set_grad_enabled(False)
    np.random.seed(job["seed"])  # noqa: NPY002
    torch.manual_seed(job["seed"] + 1)

    tags, sequences = script_utils.parse_fasta(Path(job["fasta"]).read_text())
    output_dir = Path(job["output_dict"]).parent
    alignments = Path(job.get("alignments") or output_dir / "no_alignments")
    for tag in tags:
        (alignments / tag).mkdir(parents=True, exist_ok=True)
    featurizer = None
    if job["templates"]:
        featurizer = templates.TemplateHitFeaturizer(
            mmcif_dir=job["templates"],
            max_template_date="2026-01-01",
            max_hits=config.data.predict.max_templates,
            kalign_binary_path="/usr/bin/kalign",
        )
    processor = data_pipeline.DataPipeline(template_featurizer=featurizer)
    if len(sequences) == 1:
        raw = processor.process_fasta(fasta_path=job["fasta"], alignment_dir=str(alignments / tags[0]))
    else:
        raw = processor.process_multiseq_fasta(
            fasta_path=job["fasta"], super_alignment_dir=str(alignments), ri_gap=job["gap"]
        )

    feature_processor = feature_pipeline.FeaturePipeline(config.data)
    models = script_utils.load_models_from_command_line(
        config, "cpu", job["checkpoint"], None, str(output_dir)
    )
    for model, _ in models:
        batch = feature_processor.process_features(raw, mode="predict")
        batch = {key: torch.as_tensor(value, device="cpu") for key, value in batch.items()}
        output = script_utils.run_model(model, batch, tags[0], str(output_dir))
        batch = tensor_tree_map(lambda x: np.array(x[..., -1].cpu()), batch)
        output = tensor_tree_map(lambda x: np.array(x.cpu()), output)
        unrelaxed = script_utils.prep_output(
            output, batch, raw, feature_processor, job["preset"], job["gap"], False
        )
        Path(job["pdb"]).write_text(protein.to_pdb(unrelaxed))
        with Path(job["output_dict"]).open("wb") as file:
            pickle.dump(output, file, protocol=pickle.HIGHEST_PROTOCOL)


if __name__ == "__main__":
    stand_in_for_what_is_missing()
    for one in json.loads(Path(sys.argv[1]).read_text()):
        run(one)
