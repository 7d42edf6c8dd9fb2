"""Predictions in AlphaFold 2's layout: names, ranks, what is left out, and what is refused."""

import json
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from openfoldpp.adapters.coord_adapter import CoordAdapter
from openfoldpp.cli.export import Layout
from openfoldpp.cli.main import app
from openfoldpp.errors import InputError, UnsafePickleError
from openfoldpp.files import read_pickle, write_pickle
from openfoldpp.geometry.residues import ATOM37_EXISTS, residue_types
from openfoldpp.inference import export, results
from openfoldpp.inference.outputs import write_prediction
from openfoldpp.inference.prediction import Prediction
from openfoldpp.inference.structure_files import chain_lengths
from openfoldpp.types import Chain, OutputPaths, Target
from openfoldpp.upstream import schema

CHAINS = ("EVQLVESGGGLVQPGGSLRLSCAAS", "DIQMTQSPSSLSASVGDR")
N_RES = sum(map(len, CHAINS))
PICKLE = "1ABC_H-1ABC_L_model_1_ptm_output_dict.pkl"


def save(folder, *, preset="model_1_ptm", version="0.0.1", level=80, pae=True, postfix=None, **options):
    """Write a prediction of two chains as openfoldpp does; its mean pLDDT is ``level``."""
    random = np.random.default_rng(int(level))
    sequence = "".join(CHAINS)
    coordinates = random.normal(0, 20, (N_RES, 37, 3)).astype(np.float32)
    coordinates[~ATOM37_EXISTS[residue_types(sequence)]] = np.nan
    spread = np.linspace(-9, 9, N_RES)
    output = CoordAdapter(preset, version).output(
        coordinates,
        ":".join(CHAINS),
        plddt=None if level is None else random.permutation(spread) + level,
        pae=random.uniform(1, 25, (N_RES, N_RES)) if pae else None,
        source="a predictor 1.0",
    )
    target = Target("1ABC_H-1ABC_L", tuple(Chain(f"1ABC_{i}", s) for i, s in zip("HL", CHAINS, strict=True)))
    name = "_".join(filter(None, (target.tag, preset, postfix)))
    prediction = Prediction(target, preset, output, None, {})
    write_prediction(prediction, OutputPaths(folder, name), **options)
    return output


@pytest.fixture
def run():
    def run(*arguments):
        return CliRunner().invoke(app, ["export", *map(str, arguments)])

    return run


def exported(folder, *sources):
    """Export one target; returns what was written and its folder."""
    found = results.find(sources)
    done = export.export_alphafold2(found, folder)
    return SimpleNamespace(
        models=done.models, folder=done.folder, names={p.name for p in done.folder.iterdir()}
    )


def test_every_array_of_every_schema_is_named_or_left_out_on_purpose():
    paths = {path for release in schema.available() for path in schema.load(*release).leaves}
    named = set(export.ALPHAFOLD2_NAMES)
    elsewhere = {path for path in paths if path.split("/")[0] in export.NOT_IN_ALPHAFOLD2}
    assert named | elsewhere == paths
    assert not named & elsewhere


@pytest.mark.parametrize(
    ("version", "preset", "ptm"),
    [
        ("0.0.1", "model_1_ptm", "predicted_tm_score"),
        ("2.2.0", "model_2_ptm", "ptm_score"),
        ("2.2.0", "model_1_multimer_v3", "ptm_score"),
    ],
)
def test_values_keep_their_bits_under_alphafolds_names(tmp_path, version, preset, ptm):
    output = save(tmp_path, version=version, preset=preset)
    done = exported(tmp_path / "out", tmp_path)
    result = read_pickle(done.folder / f"result_{preset}_pred_0.pkl")
    # "distogram/bin_edges" and the monomers' "ranking_confidence" are what OpenFold does not write.
    flat = dict(schema.flatten(result))
    back = {name: path for path, name in export.ALPHAFOLD2_NAMES.items() if path in output}
    for name, path in back.items():
        if name in flat:
            np.testing.assert_array_equal(flat[name], output[path], err_msg=name)
    assert set(flat) - set(back) <= {"distogram/bin_edges", "ranking_confidence"}
    assert result["ptm"] == output[ptm]
    edges = result["distogram"]["bin_edges"]
    assert (edges[0], edges[-1], len(edges)) == (2.3125, 21.6875, result["distogram"]["logits"].shape[-1] - 1)
    if "iptm_score" in output:
        assert result["iptm"] == output["iptm_score"]
        assert result["ranking_confidence"] == output["weighted_ptm_score"]
        assert result["ranking_confidence"] == pytest.approx(0.8 * result["iptm"] + 0.2 * result["ptm"])
    else:
        assert result["ranking_confidence"] == pytest.approx(80, abs=0.01)


