"""The schema snapshots against upstream's own code, and the check against what breaks it."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from openfoldpp.errors import SchemaError, UpstreamError
from openfoldpp.files import read_pickle
from openfoldpp.upstream import Installation, locate, schema
from openfoldpp.upstream.locate import SUPPORTED

VERSION = "0.0.1"
PRESETS = [
    *(f"model_{i}{suffix}" for suffix in ("", "_ptm") for i in range(1, 6)),
    *("initial_training", "finetuning", "finetuning_ptm", "finetuning_no_templ", "finetuning_no_templ_ptm"),
]

# Upstream's model_config also knows seqemb_initial_training and seqemb_finetuning. No inference runs with
# them: they pad the alignment to 512 rows, and the model that they make has one, so its mask does not fit.
PRESETS_2 = [
    *PRESETS,
    *("seq_model_esm1b", "seq_model_esm1b_ptm"),
    *(f"model_{i}_multimer{suffix}" for suffix in ("", "_v2", "_v3") for i in range(1, 6)),
]

# The trunk's depth and the number of extra sequences do not show in the output's shape.
SMALL = {
    "model.evoformer_stack.no_blocks": 1,
    "model.extra_msa.extra_msa_stack.no_blocks": 1,
    "model.template.template_pair_stack.no_blocks": 1,
    "data.common.max_recycling_iters": 0,
    "data.predict.max_extra_msa": 4,
}

# Residues of a chain and rows of the alignment, in the two runs that tell sizes from widths.
SIZES = ((11, 17), (13, 19))
SEQUENCE = "MKTAYIAKQRQISFVKSHFSR"


def symbolic_leaves(runs):
    """The leaves of two outputs of different sizes, with symbols where a dimension follows the size."""
    first, second = (schema.describe(run) for run in runs)
    assert list(first) == list(second)
    residues = (first["plddt"].dims[0], second["plddt"].dims[0])
    rows = (first["msa"].dims[0], second["msa"].dims[0])
    symbols = {rows: "N_seq", residues: "N_res"}
    leaves = {}
    for path, leaf in first.items():
        other = second[path]
        assert leaf.dtype == other.dtype
        dims = [a if a == b else symbols[a, b] for a, b in zip(leaf.dims, other.dims, strict=True)]
        leaves[path] = {"dtype": leaf.dtype, "dims": dims}
    return leaves


def compare(version, preset, leaves, update):
    """The snapshot is these leaves, in this order; with ``--update-snapshots`` it is written first."""
    if update:
        folder = Path(schema.__file__).parent / "schemas" / version
        folder.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(f"    {json.dumps(path)}: {json.dumps(leaf)}" for path, leaf in leaves.items())
        text = f'{{\n  "version": "{version}",\n  "preset": "{preset}",\n  "leaves": {{\n{lines}\n  }}\n}}\n'
        (folder / f"{preset}.json").write_text(text)
    snapshot = schema.load(version, preset)
    found = {p: {"dtype": leaf.dtype, "dims": list(leaf.dims)} for p, leaf in snapshot.leaves.items()}
    assert found == leaves
    assert list(found) == list(leaves)


@pytest.fixture(scope="module")
def update(request):
    return request.config.getoption("--update-snapshots")


@pytest.mark.parametrize(
    "preset", [pytest.param(p, marks=() if p == "model_1_ptm" else pytest.mark.slow) for p in PRESETS]
)
def test_snapshot_is_what_vanilla_writes(preset, run_vanilla, update):
    runs = [
        run_vanilla(
            SEQUENCE[:n_res], preset=preset, overrides=SMALL | {"data.predict.max_msa_clusters": n_seq}
        )
        for n_res, n_seq in SIZES
    ]
    leaves = symbolic_leaves([read_pickle(files.output_dict) for files in runs])
    compare(VERSION, preset, leaves, update)


@pytest.fixture(scope="module")
def openfold2():
    """The checkout of OpenFold 2 at OPENFOLD_HOME."""
    if not os.environ.get("OPENFOLD_HOME"):
        pytest.skip("OPENFOLD_HOME is not set")
    return locate()


def script_job(preset, n_res, n_seq, folder, checkpoint, script):
    """A job of ``vanilla_script.py``: one chain, or with a multimer's preset two."""
    import torch

    multimer, soloseq = "multimer" in preset, preset.startswith("seq")
    tags = ["one", "two"] if multimer else ["one"]
    (folder / "fasta").mkdir(parents=True)
    (folder / "fasta" / "target.fasta").write_text("\n".join(f">{tag}\n{SEQUENCE[:n_res]}" for tag in tags))
    (folder / "mmcif").mkdir()
    (folder / "mmcif" / "none.cif").touch()  # upstream asks for one, and reads none without a hit
    for tag in tags:
        (folder / "alignments" / tag).mkdir(parents=True)
    if soloseq:
        embedding = {"representations": {33: torch.zeros(n_res, 1280)}}
        torch.save(embedding, folder / "alignments" / "one" / "one.pt")
    return {
        "script": str(script),
        "preset": preset,
        "checkpoint": str(checkpoint),
        # SoloSeq's presets have one row, and say so.
        "overrides": SMALL if soloseq else SMALL | {"data.predict.max_msa_clusters": n_seq},
        "argv": [
            *map(str, (folder / "fasta", folder / "mmcif", "--output_dir", folder / "out")),
            *("--use_precomputed_alignments", str(folder / "alignments")),
            *("--config_preset", preset, "--data_random_seed", "1"),
            *("--jax_param_path" if multimer else "--openfold_checkpoint_path", str(checkpoint)),
            *("--skip_relaxation", "--save_outputs"),
        ],
    }


