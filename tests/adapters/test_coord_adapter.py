import dataclasses
import pickle

import numpy as np
import pytest
import torch

from openfoldpp.adapters.coord_adapter import CoordAdapter
from openfoldpp.errors import InputError, SchemaError
from openfoldpp.geometry import confidence, residues
from openfoldpp.upstream import schema

SEQUENCE = "ARNDC:QEGHILK:MFPSTWYVX"
N_RES = 21


# Presets of the same layout are made by the same code: one of each.
LAYOUTS = {tuple(schema.load(*pair).leaves.items()): pair for pair in schema.available()}.values()


@pytest.mark.parametrize(("version", "preset"), LAYOUTS)
@pytest.mark.parametrize("predicted", [True, False])
def test_output_fits_every_schema_and_says_where_each_value_is_from(atom14, version, preset, predicted):
    adapter = CoordAdapter(preset, version)
    with_pae = predicted and "tm_logits" in adapter.schema.leaves
    output = adapter.output(
        atom14,
        SEQUENCE,
        plddt=np.linspace(10, 90, N_RES) if predicted else None,
        pae=np.full((N_RES, N_RES), 3.0) if with_pae else None,
        source="a test",
    )
    schema.check(output, adapter.schema)
    leaves = dict(schema.flatten(output))
    assert list(output.provenance) == list(leaves)
    for origin in output.provenance.values():
        assert origin.startswith(("predicted", "derived: ", "filled: "))
    for array in leaves.values():
        assert np.isfinite(array).all()
        assert array.flags.writeable
    assert output.source == "a test"
    assert output.chain_ids == ("A", "B", "C")
    assert pickle.loads(pickle.dumps(dict(output))).keys() == output.keys()


def test_a_leaf_without_a_producer_is_an_error_that_names_it(adapter, atom14):
    strange = CoordAdapter()
    strange.schema = dataclasses.replace(
        adapter.schema, leaves={**adapter.schema.leaves, "sm/new": schema.Leaf("float32", ("N_res",))}
    )
    with pytest.raises(SchemaError, match=r"sm/new: in the output of OpenFold .* no producer"):
        strange.output(atom14, SEQUENCE)


def test_a_leaf_of_other_dimensions_is_an_error_that_names_it(adapter, atom14):
    strange = CoordAdapter()
    strange.schema = dataclasses.replace(
        adapter.schema, leaves={**adapter.schema.leaves, "plddt": schema.Leaf("float32", ("N_res", 2))}
    )
    with pytest.raises(SchemaError, match=r"plddt: the adapter makes \[21\]"):
        strange.output(atom14, SEQUENCE)


def test_unknown_preset_is_an_error():
    with pytest.raises(SchemaError, match="model_9"):
        CoordAdapter("model_9")


def test_given_atoms_come_out_bit_for_bit(adapter, atom14):
    output = adapter.output(atom14, SEQUENCE)
    there = np.isfinite(atom14).all(-1)
    for block in output["sm"]["positions"]:
        assert np.array_equal(block[there], atom14[there])
        assert not block[~there].any()
    assert output["final_atom_mask"].sum() == there.sum()
    columns = residues.ATOM37_OF_ATOM14[residues.residue_types(SEQUENCE.replace(":", ""))]
    rows, places = np.nonzero(there)
    assert np.array_equal(output["final_atom_positions"][rows, columns[rows, places]], atom14[there])
    assert "atoms missing" in output.provenance["final_atom_positions"]


def upstream_check(upstream, output):
    """Upstream's functions on the logits give the values."""
    lddt = upstream.loss.compute_plddt(torch.tensor(output["lddt_logits"]))
    np.testing.assert_allclose(lddt, output["plddt"], atol=1e-4)
    logits = torch.tensor(output["tm_logits"])
    for key, value in upstream.loss.compute_predicted_aligned_error(logits).items():
        np.testing.assert_allclose(value, output[key], atol=1e-4)
    score = output["predicted_tm_score" if "predicted_tm_score" in output else "ptm_score"]
    assert upstream.loss.compute_tm(logits).item() == pytest.approx(score, abs=1e-4)


def test_confidence_given_as_values(upstream, adapter, atom14):
    rng = np.random.default_rng(1)
    plddt, pae = rng.uniform(1, 99, N_RES), rng.uniform(0.25, 31.75, (N_RES, N_RES)).astype(np.float32)
    output = adapter.output(atom14, SEQUENCE, plddt=plddt, pae=torch.tensor(pae))
    np.testing.assert_allclose(output["plddt"], plddt, rtol=1e-6)
    assert np.array_equal(output["predicted_aligned_error"], pae)
    assert output.provenance["plddt"] == output.provenance["predicted_aligned_error"] == "predicted"
    upstream_check(upstream, output)


def test_confidence_given_as_logits(upstream, adapter, atom14):
    rng = np.random.default_rng(2)
    lddt = rng.normal(scale=3, size=(N_RES, 50)).astype(np.float32)
    errors = rng.normal(scale=3, size=(N_RES, N_RES, 64)).astype(np.float32)
    output = adapter.output(atom14, SEQUENCE, plddt_logits=torch.tensor(lddt), tm_logits=errors)
    assert np.array_equal(output["lddt_logits"], lddt)
    assert np.array_equal(output["tm_logits"], errors)
    assert not np.shares_memory(output["tm_logits"], errors)
    assert output.provenance["lddt_logits"] == output.provenance["tm_logits"] == "predicted"
    upstream_check(upstream, output)


