"""Each class of upstream's that a kernel serves, alone: against float64, beside upstream in float32."""

import copy

import pytest
import torch

from openfoldpp.upstream.acceleration import accelerate

N_SEQ, N_RES = 5, 13

# name: module, class, arguments of its own, call
PARTS = {
    "triangle attention, starting": (
        "triangular_attention", "TriangleAttention", {},
        lambda module, x, **how: module(x.z, mask=x.pair_mask, **how),
    ),
    "triangle attention, ending": (
        "triangular_attention", "TriangleAttentionEndingNode", {},
        lambda module, x, **how: module(x.z, mask=x.pair_mask, **how),
    ),
    "triangle multiplication, outgoing": (
        "triangular_multiplicative_update", "TriangleMultiplicationOutgoing", {},
        lambda module, x, **how: module(x.z, mask=x.pair_mask, **how),
    ),
    "triangle multiplication, incoming": (
        "triangular_multiplicative_update", "TriangleMultiplicationIncoming", {},
        lambda module, x, **how: module(x.z, mask=x.pair_mask, **how),
    ),
    "fused triangle multiplication, outgoing": (
        "triangular_multiplicative_update", "FusedTriangleMultiplicationOutgoing", {},
        lambda module, x, **how: module(x.z, mask=x.pair_mask, **how),
    ),
    "fused triangle multiplication, incoming": (
        "triangular_multiplicative_update", "FusedTriangleMultiplicationIncoming", {},
        lambda module, x, **how: module(x.z, mask=x.pair_mask, **how),
    ),
    "pair transition": (
        "pair_transition", "PairTransition", {},
        lambda module, x, **how: module(x.z, mask=x.pair_mask, **how),
    ),
    "msa transition": (
        "evoformer", "MSATransition", {},
        lambda module, x, **how: module(x.m, mask=x.msa_mask, **how),
    ),
    "outer product mean": (
        "outer_product_mean", "OuterProductMean", {"eps": 1e-3},
        lambda module, x, **how: module(x.m, mask=x.msa_mask, **how),
    ),
    "row attention": (
        "msa", "MSARowAttentionWithPairBias", {},
        lambda module, x, **how: module(x.m, z=x.z, mask=x.msa_mask, **how),
    ),
    "row attention without pair bias": (
        "msa", "MSARowAttentionWithPairBias", {},
        lambda module, x, **how: module(x.m, mask=x.msa_mask, **how),
    ),
    "column attention": (
        "msa", "MSAColumnAttention", {},
        lambda module, x, **how: module(x.m, mask=x.msa_mask, **how),
    ),
    "invariant point attention": (
        "structure_module", "InvariantPointAttention", {"inf": 1e5},
        lambda module, x, **how: module(x.s, x.z, x.frames("Rigid"), x.seq_mask, **how),
    ),
    "invariant point attention, multimer": (
        "structure_module", "InvariantPointAttentionMultimer", {"inf": 1e5},
        lambda module, x, **how: module(x.s, x.z, x.frames("Rigid3Array"), x.seq_mask, **how),
    ),
}  # fmt: skip
FRAMES = {name for name in PARTS if name.startswith("invariant")}


class Inputs:
    """Random inputs of every kind."""

    def __init__(self, draw, batch=(), masks=True):
        self.m = draw(*batch, N_SEQ, N_RES, 18)
        self.z = draw(*batch, N_RES, N_RES, 12)
        self.s = draw(*batch, N_RES, 10)
        shapes = {"msa_mask": (N_SEQ, N_RES), "pair_mask": (N_RES, N_RES), "seq_mask": (N_RES,)}
        for name, shape in shapes.items():
            setattr(self, name, draw(*batch, *shape, mask=True) if masks else None)
        if masks:  # a row that is masked whole
            self.msa_mask[..., 1, :] = self.pair_mask[..., 2, :] = 0
        quaternions = torch.nn.functional.normalize(draw(*batch, N_RES, 4), dim=-1)
        self.quaternions, self.translations = quaternions, 3 * draw(*batch, N_RES, 3)

    def frames(self, kind):
        from openfold.utils.rigid_utils import Rigid, Rotation

        rotation = Rotation(quats=self.quaternions.float())
        if kind == "Rigid":
            return Rigid(rotation, self.translations.float())
        from openfold.utils.geometry.rigid_matrix_vector import Rigid3Array
        from openfold.utils.geometry.rotation_matrix import Rot3Array
        from openfold.utils.geometry.vector import Vec3Array

        matrices = rotation.get_rot_mats()
        return Rigid3Array(Rot3Array.from_array(matrices), Vec3Array.from_array(self.translations.float()))

    def double(self):
        """Return the same numbers in float64; frames are float32 in upstream whatever they are given."""
        other = copy.copy(self)
        for name, value in vars(self).items():
            setattr(other, name, None if value is None else value.double())
        return other


@pytest.fixture
def call(build, draw):
    """Return the module of a part, how it is called, and its inputs."""

    def make(name, **inputs):
        place, cls, changes, run = PARTS[name]
        return build(place, cls, **changes), run, Inputs(draw, **inputs)

    return make


