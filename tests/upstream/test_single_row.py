"""One row in place of the MSA, in upstream's model: what it computes, what it leaves, what it refuses."""

import copy
from argparse import Namespace

import numpy as np
import pytest
import torch

from openfoldpp.errors import InputError
from openfoldpp.types import Chain, Target
from openfoldpp.upstream import acceleration, single_row
from openfoldpp.upstream.single_row_features import single_row_features

PRESET = "model_1_ptm"
HEAVY, LIGHT = "EVQLVESGGGLVQPGGSLRLS", "DIQMTQSPSSLSAS"
# Every kind of block, without activation checkpoints; with the random masking of residues off, as both sides
# draw other numbers.
SMALL = {
    "model.evoformer_stack.no_blocks": 2,
    "model.extra_msa.extra_msa_stack.no_blocks": 1,
    "model.extra_msa.extra_msa_stack.ckpt": False,
    "model.template.template_pair_stack.no_blocks": 1,
    "model.structure_module.no_blocks": 2,
    "data.common.max_recycling_iters": 1,
    "data.predict.masked_msa_replace_fraction": 0.0,
    "data.predict.max_msa_clusters": 6,
    "data.predict.max_extra_msa": 9,
}


def options(**given):
    plain = dict.fromkeys(("openfold_home", "template_mmcif_dir", "use_precomputed_alignments"))
    return Namespace(**plain | {"config_preset": PRESET, "multimer_ri_gap": 200} | given)


def target(*sequences):
    return Target("t", tuple(Chain("HL"[i], sequence) for i, sequence in enumerate(sequences)))


@pytest.fixture(scope="module")
def configure():
    """Makes upstream's configuration of the small model."""
    from openfoldpp.upstream import activate

    activate()
    from openfold.config import model_config

    def make(preset=PRESET):
        config = model_config(preset)
        config.update_from_flattened_dict(SMALL)
        return config

    return make


@pytest.fixture(scope="module")
def drawn(configure):
    """A small model whose every parameter is random."""
    from openfold.model.model import AlphaFold

    draw = torch.Generator().manual_seed(0)
    model = AlphaFold(configure()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.05)
    return model


@pytest.fixture
def model(drawn):
    yield drawn
    single_row.undo(drawn)
    acceleration.undo(drawn)


class OwnEmbedding(torch.nn.Module):
    """A projector that gives what the model's own embedding of ``msa_feat``, with a 1 added, would."""

    def __init__(self, model):
        super().__init__()
        layer = model.input_embedder.linear_msa_m
        self.weight = torch.nn.Parameter(torch.cat([layer.weight, layer.bias[:, None]], 1).detach().clone())

    def forward(self, embedding):
        return torch.nn.functional.linear(embedding, self.weight)


def embedding_of(batch):
    """The first row of ``msa_feat``, and a 1."""
    row = batch["msa_feat"][0, ..., 0]
    return torch.cat([row, torch.ones(len(row), 1)], 1).numpy()


def batch_of(raw, config):
    from openfoldpp.upstream.model import process_features

    return process_features(raw, config, "cpu")


def predict(model, batch):
    """Run the model as upstream's script does: templates are on where the batch has some."""
    wanted = model.config.template.enabled
    model.config.template.enabled = wanted and any("template_" in key for key in batch)
    try:
        with torch.no_grad():
            return model({key: value.clone() for key, value in batch.items()})
    finally:
        model.config.template.enabled = wanted


@pytest.fixture
def padded_and_single(configure, model):
    """The batch of upstream's features, padded, and that of one row."""

    def make(*sequences, templates=False):
        raw = single_row_features(target(*sequences), options())
        padded = batch_of(raw, configure())
        config = configure()
        single_row.configure_single_row(config, templates=templates)
        return padded, batch_of(raw | {single_row.FEATURE: embedding_of(padded)}, config)

    return make


KEYS = ("pair", "single", "plddt", "final_atom_positions", "predicted_aligned_error", "distogram_logits")