def test_confidence_that_nobody_predicted(upstream, adapter, atom14):
    output = adapter.output(atom14, SEQUENCE)
    assert (output["plddt"] == 1).all()
    assert (output["predicted_aligned_error"] == 31.75).all()
    assert output["max_predicted_aligned_error"] == 31.75
    assert output["predicted_tm_score"] < 0.01
    for path in ("plddt", "lddt_logits", "tm_logits", "predicted_aligned_error", "predicted_tm_score"):
        assert output.provenance[path] == "filled: not predicted"
    upstream_check(upstream, output)


def test_clipped_confidence_says_so(upstream, adapter, atom14):
    plddt = np.full(N_RES, 50.0)
    plddt[:3] = 0, 99.5, 100
    pae = np.full((N_RES, N_RES), 5.0)
    pae[0, :2] = 0, 40
    output = adapter.output(atom14, SEQUENCE, plddt=plddt, pae=pae)
    assert output["plddt"][:4].tolist() == [1, 99, 99, 50]
    assert output["predicted_aligned_error"][0, :3].tolist() == [0.25, 31.75, 5]
    assert output.provenance["plddt"] == "predicted; 3 of 21 values clipped to 1 to 99"
    assert output.provenance["predicted_aligned_error"].endswith("2 of 441 values clipped to 0.25 to 31.75 A")
    upstream_check(upstream, output)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"plddt": np.full(N_RES, 101.0)}, "plddt: values from 101 to 101, expected 0 to 100"),
        ({"plddt": np.full(N_RES, -1.0)}, "plddt: values from -1"),
        ({"plddt": np.full(N_RES, 0.9)}, "Multiply fractions by 100"),
        ({"plddt": np.full(20, 50.0)}, r"plddt: shape \[20\], expected \[21\]"),
        ({"plddt": np.full(N_RES, np.nan)}, "plddt: holds NaN"),
        ({"plddt": np.full(N_RES, 9.0), "plddt_logits": np.zeros((N_RES, 50))}, "both given"),
        ({"plddt_logits": np.zeros((N_RES, 49))}, r"plddt_logits: shape \[21, 49\], expected \[21, 50\]"),
        ({"plddt_logits": np.full((N_RES, 50), np.inf)}, "plddt_logits: holds NaN or infinity"),
        ({"pae": np.full((N_RES, N_RES), -0.1)}, "pae: its least value is -0.1"),
        ({"pae": np.zeros((N_RES, 20))}, r"pae: shape \[21, 20\]"),
        ({"pae": np.full((N_RES, N_RES), np.inf)}, "pae: holds NaN or infinity"),
        ({"pae": np.zeros((N_RES, N_RES)), "tm_logits": np.zeros((N_RES, N_RES, 64))}, "both given"),
        ({"tm_logits": np.zeros((N_RES, N_RES, 63))}, r"expected \[21, 21, 64\]"),
    ],
)
def test_confidence_that_cannot_be_meant_is_refused(adapter, atom14, keywords, message):
    with pytest.raises(InputError, match=message):
        adapter.output(atom14, SEQUENCE, **keywords)


@pytest.mark.parametrize("name", ["pae", "tm_logits"])
def test_aligned_errors_need_a_preset_that_has_them(atom14, name):
    adapter = CoordAdapter("model_1")
    assert "tm_logits" not in adapter.output(atom14, SEQUENCE)
    with pytest.raises(InputError, match=f"{name}: given, but the output of model_1 has no aligned errors"):
        adapter.output(atom14, SEQUENCE, **{name: np.ones((N_RES, N_RES))})


@pytest.fixture
def multimer():
    return CoordAdapter("model_1_multimer_v3", "2.2.0")


def test_frames_of_a_multimer_are_matrices(upstream, adapter, multimer, atom14):
    expected = adapter.output(atom14, SEQUENCE)["final_affine_tensor"]
    frames = multimer.output(atom14, SEQUENCE)["sm"]["frames"]
    matrices = upstream.rigid.Rigid.from_tensor_7(torch.tensor(expected)).to_tensor_4x4()
    for block in frames:
        np.testing.assert_allclose(block, matrices, atol=1e-5)


def test_a_multimer_has_scores_of_its_interfaces(multimer, atom14):
    # Certain within each chain, less so across: what the interfaces' score is about.
    chain = np.repeat([1, 2, 3], [5, 7, 9])
    pae = np.where(chain[:, None] == chain, 0.25, 8.25)
    output = multimer.output(atom14, SEQUENCE, pae=pae)
    assert output["asym_id"].tolist() == chain.tolist()
    d0 = 1.24 * (N_RES - 15) ** (1 / 3) - 1.8
    across, within = 1 / (1 + (8.25 / d0) ** 2), 1 / (1 + (0.25 / d0) ** 2)
    assert output["iptm_score"] == pytest.approx(across, rel=1e-4)
    # The longest chain's residues have the best mean over all others.
    assert output["ptm_score"] == pytest.approx((9 * within + 12 * across) / N_RES, rel=1e-4)
    weighted = 0.8 * output["iptm_score"] + 0.2 * output["ptm_score"]
    assert output["weighted_ptm_score"] == pytest.approx(weighted)
    assert output.provenance["iptm_score"] == "derived: from tm_logits"