@pytest.mark.parametrize("masks", [True, False], ids=["masks", "no masks"])
@pytest.mark.parametrize("batch", [(), (2,)], ids=["single", "batch"])
@pytest.mark.parametrize("name", PARTS)
def test_is_as_exact_as_upstream(name, batch, masks, call, assert_as_exact):
    if name in FRAMES and not masks:
        pytest.skip("upstream's needs a mask")
    module, run, x = call(name, batch=batch, masks=masks)
    with torch.no_grad():
        upstreams = run(module, x)
        exact = run(copy.deepcopy(module).double(), x.double())
        before = copy.deepcopy((x.m, x.z, x.s))
        ours = run(accelerate(module), x)
    assert not torch.equal(ours, upstreams), "no kernel ran"
    assert_as_exact(ours, upstreams, exact, name)
    assert all(torch.equal(a, b) for a, b in zip(before, (x.m, x.z, x.s), strict=True))


@pytest.mark.parametrize("how", [{"chunk_size": 4}, {"chunk_size": 4, "use_lma": True}], ids=str)
@pytest.mark.parametrize(
    "name", ["triangle attention, ending", "row attention", "column attention", "pair transition"]
)
def test_what_bounds_upstreams_memory_changes_nothing(name, how, call):
    if name == "pair transition":
        how = {"chunk_size": 4}
    module, run, x = call(name)
    with torch.no_grad():
        accelerate(module)
        assert torch.equal(run(module, x, **how), run(module, x))


@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize("name", [name for name in PARTS if "triangle multiplication" in name])
def test_a_multiplication_in_place_does_to_its_input_what_upstreams_does(name, add, call, assert_as_exact):
    module, run, x = call(name)
    how = {"inplace_safe": True, "_add_with_inplace": add, "_inplace_chunk_size": 4}
    before, wide = copy.deepcopy(x), x.double()
    with torch.no_grad():
        exact = run(copy.deepcopy(module).double(), wide, **how)
        upstreams = run(module, x, **how)
        ours = run(accelerate(module), before, **how)
    assert_as_exact(ours, upstreams, exact)
    assert (upstreams.data_ptr() == x.z.data_ptr()) == (ours.data_ptr() == before.z.data_ptr())
    assert_as_exact(before.z, x.z, wide.z)


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_the_pair_representation_comes_in_a_list_where_upstream_offloads(name, call):
    module, _, x = call(name)
    kind = "Rigid3Array" if "multimer" in name else "Rigid"
    with torch.no_grad():
        accelerate(module)
        expected = module(x.s, x.z, x.frames(kind), x.seq_mask, inplace_safe=True)
        given = [x.z]
        offloaded = module(
            x.s, None, x.frames(kind), x.seq_mask,
            inplace_safe=True, _offload_inference=True, _z_reference_list=given,
        )  # fmt: skip
    assert torch.equal(offloaded, expected)
    assert given[0] is x.z


def test_views_that_are_not_contiguous_are_served(call, assert_as_exact):
    """As upstream's blocks pass the transposed pair representation and its mask."""
    module, _, x = call("triangle attention, starting")
    z, mask = x.z.transpose(-2, -3), x.pair_mask.transpose(-1, -2)
    with torch.no_grad():
        upstreams = module(z, mask=mask)
        exact = copy.deepcopy(module).double()(z.double(), mask=mask.double())
        assert_as_exact(accelerate(module)(z, mask=mask), upstreams, exact)


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: mask.double(),
        lambda mask: mask.bool(),
        lambda mask: mask[:1],
        lambda mask: mask[..., 0],
        lambda mask: mask[..., :-1],
    ],
    ids=["float64", "bool", "one row", "a dimension less", "too short"],
)
@pytest.mark.parametrize("name", ["pair transition", "triangle multiplication, outgoing", "row attention"])
def test_an_unusual_mask_is_upstreams_affair(name, change, call):
    """Its result, whatever that is, or its error."""
    module, run, x = call(name)
    x.pair_mask, x.msa_mask = change(x.pair_mask), change(x.msa_mask)

    def outcome(module):
        with torch.no_grad():
            try:
                return run(module, x)
            except (RuntimeError, IndexError) as error:
                return str(error)

    expected, ours = outcome(module), outcome(accelerate(module))
    assert type(ours) is type(expected)
    assert ours == expected if isinstance(ours, str) else torch.equal(ours, expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["Rigid", "Rigid3Array"])
@pytest.mark.parametrize("is_multimer", [True, False], ids=["multimer", "monomer"])
def test_the_attention_of_both_models_is_upstreams_where_its_layout_or_frames_are_others(
    is_multimer, kind, build, draw, release
):
    if release == "0.0.1":
        pytest.skip("of 2.x alone")
    module = build("structure_module", "InvariantPointAttention", is_multimer=is_multimer)
    x = Inputs(draw)

    def outcome(module):
        try:
            return module(x.s, x.z, x.frames(kind), x.seq_mask)
        except (RuntimeError, TypeError, AttributeError) as error:
            return str(error)

    expected, ours = outcome(module), outcome(accelerate(module))
    assert type(ours) is type(expected)
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, expected) == (is_multimer or kind == "Rigid3Array")
    else:
        assert ours == expected