def test_files_have_alphafolds_names_and_contents(tmp_path):
    output = save(tmp_path / "predictions")
    source = tmp_path / "predictions" / PICKLE.replace("output_dict.pkl", "unrelaxed.pdb")
    relaxed = source.with_name(source.name.replace("unrelaxed", "relaxed"))
    # Relaxation moves the atoms, and keeps the B-factors.
    relaxed.write_text(source.read_text().replace("PARENT N/A", "REMARK relaxed"))
    done = exported(tmp_path / "out", tmp_path)
    name = "model_1_ptm_pred_0"
    assert done.folder == tmp_path / "out" / "1ABC_H-1ABC_L"
    assert done.names == {
        *(f"result_{name}.pkl", f"unrelaxed_{name}.pdb", f"relaxed_{name}.pdb", "ranked_0.pdb"),
        *(f"confidence_{name}.json", f"pae_{name}.json", "ranking_debug.json", "provenance.json"),
    }
    assert (done.folder / f"unrelaxed_{name}.pdb").read_text() == source.read_text()
    assert (done.folder / f"relaxed_{name}.pdb").read_text() == relaxed.read_text()
    assert (done.folder / "ranked_0.pdb").read_text() == relaxed.read_text()

    confidence = json.loads((done.folder / f"confidence_{name}.json").read_text())
    assert confidence["residueNumber"] == list(range(1, N_RES + 1))
    np.testing.assert_allclose(confidence["confidenceScore"], output["plddt"], atol=0.005001)
    assert set(zip(confidence["confidenceCategory"], output["plddt"] >= 70, strict=True)) == {("M", True)}
    (pae,) = json.loads((done.folder / f"pae_{name}.json").read_text())
    np.testing.assert_allclose(
        pae["predicted_aligned_error"], output["predicted_aligned_error"], atol=0.05001
    )
    assert pae["max_predicted_aligned_error"] == 31.75
    assert list(tmp_path.rglob(".openfoldpp*")) == []


def test_categories_of_confidence_begin_where_alphafolds_do():
    json_text = export._confidence_json(np.array([0, 49.99, 50, 69.99, 70, 89.99, 90, 100]))
    assert "".join(json_text["confidenceCategory"]) == "DDLLMMHH"


def test_models_are_ranked_by_mean_plddt(tmp_path):
    for model, level in (("first", 60), ("second", 90), ("third", 75)):
        save(tmp_path / "predictions" / model, level=level)
    save(tmp_path / "predictions" / "fourth", level=70, preset="model_2_ptm")
    done = exported(tmp_path / "out", tmp_path)
    ranking = json.loads((done.folder / "ranking_debug.json").read_text())
    # Those of one preset are counted in the order of their folders: first, second, third.
    assert ranking["order"] == [
        *("model_1_ptm_pred_1", "model_1_ptm_pred_2", "model_2_ptm_pred_0", "model_1_ptm_pred_0"),
    ]
    assert list(ranking) == ["plddts", "order"]
    assert ranking["plddts"] == pytest.approx(
        dict(zip(ranking["order"], (90, 75, 70, 60), strict=True)), abs=0.01
    )
    assert [model.name for model in done.models] == ranking["order"]
    for rank, name in enumerate(ranking["order"]):
        ranked = (done.folder / f"ranked_{rank}.pdb").read_text()
        assert ranked == (done.folder / f"unrelaxed_{name}.pdb").read_text()
    sources = json.loads((done.folder / "provenance.json").read_text())["models"]
    assert sources["model_1_ptm_pred_1"]["from"] == str(tmp_path / "predictions" / "second" / PICKLE)


def test_multimers_are_ranked_by_iptm_and_ptm_and_with_monomers_by_plddt(tmp_path):
    options = {"version": "2.2.0", "preset": "model_1_multimer_v3"}
    outputs = [save(tmp_path / name, level=level, **options) for name, level in (("a", 60), ("b", 90))]
    done = exported(tmp_path / "out", tmp_path)
    ranking = json.loads((done.folder / "ranking_debug.json").read_text())
    scores = [float(output["weighted_ptm_score"]) for output in outputs]
    names = [f"model_1_multimer_v3_pred_{number}" for number in (0, 1)]
    assert ranking == {
        "iptm+ptm": dict(zip(names, scores, strict=True)),
        "order": [names[index] for index in np.argsort(scores)[::-1]],
    }
    save(tmp_path / "c", level=75)
    mixed = exported(tmp_path / "mixed", tmp_path)
    assert [round(model.mean_plddt) for model in mixed.models] == [90, 75, 60]
    assert "plddts" in json.loads((mixed.folder / "ranking_debug.json").read_text())