def test_one_chain_has_no_interface(multimer, atom14):
    output = multimer.output(atom14, SEQUENCE.replace(":", ""), pae=np.ones((N_RES, N_RES)))
    assert output["iptm_score"] == 0
    assert output["weighted_ptm_score"] == pytest.approx(0.2 * output["ptm_score"])
    assert output.provenance["iptm_score"].endswith("; 0, as there is one chain")


@pytest.mark.upstream
@pytest.mark.parametrize("given", ["logits", "pae", "nothing"])
@pytest.mark.parametrize("sequence", [SEQUENCE, SEQUENCE.replace(":", "")])
def test_scores_of_a_multimer_are_those_of_upstreams_heads(upstream, multimer, atom14, given, sequence):
    rng = np.random.default_rng(3)
    confidences = {
        "logits": {"tm_logits": rng.normal(scale=3, size=(N_RES, N_RES, 64)).astype(np.float32)},
        "pae": {"pae": rng.uniform(0, 31, (N_RES, N_RES))},
        "nothing": {},
    }
    output = multimer.output(atom14, sequence, **confidences[given])
    upstream_check(upstream, output)
    from openfold.config import model_config

    head = model_config("model_1_multimer_v3").model.heads.tm
    logits, chains = torch.tensor(output["tm_logits"]), torch.tensor(output["asym_id"])
    interface = upstream.loss.compute_tm(logits, asym_id=chains, interface=True, **head).item()
    whole = upstream.loss.compute_tm(logits, **head).item()
    assert output["iptm_score"] == pytest.approx(interface, abs=1e-5)
    weighted = head.iptm_weight * interface + head.ptm_weight * whole
    assert output["weighted_ptm_score"] == pytest.approx(weighted, abs=1e-5)


def test_no_network_ran_for_coordinates(atom14):
    output = CoordAdapter("seq_model_esm1b_ptm", "2.0.0").output(atom14, SEQUENCE)
    assert output["num_recycles"] == 0
    assert output.provenance["num_recycles"] == "filled: 0, as no network was run"


def test_what_nobody_knows_is_zero(adapter, atom14):
    output = adapter.output(atom14, SEQUENCE)
    leaves = dict(schema.flatten(output))
    for path in ("msa", "pair", "single", "sm/states", "sm/single", "masked_msa_logits"):
        assert not leaves[path].any()
        assert output.provenance[path].startswith("filled: zeros")
    assert output["msa"].shape[0] == 1


def test_trajectory_repeats_the_final_structure(adapter, atom14):
    output = adapter.output(atom14, SEQUENCE)
    for name in ("frames", "sidechain_frames", "angles", "unnormalized_angles", "positions"):
        assert (output["sm"][name] == output["sm"][name][-1]).all()
    assert np.array_equal(output["sm"]["frames"][-1], output["final_affine_tensor"])


def test_chain_breaks_come_from_chains_and_numbers(adapter):
    # An extended stretch whose C and N are 1.33 A apart throughout: only labels can break it.
    trace = np.full((4, 14, 3), np.nan)
    step = np.array([3.8, 0, 0])
    for i in range(4):
        trace[i, :3] = i * step + [[0, 0.3 * i, 0], [1.2, 0.8, 0.1], [2.47, 0.3 * (i + 1), 0]]

    def measured(sequence, **keywords):
        angles = adapter.output(trace, sequence, **keywords)["sm"]["angles"][-1]
        return [not np.array_equal(angle, [0, 1]) for angle in angles[:, 1]]

    assert measured("AAAA") == [False, True, True, True]
    assert measured("AA:AA") == [False, True, False, True]
    assert measured("AAAA", residue_index=[1, 2, 3, 7]) == [False, True, True, False]


def test_distogram_is_that_of_the_structure(adapter, atom14):
    output = adapter.output(atom14, SEQUENCE)
    expected = confidence.distogram_bin_centers()[output["distogram_logits"].argmax(-1)]
    glycine = SEQUENCE.replace(":", "").index("G")
    cb = output["final_atom_positions"][:, residues.CB].copy()
    known = output["final_atom_mask"][:, residues.CB] > 0
    cb[glycine] = output["final_atom_positions"][glycine, residues.CA]
    known[glycine] = output["final_atom_mask"][glycine, residues.CA] > 0
    distance = np.linalg.norm(cb[:, None] - cb, axis=-1)
    pairs = known[:, None] & known & (distance > 2.2) & (distance < 21.7)
    assert pairs.sum() > 100
    np.testing.assert_allclose(expected[pairs], distance[pairs], atol=0.16)  # half a bin
    assert not output["distogram_logits"][~known].any()
