"""``openfoldpp schema``: show, check and diff, in a pipe and on a terminal."""

import json
import pickle
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from openfoldpp.cli.main import app
from openfoldpp.upstream import schema


@pytest.fixture
def run(monkeypatch):
    """Run the command without an OpenFold named, as in a pipe."""
    monkeypatch.delenv("OPENFOLD_HOME", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return lambda *arguments: CliRunner().invoke(app, ["schema", *map(str, arguments)])


@pytest.fixture
def write(tmp_path):
    """Write an output that fits a schema, but for what is changed (None: left out)."""

    def make(version, preset, name="x_output_dict.pkl", n_res=3, n_seq=2, **changed):
        sizes = {"N_res": n_res, "N_seq": n_seq}
        leaves = {
            path: np.zeros([sizes.get(d, d) for d in leaf.dims], leaf.dtype)
            for path, leaf in schema.load(version, preset).leaves.items()
        }
        leaves = {path: value for path, value in (leaves | changed).items() if value is not None}
        (tmp_path / name).write_bytes(pickle.dumps(schema.unflatten(leaves)))
        return tmp_path / name

    return make


def error_line(done):
    """The one line that an error is."""
    assert done.exit_code == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def test_show_has_every_array_in_upstreams_order(run):
    done = run("show", "--version", "2.2.0", "--preset", "model_1_multimer_v3")
    assert done.exit_code == 0
    title, header, *rows = done.stdout.splitlines()
    assert title == "OpenFold 2.2.0, model_1_multimer_v3: 26 arrays"
    assert header.split() == ["path", "dtype", "dimensions"]
    assert [row.split()[0] for row in rows] == list(schema.load("2.2.0", "model_1_multimer_v3").leaves)
    assert rows[9].split(maxsplit=2) == ["final_atom_positions", "float32", "[N_res, 37, 3]"]


def test_show_as_json_is_the_snapshot(run):
    shown = json.loads(run("show", "--version", "0.0.1", "--preset", "model_1", "--json").stdout)
    assert (shown["version"], shown["preset"]) == ("0.0.1", "model_1")
    assert shown["leaves"]["plddt"] == {"dtype": "float32", "dims": ["N_res"]}
    assert list(shown["leaves"]) == list(schema.load("0.0.1", "model_1").leaves)


def test_show_takes_the_release_in_use_where_it_has_the_preset(run, monkeypatch):
    monkeypatch.setattr(schema, "output_version", lambda: "0.0.1")
    assert "OpenFold 0.0.1, model_1:" in run("show", "--preset", "model_1").stdout
    assert "OpenFold 2.2.0, seq_model_esm1b:" in run("show", "--preset", "seq_model_esm1b").stdout


def test_show_without_a_preset_lists_all(run):
    header, *rows = run("show").stdout.splitlines()
    assert header.startswith("version")
    listed = [(row.split()[0], preset) for row in rows for preset in row.split()[2:]]
    assert sorted(listed) == sorted(schema.available())
    assert {row.split()[0] for row in run("show", "--version", "2.0.0").stdout.splitlines()[1:]} == {"2.0.0"}
    as_json = json.loads(run("show", "--json").stdout)
    assert [(one["version"], one["preset"]) for one in as_json] == schema.available()
    assert as_json[0]["arrays"] == 18


def test_a_terminal_gets_a_table_that_fits_it(run, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    shown = run("show").stdout
    assert "\x1b[1m" in shown
    assert max(len(re.sub(r"\x1b\[\d*m", "", line)) for line in shown.splitlines()) <= 60
    monkeypatch.delenv("FORCE_COLOR")
    assert max(map(len, run("show").stdout.splitlines())) > 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "model_9"], "no output schema for preset 'model_9' of OpenFold 2.2.0. There are: "),
        (["--version", "1.0"], "no output schema of OpenFold 1.0. There are: 0.0.1, 2.0.0, 2.1.0, 2.2.0."),
    ],
)
def test_show_of_what_there_is_not(run, arguments, message):
    assert error_line(run("show", *arguments)).startswith(f"openfoldpp schema show: {message}")


def test_check_reads_the_preset_off_the_name_and_the_release_off_the_contents(run, write):
    file = write("2.1.0", "model_3_ptm", "1ABC_model_3_ptm_output_dict.pkl")
    done = run("check", file)
    assert done.exit_code == 0
    assert done.stdout == (
        f"{file}: 24 arrays, exactly as OpenFold 2.2.0 writes model_3_ptm (preset from the file's name, "
        "release from its contents; the same in 2.1.0 and 2.0.0)\n"
    )


def test_check_tells_both_by_the_contents(run, write):
    done = run("check", write("0.0.1", "model_2"))
    assert done.exit_code == 0
    assert (
        "18 arrays, exactly as OpenFold 0.0.1 writes model_1 (told by its contents; the same for "
        in done.stdout
    )
    assert "model_2" in done.stdout


