"""Several weights and several targets in one run, and AlphaFold's parameters: each as if it were alone."""

import shutil

import numpy as np
import pytest

from openfoldpp.files import read_pickle

PICKLE = "model_1_ptm_output_dict.pkl"


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_each_target_is_what_it_is_alone(order, vanilla, predict, assert_same_bits):
    folder = predict(*(vanilla[name].fasta.read_text() for name in order))
    one, two = (read_pickle(folder / f"{tag}_{PICKLE}") for tag in ("1ABC_A", "heavy-light"))
    assert_same_bits(one, read_pickle(vanilla["one"].output_dict))
    assert_same_bits(two, read_pickle(vanilla["two"].output_dict))


def test_each_checkpoint_is_what_it_is_alone(vanilla, predict, tmp_path, assert_same_bits):
    import torch

    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    first.symlink_to(vanilla["one"].checkpoint)
    weights = torch.load(first, weights_only=True)
    torch.save({name: value * 1.01 for name, value in weights.items()}, second)
    fasta = vanilla["one"].fasta.read_text()
    both = predict(fasta, weights=["--openfold_checkpoint_path", f"{first},{second}"])
    assert {path.name for path in both.iterdir()} == {"first", "second"}
    of_first, of_second = (read_pickle(both / name / f"1ABC_A_{PICKLE}") for name in ("first", "second"))
    assert_same_bits(of_first, read_pickle(vanilla["one"].output_dict))
    alone = predict(fasta, weights=["--openfold_checkpoint_path", second])
    assert_same_bits(of_second, read_pickle(alone / f"1ABC_A_{PICKLE}"))
    assert not np.array_equal(of_first["plddt"], of_second["plddt"])


def run_weights(run_program, vanilla, folder, weights):
    (folder / "fasta").mkdir()
    (folder / "fasta" / "one.fasta").write_text(vanilla["one"].fasta.read_text())
    return run_program(
        folder / "fasta", "--openfold_checkpoint_path", weights, "--plugins", "openfoldpp.recycling,shrink",
        "--recycling_iters", 0, "--data_random_seed", 0, "--skip_relaxation", "--output_dir", folder,
    )  # fmt: skip


def test_weights_that_are_none_are_refused_before_the_first_target(vanilla, run_program, tmp_path, capsys):
    (tmp_path / "bad.pt").write_bytes(b"nothing of the kind")
    weights = f"{vanilla['one'].checkpoint},{tmp_path / 'bad.pt'}"
    assert run_weights(run_program, vanilla, tmp_path, weights) == 1
    assert "bad.pt is a text file" in capsys.readouterr().err
    assert not (tmp_path / "predictions").exists()


def test_weights_of_another_model_leave_what_earlier_ones_predicted(vanilla, run_program, tmp_path, capsys):
    """Of which model they are shows only when the file is read."""
    import torch

    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "bad.pt")
    weights = f"{vanilla['one'].checkpoint},{tmp_path / 'bad.pt'}"
    assert run_weights(run_program, vanilla, tmp_path, weights) == 1
    out = capsys.readouterr().out
    assert "1 of 2 targets failed:" in out
    assert "bad.pt" in out.rpartition("failed:")[2]
    assert len(list((tmp_path / "predictions" / "random").glob("1ABC_A_*_unrelaxed.pdb"))) == 1


def test_weights_of_one_name_would_overwrite_each_other(vanilla, run_program, tmp_path, capsys):
    weights = f"{vanilla['one'].checkpoint},{tmp_path / 'random.pt'}"
    assert run_weights(run_program, vanilla, tmp_path, weights) == 1
    assert "need different names" in capsys.readouterr().err


@pytest.fixture(scope="module")
def jax_parameters(vanilla, small_config, to_jax, tmp_path_factory):
    """The small random model's weights as AlphaFold's file."""
    import torch
    from openfold.model.model import AlphaFold

    model = AlphaFold(small_config)
    model.load_state_dict(torch.load(vanilla["one"].checkpoint, weights_only=True))
    path = tmp_path_factory.mktemp("jax") / "params_model_1_ptm.npz"
    np.savez(path, **to_jax(model, "model_1_ptm"))
    return path


def test_jax_parameters_are_bit_for_bit_the_checkpoint(vanilla, predict, jax_parameters, assert_same_bits):
    folder = predict(vanilla["one"].fasta.read_text(), weights=["--jax_param_path", jax_parameters])
    assert_same_bits(read_pickle(folder / f"1ABC_A_{PICKLE}"), read_pickle(vanilla["one"].output_dict))


def test_jax_parameters_are_found_where_upstream_looks(
    vanilla, predict, jax_parameters, tmp_path, monkeypatch, assert_same_bits
):
    place = tmp_path / "openfold" / "resources" / "params"
    place.mkdir(parents=True)
    shutil.copy(jax_parameters, place)
    monkeypatch.chdir(tmp_path)
    folder = predict(vanilla["one"].fasta.read_text(), weights=["--jax_param_path", ""])
    assert_same_bits(read_pickle(folder / f"1ABC_A_{PICKLE}"), read_pickle(vanilla["one"].output_dict))


def test_flags_change_names_and_b_factors_of_the_models_output(vanilla, predict):
    arguments = ["--output_postfix", "mine", "--subtract_plddt"]
    folder = predict(vanilla["one"].fasta.read_text(), arguments=arguments)
    text = (folder / "1ABC_A_model_1_ptm_mine_unrelaxed.pdb").read_text()
    plddt = read_pickle(folder / "1ABC_A_model_1_ptm_mine_output_dict.pkl")["plddt"]
    written = [float(line[60:66]) for line in text.splitlines() if line[12:16] == " CA "]
    np.testing.assert_allclose(written, 100 - plddt, atol=0.006)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model_device", "cuda:0"], "--model_device cuda:0: "),
        (["--model_device", "gpu"], "--model_device gpu: "),
        (["--trace_model"], "--trace_model is supported with OpenFold 2.0.0 and later"),
        (["--config_preset", "model_1"], "2 unknown (first: aux_heads.tm.linear"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(arguments, message, vanilla, run_program, tmp_path, capsys):
    import torch

    if "cuda:0" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    code = run_program(
        vanilla["one"].fasta.parent, "--openfold_checkpoint_path", vanilla["one"].checkpoint,
        "--plugins", "shrink", "--output_dir", tmp_path, *arguments,
    )  # fmt: skip
    out, err = capsys.readouterr()
    assert code == 1
    assert message in " ".join((out + err).split())
    assert "Traceback" not in out + err
    assert not (tmp_path / "predictions").exists()
