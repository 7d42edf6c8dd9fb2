"""Weights files of every wrong kind, given with either flag: what the file is said to be, and the cure."""

import gzip
import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from openfoldpp.errors import CheckpointError
from openfoldpp.upstream import activate
from openfoldpp.upstream.checkpoint_files import (
    array_shapes,
    check_checkpoint_file,
    fits,
    fitting_presets,
    named_preset,
)

LFS_POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 373292032\n"
)
FLAGS = {False: "--openfold_checkpoint_path", True: "--jax_param_path"}
both = pytest.mark.parametrize("jax", [False, True], ids=["pt", "npz"])


def good(path, jax):
    """Write a small file of the right kind."""
    if jax:
        with path.open("wb") as file:
            np.savez(file, weights=np.zeros((100, 100), np.float32))
    else:
        torch.save({"weights": torch.zeros(100, 100)}, path)


def message(path, jax=False, preset=None):
    with pytest.raises(CheckpointError) as caught:
        check_checkpoint_file(path, jax=jax, preset=preset)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def packed(pack):
    """Return what a command makes of a weights file."""
    out = io.BytesIO()
    if pack == "gzip":
        return gzip.compress(b"weights")
    if pack == "tar":
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("params_model_1.npz"))
    else:
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("params/readme.txt", "")
    return out.getvalue()


@both
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty", "Download it again"]),
        (LFS_POINTER.encode(), ["is a Git LFS pointer, not the weights", "run `git lfs pull`"]),
        (b"<!DOCTYPE html>\n<title>404</title>\n", ["text file that begins with '<!DOCTYPE html>'", "FLAG"]),
        (b"\n", ["text file that begins with ''", "FLAG"]),
        (b"\x00\x01\x02\xff", ["is no file of", "FLAG"]),
        (b"\x93NUMPY\x01\x00", ["is a single array (.npy)", "FLAG"]),
        (packed("gzip"), ["is packed: unpack it with `gzip -d weights`"]),
        (packed("tar"), ["is packed: unpack it with `tar -xf weights`"]),
        (packed("zip"), ["zip archive without weights", "params/readme.txt", "`unzip weights`"]),
        (b"PK\x03\x04 and no more", ["cut short or damaged (16 bytes", "Download it again"]),
    ],
    ids=["empty", "lfs", "html", "newline", "binary", "npy", "gzip", "tar", "zip", "truncated"],
)
def test_a_file_that_is_no_weights_says_what_it_is(content, words, jax, tmp_path):
    (tmp_path / "weights").write_bytes(content)
    text = message(tmp_path / "weights", jax)
    for word in words:
        assert word.replace("FLAG", FLAGS[jax]) in text


@both
def test_a_missing_file_names_the_flag(jax, tmp_path):
    assert f"{FLAGS[jax]} expects" in message(tmp_path / "none", jax)


def test_a_folder_says_what_to_give_instead(tmp_path):
    assert f"`python {tmp_path}/zero_to_fp32.py {tmp_path} weights.pt`" in message(tmp_path)
    assert "expects one of the .npz files in it" in message(tmp_path, jax=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
@both
def test_a_file_that_may_not_be_read_says_so(jax, tmp_path):
    good(tmp_path / "weights", jax)
    (tmp_path / "weights").chmod(0)
    assert "cannot be read (Permission denied): check its permissions" in message(tmp_path / "weights", jax)


@both
def test_weights_of_the_other_kind_name_their_own_flag(jax, tmp_path):
    good(tmp_path / "weights", jax)
    check_checkpoint_file(tmp_path / "weights", jax=jax)
    assert f"give it with {FLAGS[jax]}" in message(tmp_path / "weights", not jax)


def test_bare_pickles_are_left_to_the_restricted_reader(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    check_checkpoint_file(tmp_path / "old.pt")
    assert "give it with --openfold_checkpoint_path" in message(tmp_path / "old.pt", jax=True)


def test_shapes_are_read_without_the_numbers_and_objects_are_refused(tmp_path):
    path = tmp_path / "params_model_1.npz"
    np.savez(path, **{"a//weights": np.zeros((3, 4)), "b": np.float32(1)})
    assert array_shapes(path) == {"a//weights": (3, 4), "b": ()}
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match=r"a\.npy in it is a pickle"):
        array_shapes(path)


@pytest.mark.parametrize(
    ("templates", "ptm", "expected"),
    [
        (True, False, ("model_1", "model_2")),
        (True, True, ("model_1_ptm", "model_2_ptm")),
        (False, False, ("model_3", "model_4", "model_5")),
        (False, True, ("model_3_ptm", "model_4_ptm", "model_5_ptm")),
    ],
)
def test_presets_of_the_installed_release_are_told_by_their_parameters(templates, ptm, expected):
    activate()
    from openfold.config import model_config
    from openfold.model.model import AlphaFold

    for preset in expected:
        config = model_config(preset)
        assert (config.model.template.enabled, config.model.heads.tm.enabled) == (templates, ptm)
    with torch.device("meta"):
        model = AlphaFold(config)
    assert fitting_presets(model.state_dict()) == expected


@pytest.mark.parametrize(
    "preset",
    [
        "initial_training",
        "finetuning",
        "finetuning_ptm",
        "finetuning_no_templ",
        "finetuning_no_templ_ptm",
        "seqemb_initial_training",
        "seqemb_finetuning",
    ],
)
def test_presets_of_training_fit_their_own_parameters(preset):
    activate()
    from openfold.config import model_config
    from openfold.model.model import AlphaFold

    try:
        config = model_config(preset)
    except ValueError:
        pytest.skip(f"this OpenFold has no preset {preset}")
    with torch.device("meta"):
        names = AlphaFold(config).state_dict()
    assert fits(names, preset)
    assert not fits(names, "model_5_ptm" if config.model.template.enabled else "model_1")


# What tells the parameters of OpenFold 2's and AlphaFold's further models apart.
TRUNK = ["evoformer.blocks.0", "structure_module.linear_in.weight", "aux_heads.tm.linear.bias"]
JAX_TRUNK = [
    "alphafold/alphafold_iteration/evoformer/preprocess_1d//weights",
    "alphafold/alphafold_iteration/structure_module/single_layer_norm//scale",
]
TRIANGLE = "alphafold/alphafold_iteration/evoformer/evoformer_iteration/triangle_multiplication_outgoing"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([*TRUNK, "input_embedder.linear_preemb_m.weight", "template_embedder.x"], ("seq_model_esm1b_ptm",)),
        ([*TRUNK[:2], "input_embedder.linear_preemb_m.weight"], ("seq_model_esm1b",)),
        (
            [*TRUNK, "structure_module.ipa.linear_k_points.linear.weight", "tri_mul_out.linear_ab_p.bias"],
            tuple(f"model_{number}_multimer_v3" for number in range(1, 6)),
        ),
        (
            [*JAX_TRUNK, "~_relative_encoding", f"{TRIANGLE}/projection//weights"],
            tuple(f"model_{number}_multimer_v3" for number in range(1, 6)),
        ),
        (
            [*JAX_TRUNK, "~_relative_encoding", f"{TRIANGLE}/left_projection//weights"],
            tuple(f"model_{n}_multimer{release}" for release in ("_v2", "") for n in range(1, 6)),
        ),
        ([*JAX_TRUNK, "predicted_aligned_error_head"], ("model_3_ptm", "model_4_ptm", "model_5_ptm")),
        (["encoder.layers.0.weight"], ()),
    ],
)
def test_presets_of_other_releases_are_told_by_their_parameters(names, expected):
    assert fitting_presets(names) == expected


