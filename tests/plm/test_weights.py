import hashlib
import pickle

import pytest
import torch

from openfoldpp.errors import InputError, WeightsError
from openfoldpp.plm.weights import dtype_of, fingerprint, layer_of, load_state, read_torch_file


class Payload:
    def __reduce__(self):
        return print, ("this must not run",)


def write(path, kind):
    if kind == "payload":
        torch.save({"model": Payload()}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Payload()))
    elif kind == "truncated":
        torch.save({"model": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:-500])
    elif kind == "pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    elif kind == "tensor":
        torch.save(torch.zeros(3), path)
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("payload", "cannot be read"),
        ("pickle", "cannot be read"),
        ("truncated", "cannot be read"),
        ("pointer", "git lfs pull"),
        ("tensor", "holds a Tensor"),
        ("empty", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_and_runs_no_code(kind, message, tmp_path, capsys):
    path = tmp_path / "weights.pt"
    write(path, kind)
    with pytest.raises(WeightsError, match=message) as caught:
        read_torch_file(path)
    assert str(path) in str(caught.value)
    assert "this must not run" not in capsys.readouterr().out


def test_files_of_torch_before_1_6_are_read(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"model": torch.arange(3.0)}, path, _use_new_zipfile_serialization=False)
    assert read_torch_file(path)["model"].tolist() == [0, 1, 2]


def test_a_dtype_by_another_name_is_refused():
    with pytest.raises(InputError, match="dtype 'half': expected one of float32, bfloat16, float16"):
        dtype_of("half")


def test_a_lack_of_memory_is_not_taken_for_a_damaged_file(tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    torch.save({"model": torch.zeros(3)}, path)

    def no_memory(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(torch, "load", no_memory)
    with pytest.raises(MemoryError):
        read_torch_file(path)


def test_a_weight_beyond_float16_is_refused_in_float16_alone(tmp_path):
    state = {"weight": torch.full((2, 2), 1e6), "bias": torch.zeros(2)}
    load_state(torch.nn.Linear(2, 2), state, path=tmp_path, dtype=torch.bfloat16)
    with pytest.raises(
        WeightsError, match=r"weight has values up to 1e\+06, and torch.float16 ends at 65504; .* float32"
    ):
        load_state(torch.nn.Linear(2, 2), state, path=tmp_path, dtype=torch.float16)


def test_a_fingerprint_tells_the_weights_the_layer_and_the_dtype(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    found = fingerprint(path, "bfloat16", "bytes")(12)
    assert found == f"{hashlib.sha256(b'weights').hexdigest()}:12:bfloat16:bytes"
    assert layer_of(found) == 12
    assert layer_of("lab-1:2:3") is None


@pytest.mark.parametrize("change", ["replaced", "rewritten", "removed"])
def test_a_file_that_changes_after_loading_is_not_taken_for_the_one_loaded(change, tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    identity = fingerprint(path, None)
    if change == "rewritten":
        path.write_bytes(b"otherwise")
    else:
        (tmp_path / "other").write_bytes(b"weights")
        path.unlink()
        if change == "replaced":
            (tmp_path / "other").rename(path)
    with pytest.raises(WeightsError, match="was replaced or removed after it had been loaded"):
        identity(3)
