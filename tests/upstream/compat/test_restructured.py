"""What only ``--long_sequence_inference`` and ``--trace_model`` call, against what every run calls."""

from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.upstream

TEMPLATE = "openfold.model.template"
KERNEL = "attn_core_inplace_cuda"


def randomise(module):
    torch.manual_seed(8)
    for parameter in module.parameters():  # upstream's output layers begin at zero
        torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


@pytest.fixture
def templates(active):
    """Upstream's template parts, a pair representation and two templates of nine residues."""
    from openfold.config import model_config
    from openfold.model.embedders import TemplateEmbedder

    config = model_config("model_1_ptm")
    config.model.template.template_pair_stack.no_blocks = 1
    config.model.template.template_pair_stack.tune_chunk_size = False
    residues, count = 9, 2
    generator = torch.Generator().manual_seed(4)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    ones = lambda *shape: torch.ones(count, residues, *shape)  # noqa: E731
    batch = {
        "template_aatype": torch.randint(0, 20, (count, residues), generator=generator),
        "template_mask": torch.ones(count),
        "template_pseudo_beta": 10 * draw(count, residues, 3),
        "template_pseudo_beta_mask": ones(),
        "template_all_atom_positions": 10 * draw(count, residues, 37, 3),
        "template_all_atom_mask": ones(37),
        "template_torsion_angles_sin_cos": draw(count, residues, 7, 2),
        "template_alt_torsion_angles_sin_cos": draw(count, residues, 7, 2),
        "template_torsion_angles_mask": ones(7),
    }
    embedder = randomise(TemplateEmbedder(config.model.template))
    model = SimpleNamespace(config=config.model, globals=config.globals, template_embedder=embedder)
    pair, mask = draw(residues, residues, 128), torch.ones(residues, residues)
    with torch.no_grad():
        expected = embedder(batch, pair.clone(), mask, 0, chunk_size=4, inplace_safe=False)
    return model, batch, pair, mask, expected


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("function", ["embed_templates_offload", "embed_templates_average"])
def test_templates_are_embedded_as_without_offloading(function, templates, imported, reason):
    assert "version 1" in reason("offloading")
    model, batch, pair, mask, expected = templates
    more = {"templ_group_size": 2} if function.endswith("average") else {}  # all templates, one group
    with (
        torch.no_grad(),
        imported(TEMPLATE, KERNEL) as module,
        pytest.raises(AttributeError, match="template_pair_embedder"),
    ):
        getattr(module, function)(model, batch, pair.clone(), mask, 0, **more)
    with torch.no_grad(), imported(TEMPLATE, KERNEL, "offloading") as module:
        given = getattr(module, function)(model, batch, pair.clone(), mask, 0, **more)
    assert given.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(given[name], value, atol=1e-4, rtol=1e-4)


def test_structure_module_as_without_offloading(imported, reason):
    reason("offloading")
    from openfold.config import model_config

    config = model_config("model_1_ptm").model.structure_module
    config.no_blocks = 2
    residues = 7
    draw = torch.Generator().manual_seed(6)
    aatype = torch.randint(0, 20, (residues,), generator=draw)

    def run(module, offload):
        structure = randomise(module.StructureModule(**config))
        states = {
            "single": torch.randn(residues, 384, generator=torch.Generator().manual_seed(1)),
            "pair": torch.randn(residues, residues, 128, generator=torch.Generator().manual_seed(2)),
        }
        with torch.no_grad():
            return structure(states, aatype, inplace_safe=True, _offload_inference=offload)["positions"]

    name = "openfold.model.structure_module"
    with imported(name, KERNEL) as module:
        expected = run(module, offload=False)
        with pytest.raises(AttributeError, match="device"):
            run(module, offload=True)
    with imported(name, KERNEL, "offloading") as module:
        assert torch.equal(run(module, offload=True), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_model_predicts_the_same(imported, reason, tmp_path):
    assert "version 1" in reason("tracing")
    from openfold.config import model_config
    from openfold.data.data_pipeline import DataPipeline
    from openfold.data.feature_pipeline import FeaturePipeline
    from openfold.model.model import AlphaFold

    config = model_config("model_1_ptm")
    config.update_from_flattened_dict(
        {
            "data.common.max_recycling_iters": 1,
            "data.predict.max_msa_clusters": 4,
            "data.predict.max_extra_msa": 4,
            "model.evoformer_stack.no_blocks": 2,
            "model.extra_msa.extra_msa_stack.no_blocks": 1,
            "model.template.template_pair_stack.no_blocks": 1,
        }
    )
    (tmp_path / "target.fasta").write_text(">target\nNGEQIRSISDLHQTAKKW\n")
    (tmp_path / "alignments").mkdir()
    raw = DataPipeline(None).process_fasta(str(tmp_path / "target.fasta"), str(tmp_path / "alignments"))
    torch.manual_seed(0)
    batch = FeaturePipeline(config.data).process_features(raw, mode="predict")
    model = AlphaFold(config).eval()
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model(dict(batch))
    name = "openfold.utils.trace_utils"
    with imported(name) as module, pytest.raises(AttributeError, match="template_pair_stack"):
        module.trace_model_(model, dict(batch))
    traced = AlphaFold(config).eval()
    traced.load_state_dict(state)
    with imported(name, "tracing") as module, torch.no_grad():
        module.trace_model_(traced, dict(batch))
        given = traced(dict(batch))
    for name in ("msa", "pair", "single"):
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(given[name], expected[name], atol=1e-4 * scale, rtol=0)
