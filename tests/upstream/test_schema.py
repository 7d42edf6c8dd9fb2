"""The schema snapshots against upstream's own code, and the check against what breaks it."""

import json

import numpy as np
import pytest

from openfoldpp.errors import SchemaError
from openfoldpp.files import read_pickle
from openfoldpp.upstream import schema

VERSION = "0.0.1"
PRESETS = [f"model_{i}{suffix}" for suffix in ("", "_ptm") for i in range(1, 6)]

# The trunk's depth and the number of extra sequences do not show in the output's shape.
SMALL = {
    "model.evoformer_stack.no_blocks": 1,
    "model.extra_msa.extra_msa_stack.no_blocks": 1,
    "model.template.template_pair_stack.no_blocks": 1,
    "data.common.max_recycling_iters": 0,
    "data.predict.max_extra_msa": 4,
}


def vanilla_leaves(run_vanilla, preset):
    """The leaves of two runs of different sizes, with symbols where the dimension follows the size."""
    runs = []
    for n_res, n_clusters in ((11, 17), (13, 19)):
        sequence = "MKTAYIAKQRQISFVKSHFSR"[:n_res]
        files = run_vanilla(
            sequence, preset=preset, overrides=SMALL | {"data.predict.max_msa_clusters": n_clusters}
        )
        runs.append(schema.describe(read_pickle(files.output_dict)))
    symbols = {(11, 13): "N_res"}
    leaves = {}
    for path, first in runs[0].items():
        second = runs[1][path]
        assert first.dtype == second.dtype
        dims = [
            a if a == b else symbols.get((a, b), "N_seq")
            for a, b in zip(first.dims, second.dims, strict=True)
        ]
        leaves[path] = {"dtype": first.dtype, "dims": dims}
    return leaves


@pytest.mark.parametrize(
    "preset", [pytest.param(p, marks=() if p == "model_1_ptm" else pytest.mark.slow) for p in PRESETS]
)
def test_snapshot_is_what_vanilla_writes(preset, run_vanilla, request):
    leaves = vanilla_leaves(run_vanilla, preset)
    if request.config.getoption("--update-snapshots"):
        from pathlib import Path

        folder = Path(schema.__file__).parent / "schemas" / VERSION
        folder.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(f"    {json.dumps(path)}: {json.dumps(leaf)}" for path, leaf in leaves.items())
        text = f'{{\n  "version": "{VERSION}",\n  "preset": "{preset}",\n  "leaves": {{\n{lines}\n  }}\n}}\n'
        (folder / f"{preset}.json").write_text(text)
    snapshot = schema.load(VERSION, preset)
    assert {
        p: {"dtype": leaf.dtype, "dims": list(leaf.dims)} for p, leaf in snapshot.leaves.items()
    } == leaves
    assert list(snapshot.leaves) == list(leaves)


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


def test_unknown_preset_lists_the_known():
    with pytest.raises(SchemaError, match=r"'model_6'.*model_1_ptm \(0\.0\.1\)"):
        schema.load(VERSION, "model_6")
