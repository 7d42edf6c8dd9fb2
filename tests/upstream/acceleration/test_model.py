"""Whole models: AlphaFold's, small, with every parameter random, from features to atoms."""

import copy

import numpy as np
import pytest
import torch

import openfoldpp
from openfoldpp.upstream.acceleration.swap import Swap

SHALLOW = {
    "model.evoformer_stack.no_blocks": 3,
    "model.extra_msa.extra_msa_stack.no_blocks": 2,
    "model.template.template_pair_stack.no_blocks": 2,
    "model.structure_module.no_blocks": 2,
    "data.common.max_recycling_iters": 1,
}
FEW_ROWS = {"data.predict.max_extra_msa": 16, "data.predict.max_msa_clusters": 20}
# The presets of 2.x that are not AlphaFold's monomer write the numbers of channels in many places.
NARROW = {"globals.c_m": 24, "globals.c_z": 20, "globals.c_t": 12, "globals.c_e": 12, "globals.c_s": 28}
SMALL = {
    "model_1_ptm": SHALLOW | FEW_ROWS | NARROW,
    "seq_model_esm1b_ptm": SHALLOW,
    "model_1_multimer_v3": SHALLOW | FEW_ROWS,
}
QUERY = "EVQLVESGGGLVQPGGSLRLSCAAS"


@pytest.fixture
def predict(release, tmp_path, draw):
    """Return a function that makes a preset's small model and its batch of features, with homologs."""
    from openfold.config import model_config
    from openfold.data import data_pipeline, feature_pipeline
    from openfold.model.model import AlphaFold

    def made(preset):
        if release == "0.0.1" and preset != "model_1_ptm":
            pytest.skip("of 2.x alone")
        config = model_config(preset)
        config.update_from_flattened_dict(SMALL[preset])
        model = AlphaFold(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.copy_(draw(*parameter.shape) / parameter.shape[-1] ** 0.5)
                else:
                    parameter.add_(0.1 * draw(*parameter.shape))
        return model, batch(config, preset)

    def batch(config, preset):
        multimer = "multimer" in preset
        (tmp_path / "a.fasta").write_text(f">query\n{QUERY}\n")
        folder = tmp_path / "alignments" / "query"
        folder.mkdir(parents=True)
        homologs = [QUERY, QUERY.replace("G", "A"), QUERY.replace("L", "-")]
        text = "".join(f">{i}\n{sequence}\n" for i, sequence in enumerate(homologs))
        (folder / "uniref90_hits.a3m").write_text(text)
        (folder / "uniprot_hits.sto").write_text(f"# STOCKHOLM 1.0\n\nquery {QUERY}\n//\n")
        options = {}
        if preset.startswith("seq"):
            embedding = {"representations": {33: draw(len(QUERY), 1280)}}
            torch.save(embedding, folder / "query.pt")
            options = {"seqemb_mode": True}
        processor = data_pipeline.DataPipeline(template_featurizer=None)
        where = folder
        if multimer:
            processor, where = data_pipeline.DataPipelineMultimer(processor), folder.parent
            options = {}
        raw = processor.process_fasta(
            fasta_path=str(tmp_path / "a.fasta"), alignment_dir=str(where), **options
        )
        np.random.seed(0)  # noqa: NPY002  (upstream draws from it)
        torch.manual_seed(0)
        how = {"is_multimer": True} if multimer else {}
        features = feature_pipeline.FeaturePipeline(config.data)
        return features.process_features(raw, mode="predict", **how)

    return made


def widened(values):
    return {key: v.double() if v.is_floating_point() else v for key, v in values.items()}


@pytest.mark.parametrize("preset", SMALL)
def test_a_small_model_is_as_exact_as_upstream(preset, predict, assert_as_exact):
    model, batch = predict(preset)
    wide = copy.deepcopy(model).double()
    wide.globals.use_lma = True  # upstream's default attention of the extra MSA stack refuses float64
    with torch.no_grad():
        exact = wide(widened(batch))
        upstreams = model(copy.deepcopy(batch))
        openfoldpp.accelerate(model)
        assert isinstance(model.structure_module.ipa.forward, Swap)
        ours = model(batch)
    assert ours.keys() == upstreams.keys()
    # Upstream keeps frames in float32 whatever the model is, so from here on "exact" is so but for them.
    for key in ("msa", "pair", "single", "lddt_logits", "final_atom_positions"):
        assert not torch.equal(ours[key], upstreams[key])
        assert_as_exact(ours[key], upstreams[key], exact[key].double(), key)
