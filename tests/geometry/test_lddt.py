import numpy as np
import torch

from openfoldpp.geometry.lddt import lddt_ca


def test_each_residue_has_the_share_of_its_distances_that_are_kept():
    rng = np.random.default_rng(0)
    truth = np.cumsum(rng.normal(size=(40, 3)) * 2.2, 0)
    model = truth + rng.normal(size=truth.shape)
    expected = []
    for i in range(40):
        kept = [
            np.mean([abs(d - np.linalg.norm(model[i] - model[j])) < t for t in (0.5, 1, 2, 4)])
            for j in range(40)
            if j != i and (d := np.linalg.norm(truth[i] - truth[j])) < 15
        ]
        expected.append(np.mean(kept))
    found = lddt_ca(torch.from_numpy(model), torch.from_numpy(truth))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_distances_to_what_is_not_there_are_lost():
    truth = torch.arange(10.0).outer(torch.tensor([1.0, 0, 0]))
    mask = torch.ones(10, dtype=torch.bool)
    mask[8:] = False
    found = lddt_ca(truth, truth, mask)
    np.testing.assert_allclose(found, [7 / 9] * 8 + [0, 0], atol=1e-6)


def test_a_residue_with_no_other_near_it_has_nothing_wrong():
    truth = torch.tensor([[0.0, 0, 0], [100.0, 0, 0]])
    assert lddt_ca(truth + torch.rand(2, 3), truth).tolist() == [1, 1]
