"""What backbone is expected: measured as learned, compared place by place, and of one language model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from openfoldpp.errors import WeightsError
from openfoldpp.motifs import profile
from openfoldpp.motifs.profile import GEOMETRY, Profile, ProfileNetwork, agreement, local_geometry


def profile_of(ca, width=1.0):
    """What someone who knows the chain would expect."""
    geometry = local_geometry(ca)
    return Profile(geometry, np.full(geometry.shape, np.log(width), np.float32))


def fragments_of(ca, windows):
    return np.stack([ca[window : window + 10] for window in windows])[:, None]


def test_local_geometry_is_distances_and_the_dihedral(chains):
    ca = chains.backbone(12)[:, 1]
    found = local_geometry(ca)
    assert found.shape == (12, GEOMETRY)
    for row in range(12):
        for column, apart in enumerate(range(2, 10)):
            there = row + apart < 12
            assert np.isnan(found[row, column]) != there
            if there:
                assert found[row, column] == pytest.approx(
                    np.linalg.norm(ca[row + apart] - ca[row]), rel=1e-5
                )
    # A right-handed quarter turn, after IUPAC: seen along the middle bond, clockwise.
    quarter = np.array([[0, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 1]], np.float32)
    assert local_geometry(quarter)[0, -2:] == pytest.approx([-3, 0], abs=1e-5)
    assert np.isnan(local_geometry(quarter)[1:, -2:]).all()


def test_a_mirror_image_differs_only_in_the_dihedral_sine(chains):
    ca = chains.backbone(10)[:, 1]
    found, mirrored = local_geometry(ca), local_geometry(ca * [1, 1, -1])
    same = [i for i in range(GEOMETRY) if i != GEOMETRY - 2]
    np.testing.assert_allclose(mirrored[:, same], found[:, same], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mirrored[:, -2], -found[:, -2], rtol=1e-4, atol=1e-4)


def test_what_is_expected_agrees_and_another_fragment_does_not(chains):
    ca, other = chains.backbone(30)[:, 1], chains.backbone(30, seed=1)[:, 1]
    windows = np.array([0, 7, 20])
    both = np.concatenate([fragments_of(ca, windows), fragments_of(other, windows)], 1)
    found = agreement(profile_of(ca), windows, both)
    assert found.shape == (3, 2, profile.AGREEMENT)
    np.testing.assert_allclose(found[:, 0, :5], 0, atol=1e-4)
    assert (found[:, 1, :5] > 0.1).all()
    np.testing.assert_allclose(found[..., 7:], found[..., :5] - found[..., :5].min(1, keepdims=True))


def test_agreement_is_of_the_window_it_is_asked_for_and_of_no_frame(chains):
    ca = chains.backbone(30)[:, 1]
    windows = np.array([0, 7, 19])
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    rotation = rotation * np.linalg.det(rotation)
    moved = fragments_of(ca, windows) @ rotation + np.float32(40)
    np.testing.assert_allclose(agreement(profile_of(ca), windows, moved)[..., :5], 0, atol=1e-3)
    assert (agreement(profile_of(ca), windows + 1, moved)[..., :3] > 0.1).all()


def test_an_error_counts_less_where_a_wide_one_is_expected(chains):
    ca, other = chains.backbone(10)[:, 1], chains.backbone(10, seed=1)[None, None, :, 1]
    narrow, wide = (agreement(profile_of(ca, width), np.array([0]), other)[0, 0] for width in (0.1, 10.0))
    np.testing.assert_allclose(narrow[[0, 1, 4]], wide[[0, 1, 4]])
    assert narrow[2] > wide[2]
    assert wide[5] == pytest.approx(np.log(10), rel=1e-5)
    assert wide[6] == pytest.approx(10, rel=1e-5)


def test_padding_is_not_seen():
    torch.manual_seed(0)
    network = ProfileNetwork(16, 8, 2).eval()
    embeddings = torch.randn(1, 20, 16)
    padded, mask = torch.full((1, 33, 16), 5.0), torch.zeros(1, 33)
    padded[:, 9:29], mask[:, 9:29] = embeddings, 1
    for one, other in zip(network(embeddings, torch.ones(1, 20)), network(padded, mask), strict=True):
        torch.testing.assert_close(other[:, 9:29], one)


def test_a_file_comes_back_and_is_of_one_language_model(tmp_path):
    torch.manual_seed(0)
    network = ProfileNetwork(16, 8, 3).eval()
    profile.write(tmp_path / "a.safetensors", network, "model")
    again = profile.load("model", tmp_path / "a.safetensors")
    embedding = torch.randn(20, 16)
    np.testing.assert_allclose(
        again.profile(embedding).geometry, network.profile(embedding).geometry, atol=0.05
    )
    with pytest.raises(WeightsError, match="trained on the embeddings of model, given those of other"):
        profile.load("other", tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="not a file of `openfoldpp train motif-profile`"):
        profile.load("model", Path(profile.__file__).parents[1] / "weights" / "cheap_head.safetensors")
