import numpy as np
import pytest

from openfoldpp.geometry import atoms, residues

# Upstream's batched_gather indexes with a list, which torch warns about.
pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence for multidimensional:UserWarning")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(3))
def test_orders_agree_with_upstream_and_lose_nothing(upstream, seed, dtype):
    import torch

    rng = np.random.default_rng(seed)
    kind = rng.permutation(np.tile(np.arange(20), 3)).astype(np.int32)
    atom37 = rng.normal(scale=20, size=(60, 37, 3)).astype(dtype)
    mask37 = residues.ATOM37_EXISTS[kind] & (rng.random((60, 37)) < 0.8)
    atom37[~mask37] = np.nan

    atom14, mask14 = atoms.atom37_to_atom14(atom37, mask37, kind)
    features = upstream.transforms.make_atom14_masks({"aatype": torch.tensor(kind, dtype=torch.int64)})
    expected = np.take_along_axis(mask37, features["residx_atom14_to_atom37"].numpy(), axis=1)
    assert np.array_equal(mask14, expected & (features["atom14_atom_exists"].numpy() > 0))
    back = upstream.feats.atom14_to_atom37(torch.tensor(atom14), features).numpy()
    assert np.array_equal(back, np.where(mask37[..., None], atom37, 0))

    again, again_mask = atoms.atom14_to_atom37(atom14, mask14, kind)
    assert again.dtype == dtype
    assert np.array_equal(again, back)
    assert np.array_equal(again_mask, mask37)


def test_backbone_of_x_is_kept():
    atom37, mask37 = np.arange(111.0).reshape(1, 37, 3), np.ones((1, 37), bool)
    atom14, mask14 = atoms.atom37_to_atom14(atom37, mask37, [20])
    assert mask14[0].tolist() == [True] * 5 + [False] * 9
    assert np.array_equal(atom14[0, :5], atom37[0, [0, 1, 2, 4, 3]])


def test_pseudo_beta_is_upstreams(upstream):
    import torch

    rng = np.random.default_rng(0)
    kind = np.arange(20)
    atom37, mask37 = rng.normal(size=(20, 37, 3)), rng.random((20, 37)) < 0.5
    expected, expected_mask = upstream.feats.pseudo_beta_fn(*map(torch.tensor, (kind, atom37, mask37)))
    points, known = atoms.pseudo_beta(atom37, mask37, kind)
    assert np.array_equal(points, expected)
    assert np.array_equal(known, expected_mask)


@pytest.mark.parametrize(
    ("shapes", "kind", "message"),
    [
        (((3, 14, 3), (3, 13)), [0, 0, 0], r"mask has shape \[3, 13\], expected \[3, 14\]"),
        (((3, 13, 3), (3, 14)), [0, 0, 0], "positions has shape"),
        (((3, 14, 3), (3, 14)), [0, 0], "residue_type has shape"),
        (((3, 14, 3), (3, 14)), [0, 21, 0], r"residue_type\[1\] is 21, expected 0 to 20"),
        (((3, 14, 3), (3, 14)), [0, 0, -1], r"residue_type\[2\] is -1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(shapes, kind, message):
    with pytest.raises(ValueError, match=message):
        atoms.atom14_to_atom37(np.zeros(shapes[0]), np.zeros(shapes[1], bool), kind)
