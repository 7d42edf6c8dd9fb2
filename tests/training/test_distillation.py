"""What distilling takes, each part against what it stands for."""

import pytest
import torch
from torch import nn

from openfoldpp.errors import ConfigError, WeightsError
from openfoldpp.plm import plm_lite, registry
from openfoldpp.plm.alphabet import Alphabet
from openfoldpp.plm.extract import extract
from openfoldpp.plm.extract_fasta import Record
from openfoldpp.plm.quantization.files import Description, save
from openfoldpp.plm.quantization.layerwise import quantise
from openfoldpp.plm.transformer import Architecture, Encoder
from openfoldpp.training.distillation import (
    distance,
    head_loss,
    layer_outputs,
    load_teacher,
    make_head,
    make_student,
    rounded,
)
from openfoldpp.training.plm_lite_data import Batch

SIZES = {"layers": 5, "channels": 32, "heads": 4, "hidden": 128, "vocabulary": 12}
BERT = {"positions": 20, "norm_first": False, "norm_embedding": True, "scale_embedding": False}


@pytest.fixture(params=[{}, BERT], ids=["esm", "bert"])
def teacher(request):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Encoder(Architecture(**SIZES, **request.param)).eval()


@pytest.fixture
def batch():
    tokens = torch.randint(12, (13,), generator=torch.Generator().manual_seed(0))
    residues = torch.tensor([0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0], dtype=torch.bool)
    return Batch(tokens, [5, 8], residues)


def test_a_teacher_that_cannot_be_learned_from_is_refused_with_the_flag(small_teacher, tmp_path, monkeypatch):
    name, weights = small_teacher
    model = load_teacher(name, str(weights), "cpu")
    assert model.fingerprint == registry.load(name, weights=weights).fingerprint

    small = tmp_path / "small.safetensors"
    tensors = quantise(model.encoder, [], 8, method="nearest", progress=lambda _: None)
    about = Description(name, 8, "nearest", model.encoder.architecture, model.alphabet, None, "", "")
    save(small, tensors, about)
    with pytest.raises(ConfigError, match=rf"--teacher-weights {small}: a quantised copy"):
        load_teacher(name, str(small), "cpu")

    extract([Record("a", "ACDEF")], model, tmp_path / "folder", "tokens")
    with pytest.raises(ConfigError, match="--teacher precomputed: its blocks cannot be learned from"):
        load_teacher("precomputed", str(tmp_path / "folder"), "cpu")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match="or name it: --teacher-weights FILE"):
        load_teacher("esm2_t33_650M_UR50D", None, "cpu")

    model.alphabet = Alphabet(("<", ">", "?"), "<", ">", "?")
    monkeypatch.setattr(registry, "load", lambda *_, **__: model)
    with pytest.raises(ConfigError, match="--teacher other: its blocks"):
        load_teacher("other", None, "cpu")


@pytest.mark.parametrize(
    ("keep_every", "kept"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (3, [1, 4]), (5, [4])]
)
def test_every_nth_block_is_kept_with_the_last_among_them(teacher, keep_every, kept):
    student, found = make_student(teacher, keep_every, None, seed=0)
    assert found == kept
    for block, number in zip(student.blocks, kept, strict=True):
        for ours, theirs in zip(block.parameters(), teacher.blocks[number].parameters(), strict=True):
            assert torch.equal(ours, theirs)
            assert ours.requires_grad


def test_the_embedding_is_the_teachers_and_frozen(teacher, batch):
    student, _ = make_student(teacher, 2, None, seed=0)
    assert torch.equal(
        student.embedding(batch.tokens, batch.lengths), teacher.embedding(batch.tokens, batch.lengths)
    )
    frozen = {name for name, parameter in student.named_parameters() if not parameter.requires_grad}
    assert {name.partition(".")[0] for name in frozen} <= {"tokens", "positions", "norm_embedding"}
    assert "tokens.weight" in frozen


def test_a_narrow_student_gives_the_teachers_channels_and_keeps_its_embedding(teacher, batch):
    student, _ = make_student(teacher, 2, 16, seed=0)
    again, _ = make_student(teacher, 2, 16, seed=0)
    assert student.architecture.channels == 16
    assert student.blocks[0].expand.weight.shape == (64, 16)
    assert student(batch.tokens, batch.lengths).shape == (13, 32)
    assert torch.equal(student.tokens.weight, teacher.tokens.weight)
    assert not student.tokens.weight.requires_grad
    assert student.narrow.weight.requires_grad
    assert [one.shape for one in layer_outputs(student, batch, range(3))] == [(9, 32)] * 3
    for ours, theirs in zip(student.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("keep_every", "width"), [(0, None), (6, None), (2, 20), (2, 64), (2, -8)])
def test_a_student_that_cannot_be_is_refused(teacher, keep_every, width):
    with pytest.raises(ConfigError, match=r"--(keep-every|width)"):
        make_student(teacher, keep_every, width, seed=0)


def test_layer_outputs_are_those_of_the_encoder_asked_layer_by_layer(teacher, batch):
    found = layer_outputs(teacher, batch, [0, 2, 4])
    for output, layer in zip(found, (1, 3, None), strict=True):
        assert torch.equal(output, teacher(batch.tokens, batch.lengths, layer)[batch.residues])
    assert not any(block._forward_hooks for block in teacher.blocks)


def test_distance_is_zero_for_equal_states_and_has_no_unit():
    states = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    other = states + 0.1 * torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    assert distance(states, states) == pytest.approx(0, abs=1e-6)
    assert distance(7 * other, 7 * states) == pytest.approx(float(distance(other, states)), rel=1e-4)
    assert distance(other, states) > 0.005


def test_the_head_starts_as_principal_components_which_keep_distances_best():
    generator = torch.Generator().manual_seed(0)
    # 200 residues in 64 of 96 dimensions: a head that finds them keeps all distances.
    states = torch.randn(200, 64, generator=generator) @ torch.randn(64, 96, generator=generator) + 3
    head = make_head(states)
    with torch.no_grad():
        assert head(states).mean(0).abs().max() < 1e-4
        assert head_loss(head, states, states, (0, 1)) < 1e-9
        wrong = nn.Linear(96, 64)
        nn.init.normal_(wrong.weight, generator=generator)
        losses = [head_loss(wrong, states, states, seed).item() for seed in ((0, 1), (0, 1), (0, 2))]
    assert losses[0] == losses[1] > 0.1
    assert losses[2] == pytest.approx(losses[0], rel=0.1)


def test_rounded_weights_are_those_of_a_file_and_the_gradient_is_left_for_the_exact_ones():
    layer = nn.Linear(64, 64)
    exact = layer.weight.detach().clone()
    given = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    with rounded([layer]):
        assert torch.equal(layer.weight, plm_lite.stored(exact))
        assert not torch.equal(layer.weight, exact)
        output = layer(given)
        output.square().sum().backward()
    assert torch.equal(layer.weight, exact)
    expected = 2 * output.detach().T @ given
    assert torch.allclose(layer.weight.grad, expected, rtol=1e-5, atol=1e-5)


def test_own_weights_come_back_after_an_error():
    layer = nn.Linear(64, 64)
    exact = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match="stopped"), rounded([layer]):
        raise RuntimeError("stopped")
    assert torch.equal(layer.weight, exact)
