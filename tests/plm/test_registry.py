import re
import tomllib
from pathlib import Path

import pytest
import torch

from openfoldpp import plm
from openfoldpp.errors import InputError, WeightsError
from openfoldpp.plm.alphabet import ESM
from openfoldpp.plm.cache import EmbeddingCache, cached
from openfoldpp.plm.quantization import Description, load_quantised, quantise, save
from openfoldpp.plm.transformer import Architecture, Encoder


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="'esm2_650M' is unknown; did you mean esm2_t33_650M_UR50D"):
        plm.load("esm2_650M")


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="there is no such file or folder"):
        plm.load("antiberty", tmp_path / "absent")


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(InputError, match=rf"device '{device}' cannot be used \(.*\); .* or --model_device"):
        plm.load("plm_lite", device=device)


def test_a_quantised_file_is_recognised_and_needs_no_other(tmp_path):
    name, path = "esm2_t6_8M_UR50D", tmp_path / "small.safetensors"
    architecture = Architecture(layers=2, channels=8, heads=2, hidden=16, vocabulary=len(ESM.tokens))
    torch.manual_seed(0)
    tensors = quantise(Encoder(architecture), [], 4, method="nearest")
    save(path, tensors, Description(name, 4, "nearest", architecture, ESM, None, "small", ""))
    model = plm.load(name, weights=str(path), layer=1, dtype="bfloat16")
    expected = load_quantised(path, name, layer=1, dtype="bfloat16")
    assert model.description.bits == 4
    assert model.fingerprint == expected.fingerprint
    assert torch.equal(model.embed(["ACDEF"])[0], expected.embed(["ACDEF"])[0])
    with pytest.raises(WeightsError, match=f"a quantised {name}, expected antiberty"):
        plm.load("antiberty", path)


def install(folder, package, name, value):
    """Make a package that adds a language model, as pip leaves it."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[openfoldpp.plm]\n{name} = {value}\n")


def test_another_package_adds_a_model_as_the_page_says(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "plm.md").read_text()
    [table] = re.findall(r"```toml\n(.*?)```", page, flags=re.S)
    [[name, value]] = tomllib.loads(table)["project"]["entry-points"]["openfoldpp.plm"].items()
    [code] = [code for code in re.findall(r"```python\n(.*?)```", page, flags=re.S) if "def embed" in code]
    install(tmp_path, "lab_plm", name, value)
    (tmp_path / f"{value.partition(':')[0]}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert name in plm.names()
    model = plm.load(name)
    assert isinstance(model, plm.Embedder)
    assert model.name == name
    [short, long] = cached(model, EmbeddingCache(tmp_path / "kept")).embed(["AC", "ACD"])
    assert (short.shape, long.shape) == ((2, model.channels), (3, model.channels))
    assert long.isfinite().all()


def test_a_name_of_two_packages_is_refused(tmp_path, monkeypatch):
    install(tmp_path, "one_plm", "plm_lite", "one:load")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        InputError,
        match=r"in several packages: one_plm \(one:load\) and openfoldpp \(.*uninstall all but one",
    ):
        plm.load("plm_lite")
