"""The whole command on antibodies: files, names, schema, failures, exit codes."""

import json

import numpy as np
import pytest

from openfoldpp.files import read_pickle
from openfoldpp.inference import driver
from openfoldpp.upstream import schema

VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS"
)
VL = (
    "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPPT"
    "FGQGTKVEIK"
)
NAME = "light-heavy_model_1_ptm"


def run_program(*arguments):
    return driver.main([*map(str, arguments)], program="run_pretrained_openfold.py")


def predict_program(*arguments):
    return driver.main([*map(str, arguments)], program="openfoldpp predict", targets=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run over four files: a lone chain, no sequence at all, and two that can be predicted."""
    folder = tmp_path_factory.mktemp("run")
    fasta = folder / "fasta"
    fasta.mkdir()
    (fasta / "a_lone.fasta").write_text(f">lone\n{VH}\n")
    (fasta / "b_empty.fasta").write_text("")
    (fasta / "c_pair.fasta").write_text(f">light\n{VL}\n>heavy\n{VH}\n")
    (fasta / "d_one_record.fa").write_text(f">fv description\n{VH}:{VL}\n")
    code = run_program(
        fasta, "--plugins", "openfoldpp", "--output_dir", folder / "out", "--skip_relaxation", "--quiet"
    )
    assert code == 1
    return folder / "out"


def test_bad_targets_do_not_stop_the_others_and_leave_nothing(run):
    tags = {path.name.split("_model_1_ptm_")[0] for path in (run / "predictions").iterdir()}
    assert tags == {"light-heavy", "fv"}


def test_files_have_upstreams_names(run):
    names = {path.name for path in (run / "predictions").glob("light-heavy*")}
    suffixes = ("unrelaxed.pdb", "output_dict.pkl", "protein.pkl", "provenance.json")
    assert names == {f"{NAME}_{suffix}" for suffix in suffixes}


def test_pickle_has_exactly_vanillas_schema(run):
    output = read_pickle(run / "predictions" / f"{NAME}_output_dict.pkl")
    assert type(output) is dict
    assert schema.differences(output, schema.load("0.0.1", "model_1_ptm")) == []
    assert list(schema.describe(output)) == list(schema.load("0.0.1", "model_1_ptm").leaves)


def test_chains_keep_the_files_order_and_are_labelled_by_type(run):
    import gemmi

    model = gemmi.read_structure(str(run / "predictions" / f"{NAME}_unrelaxed.pdb"))[0]
    sequences = {chain.name: gemmi.one_letter_code([r.name for r in chain]) for chain in model}
    assert list(sequences.items()) == [("L", VL), ("H", VH)]
    assert [residue.seqid.num for residue in model["H"]] == list(range(1, len(VH) + 1))


def test_b_factors_are_the_plddt_of_the_pickle(run):
    import gemmi

    plddt = read_pickle(run / "predictions" / f"{NAME}_output_dict.pkl")["plddt"]
    model = gemmi.read_structure(str(run / "predictions" / f"{NAME}_unrelaxed.pdb"))[0]
    written = [residue["CA"][0].b_iso for chain in model for residue in chain]
    np.testing.assert_allclose(written, plddt, atol=0.005)
    assert 80 < plddt.mean() < 100


def test_protein_pickle_is_upstreams_own_class(run):
    from openfoldpp.upstream import activate

    activate()
    saved = read_pickle(run / "predictions" / f"{NAME}_protein.pkl", allow=("openfold.np.protein.Protein",))
    from openfold.np import protein

    assert list(saved) == ["protein", "alt_atom_positions"]
    assert type(saved["protein"]) is protein.Protein
    assert saved["alt_atom_positions"].shape == saved["protein"].atom_positions.shape
    assert not saved["alt_atom_positions"].any()
    again = protein.from_pdb_string(protein.to_pdb(saved["protein"]))
    np.testing.assert_allclose(again.atom_positions, saved["protein"].atom_positions, atol=0.0006)
    np.testing.assert_array_equal(again.aatype, saved["protein"].aatype)


def test_provenance_says_what_was_predicted_and_what_filled(run):
    said = json.loads((run / "predictions" / f"{NAME}_provenance.json").read_text())
    assert said["predicted_by"] == "flash-abb 0.0.5"
    assert [(c["id"], c["tag"], c["residues"]) for c in said["chains"]] == [
        ("L", "light", len(VL)),
        ("H", "heavy", len(VH)),
    ]
    assert set(said["values"]) == set(schema.load("0.0.1", "model_1_ptm").leaves)
    assert said["values"]["lddt_logits"] == "predicted"
    assert said["values"]["predicted_aligned_error"].startswith("filled")


def test_timings_have_upstreams_key_the_total_and_each_target(run):
    timings = json.loads((run / "timings.json").read_text())
    assert set(timings["targets"]) == {NAME, "fv_model_1_ptm"}
    for seconds in timings["targets"].values():
        steps = {step: value for step, value in seconds.items() if step != "total"}
        assert {"features", "inference", "write"} == set(steps)
        assert seconds["total"] == pytest.approx(sum(steps.values()), abs=1e-4)
    assert timings["inference"] in [t["inference"] for t in timings["targets"].values()]


def test_order_of_chains_does_not_change_the_structure(run):
    light_first = read_pickle(run / "predictions" / f"{NAME}_output_dict.pkl")
    heavy_first = read_pickle(run / "predictions" / "fv_model_1_ptm_output_dict.pkl")
    turned = np.roll(heavy_first["final_atom_positions"], len(VL), axis=0)
    np.testing.assert_array_equal(turned, light_first["final_atom_positions"])


def test_failures_are_listed_with_their_reason(tmp_path, capsys):
    (tmp_path / "one.fasta").write_text(f">lone\n{VH}\n")
    code = run_program(tmp_path, "--plugins", "openfoldpp", "--output_dir", tmp_path, "--skip_relaxation")
    out, err = capsys.readouterr()
    assert code == 1
    assert "1 of 1 target failed:" in out
    assert "lone" in out
    assert "--openfold_checkpoint_path" in out
    assert "Traceback" not in out + err
    assert not (tmp_path / "predictions").exists()


def test_a_plugins_own_mistake_is_reported_and_the_next_target_runs(tmp_path, run_command, plugin_folder):
    broken = plugin_folder(
        "broken",
        "from openfoldpp.plugins.hookspecs import hookimpl\n\n"
        "@hookimpl\ndef openfoldpp_make_features(target, options):\n    return {}['missing']\n",
    )
    fasta = tmp_path / "fasta"
    fasta.mkdir()
    (fasta / "a.fasta").write_text(f">a\n{VH}:{VL}\n")
    (fasta / "b.fasta").write_text(f">b\n{VH}:{VL}\n")
    done = run_command(
        "run_pretrained_openfold.py", fasta, "--plugins", "broken", "--skip_relaxation",
        cwd=tmp_path, path=broken,
    )  # fmt: skip
    assert done.returncode == 1
    for tag in "ab":
        message = f"plugin 'broken', hook openfoldpp_make_features, target '{tag}': KeyError: 'missing'"
        assert message in " ".join(done.stdout.split())


def test_without_plugins_and_weights_the_cure_is_named(tmp_path, capsys):
    (tmp_path / "one.fasta").write_text(f">fv\n{VH}:{VL}\n")
    assert run_program(tmp_path, "--output_dir", tmp_path, "--skip_relaxation") == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "--openfold_checkpoint_path FILE" in text
    assert "--plugins openfoldpp" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_folder", "--plugins", "openfoldpp"], "no_such_folder"),
        ([".", "--plugins", "openfolds"], "'openfolds'"),
        ([".", "--openfold_checkpoint_path", "none.pt"], "no checkpoint at none.pt"),
        (
            [".", "--config_preset", "model_9", "--openfold_checkpoint_path", "x.pt"],
            "--config_preset model_9",
        ),
    ],
)
def test_a_wrong_argument_is_one_clear_line(arguments, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "one.fasta").write_text(f">fv\n{VH}:{VL}\n")
    monkeypatch.chdir(tmp_path)
    assert run_program(*arguments) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith("run_pretrained_openfold.py: ")
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize("suffix", [".pdb", ".cif", ".json"])
def test_predict_writes_the_one_file_that_out_names(suffix, tmp_path):
    out = tmp_path / f"x{suffix}"
    assert predict_program(f"{VH}:{VL}", "--out", out, "--quiet") == 0
    assert list(tmp_path.iterdir()) == [out]
    if suffix == ".json":
        import gemmi

        said = json.loads(out.read_text())
        assert [chain["id"] for chain in said["chains"]] == ["H", "L"]
        assert len(said["plddt"]) == len(VH + VL)
        assert said["pae"] is None
        block = gemmi.cif.read_string(said["modelcif"]).sole_block()
        assert len(gemmi.make_structure_from_block(block)[0]) == 2
    else:
        import gemmi

        model = gemmi.read_structure(str(out))[0]
        assert [len(chain) for chain in model] == [len(VH), len(VL)]


def test_out_refuses_two_targets_and_unknown_formats(tmp_path, capsys):
    assert predict_program(f"{VH}:{VL}", f"{VH}:{VL}", "--out", tmp_path / "x.pdb") == 1
    assert "--out is for one target, there are 2" in capsys.readouterr().err
    assert predict_program(f"{VH}:{VL}", "--out", tmp_path / "x.xyz") == 1
    assert "expected a name ending in .pdb, .cif, .json" in capsys.readouterr().err


def test_upstreams_flags_change_names_format_and_b_factors(tmp_path):
    import gemmi

    code = predict_program(
        f"{VH}:{VL}", "--output_dir", tmp_path, "--cif_output", "--subtract_plddt", "--no-save_outputs",
        "--output_postfix", "mine", "--config_preset", "model_1", "--quiet",
    )  # fmt: skip
    assert code == 0
    folder = tmp_path / "predictions"
    name = "prediction_model_1_mine"
    assert {path.name for path in folder.iterdir()} == {
        f"{name}_unrelaxed.cif",
        f"{name}_protein.pkl",
        f"{name}_provenance.json",
    }
    model = gemmi.read_structure(str(folder / f"{name}_unrelaxed.cif"))[0]
    assert np.mean([residue["CA"][0].b_iso for chain in model for residue in chain]) < 20


def test_the_example_plugins_flag_and_file_come_through_the_command(tmp_path, run_command, plugin_folder):
    from pathlib import Path

    source = Path(__file__).parents[2] / "examples/plugin_hello/plugin_hello.py"
    folder = plugin_folder("plugin_hello", source.read_text(), "plugin_hello:plugin")
    done = run_command(
        "predict_openfoldpp.py", f"{VH}:{VL}", "--plugins", "openfoldpp,plugin_hello",
        "--hello_name", "Ada", "--no-save_outputs",
        cwd=tmp_path, path=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "predictions" / "prediction_model_1_ptm_hello.txt").read_text()
    assert text == f"Hello Ada, prediction has {len(VH + VL)} residues.\n"
    assert "prediction_model_1_ptm_hello.txt" in done.stdout
