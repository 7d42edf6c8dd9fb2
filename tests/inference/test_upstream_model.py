"""OpenFold 0.0.1 through ``run_pretrained_openfold.py``, against upstream's own code without us."""

import json

import numpy as np
import pytest

from openfoldpp.files import read_pickle
from openfoldpp.upstream import schema

HEAVY = "EVQLVESGGGLVQPGGSLRLSCAAS"
LIGHT = "DIQMTQSPSSLSASVGDR"

# Every kind of block, once; the number of sequences cut so that a run takes a second.
SMALL = {
    "model.evoformer_stack.no_blocks": 2,
    "model.extra_msa.extra_msa_stack.no_blocks": 1,
    "model.template.template_pair_stack.no_blocks": 1,
    "data.predict.max_extra_msa": 16,
    "data.predict.max_msa_clusters": 20,
}

SHRINK = f"""
from openfoldpp.plugins.hookspecs import hookimpl

@hookimpl
def openfoldpp_configure(config, options):
    config.update_from_flattened_dict({SMALL!r})
"""


@pytest.fixture
def predict(tmp_path, run_command, plugin_folder):
    """Run the command on one target with a small model; returns its output folder."""
    shrink = plugin_folder("shrink", SHRINK)

    def run(files, *arguments, seed=3, recycles=2, plugins="openfoldpp.recycling,shrink"):
        folder = tmp_path / "fasta"
        folder.mkdir(exist_ok=True)
        (folder / "target.fasta").write_text(files.fasta.read_text())
        done = run_command(
            "run_pretrained_openfold.py", folder, "--plugins", plugins,
            "--openfold_checkpoint_path", files.checkpoint, "--recycling_iters", recycles,
            "--data_random_seed", seed, "--skip_relaxation", "--save_outputs", *arguments,
            cwd=tmp_path, path=shrink, OPENFOLDPP_BACKEND="torch",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return tmp_path / "predictions"

    return run


def vanilla(run_vanilla, *sequences, **job):
    overrides = SMALL | {"data.common.max_recycling_iters": 2}
    return run_vanilla(*sequences, overrides=overrides, seed=3, **job)


def assert_same_bits(actual, expected):
    actual, expected = dict(schema.flatten(actual)), dict(schema.flatten(expected))
    assert list(actual) == list(expected)
    for path, value in expected.items():
        assert actual[path].dtype == value.dtype, path
        np.testing.assert_array_equal(actual[path], value, err_msg=path)


def test_one_chain_is_bit_for_bit_vanilla(run_vanilla, predict):
    files = vanilla(run_vanilla, HEAVY, tags=["1ABC_A"])
    folder = predict(files)
    assert_same_bits(
        read_pickle(folder / "1ABC_A_model_1_ptm_output_dict.pkl"), read_pickle(files.output_dict)
    )
    assert (folder / "1ABC_A_model_1_ptm_unrelaxed.pdb").read_text() == files.pdb.read_text()


def test_two_chains_are_bit_for_bit_vanilla(run_vanilla, predict):
    files = vanilla(run_vanilla, HEAVY, LIGHT, tags=["heavy", "light"])
    folder = predict(files)
    name = "heavy-light_model_1_ptm"
    assert_same_bits(read_pickle(folder / f"{name}_output_dict.pkl"), read_pickle(files.output_dict))
    assert (folder / f"{name}_unrelaxed.pdb").read_text() == files.pdb.read_text()
    chains = json.loads((folder / f"{name}_provenance.json").read_text())["chains"]
    assert [chain["id"] for chain in chains] == ["A", "B"]


def test_precomputed_alignments_are_used_bit_for_bit(run_vanilla, predict, tmp_path):
    alignments = tmp_path / "alignments"
    (alignments / "query").mkdir(parents=True)
    homologs = [HEAVY.replace("G", "A"), HEAVY.replace("L", "-"), HEAVY[:9] + "kk" + HEAVY[9:]]
    text = "".join(f">{i}\n{seq}\n" for i, seq in enumerate([HEAVY, *homologs]))
    (alignments / "query" / "uniref90_hits.a3m").write_text(text)
    files = vanilla(run_vanilla, HEAVY, tags=["query"], alignments=alignments)
    folder = predict(files, "--use_precomputed_alignments", alignments)
    with_alignments = read_pickle(folder / "query_model_1_ptm_output_dict.pkl")
    assert_same_bits(with_alignments, read_pickle(files.output_dict))
    without = read_pickle(predict(files) / "query_model_1_ptm_output_dict.pkl")
    assert not np.array_equal(with_alignments["plddt"], without["plddt"])


def test_one_weight_and_one_recycle_change_the_result(run_vanilla, predict):
    import torch

    files = vanilla(run_vanilla, HEAVY)
    pickle = "chain1_model_1_ptm_output_dict.pkl"
    before = read_pickle(predict(files) / pickle)
    fewer = read_pickle(predict(files, recycles=1) / pickle)
    assert not np.array_equal(before["final_atom_positions"], fewer["final_atom_positions"])
    weights = torch.load(files.checkpoint, weights_only=True)
    weights["evoformer.blocks.0.msa_att_row.mha.linear_q.weight"][0, 0] += 0.5
    torch.save(weights, files.checkpoint)
    after = read_pickle(predict(files) / pickle)
    assert not np.array_equal(before["final_atom_positions"], after["final_atom_positions"])