def test_a_preset_without_a_number_gets_alphafolds_first(tmp_path):
    save(tmp_path, version="2.2.0", preset="seq_model_esm1b_ptm")
    assert exported(tmp_path / "out", tmp_path).models[0].name == "model_1_seq_model_esm1b_ptm_pred_0"


def test_what_nobody_predicted_is_left_out_and_said(tmp_path, run):
    save(tmp_path, pae=False)
    done = run(tmp_path, "--layout", "alphafold2", "--out", tmp_path / "out")
    assert done.exit_code == 0
    folder = tmp_path / "out" / "1ABC_H-1ABC_L"
    result = read_pickle(folder / "result_model_1_ptm_pred_0.pkl")
    hidden = {"ptm", "predicted_aligned_error", "max_predicted_aligned_error", "aligned_confidence_probs"}
    assert not hidden & set(result)
    assert not (folder / "pae_model_1_ptm_pred_0.json").exists()
    assert "nobody predicted them" in done.stderr
    assert all(key in done.stderr for key in hidden)
    assert "pTM" not in done.stdout
    said = json.loads((folder / "provenance.json").read_text())["models"]["model_1_ptm_pred_0"]
    assert hidden <= set(said["left_out"])
    assert said["predicted_by"] == "a predictor 1.0"
    assert "spread" in said["derived"]["distogram/logits"]


def test_a_filled_aligned_error_without_its_provenance_is_refused(tmp_path):
    save(tmp_path, pae=False)
    (tmp_path / PICKLE.replace("output_dict.pkl", "provenance.json")).unlink()
    with pytest.raises(InputError, match=r"1ABC_H-1ABC_L_model_1_ptm_provenance\.json, .* copy it too"):
        exported(tmp_path / "out", tmp_path)


def test_a_prediction_without_plddt_is_refused(tmp_path):
    output = save(tmp_path)
    file = tmp_path / PICKLE.replace("output_dict.pkl", "provenance.json")
    said = json.loads(file.read_text())
    said["values"]["plddt"] = "filled: not predicted"
    file.write_text(json.dumps(said))
    assert "plddt" in output
    with pytest.raises(InputError, match="nobody predicted its pLDDT"):
        exported(tmp_path / "out", tmp_path)


def test_vanillas_own_output_is_exported_whole(vanilla, tmp_path):
    """Vanilla writes no provenance, and its model predicts everything."""
    files = vanilla["two"]
    shutil.copy(files.output_dict, tmp_path / "heavy-light_model_1_ptm_output_dict.pkl")
    shutil.copy(files.pdb, tmp_path / "heavy-light_model_1_ptm_unrelaxed.pdb")
    done = exported(tmp_path / "out", tmp_path / "heavy-light_model_1_ptm_output_dict.pkl")
    (model,) = done.models
    assert model.left_out == model.notes == ()
    output, result = read_pickle(files.output_dict), read_pickle(done.folder / f"result_{model.name}.pkl")
    assert model.ptm == float(output["predicted_tm_score"]) == float(result["ptm"])
    np.testing.assert_array_equal(result["predicted_aligned_error"], output["predicted_aligned_error"])
    np.testing.assert_array_equal(
        result["structure_module"]["final_atom_positions"], output["final_atom_positions"]
    )


def test_b_factors_of_subtract_plddt_are_turned_back(tmp_path, run):
    save(tmp_path / "plain")
    save(tmp_path / "subtracted", subtract_plddt=True)
    plain = exported(tmp_path / "out", tmp_path / "plain")
    turned = exported(tmp_path / "turned", tmp_path / "subtracted")
    name = "unrelaxed_model_1_ptm_pred_0.pdb"
    assert (turned.folder / name).read_text() == (plain.folder / name).read_text()
    assert "100 - pLDDT" in turned.models[0].notes[0]
    shown = run(tmp_path / "subtracted", "--layout", "alphafold2", "--out", tmp_path / "shown")
    assert "the exported file has pLDDT" in shown.stderr


