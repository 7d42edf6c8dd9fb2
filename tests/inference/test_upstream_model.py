"""OpenFold 0.0.1 through ``run_pretrained_openfold.py``, against upstream's own code without us."""

import json
from pathlib import Path

import numpy as np
import pytest

from openfoldpp.files import read_pickle

PICKLE = "model_1_ptm_output_dict.pkl"


def test_the_console_script_is_bit_for_bit_vanilla(vanilla, tmp_path, run_command, shrink, assert_same_bits):
    expected = vanilla["one"]
    done = run_command(
        "run_pretrained_openfold.py", expected.fasta.parent, "--plugins", "openfoldpp.recycling,shrink",
        "--openfold_checkpoint_path", expected.checkpoint, "--recycling_iters", 2,
        "--data_random_seed", 3, "--skip_relaxation", "--save_outputs",
        cwd=tmp_path, path=shrink, OPENFOLDPP_BACKEND="torch",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "predictions"
    assert_same_bits(read_pickle(folder / f"1ABC_A_{PICKLE}"), read_pickle(expected.output_dict))
    assert (folder / "1ABC_A_model_1_ptm_unrelaxed.pdb").read_text() == expected.pdb.read_text()


def test_two_chains_are_bit_for_bit_vanilla(vanilla, predict, assert_same_bits):
    folder = predict(vanilla["two"].fasta.read_text())
    name = "heavy-light_model_1_ptm"
    assert_same_bits(read_pickle(folder / f"{name}_output_dict.pkl"), read_pickle(vanilla["two"].output_dict))
    assert (folder / f"{name}_unrelaxed.pdb").read_text() == vanilla["two"].pdb.read_text()
    chains = json.loads((folder / f"{name}_provenance.json").read_text())["chains"]
    assert [chain["id"] for chain in chains] == ["A", "B"]


def test_another_gap_changes_the_numbers_and_not_the_chains(vanilla, predict, assert_same_bits):
    folder = predict(vanilla["gap"].fasta.read_text(), arguments=["--multimer_ri_gap", 20])
    near = read_pickle(folder / f"heavy-light_{PICKLE}")
    assert_same_bits(near, read_pickle(vanilla["gap"].output_dict))
    far = read_pickle(vanilla["two"].output_dict)
    assert not np.array_equal(near["final_atom_positions"], far["final_atom_positions"])
    text = (folder / "heavy-light_model_1_ptm_unrelaxed.pdb").read_text()
    assert text == vanilla["gap"].pdb.read_text()
    numbers = {line[21]: int(line[22:26]) for line in text.splitlines() if line.startswith("ATOM")}
    assert numbers == {"A": 25, "B": 18}


def test_precomputed_alignments_are_used_bit_for_bit(vanilla, predict, inputs, assert_same_bits):
    files = vanilla["query"]
    folder = predict(files.fasta.read_text(), arguments=["--use_precomputed_alignments", inputs.alignments])
    with_alignments = read_pickle(folder / f"query_{PICKLE}")
    assert_same_bits(with_alignments, read_pickle(files.output_dict))
    without = read_pickle(vanilla["one"].output_dict)
    assert not np.array_equal(with_alignments["plddt"], without["plddt"])


@pytest.mark.parametrize(("name", "tag"), [("templated", "templated"), ("templated pair", "light-templated")])
def test_templates_are_used_bit_for_bit(name, tag, vanilla, predict, inputs, assert_same_bits):
    files = vanilla[name]
    arguments = ["--use_precomputed_alignments", inputs.alignments]
    folder = predict(files.fasta.read_text(), arguments=[inputs.templates, *arguments])
    with_template = read_pickle(folder / f"{tag}_{PICKLE}")
    assert_same_bits(with_template, read_pickle(files.output_dict))
    text = (folder / f"{tag}_model_1_ptm_unrelaxed.pdb").read_text()
    assert text == files.pdb.read_text()
    assert "PARENT 1ay7_B" in text.splitlines()
    folder = predict(files.fasta.read_text(), arguments=arguments)
    without = read_pickle(folder / f"{tag}_{PICKLE}")
    assert not np.array_equal(with_template["plddt"], without["plddt"])


@pytest.mark.skipif(not Path("/usr/bin/jackhmmer").exists(), reason="no jackhmmer (Debian's package hmmer)")
def test_a_search_gives_what_its_kept_alignments_give(vanilla, predict, tmp_path, assert_same_bits):
    fasta = vanilla["one"].fasta.read_text()
    database = tmp_path / "uniref90.fasta"
    database.write_text(f">HOMOLOG\n{fasta.splitlines()[1].replace('GGG', 'GAG')}\n")
    folder = predict(fasta, arguments=["--uniref90_database_path", database])
    found = read_pickle(folder / f"1ABC_A_{PICKLE}")
    kept = folder.parent / "alignments"
    assert [path.relative_to(kept).as_posix() for path in kept.rglob("*")] == [
        "1ABC_A",
        "1ABC_A/uniref90_hits.a3m",
    ]
    again = predict(fasta, arguments=["--use_precomputed_alignments", kept])
    assert_same_bits(read_pickle(again / f"1ABC_A_{PICKLE}"), found)
    assert not np.array_equal(found["plddt"], read_pickle(vanilla["one"].output_dict)["plddt"])


def test_one_weight_and_one_recycle_change_the_result(vanilla, predict, tmp_path):
    import torch

    fasta = vanilla["one"].fasta.read_text()
    before = read_pickle(vanilla["one"].output_dict)
    fewer = read_pickle(predict(fasta, recycles=1) / f"1ABC_A_{PICKLE}")
    assert not np.array_equal(before["final_atom_positions"], fewer["final_atom_positions"])
    weights = torch.load(vanilla["one"].checkpoint, weights_only=True)
    weights["evoformer.blocks.0.msa_att_row.mha.linear_q.weight"][0, 0] += 0.5
    torch.save(weights, tmp_path / "other.pt")
    folder = predict(fasta, weights=["--openfold_checkpoint_path", tmp_path / "other.pt"])
    after = read_pickle(folder / f"1ABC_A_{PICKLE}")
    assert not np.array_equal(before["final_atom_positions"], after["final_atom_positions"])


@pytest.mark.slow
def test_the_whole_model_at_its_full_depth_is_bit_for_bit_vanilla(
    run_vanilla, tmp_path, run_command, assert_same_bits
):
    """48 blocks, 512 clusters, 5120 extra sequences, two recycles; every parameter drawn at random."""
    expected = run_vanilla("EVQLVESG", seed=3, overrides={"data.common.max_recycling_iters": 2})
    done = run_command(
        "run_pretrained_openfold.py", expected.fasta.parent, "--plugins", "openfoldpp.recycling",
        "--openfold_checkpoint_path", expected.checkpoint, "--recycling_iters", 2,
        "--data_random_seed", 3, "--skip_relaxation", "--save_outputs",
        cwd=tmp_path, OPENFOLDPP_BACKEND="torch",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    actual = read_pickle(tmp_path / "predictions" / f"chain1_{PICKLE}")
    assert actual["msa"].shape == (512, 8, 256)
    assert np.isfinite(actual["final_atom_positions"]).all()
    assert_same_bits(actual, read_pickle(expected.output_dict))
