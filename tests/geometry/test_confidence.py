import numpy as np
import pytest
import torch

from openfoldpp.geometry import confidence


@pytest.mark.parametrize("n_res", [1, 7, 19, 20, 45])
def test_expectations_are_upstreams(upstream, n_res):
    rng = np.random.default_rng(n_res)
    lddt = rng.normal(scale=5, size=(n_res, 50)).astype(np.float32)
    expected = upstream.loss.compute_plddt(torch.tensor(lddt))
    np.testing.assert_allclose(confidence.expected_lddt(lddt), expected, atol=1e-4)

    errors = rng.normal(scale=5, size=(n_res, n_res, 64)).astype(np.float32)
    expected = upstream.loss.compute_predicted_aligned_error(torch.tensor(errors))
    pae, probabilities = confidence.expected_pae(errors)
    np.testing.assert_allclose(pae, expected["predicted_aligned_error"], atol=1e-4)
    np.testing.assert_allclose(probabilities, expected["aligned_confidence_probs"], atol=1e-6)
    assert confidence.pae_bin_centers()[-1] == expected["max_predicted_aligned_error"]
    tm = upstream.loss.compute_tm(torch.tensor(errors)).item()
    assert confidence.predicted_tm_score(errors) == pytest.approx(tm, abs=1e-5)


@pytest.mark.parametrize("lengths", [(5, 7, 1), (20, 13)])
def test_interface_score_is_the_best_mean_over_pairs_across_chains(lengths):
    n_res = sum(lengths)
    logits = np.random.default_rng(n_res).normal(scale=3, size=(n_res, n_res, 64)).astype(np.float32)
    _, probabilities = confidence.expected_pae(logits)
    chain = np.repeat(np.arange(len(lengths)), lengths)
    centers = np.arange(64) * 0.5 + 0.25
    d0 = 1.24 * (max(n_res, 19) - 15) ** (1 / 3) - 1.8
    per_residue = [
        np.mean(
            [probabilities[i, j] @ (1 / (1 + (centers / d0) ** 2)) for j in np.flatnonzero(chain != chain[i])]
        )
        for i in range(n_res)
    ]
    score = confidence.interface_tm_score(probabilities, chain)
    assert score == pytest.approx(max(per_residue), abs=1e-6)
    assert 0.01 < score < 1
    assert confidence.interface_tm_score(probabilities, np.zeros(n_res, int)) == 0


@pytest.mark.parametrize("centers", [confidence.plddt_bin_centers(), confidence.pae_bin_centers()])
def test_encoding_has_the_value_as_its_expectation(centers):
    values = np.concatenate(
        [centers, np.random.default_rng(0).uniform(centers[0], centers[-1], 1000), [centers[0] + 1e-9]]
    ).reshape(-1, 1)
    logits = confidence.encode_in_bins(values, centers)
    assert logits.shape == (len(values), 1, len(centers))
    assert np.isfinite(logits).all()
    assert ((logits > confidence.NO_PROBABILITY).sum(axis=-1) <= 2).all()
    found, _ = confidence.bin_expectation(logits, centers)
    np.testing.assert_allclose(found, values, atol=1e-5)


def test_encoding_clips_to_the_outer_centres():
    logits = confidence.encode_in_bins(np.array([-5.0, 0.3, 99.7, 1e6]), confidence.plddt_bin_centers())
    assert confidence.expected_lddt(logits).tolist() == [1, 1, 99, 99]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_encoding_refuses_what_is_no_number(value):
    with pytest.raises(ValueError, match="not finite"):
        confidence.encode_in_bins(np.array([1.0, value]), confidence.pae_bin_centers())


def test_centres_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="centers has shape"):
        confidence.bin_expectation(np.zeros((2, 50)), confidence.pae_bin_centers())
    with pytest.raises(ValueError, match="do not rise"):
        confidence.bin_expectation(np.zeros((2, 2)), [1.0, 1.0])
    with pytest.raises(ValueError, match="logits has shape"):
        confidence.predicted_tm_score(np.zeros((3, 4, 64)))


def test_distogram_peaks_in_upstreams_bin(upstream):
    rng = np.random.default_rng(0)
    points, known = rng.normal(scale=12, size=(60, 3)), np.ones(60, bool)
    logits = confidence.distogram_logits(points, known)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    edges = torch.linspace(2.3125, 21.6875, 63).numpy()  # as upstream's distogram_loss has them
    assert np.array_equal(logits.argmax(-1), (distances[..., None] > edges).sum(-1))
    assert (distances > 30).any()
    assert np.array_equal(logits, logits.transpose(1, 0, 2))
    assert (logits.max(-1) == 0).all()

    # Upstream's loss is small on the structure that the logits came from and large on another.
    loss = [
        upstream.loss.distogram_loss(torch.tensor(logits), torch.tensor(beta), torch.ones(60)).item()
        for beta in (points, points[::-1].copy())
    ]
    assert loss[0] < 1.7
    assert loss[1] > 50


def test_width_of_the_distogram_is_the_stated_one():
    points = np.array([[0.0, 0, 0], [10.0, 0, 0]])
    logits = confidence.distogram_logits(points, np.ones(2, bool))[0, 1]
    mean, probabilities = confidence.bin_expectation(logits[None], confidence.distogram_bin_centers())
    assert mean[0] == pytest.approx(10, abs=1e-3)
    variance = probabilities[0] @ (confidence.distogram_bin_centers() - 10) ** 2
    assert np.sqrt(variance) == pytest.approx(confidence.DISTANCE_DEVIATION, abs=1e-3)


def test_unknown_point_has_an_even_distogram():
    points = np.array([[0.0, 0, 0], [np.nan, 0, 0], [5.0, 0, 0]])
    logits = confidence.distogram_logits(points, np.array([True, False, True]))
    assert not logits[1].any()
    assert not logits[:, 1].any()
    assert logits[0, 2].any()
