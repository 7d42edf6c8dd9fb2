"""The FlashABB plugin: what it serves, in which order, and what it refuses with which advice."""

from argparse import Namespace

import numpy as np
import pytest

from openfoldpp.adapters.flashabb import FlashABBPlugin, plugin, sequence_features
from openfoldpp.errors import InputError, UnsupportedTargetError
from openfoldpp.geometry import residues
from openfoldpp.teachers import flashabb
from openfoldpp.types import Chain, Target

# Trastuzumab (PDB 1N8Z), with the start of human IgG1 CH1 and C kappa.
VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS"
)
VL = (
    "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPPTFG"
    "QGTKVEIK"
)
CH1, CKAPPA = "ASTKGPSVFPLAPSSKST", "RTVAAPSVFIFPPSDEQL"
TCR_BETA = (
    "NAGVTQTPKFQVLKTGQSMTLQCAQDMNHEYMSWYRQDPGMGLRLIHYSVGAGITDQGEVPNGYNVSRSTTEDFPLRLLSAAPSQTSVYFCASRPGLAGGRP"
    "EQYFGPGTRLTVTE"
)
LYSOZYME = (
    "KVFERCELARTLKRLGMDGYRGISLANWMCLAKWESGYNTRATNYNAGDRSTDYGIFQINSRYWCNDGKTPGAVNACHLSCSALLQDNIADAVACAKRV"
)


def make_target(*sequences, tag="fv"):
    chains = tuple(Chain(f"{tag}_{i}", sequence) for i, sequence in enumerate(sequences, 1))
    return Target(tag, chains)


def make_options(**changed):
    given = {
        "openfold_checkpoint_path": None,
        "jax_param_path": None,
        "multimer_ri_gap": 200,
        "config_preset": "model_1_ptm",
        "model_device": "cpu",
        "openfold_home": None,
    }
    return Namespace(**(given | changed))


def predict(target, **changed):
    features = plugin.openfoldpp_make_features(target, make_options(**changed))
    return plugin.openfoldpp_predict(None, features, target)


@pytest.fixture(scope="module")
def heavy_first():
    return predict(make_target(VH, VL))


@pytest.fixture(scope="module")
def light_first():
    return predict(make_target(VL, VH))


def test_output_holds_what_flashabb_predicts(heavy_first):
    expected = flashabb.load().predict(VH, VL)
    columns = residues.ATOM37_OF_ATOM14[residues.residue_types(VH + VL)]
    residue, place = np.nonzero(expected.mask)
    np.testing.assert_array_equal(
        heavy_first["final_atom_positions"][residue, columns[residue, place]], expected.coords[residue, place]
    )
    np.testing.assert_array_equal(heavy_first["lddt_logits"], expected.plddt_logits)
    assert heavy_first["final_atom_mask"].sum() == expected.mask.sum()
    assert heavy_first.chain_ids == ("H", "L")
    assert heavy_first.source == "flash-abb 0.0.5"
    assert heavy_first.provenance["lddt_logits"] == "predicted"
    assert heavy_first.provenance["predicted_aligned_error"] == "filled: not predicted"
    assert 80 < heavy_first["plddt"].mean() < 100


def test_light_first_gives_the_same_in_the_order_of_the_target(heavy_first, light_first):
    assert light_first.chain_ids == ("L", "H")
    for key in ("final_atom_positions", "final_atom_mask", "lddt_logits", "plddt"):
        np.testing.assert_array_equal(light_first[key][: len(VL)], heavy_first[key][len(VH) :])
        np.testing.assert_array_equal(light_first[key][len(VL) :], heavy_first[key][: len(VH)])


def test_the_preset_decides_the_schema(heavy_first):
    assert "predicted_aligned_error" in heavy_first
    assert "predicted_aligned_error" not in predict(make_target(VH, VL), config_preset="model_1")


def test_the_openfold_in_use_decides_the_schema(heavy_first, tmp_path):
    # The files by which a checkout of 2.2.0 is told.
    for name in ("__init__", "config", "model/model", "data/mmcif_parsing", "np/residue_constants"):
        file = tmp_path / "openfold" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "scripts").mkdir()
    for name in ("run_pretrained_openfold.py", "scripts/utils.py"):
        (tmp_path / name).touch()
    (tmp_path / "setup.py").write_text("name='openfold',\nversion='2.2.0',\n")
    output = predict(make_target(VH, VL), openfold_home=tmp_path)
    assert output["num_recycles"] == 0
    assert output["ptm_score"] == heavy_first["predicted_tm_score"]