def assert_close(ours, theirs):
    for key in KEYS:
        scale = theirs[key].abs().max()
        # Seen: 0 to 1e-6. Sizes of matrix products differ, and recycling sorts distances into bins.
        torch.testing.assert_close(ours[key] / scale, theirs[key] / scale, rtol=0, atol=1e-5, msg=key)
    scale = theirs["msa"][:1].abs().max()
    torch.testing.assert_close(ours["msa"] / scale, theirs["msa"][:1] / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("templates", [False, True])
@pytest.mark.parametrize("sequences", [(HEAVY,), (HEAVY, LIGHT)])
def test_one_row_computes_what_the_padded_rows_do(padded_and_single, model, sequences, templates):
    """Recycling included; without templates their four masked places are left out as well."""
    padded, single = padded_and_single(*sequences, templates=templates)
    assert padded["msa_mask"].shape[0] == 6
    assert padded["extra_msa_mask"].shape[0] == 9
    assert single["msa_mask"].shape[0] == single["extra_msa_mask"].shape[0] == 1
    assert not single["extra_msa_mask"].any()
    assert any("template_" in key for key in single) == templates
    expected = predict(model, padded)
    single_row.attach(model, OwnEmbedding(model))
    ours = predict(model, single)
    assert_close(ours, expected)
    assert ours["msa"].shape[0] == 1
    single[single_row.FEATURE][3] += 1
    assert not np.allclose(predict(model, single)["pair"], ours["pair"], atol=1e-3)


def test_works_with_the_native_kernels(padded_and_single, model):
    _, single = padded_and_single(HEAVY)
    single_row.attach(model, OwnEmbedding(model))
    expected = predict(model, single)
    acceleration.accelerate(model)
    assert_close(predict(model, single), expected)


def test_the_pair_representation_is_made_as_ever(model, padded_and_single):
    padded, single = padded_and_single(HEAVY)
    features = [padded[name][..., 0] for name in ("target_feat", "residue_index", "msa_feat")]
    m, z = model.input_embedder(*features)
    projector = OwnEmbedding(model)
    single_row.attach(model, projector)
    embedding = single[single_row.FEATURE][None, ..., 0]
    own_m, own_z = model.input_embedder(*features[:2], embedding)
    assert torch.equal(own_z, z)
    expected = projector(embedding) + model.input_embedder.linear_tf_m(features[0])
    assert torch.equal(own_m, expected)
    torch.testing.assert_close(own_m, m[:1])


def test_leaves_names_and_classes_and_can_be_undone(model):
    names, kinds = list(model.state_dict()), [type(part) for part in model.modules()]
    asking = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    kept = model.input_embedder.linear_tf_m.weight
    kept.requires_grad_(False)
    try:
        for _ in range(2):
            single_row.attach(model, OwnEmbedding(model))
        assert list(model.state_dict()) == names
        assert [type(part) for part in model.modules()] == kinds
        assert len(model._forward_pre_hooks) == 1
        assert single_row.undo(model) is model
        assert not model._forward_pre_hooks
        assert "forward" not in vars(model.input_embedder.linear_msa_m)
        assert not kept.requires_grad
    finally:
        kept.requires_grad_(True)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == asking


def test_gradients_reach_the_projector_alone(model, padded_and_single):
    _, single = padded_and_single(HEAVY)
    projector = OwnEmbedding(model)
    single_row.attach(model, projector)
    single[single_row.FEATURE].requires_grad_(True)
    model.config.template.enabled = False
    try:
        output = model({key: value[..., :1] for key, value in single.items()})
    finally:
        model.config.template.enabled = True
    output["distogram_logits"].square().mean().backward()
    assert projector.weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in model.parameters())
    assert single[single_row.FEATURE].grad is None


def test_a_copy_predicts_the_same_and_has_a_projector_of_its_own(model, padded_and_single):
    _, single = padded_and_single(HEAVY)
    single_row.attach(model, OwnEmbedding(model))
    expected = predict(model, single)
    copied = copy.deepcopy(model)
    assert torch.equal(predict(copied, single)["pair"], expected["pair"])
    copied.input_embedder.linear_msa_m.forward.projector.weight.data.zero_()
    assert torch.equal(predict(model, single)["pair"], expected["pair"])


def test_configuring_twice_equals_once(configure):
    once, twice = configure(), configure()
    single_row.configure_single_row(once, templates=False)
    for _ in range(2):
        single_row.configure_single_row(twice, templates=False)
    assert once == twice
    assert not once.data.common.use_templates
    assert once.model == configure().model  # the weights of templates are there, and are loaded
    assert once.data.common.feat[single_row.FEATURE] == ["num residues placeholder", None]
    assert configure().data.common.unsupervised_features == once.data.common.unsupervised_features[:-1]


