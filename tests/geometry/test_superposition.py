import numpy as np
import pytest
from biotite import structure

from openfoldpp.errors import InputError
from openfoldpp.geometry import superposition


def trace(n, seed=0):
    """A random walk of CA steps."""
    steps = np.random.default_rng(seed).normal(size=(n, 3))
    return np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)


@pytest.mark.parametrize("n", [3, 4, 19, 100])
def test_moved_copy_is_recognised(rigid_motion, n):
    points = trace(n)
    rotation, shift = rigid_motion(1)
    moved = points @ rotation.T + shift
    np.testing.assert_allclose(superposition.superimpose(moved, points), points, atol=1e-5)
    assert superposition.ca_rmsd(points, moved) == pytest.approx(0, abs=1e-5)
    assert superposition.tm_score(moved, points) == pytest.approx(1, abs=1e-9)


def test_rmsd_is_that_of_the_known_displacement():
    # Moved apart along x, 1 A each way: no rigid motion takes any of that away.
    points = np.array([[10.0, 5, 0], [10, -5, 0], [-10, 5, 0], [-10, -5, 0]])
    assert superposition.ca_rmsd(points, points + np.sign(points[:, :1]) * [1, 0, 0]) == pytest.approx(1.0)


def test_mirror_image_is_not_the_same():
    points = trace(50)
    mirrored = points * [1, 1, -1]
    assert superposition.ca_rmsd(points, mirrored) > 2
    assert superposition.tm_score(mirrored, points) < 0.7


def test_tm_score_superimposes_the_part_that_fits(rigid_motion):
    # 70 of 100 residues are the same, the rest went elsewhere: least squares would spoil the fit of all.
    points = trace(100)
    model = points.copy()
    model[70:] = trace(30, seed=5) + 60
    rotation, shift = rigid_motion(2)
    found = superposition.tm_score(model @ rotation.T + shift, points)
    fitted = superposition.superimpose(model, points)
    d0 = 1.24 * np.cbrt(85) - 1.8
    least_squares = (1 / (1 + (np.linalg.norm(fitted - points, axis=1) / d0) ** 2)).mean()
    assert found == pytest.approx(0.70, abs=0.02)
    assert found > least_squares + 0.2


def test_tm_score_of_unrelated_traces_is_low():
    assert superposition.tm_score(trace(150, seed=1), trace(150, seed=2)) < 0.3


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((4, 3)), np.zeros((5, 3))),
        (np.zeros((2, 3)), np.zeros((2, 3))),
        (np.zeros((4, 2)), np.zeros((4, 2))),
        (np.full((4, 3), np.nan), np.zeros((4, 3))),
    ],
)
@pytest.mark.parametrize("measure", [superposition.ca_rmsd, superposition.tm_score])
def test_points_that_do_not_correspond_are_refused(measure, a, b):
    with pytest.raises(InputError, match="superposition"):
        measure(a, b)


def test_rmsd_of_many_fragments_is_biotites_and_never_mirrors():
    rng = np.random.default_rng(0)
    a = rng.normal(scale=5, size=(40, 30, 3))
    b = a + rng.normal(size=a.shape) * np.linspace(0, 6, 40)[:, None, None]
    b[-10:] = -a[-10:]  # mirror images, which no rotation makes equal
    expected = [structure.rmsd(x, structure.superimpose(x, y)[0]) for x, y in zip(a, b, strict=True)]
    # Biotite computes in float32.
    np.testing.assert_allclose(superposition.fragment_rmsd(a, b), expected, rtol=2e-5, atol=2e-5)
    assert superposition.fragment_rmsd(a, b)[-10:].min() > 1


def test_rmsd_of_a_fragment_that_was_moved_is_zero():
    rng = np.random.default_rng(1)
    a = rng.normal(scale=5, size=(20, 30, 3))
    rotation, _ = np.linalg.qr(rng.normal(size=(20, 3, 3)))
    rotation *= np.linalg.det(rotation)[:, None, None]
    assert superposition.fragment_rmsd(a, a @ rotation + 7).max() < 1e-6
