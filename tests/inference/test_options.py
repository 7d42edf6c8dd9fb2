"""Flags against the OpenFold in use, and the arguments that its script gets."""

import itertools
from pathlib import Path

import pytest

from openfoldpp.errors import InputError
from openfoldpp.inference import options as command_line
from openfoldpp.upstream.locate import Installation

WEIGHTS = ["--openfold_checkpoint_path", "weights.pt"]


def installation(version):
    return Installation(version, Path("clone"), "checkout", Path("clone/script.py"), "why")


def parsed(*arguments, preset="model_1_ptm"):
    options, _ = command_line.parse(["fasta", *arguments], program="test")
    options.config_preset = options.config_preset or preset
    return options


@pytest.mark.parametrize(
    ("version", "arguments", "message"),
    [
        ("0.0.1", [*WEIGHTS, "--long_sequence_inference"], "OpenFold 2.0.0 and later, and this is 0.0.1"),
        ("0.0.1", [*WEIGHTS, "--uniprot_database_path", "x"], "--uniprot_database_path is supported with"),
        ("2.0.0", [*WEIGHTS, "--use_deepspeed_evoformer_attention"], "with OpenFold 2.1.0 and later"),
        ("2.1.0", ["mmcif", *WEIGHTS, "--use_custom_template"], "with OpenFold 2.2.0 and later"),
        ("2.2.0", ["--long_sequence_inference"], "is for OpenFold's own model, and no weights are given"),
        ("2.2.0", [*WEIGHTS, "--use_deepspeed_evoformer_attention"], "kernel is not installed"),
        ("2.2.0", [*WEIGHTS, "--use_custom_template"], "takes the mmCIF files of the template folder"),
        ("2.2.0", [*WEIGHTS, "--trace_model", "--config_preset", "seq_model_esm1b_ptm"], "is seq_model"),
        ("2.2.0", [*WEIGHTS, "--trace_model", "--config_preset", "model_1_multimer_v3"], "of one chain"),
    ],
)  # fmt: skip
def test_a_flag_without_effect_is_refused(version, arguments, message):
    with pytest.raises(InputError, match=message):
        command_line.check_release(parsed(*arguments), installation(version))


def test_what_flags_mean_here_is_said():
    options = parsed(
        "mmcif", *WEIGHTS, "--long_sequence_inference", "--kalign_binary_path", "/nowhere/kalign"
    )
    kalign, attention = command_line.check_release(options, installation("2.2.0"))
    assert "/nowhere/kalign: there is no such program" in kalign
    assert "low-memory attention" in attention
    assert command_line.check_release(parsed(*WEIGHTS), installation("2.2.0")) == []


def test_the_script_gets_what_was_given():
    options = parsed(
        "mmcif", *WEIGHTS, "--cif_output", "--cpus", "2", "--uniref90_database_path", "uniref90.fasta",
        "--plugins", "openfoldpp.recycling", "--recycling_iters", "1",
    )  # fmt: skip
    folders = {name: Path(name) for name in ("fasta_dir", "templates", "output_dir")}
    arguments = command_line.script_arguments(
        options, **folders, alignments=None, weights=("--jax_param_path", Path("p.npz")), relax=False, seed=7
    )
    assert arguments[:4] == ["fasta_dir", "mmcif", "--jax_param_path", "p.npz"]
    pairs = dict(itertools.pairwise(arguments))
    assert pairs["--cpus"] == "2"
    assert pairs["--data_random_seed"] == "7"
    assert pairs["--uniref90_database_path"] == "uniref90.fasta"
    assert {"--cif_output", "--skip_relaxation"} <= set(arguments)
    unwanted = {"--use_precomputed_alignments", "--plugins", "--recycling_iters", "--save_outputs"}
    assert not unwanted & set(arguments)