def test_two_residues_around_a_domain_are_served(heavy_first):
    output = predict(make_target(VH + CH1[:2], VL + CKAPPA[:2]))
    assert output["plddt"].shape == (len(VH) + len(VL) + 4,)


def test_sequence_features_are_those_of_upstreams_pipeline():
    features = sequence_features(make_target("ARX", "VW", tag="a-b"), ri_gap=30)
    dtypes = {key: array.dtype for key, array in features.items()}
    assert dtypes == {
        "aatype": np.int32,
        "between_segment_residues": np.int32,
        "domain_name": np.object_,
        "residue_index": np.int32,
        "seq_length": np.int32,
        "sequence": np.object_,
    }
    assert features["aatype"].shape == (5, 21)
    assert features["aatype"].sum(axis=1).tolist() == [1] * 5
    # Upstream's residue order is alphabetical by three-letter code, then X.
    assert features["aatype"].argmax(axis=1).tolist() == [0, 1, 20, 19, 17]
    assert features["residue_index"].tolist() == [0, 1, 2, 33, 34]
    assert features["seq_length"].tolist() == [5] * 5
    assert features["between_segment_residues"].tolist() == [0] * 5
    assert features["sequence"].tolist() == [b"ARXVW"]
    assert features["domain_name"].tolist() == [b"a-b"]
    with pytest.raises(InputError, match="'\\*' at residue 2"):
        sequence_features(make_target("A*"), ri_gap=200)


def test_features_carry_the_gap_of_the_options():
    features = plugin.openfoldpp_make_features(make_target(VH, VL), make_options(multimer_ri_gap=7))
    assert np.diff(features["residue_index"])[len(VH) - 1] == 8


@pytest.mark.parametrize("weights", ["openfold_checkpoint_path", "jax_param_path"])
def test_leaves_a_target_with_weights_alone(weights):
    assert plugin.openfoldpp_make_features(make_target(LYSOZYME), make_options(**{weights: "w"})) is None


def test_predicts_only_without_a_model_and_from_its_own_features():
    target = make_target(VH, VL)
    features = plugin.openfoldpp_make_features(target, make_options())
    assert plugin.openfoldpp_predict(object(), features, target) is None
    assert plugin.openfoldpp_predict(None, dict(features), target) is None


@pytest.mark.parametrize(
    ("chains", "reason"),
    [
        ((VH,), "'fv_1', is an antibody's heavy chain without its partner, and FlashABB was made for both"),
        ((VL,), "'fv_1', is an antibody's light (kappa) chain without its partner"),
        ((LYSOZYME,), "its only chain, 'fv_1', has no antibody variable domain"),
        ((VH + "GGGGS" * 3 + VL,), f"leave the linker out and write ':' between them: {VH}:{VL}"),
        ((VH + "GGGGS" * 3 + VH,), "has 2 variable domains: heavy, heavy"),
        ((VH, VL, LYSOZYME), "it has 3 chains"),
        ((VH, VH), "both of its chains are heavy chains"),
        ((VL, VL), "both of its chains are light chains"),
        ((VH, LYSOZYME), "chain 'fv_2' cannot be used: it has no antibody variable domain"),
        ((TCR_BETA, VL), "chain 'fv_1' cannot be used: it is a T-cell receptor beta chain"),
        ((VH + CH1, VL), "chain 'fv_1' has 0 residues before and 18 after its variable domain"),
        ((VH + CH1, VL + CKAPPA), f"keep only residues 1 to 120 of that chain, {VH}; chain 'fv_2' has"),
        ((VH, "MGWSC" + VL), f"keep only residues 6 to 112 of that chain, {VL}"),
        ((VH[6:], VL), "variable domain of chain 'fv_1' is cut off: it has IMGT numbers 7 to 128"),
        ((VH, VL[:-5]), "variable domain of chain 'fv_2' is cut off: it has IMGT numbers 1 to 122"),
        ((VH, "XBJZUOX" + VL), "'U' at residue 5 and 2 more, and FlashABB knows the 20 amino acids"),
        ((VH, VL[:50] + "X" + VL[51:]), "chain 'fv_2' has 'X' at residue 51, and"),
    ],
)
def test_refuses_what_it_cannot_serve(chains, reason):
    with pytest.raises(UnsupportedTargetError) as error:
        FlashABBPlugin().openfoldpp_make_features(make_target(*chains), make_options())
    message = str(error.value)
    assert reason in message
    assert "--openfold_checkpoint_path FILE or --jax_param_path FILE" in message
    assert "fv" in message
