import numpy as np
import pytest
import torch

from openfoldpp.geometry.superposition import ca_rmsd
from openfoldpp.motifs.assembly import Layout, assemble, blended, lay_out
from openfoldpp.motifs.coarse_graph import graph_of
from openfoldpp.motifs.compose import compose
from openfoldpp.motifs.compositor_blob import CompositorSizes
from openfoldpp.motifs.graph_compositor import GraphCompositor, rotation_of, tensors_of
from openfoldpp.motifs.library import Library

SIZES = CompositorSizes(blocks=1, hidden=16, rank=4, pair_channels=16)


def made_of(seed, scale=0.0):
    """A compositor; with a scale none of its last layers is zero."""
    torch.manual_seed(seed)
    model = GraphCompositor(SIZES)
    if scale:
        for part in (model.pull, model.weight, model.trust):
            torch.nn.init.normal_(part.weight, std=scale)
    return model


@pytest.fixture
def laid(tmp_path, coarse):
    """A layout, its query's vectors, and the truth."""
    sequence, ca, hits, folder = coarse.fv(tmp_path / "lib", noise=1.0)
    with Library.open(folder) as library:
        layout = lay_out(sequence, hits, library)
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(len(chain) - 9, 64)).astype(np.float32) for chain in layout.chains]
    return layout, vectors, ca


def test_untrained_it_is_the_assembly(laid):
    layout, vectors, _ = laid
    with torch.inference_mode():
        composed = made_of(0)(tensors_of(graph_of(layout, vectors)))
    greedy = blended(layout)
    assert ca_rmsd(composed.ca.numpy(), greedy.ca) < 1e-4
    expected = np.clip(greedy.confidence, 0.02, 0.98)
    np.testing.assert_allclose(composed.confidence.sigmoid(), expected, atol=1e-4)
    torch.testing.assert_close(
        composed.rotations, torch.eye(3).expand_as(composed.rotations), atol=1e-6, rtol=0
    )
    assert not composed.shifts.any()


def test_turning_everything_turns_the_model_and_changes_nothing_else(laid, coarse):
    layout, vectors, _ = laid
    count = [len(atoms) for atoms in layout.placed]
    atoms = coarse.turned(np.concatenate(layout.placed), 3)
    turned = Layout(
        layout.fragments,
        tuple(np.split(atoms, np.cumsum(count)[:-1])),
        layout.weights,
        layout.bodies,
        layout.chains,
    )
    model = made_of(1, 0.5)
    with torch.inference_mode():
        one, other = (model(tensors_of(graph_of(each, vectors))) for each in (layout, turned))
    assert one.shifts.norm(dim=-1).max() > 0.05
    assert ca_rmsd(one.ca.numpy(), other.ca.numpy()) < 1e-3
    torch.testing.assert_close(one.confidence, other.confidence, atol=1e-3, rtol=0)
    torch.testing.assert_close(one.shares, other.shares, atol=1e-4, rtol=0)
    torch.testing.assert_close(one.shifts.norm(dim=-1), other.shifts.norm(dim=-1), atol=1e-4, rtol=0)


def test_fragments_are_moved_as_rigid_bodies(laid):
    layout, vectors, _ = laid
    graph = tensors_of(graph_of(layout, vectors))
    with torch.inference_mode():
        composed = made_of(1, 0.5)(graph)
    assert (composed.rotations.det() - 1).abs().max() < 1e-4
    assert (composed.rotations - torch.eye(3)).abs().max() > 0.005
    torch.testing.assert_close(composed.shares.sum(0), torch.ones(110))
    arms = graph["placed"] - graph["centres"][:, None]
    moved = arms @ composed.rotations.mT + (graph["centres"] + composed.shifts)[:, None]
    torch.testing.assert_close((composed.shares[..., None] * moved).sum(0), composed.ca, atol=1e-4, rtol=1e-4)


def test_every_weight_learns(laid):
    layout, vectors, ca = laid
    model = made_of(2, 0.5)
    composed = model(tensors_of(graph_of(layout, vectors)))
    target = torch.from_numpy(ca - ca.mean(0)).float()
    ((composed.ca - target).square().sum() + composed.confidence.square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_confidence_does_not_pull_at_the_coordinates(laid):
    layout, vectors, _ = laid
    model = made_of(2, 0.5)
    model(tensors_of(graph_of(layout, vectors))).confidence.sum().backward()
    assert model.pull.weight.grad is None
    assert model.trust.weight.grad.abs().max() > 0


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.3, 3.0])
def test_rotation_vectors(angle):
    found = rotation_of(torch.tensor([0.0, 0.0, angle], dtype=torch.float64))
    expected = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_composing_a_sequence(tmp_path, coarse):
    sequence, ca, hits, folder = coarse.fv(tmp_path / "lib", noise=0.0)
    with Library.open(folder) as library:
        made = compose(sequence, hits, library, model=made_of(0))
        greedy = assemble(sequence, hits, library)
        part = compose(sequence, hits[:1], model=made_of(0))
    assert ca_rmsd(made.ca, ca) < 0.05
    np.testing.assert_allclose(made.confidence, np.clip(greedy.confidence, 0.02, 0.98), atol=1e-3)
    assert made.covered.all()
    assert made.sources[0].startswith("x")
    assert part.covered.sum() == hits[0].length
    assert (part.confidence[~part.covered] == 0).all()
    assert part.sources[0] == hits[0].source
    assert part.sources[-1] == ""


def test_composing_nothing():
    made = compose("ACDEFGHIKLMN", [], model=made_of(0))
    assert not made.covered.any()