def test_rows_reserved_for_templates_leave_the_one(configure, padded_and_single):
    config = configure()
    config.data.common.reduce_msa_clusters_by_max_templates = True
    single_row.configure_single_row(config, templates=True)
    padded, _ = padded_and_single(HEAVY)
    raw = single_row_features(target(HEAVY), options())
    batch = batch_of(raw | {single_row.FEATURE: embedding_of(padded)}, config)
    assert batch["msa_mask"].shape[0] == 1


def test_features_of_another_plugin_are_refused(model, padded_and_single):
    _, single = padded_and_single(HEAVY)
    del single[single_row.FEATURE]
    single_row.attach(model, OwnEmbedding(model))
    with pytest.raises(InputError, match="another plugin has made them"):
        predict(model, single)


def test_more_rows_than_one_are_refused(model, padded_and_single):
    padded, single = padded_and_single(HEAVY)
    single_row.attach(model, OwnEmbedding(model))
    with pytest.raises(InputError, match=r"data\.predict\.max_msa_clusters is 6"):
        predict(model, padded | {single_row.FEATURE: single[single_row.FEATURE]})


def test_another_embedder_is_refused(model):
    other = torch.nn.Module()
    other.input_embedder = torch.nn.Linear(1, 1)
    with pytest.raises(InputError, match=r"input_embedder is a Linear: .* presets for one chain"):
        single_row.attach(other, OwnEmbedding(model))


def test_an_edited_openfold_is_refused(model, monkeypatch):
    from openfoldpp.upstream.acceleration import releases

    monkeypatch.setitem(releases._SHA256, "openfold.model.embedders", ("0" * 64,))
    releases._as_published.cache_clear()
    try:
        with pytest.raises(InputError, match=r"openfold\.model\.embedders is not the file of a release"):
            single_row.attach(model, OwnEmbedding(model))
    finally:
        releases._as_published.cache_clear()
    assert not model._forward_pre_hooks


def test_a_part_that_another_package_has_replaced_is_refused(model, monkeypatch):
    layer = model.input_embedder.linear_msa_m
    layer.forward = lambda x: x
    with pytest.raises(InputError, match="another package has replaced its forward"):
        single_row.attach(model, OwnEmbedding(model))
    del layer.forward
    monkeypatch.setattr(type(model.input_embedder), "forward", lambda *given: None)
    with pytest.raises(InputError, match="another package has replaced its forward"):
        single_row.attach(model, OwnEmbedding(model))


def test_several_chains_are_one_row_with_a_gap_in_their_numbers():
    raw = single_row_features(target(HEAVY, LIGHT), options(multimer_ri_gap=50))
    n_res = len(HEAVY + LIGHT)
    assert raw["msa"].shape == raw["deletion_matrix_int"].shape == (1, n_res)
    alone = [single_row_features(target(sequence), options())["msa"][0] for sequence in (HEAVY, LIGHT)]
    np.testing.assert_array_equal(raw["msa"][0], np.concatenate(alone))
    assert list(raw["residue_index"]) == [*range(len(HEAVY)), *range(len(HEAVY) + 50, n_res + 50)]
    assert list(raw["num_alignments"]) == [1] * n_res


def test_of_the_alignments_only_template_hits_are_read(tmp_path, write_template, hhr, template_sequence):
    query = template_sequence + "LKKELAL"
    (tmp_path / "alignments/H").mkdir(parents=True)
    (tmp_path / "alignments/H/hits.hhr").write_text(hhr(template_sequence, query))
    (tmp_path / "alignments/H/a.a3m").write_text(f">a\n{query}\n>b\n{query[::-1]}\n")
    (tmp_path / "alignments/H/a.sto").write_text("no alignment at all")
    (tmp_path / "templates").mkdir()
    write_template(tmp_path / "templates/1ay7.cif")
    given = options(
        use_precomputed_alignments=str(tmp_path / "alignments"),
        template_mmcif_dir=str(tmp_path / "templates"),
        max_template_date="2022-01-01", kalign_binary_path="kalign", release_dates_path=None,
        obsolete_pdbs_path=None,
    )  # fmt: skip
    raw = single_row_features(target(query), given)
    assert raw["msa"].shape == (1, len(query))
    assert raw["template_aatype"].shape[0] == 1
    (tmp_path / "templates/1ay7.cif").unlink()
    with pytest.raises(InputError, match=r"1ay7\.cif is missing"):
        single_row_features(target(query), given)


def test_a_chain_without_a_folder_among_the_alignments_is_named(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="has no folder for H: it has other"):
        single_row_features(target(HEAVY), options(use_precomputed_alignments=str(tmp_path)))
