import numpy as np
import pytest

from openfoldpp.motifs.rigid import mean_rotation, superposition


def turn(seed):
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return q * np.sign(np.linalg.det(q))


def test_what_was_moved_is_moved_back_and_weights_decide():
    fixed = np.random.default_rng(0).normal(size=(12, 3)) * 5
    mobile = (fixed - 3) @ turn(1)
    mobile[0] += 40  # counts next to nothing
    weights = np.ones(12)
    weights[0] = 1e-9
    rotation, shift = superposition(mobile, fixed, weights)
    np.testing.assert_allclose((mobile @ rotation + shift)[1:], fixed[1:], atol=1e-5)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_points_in_a_plane_are_not_mirrored():
    fixed = np.random.default_rng(0).normal(size=(8, 3)) * [5, 5, 1]
    rotation, _ = superposition(fixed * [1, 1, -1], fixed, np.ones(8))
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_the_mean_of_a_rotation_and_its_inverse_is_none():
    one = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])
    np.testing.assert_allclose(
        mean_rotation(np.stack([one, one.T]), np.array([0.5, 0.5])), np.eye(3), atol=1e-12
    )
    np.testing.assert_allclose(mean_rotation(np.stack([one, one.T]), np.array([1.0, 1e-9])), one, atol=1e-6)