def test_check_flags_override(run, write):
    file = write("2.2.0", "model_1_ptm", "x_model_1_ptm_output_dict.pkl")
    assert "writes model_2_ptm (preset from --preset" in run("check", file, "--preset", "model_2_ptm").stdout
    done = run("check", file, "--version", "0.0.1")
    assert done.exit_code == 1
    first, *problems, last = done.stdout.splitlines()
    assert first.endswith(
        "not as OpenFold 0.0.1 writes model_1_ptm (preset from the file's name, release from --version): "
        "3 differences"
    )
    assert [problem.split(":")[0] for problem in problems] == [
        "  predicted_tm_score",
        "  num_recycles",
        "  ptm_score",
    ]
    assert last == "It is exactly what OpenFold 2.2.0 writes for model_1_ptm."


def test_check_names_what_differs_from_the_nearest(run, write):
    done = run("check", write("2.2.0", "model_1_ptm", plddt=None))
    assert done.exit_code == 1
    first, *problems = done.stdout.splitlines()
    assert "not as OpenFold 2.2.0 writes model_1_ptm (told by its contents" in first
    assert first.endswith("1 difference")
    assert problems == ["  plddt: missing, expected float32 [N_res]"]


def test_check_of_another_file_names_the_one_that_is_meant(run, tmp_path):
    file = tmp_path / "x_protein.pkl"
    line = error_line(run("check", file))
    assert line.startswith(f"openfoldpp schema check: cannot read the pickle {file}: ")
    assert line.endswith("(what it checks is NAME_output_dict.pkl)")
    file.write_bytes(pickle.dumps([1]))
    assert f"{file}: a list, expected a dictionary of arrays" in error_line(run("check", file))


def test_check_of_what_is_no_array_names_it(run, write):
    assert "plddt: a str, expected an array" in error_line(run("check", write("2.2.0", "model_1", plddt="x")))


def test_diff_of_two_snapshots(run):
    done = run("diff", "0.0.1/model_1_ptm", "2.2.0/model_1_ptm")
    assert done.exit_code == 1
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["path", "0.0.1/model_1_ptm", "2.2.0/model_1_ptm"]
    assert [row.split(maxsplit=1) for row in rows] == [
        ["predicted_tm_score", "float32 []         absent"],
        ["num_recycles", "absent             int64 []"],
        ["ptm_score", "absent             float32 []"],
    ]
    done = run("diff", "2.0.0/model_1", "2.2.0/model_5")
    assert (done.exit_code, done.stdout) == (
        0,
        "the same 19 arrays by name, dtype and shape; values are not compared\n",
    )


def test_diff_of_two_pickles_tells_sizes_and_counts_them_not(run, write):
    short = write("2.2.0", "model_1_ptm", "short.pkl", n_res=3, n_seq=512)
    long = write("2.0.0", "model_2_ptm", "long.pkl", n_res=37, n_seq=1)
    done = run("diff", short, long)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"{short}: N_seq = 512, N_res = 3",
        f"{long}: N_seq = 1, N_res = 37",
        "the same 24 arrays by name, dtype and shape; values are not compared",
    ]


def test_diff_of_a_pickle_and_a_snapshot(run, write):
    soloseq = write("2.2.0", "seq_model_esm1b", n_seq=1)
    for pair in ([soloseq, "2.2.0/seq_model_esm1b"], ["2.2.0/seq_model_esm1b", soloseq]):
        assert run("diff", *pair).exit_code == 0
    aligned = write("2.2.0", "model_1", n_seq=2)
    for pair in ([aligned, "2.2.0/seq_model_esm1b"], ["2.2.0/seq_model_esm1b", aligned]):
        done = run("diff", *pair)
        assert done.exit_code == 1
        assert [row.split()[0] for row in done.stdout.splitlines()[2:]] == ["msa", "masked_msa_logits"]


def test_diff_as_json(run, write):
    file = write("2.2.0", "model_1_ptm", plddt=np.zeros(3), single=np.zeros(3, np.float32))
    done = run("diff", file, "2.2.0/model_1_ptm", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {
        "a": str(file),
        "b": "2.2.0/model_1_ptm",
        "differences": [
            {
                "path": "single",
                "a": {"dtype": "float32", "dims": [3]},
                "b": {"dtype": "float32", "dims": ["N_res", 384]},
            },
            {
                "path": "plddt",
                "a": {"dtype": "float64", "dims": ["N_res"]},
                "b": {"dtype": "float32", "dims": ["N_res"]},
            },
        ],
        "sizes": [{"N_seq": 2, "N_res": 3}, {}],
    }


@pytest.mark.parametrize("name", ["none.pkl", "2.2.0/", "../2.2.0/model_1"])
def test_diff_of_what_is_neither(run, name):
    line = error_line(run("diff", "2.2.0/model_1", name))
    assert line.startswith(f"openfoldpp schema diff: {name}: neither a file nor VERSION/PRESET")


def test_diff_of_a_snapshot_that_there_is_not(run):
    assert "'model_9' of OpenFold 2.2.0" in error_line(run("diff", "2.2.0/model_9", "2.2.0/model_1"))