@pytest.fixture(scope="module")
def vanilla2_leaves(openfold2, tmp_path_factory):
    """The leaves of every preset, from runs of upstream's script in one subprocess."""
    folder = tmp_path_factory.mktemp("vanilla2")
    jobs = []
    for preset in PRESETS_2:
        checkpoint = folder / (f"params_{preset}.npz" if "multimer" in preset else f"{preset}.pt")
        for n_res, n_seq in SIZES:
            place = folder / f"{preset}_{n_res}"
            jobs.append(script_job(preset, n_res, n_seq, place, checkpoint, openfold2.script))
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", Path(__file__).parent / "vanilla_script.py", folder / "jobs.json"],
        env=os.environ | {"PYTHONPATH": str(openfold2.root), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    leaves = {}
    for preset in PRESETS_2:
        pickles = [
            next((folder / f"{preset}_{n_res}" / "out" / "predictions").glob("*_output_dict.pkl"))
            for n_res, _ in SIZES
        ]
        leaves[preset] = symbolic_leaves([read_pickle(file) for file in pickles])
    shutil.rmtree(folder)  # the weights of all presets are a gigabyte
    return leaves


@pytest.mark.upstream
@pytest.mark.parametrize("preset", PRESETS_2)
def test_snapshot_is_what_the_script_of_2_writes(preset, openfold2, vanilla2_leaves, update):
    compare(openfold2.version, preset, vanilla2_leaves[preset], update)


@pytest.fixture
def fitting():
    """An output of 5 residues and 2 sequences that fits the model_1_ptm schema."""
    sizes = {"N_res": 5, "N_seq": 2}
    leaves = schema.load(VERSION, "model_1_ptm").leaves
    return schema.unflatten(
        {p: np.zeros([sizes.get(d, d) for d in leaf.dims], leaf.dtype) for p, leaf in leaves.items()}
    )


def test_fitting_output_has_no_differences(fitting):
    assert schema.differences(fitting, schema.load(VERSION, "model_1_ptm")) == []


@pytest.mark.parametrize("path", list(schema.load(VERSION, "model_1_ptm").leaves))
def test_changed_dtype_of_any_key_is_a_difference(path, fitting):
    leaves = dict(schema.flatten(fitting))
    leaves[path] = leaves[path].astype(np.float64)
    problems = schema.differences(schema.unflatten(leaves), schema.load(VERSION, "model_1_ptm"))
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: float64")


def test_missing_unknown_and_misshapen_keys_are_named(fitting):
    del fitting["plddt"]
    fitting["ptm_score"] = np.float32(0)
    fitting["pair"] = np.zeros((5, 4, 128), np.float32)
    fitting["single"] = np.zeros((384,), np.float32)
    problems = schema.differences(fitting, schema.load(VERSION, "model_1_ptm"))
    assert [p.split(":")[0] for p in problems] == ["plddt", "ptm_score", "pair", "single"]
    with pytest.raises(SchemaError, match=r"plddt: missing, expected float32 \[N_res\]"):
        schema.check(fitting, schema.load(VERSION, "model_1_ptm"))


def test_one_symbol_is_one_number(fitting):
    fitting["plddt"] = np.zeros(6, np.float32)
    (problem,) = schema.differences(fitting, schema.load(VERSION, "model_1_ptm"))
    assert problem == "plddt: float32 [6], expected float32 [N_res] with N_res = 5"


def test_a_value_that_is_no_array_is_named(fitting):
    fitting["plddt"] = [1.0]
    with pytest.raises(SchemaError, match="plddt: a list, expected an array"):
        schema.differences(fitting, schema.load(VERSION, "model_1_ptm"))


@pytest.mark.parametrize("value", [None, [np.zeros(3)], np.zeros(3)])
def test_what_is_no_dictionary_is_an_error(value):
    with pytest.raises(SchemaError, match=f"a {type(value).__name__}, expected a dictionary"):
        schema.describe(value)


@pytest.mark.parametrize("preset", ["model_6", "../0.0.1/model_1"])
def test_unknown_preset_lists_the_releases_own(preset):
    with pytest.raises(SchemaError, match=r"0\.0\.1\. There are: finetuning, .*model_5_ptm\.$") as caught:
        schema.load(VERSION, preset)
    assert repr(preset) in str(caught.value)
    assert "multimer" not in str(caught.value)


def test_unknown_release_lists_the_known():
    with pytest.raises(SchemaError, match=r"OpenFold 1\.0\. There are: 0\.0\.1, 2\.0\.0, 2\.1\.0, 2\.2\.0\."):
        schema.load("1.0", "model_1")


def test_every_release_that_can_be_located_has_snapshots_of_its_presets():
    assert tuple(schema.versions()) == SUPPORTED
    for version in SUPPORTED:
        presets = {preset for release, preset in schema.available() if release == version}
        assert presets == set(PRESETS if version == VERSION else PRESETS_2)


def test_a_release_without_snapshots_is_refused():
    found = Installation("3.0.0", Path("of"), "checkout", None, "OpenFold 3.0.0 from of.")
    with pytest.raises(
        UpstreamError, match=r"^OpenFold 3\.0\.0 from of\. .*runs OpenFold 0\.0\.1, 2\.0\.0.*DIR"
    ):
        schema.require_release(found)


@pytest.mark.upstream
def test_outputs_have_the_schema_of_the_openfold_in_use(openfold2, monkeypatch):
    assert schema.output_version() == openfold2.version
    monkeypatch.delenv("OPENFOLD_HOME")
    assert schema.output_version(openfold2.root) == openfold2.version


def test_without_an_openfold_outputs_have_the_default_schema(monkeypatch):
    monkeypatch.delenv("OPENFOLD_HOME", raising=False)
    monkeypatch.setattr("importlib.metadata.distribution", _not_found)
    assert schema.output_version() == schema.DEFAULT_VERSION


def _not_found(name):
    raise importlib.metadata.PackageNotFoundError(name)


def test_an_openfold_that_cannot_be_used_is_an_error(tmp_path):
    with pytest.raises(UpstreamError, match="not an OpenFold checkout"):
        schema.output_version(tmp_path)
