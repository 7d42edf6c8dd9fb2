import numpy as np
import pytest
import torch

from openfoldpp.geometry.differentiable_tm import differentiable_tm_score, superposition
from openfoldpp.geometry.superposition import tm_score


def chain(length=120, seed=0):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(length, 3)) * 2.2, 0)


@pytest.mark.parametrize(("length", "noise"), [(40, 0.5), (120, 1.0), (230, 3.0)])
def test_it_is_what_the_search_finds(length, noise):
    truth = chain(length)
    model = truth + np.random.default_rng(1).normal(size=truth.shape) * noise
    model[:10] += 15  # an end that is far off
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    model = model @ (turn * np.sign(np.linalg.det(turn))) + 7
    found = differentiable_tm_score(torch.from_numpy(model), torch.from_numpy(truth)).item()
    assert found == pytest.approx(tm_score(model, truth), abs=2e-3)


def test_residues_that_the_model_lacks_count_as_nothing():
    truth = torch.from_numpy(chain(60))
    mask = torch.ones(60, dtype=torch.bool)
    mask[40:] = False
    model = torch.where(mask[:, None], truth, torch.nan)
    assert differentiable_tm_score(model, truth, mask).item() == pytest.approx(40 / 60)


def test_the_gradient_is_that_of_the_score_with_its_superposition():
    truth = torch.from_numpy(chain(50))
    model = (truth + torch.from_numpy(np.random.default_rng(3).normal(size=(50, 3)))).requires_grad_()
    differentiable_tm_score(model, truth).backward()
    step, (i, axis) = 1e-4, (20, 1)
    with torch.no_grad():
        up, down = model.clone(), model.clone()
        up[i, axis] += step
        down[i, axis] -= step
        slope = (differentiable_tm_score(up, truth) - differentiable_tm_score(down, truth)) / (2 * step)
    assert model.grad[i, axis].item() == pytest.approx(slope.item(), rel=0.02)


def test_a_mirror_image_is_not_superposed():
    truth = torch.from_numpy(chain(30))
    mirrored = truth * torch.tensor([1.0, 1.0, -1.0])
    rotation, _ = superposition(mirrored, truth, torch.ones(30))
    assert torch.linalg.det(rotation).item() == pytest.approx(1)
