"""Templates put into free places: what upstream's own pipeline would have made, and what the model sees.

Run for OpenFold 2 as well: ``OPENFOLD_HOME=CHECKOUT pytest tests/upstream/test_added_templates.py``.
"""

from argparse import Namespace

import numpy as np
import pytest
import torch

from openfoldpp.errors import InputError
from openfoldpp.motifs.hits import MotifHit
from openfoldpp.motifs.templates import template_features
from openfoldpp.types import Chain, Target
from openfoldpp.upstream import activate
from openfoldpp.upstream.added_templates import free_places, put_templates, require_templates
from openfoldpp.upstream.single_row_features import single_row_features

PRESET = "model_1_ptm"
SEQUENCE = "EVQLVESGGGLVQPGGSLRLSNGEQIRSISDLHQT"
SMALL = {
    "model.evoformer_stack.no_blocks": 1,
    "model.extra_msa.extra_msa_stack.no_blocks": 1,
    "model.template.template_pair_stack.no_blocks": 1,
    "model.structure_module.no_blocks": 1,
    "data.common.max_recycling_iters": 1,
    "data.predict.masked_msa_replace_fraction": 0.0,
    "data.predict.max_msa_clusters": 3,
    "data.predict.max_extra_msa": 2,
}


def hits(*spans):
    found = []
    for number, (offset, length) in enumerate(spans):
        draw = np.random.default_rng(number)
        # Three atoms off a line, each residue 3.8 angstrom on in some direction.
        steps = draw.normal(size=(length, 1, 3))
        coords = np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=-1, keepdims=True), 0)
        coords = coords + draw.normal(size=(length, 4, 3))
        sequence = SEQUENCE[offset : offset + length]
        found.append(MotifHit(offset, length, "m", "1", sequence, 0.9, 0.3, 0.9, coords.astype("f4"), 0, 0))
    return found


@pytest.fixture(scope="module")
def release():
    return activate().version


@pytest.fixture(scope="module")
def configure(release):
    from openfold.config import model_config

    def make(preset=PRESET):
        config = model_config(preset)
        config.update_from_flattened_dict(SMALL)
        return config

    return make


@pytest.fixture(scope="module")
def raw(release):
    plain = dict.fromkeys(("openfold_home", "template_mmcif_dir", "use_precomputed_alignments"))
    options = Namespace(**plain, config_preset=PRESET, multimer_ri_gap=200)
    return single_row_features(Target("t", (Chain("A", SEQUENCE),)), options)


@pytest.fixture
def batch_of(configure):
    from openfoldpp.upstream.model import process_features

    return lambda raw, config=None: process_features(dict(raw), config or configure(), "cpu")


def templates_in(batch):
    return {key: value for key, value in batch.items() if key.startswith("template_")}


@pytest.mark.parametrize("spans", [[(0, 12)], [(0, 35), (4, 20), (20, 15), (1, 10)]])
@pytest.mark.parametrize("earlier", [0, 1])
def test_features_are_what_the_pipeline_makes_of_the_same_templates(batch_of, configure, raw, spans, earlier):
    """Bit for bit, in names, shapes and dtypes; behind templates that there are already."""
    if earlier and len(spans) == 4:
        spans = spans[:3]
    ours = template_features(hits(*spans), [SEQUENCE])
    before = template_features(hits((6, 20))[:earlier], [SEQUENCE])
    together = {name: np.concatenate([before[name], ours[name]]) for name in ours}
    expected = templates_in(batch_of(raw | together))
    batch = batch_of(raw | before) if earlier else batch_of(raw)
    assert free_places(batch, configure()) == 4 - earlier
    put_templates(batch, ours, configure())
    found = templates_in(batch)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].shape == value.shape, name
        assert torch.equal(found[name], value), name
    assert free_places(batch, configure()) == 4 - earlier - len(spans)


def test_what_does_not_fit_is_refused(batch_of, configure, raw):
    batch = batch_of(raw)
    many = template_features(hits(*[(0, 12)] * 5), [SEQUENCE])
    with pytest.raises(InputError, match="5 templates are given, and there are places for 1 to 4"):
        put_templates(batch, many, configure())
    config = configure()
    with config.unlocked():
        del config.data.common.use_templates
        config.data.common.use_templates = False
    with pytest.raises(InputError, match=r"data\.common\.use_templates is off"):
        put_templates(batch, template_features(hits((0, 12)), [SEQUENCE]), config)


def test_a_preset_without_templates_names_those_with(configure, release):
    require_templates(configure(), PRESET, release)
    with pytest.raises(InputError, match=r"reads no templates; those of .*model_1, model_1_ptm, .*") as error:
        require_templates(configure("model_3_ptm"), "model_3_ptm", release)
    said = str(error.value)
    assert "model_2_ptm" in said
    assert "model_4" not in said
    assert "multimer" not in said


def test_an_exact_hit_moves_the_template_embedding(batch_of, configure, raw):
    """What the model's own template embedding adds to z, with the hit and without."""
    from openfold.model.model import AlphaFold

    config = configure()
    draw = torch.Generator().manual_seed(0)
    model = AlphaFold(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.05)
    seen = []
    embed = model.embed_templates

    def listening(*args, **kwargs):
        seen.append(embed(*args, **kwargs))
        return dict(seen[-1])

    model.embed_templates = listening
    outputs = []
    for spans in ([], [(3, 20)]):
        batch = batch_of(raw)
        if spans:
            put_templates(batch, template_features(hits(*spans), [SEQUENCE]), config)
        with torch.no_grad():
            outputs.append(model(batch))
    recycles = len(seen) // 2
    assert recycles == 2
    pair = [output["template_pair_embedding"] for output in seen]
    for without, with_hit in zip(pair[:recycles], pair[recycles:], strict=True):
        assert not without.any()
        assert with_hit[3:23, 3:23].abs().min(dim=-1).values.max() > 0
    assert not torch.equal(outputs[0]["final_atom_positions"], outputs[1]["final_atom_positions"])