@pytest.mark.upstream
@pytest.mark.parametrize("preset", ["seq_model_esm1b", "seq_model_esm1b_ptm", "model_2_multimer_v3"])
def test_presets_of_openfold_2_are_told_by_their_parameters(preset):
    activate()
    from openfold.config import model_config
    from openfold.model.model import AlphaFold

    with torch.device("meta"):
        assert preset in fitting_presets(AlphaFold(model_config(preset)).state_dict())


def test_jax_parameters_are_compared_with_the_preset(tmp_path):
    activate()
    path = tmp_path / "params_model_3_ptm.npz"
    np.savez(path, **{name: np.zeros(2) for name in [*JAX_TRUNK, "predicted_aligned_error_head"]})
    for preset in ("model_3_ptm", "model_5_ptm"):
        check_checkpoint_file(path, jax=True, preset=preset)
    text = message(path, jax=True, preset="model_1")
    assert "does not fit preset 'model_1'" in text
    assert text.endswith("model_3_ptm, model_4_ptm or model_5_ptm: give --config_preset model_3_ptm.")


def test_jax_parameters_are_taken_for_a_preset_of_training(tmp_path):
    path = tmp_path / "params_model_3_ptm.npz"
    np.savez(path, **{name: np.zeros(2) for name in [*JAX_TRUNK, "predicted_aligned_error_head"]})
    check_checkpoint_file(path, jax=True, preset="finetuning_no_templ_ptm")
    path = path.rename(tmp_path / "params_model_1.npz")
    text = message(path, jax=True, preset="finetuning_no_templ_ptm")
    assert text.endswith("rename it to params_model_3_ptm.npz")


def test_jax_parameters_of_a_wrong_name_are_to_be_renamed(tmp_path):
    path = tmp_path / "params_model_1.npz"
    np.savez(path, **{name: np.zeros(2) for name in [*JAX_TRUNK, "predicted_aligned_error_head"]})
    text = message(path, jax=True, preset="model_4_ptm")
    assert "is named by preset 'model_1' and holds the parameters of model_3_ptm, model_4_ptm or" in text
    assert text.endswith("rename it to params_model_4_ptm.npz")


def test_a_preset_of_openfold_2_says_that_it_needs_it(tmp_path):
    activate()
    path = tmp_path / "params_model_2_multimer_v3.npz"
    np.savez(
        path,
        **{name: np.zeros(2) for name in [*JAX_TRUNK, "~_relative_encoding", f"{TRIANGLE}/projection"]},
    )
    text = message(path, jax=True, preset="model_1_ptm")
    assert "--config_preset model_2_multimer_v3" in text
    from openfold.config import model_config

    try:
        model_config("model_2_multimer_v3")
    except ValueError:
        assert "--openfold_home DIR" in text
    else:
        assert "--openfold_home" not in text


def test_multimer_presets_take_jax_parameters_alone(tmp_path):
    good(tmp_path / "weights.pt", jax=False)
    text = message(tmp_path / "weights.pt", preset="model_1_multimer_v3")
    assert "give params_model_1_multimer_v3.npz with --jax_param_path" in text


@pytest.mark.parametrize("name", ["weights.npz", "params_model_9.npz", "params_model_1_ptm.pt"])
def test_jax_parameters_need_a_name_with_a_preset(name, tmp_path):
    with pytest.raises(CheckpointError, match=r"expected params_PRESET\.npz, such as params_model_2\.npz"):
        named_preset(tmp_path / name, "model_2")
    assert named_preset(tmp_path / "params_model_5_multimer_v3.npz", "model_2") == "model_5_multimer_v3"