def test_b_factors_that_are_something_else_are_kept_and_said(tmp_path):
    save(tmp_path)
    pdb = tmp_path / PICKLE.replace("output_dict.pkl", "unrelaxed.pdb")
    lines = [
        line[:60] + "  1.00" + line[66:] if line[:4] == "ATOM" else line
        for line in pdb.read_text().splitlines()
    ]
    pdb.write_text("\n".join(lines) + "\n")
    done = exported(tmp_path / "out", tmp_path)
    assert "not the pLDDT" in done.models[0].notes[0]
    assert (done.folder / "ranked_0.pdb").read_text() == pdb.read_text()


def test_mmcif_becomes_pdb(tmp_path):
    save(tmp_path / "pdb")
    save(tmp_path / "cif", cif=True)
    from_pdb = exported(tmp_path / "of_pdb", tmp_path / "pdb").folder / "ranked_0.pdb"
    from_cif = exported(tmp_path / "of_cif", tmp_path / "cif").folder / "ranked_0.pdb"
    atoms = [
        [line[6:66] for line in file.read_text().splitlines() if line.startswith("ATOM")]
        for file in (from_pdb, from_cif)
    ]
    # Between the chains, our PDB files number the TER record.
    assert [line[6:] for line in atoms[0]] == [line[6:] for line in atoms[1]]
    assert chain_lengths(from_cif.read_text()) == dict(zip("AB", map(len, CHAINS), strict=True))


def test_a_folder_that_is_there_is_not_touched(tmp_path, run):
    save(tmp_path / "in")
    mine = tmp_path / "out" / "1ABC_H-1ABC_L" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    done = run(tmp_path / "in", "--layout", "alphafold2", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "is there already" in done.stderr
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["1ABC_H-1ABC_L", "mine.txt"]


def break_pickle(folder):
    file = folder / PICKLE
    file.write_bytes(file.read_bytes()[:-2000])


def put_payload(folder):
    class Payload:
        def __reduce__(self):
            return print, ("run",)

    (folder / PICKLE).write_bytes(pickle.dumps({"plddt": Payload()}))


def drop_plddt(folder):
    write_pickle(folder / PICKLE, {"pair": np.zeros(3)})


def put_nan(folder):
    output = read_pickle(folder / PICKLE)
    output["predicted_aligned_error"][3, 4] = np.nan
    write_pickle(folder / PICKLE, output)


def drop_structure(folder):
    (folder / PICKLE.replace("output_dict.pkl", "unrelaxed.pdb")).unlink()


def cut_structure(folder):
    file = folder / PICKLE.replace("output_dict.pkl", "unrelaxed.pdb")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:50]))


def break_provenance(folder):
    (folder / PICKLE.replace("output_dict.pkl", "provenance.json")).write_text("{")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (break_pickle, InputError, "cut short"),
        (put_payload, UnsafePickleError, r"builtins\.print"),
        (drop_plddt, InputError, "is not an output of OpenFold"),
        (put_nan, InputError, "predicted_aligned_error has values that are not numbers"),
        (drop_structure, InputError, "no structure beside it: expected .*_unrelaxed.pdb"),
        (cut_structure, InputError, "6 residues and its output dictionary 43"),
        (break_provenance, InputError, "what was predicted and what filled is not known"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_written(tmp_path, spoil, error, message):
    save(tmp_path / "in")
    spoil(tmp_path / "in")
    with pytest.raises(error, match=message):
        exported(tmp_path / "out", tmp_path / "in")
    assert list((tmp_path / "out").glob("*")) == []


def test_a_bad_target_does_not_stop_the_next(tmp_path, run):
    save(tmp_path / "in")
    for file in (tmp_path / "in").iterdir():
        shutil.copy(file, file.with_name(file.name.replace("1ABC_H-1ABC_L", "good")))
    break_pickle(tmp_path / "in")
    done = run(tmp_path / "in", "--layout", "alphafold2", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good"]
    assert "1ABC_H-1ABC_L" in done.stderr


def test_a_prediction_named_twice_is_exported_once(tmp_path):
    save(tmp_path / "in")
    assert len(results.find([tmp_path / "in", tmp_path / "in" / ".." / "in" / PICKLE])) == 1


def test_a_path_without_a_prediction_is_named(tmp_path, run):
    done = run(tmp_path, "--layout", "alphafold2", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert str(tmp_path) in done.stderr


def test_another_layout_is_refused_with_those_there_are(tmp_path, run):
    done = run(tmp_path, "--layout", "alphafold3", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "alphafold2" in done.stderr
    assert {layout.value for layout in Layout} == set(export.LAYOUTS)
