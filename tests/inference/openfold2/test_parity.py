"""OpenFold 2 through ``run_pretrained_openfold.py``, bit for bit what upstream's own script does without us.

``OPENFOLD_HOME=CHECKOUT pytest -m upstream``, once for each tag.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from openfoldpp.files import read_pickle

pytestmark = pytest.mark.upstream

SKIP = "--skip_relaxation"


@pytest.mark.parametrize(
    "name", ["monomer", "templated", "soloseq", "dimer", "homotrimer", "cif", "subtract"]
)
def test_is_bit_for_bit_vanilla(name, runs, vanilla, run, arguments, assert_same_files):
    target, preset, more = runs[name]
    code, out = run(*arguments(target, preset, *more))
    assert code == 0
    assert_same_files(out, vanilla[name])
    assert not list(out.glob(".openfoldpp-*"))


def test_one_weight_changes_the_result(vanilla, run, arguments, weights, tmp_path):
    import torch

    parameters = torch.load(weights("model_1_ptm"), weights_only=True)
    parameters["evoformer.blocks.0.msa_att_row.mha.linear_q.weight"][0, 0] += 0.5
    torch.save(parameters, tmp_path / "other.pt")
    code, out = run(*arguments("monomer", "model_1_ptm", SKIP, weights_file=tmp_path / "other.pt"))
    assert code == 0
    name = "predictions/query_model_1_ptm_output_dict.pkl"
    ours, vanillas = read_pickle(out / name), read_pickle(vanilla["monomer"] / name)
    assert not np.array_equal(ours["final_atom_positions"], vanillas["final_atom_positions"])


def test_a_later_target_gets_the_numbers_that_it_gets_alone(vanilla, run, arguments, assert_same_files):
    """The model is loaded once; of the pair, ``query`` comes second."""
    code, out = run(*arguments("pair", "model_1_ptm", SKIP))
    assert code == 0
    assert_same_files(out, vanilla["monomer"])
    timings = json.loads((out / "timings.json").read_text())
    assert set(timings) == {"light", "query"}
    assert timings["query"]["inference"] > 0


def test_several_weights_files_each_have_a_folder_of_their_own(
    vanilla, run_vanilla_script, run, arguments, weights, assert_same_bits
):
    """Each result is that of upstream's script with this file alone."""
    preset = "model_1_ptm"
    jax = weights(preset).with_name("params_model_1_ptm.npz")
    (of_jax,) = run_vanilla_script((arguments("monomer", preset, SKIP, weights_file=jax), preset, {}))
    code, out = run(*arguments("monomer", preset, SKIP), "--jax_param_path", jax)
    assert code == 0
    name = "query_model_1_ptm_output_dict.pkl"
    for folder, expected in ((jax.stem, of_jax), (preset, vanilla["monomer"])):
        ours = read_pickle(out / "predictions" / folder / name)
        assert_same_bits(ours, read_pickle(expected / "predictions" / name))


def test_settings_of_a_file_come_last(
    vanilla, run_vanilla_script, run, arguments, tmp_path, assert_same_files
):
    preset = "seq_model_esm1b_ptm"
    changed = {"data.common.max_recycling_iters": 0, "globals.chunk_size": None}
    (tmp_path / "settings.json").write_text(json.dumps(changed))
    (expected,) = run_vanilla_script((arguments("monomer", preset, SKIP), preset, changed))
    code, out = run(
        *arguments("monomer", preset, SKIP), "--experiment_config_json", tmp_path / "settings.json"
    )
    assert code == 0
    assert_same_files(out, expected)


def test_long_sequences_take_upstreams_own_low_memory_attention(
    vanilla, run_vanilla_script, run, arguments, assert_same_files
):
    """Vanilla stops without DeepSpeed, and in its offloading of one chain: compared without both."""
    preset = "seq_model_esm1b_ptm"
    settings = {
        "globals.use_lma": True,
        "model.template.template_pair_stack.tune_chunk_size": False,
        "model.extra_msa.extra_msa_stack.tune_chunk_size": False,
        "model.evoformer_stack.tune_chunk_size": False,
    }
    (expected,) = run_vanilla_script((arguments("monomer", preset, SKIP), preset, settings))
    code, out = run(*arguments("monomer", preset, SKIP), "--long_sequence_inference")
    assert code == 0
    assert_same_files(out, expected)


def test_custom_templates_are_used(version, vanilla, run, run_vanilla_script, arguments, assert_same_files):
    if version < "2.2.0":
        pytest.skip("2.2.0 brought the flag")
    if not Path("/usr/bin/kalign").exists():
        pytest.skip("no kalign (Debian's package kalign)")
    preset = "model_1_ptm"
    given = arguments(
        "templated", preset, SKIP, "--use_custom_template", "--kalign_binary_path", "/usr/bin/kalign"
    )
    (expected,) = run_vanilla_script((given, preset, {}))
    code, out = run(*given)
    assert code == 0
    assert_same_files(out, expected)


@pytest.mark.slow
def test_a_traced_model_predicts_what_the_model_predicts(vanilla, run, arguments, weights):
    """Two lengths, so that it is traced twice; each target has its own residues and no padding."""
    code, out = run(*arguments("pair", "model_1_ptm", SKIP, "--trace_model"))
    assert code == 0
    name = "predictions/query_model_1_ptm_output_dict.pkl"
    ours, vanillas = read_pickle(out / name), read_pickle(vanilla["monomer"] / name)
    for key in ("final_atom_positions", "plddt", "predicted_aligned_error"):
        # TorchScript may fuse and reorder; the result is within float32's rounding over two blocks.
        np.testing.assert_allclose(ours[key], vanillas[key], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "preset", "recycles"),
    [
        ("monomer", "seq_model_esm1b_ptm", 3),
        ("templated", "model_1_ptm", 1),
        ("dimer", "model_1_multimer_v3", 1),
    ],
)
def test_the_whole_model_is_bit_for_bit_vanilla(
    target, preset, recycles, run_vanilla_script, run, arguments, weights, assert_same_files
):
    """Every block and every row of the preset, every parameter drawn at random."""
    folder = weights(preset).parent / "whole"
    folder.mkdir(exist_ok=True)
    given = arguments(target, preset, SKIP, weights_file=folder / weights(preset).name)
    job = (given, preset, {"data.common.max_recycling_iters": recycles})
    (expected,) = run_vanilla_script(job, shrunk=False)
    code, out = run(*given, "--recycling_iters", recycles, plugins="openfoldpp.recycling")
    assert code == 0
    assert_same_files(out, expected)
