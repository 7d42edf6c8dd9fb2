"""Programs that other people wrote, on the files of real runs: they read what was predicted, and no more."""

import importlib.metadata
import io
import json
import re
import subprocess
import sysconfig
import venv
import warnings
from pathlib import Path

import foldmetrics
import gemmi
import modelcif.reader
import numpy as np
import pytest
from biotite.structure.io.pdb import PDBFile
from biotite.structure.io.pdbx import CIFFile, get_sequence, get_structure

from openfoldpp.adapters.coord_adapter import CoordAdapter
from openfoldpp.files import read_pickle
from openfoldpp.geometry.residues import ATOM37
from openfoldpp.inference import driver, export, results
from openfoldpp.inference.prediction import Prediction
from openfoldpp.types import Chain, Target

EXAMPLE = Path(__file__).parents[2] / "examples" / "fv" / "trastuzumab.fasta"
NAME = "trastuzumab_H-trastuzumab_L_model_1_ptm"
SEQUENCES = {
    "H": "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS",
    "L": "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPPT"
    "FGQGTKVEIK",
}
# What readers say of upstream's own record and of an item that modelcif leaves out, label_atom_id being the
# same.
KNOWN = re.compile("Ignoring unrecognized record 'PARENT'|Attribute 'auth_atom_id' not found")


@pytest.fixture(scope="session")
def fv(tmp_path_factory):
    """A real prediction of an antibody by the whole command, as PDB and as ModelCIF, without PAE."""
    folder = tmp_path_factory.mktemp("fv")
    shared = ["--plugins", "openfoldpp", "--skip_relaxation", "--quiet", "--output_dir", str(folder)]
    for more in ([], ["--cif_output", "--no-save_outputs"]):
        code = driver.main([str(EXAMPLE), *shared, *more], program="openfoldpp predict", targets=True)
        assert code == 0
    return folder / "predictions"


def with_biotite(file):
    if file.suffix == ".cif":
        atoms = get_structure(CIFFile.read(file), model=1, extra_fields=["b_factor"])
    else:
        atoms = PDBFile.read(file).get_structure(model=1, extra_fields=["b_factor"])
    columns = (atoms.chain_id, atoms.res_id, atoms.res_name, atoms.atom_name, atoms.coord, atoms.b_factor)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def with_gemmi(file):
    return [
        (p.chain.name, p.residue.seqid.num, p.residue.name, p.atom.name, p.atom.pos.tolist(), p.atom.b_iso)
        for p in gemmi.read_structure(str(file))[0].all()
    ]


def with_biopython(file):
    parsers = importlib.import_module("Bio.PDB")
    parser = parsers.MMCIFParser() if file.suffix == ".cif" else parsers.PDBParser()
    return [
        (*(a.parent.parent.id, a.parent.id[1], a.parent.resname, a.name), a.coord.tolist(), a.bfactor)
        for a in parser.get_structure("x", str(file)).get_atoms()
    ]


def with_modelcif(file):
    (system,) = modelcif.reader.read(io.StringIO(file.read_text()))
    (model,) = system.model_groups[0]
    return [
        (a.asym_unit.id, a.seq_id, a.asym_unit.sequence[a.seq_id - 1].id, a.atom_id, [a.x, a.y, a.z], a.biso)
        for a in model.get_atoms()
    ]


@pytest.mark.parametrize(
    ("read", "suffix"),
    [
        *((read, suffix) for read in (with_biotite, with_gemmi, with_biopython) for suffix in ("pdb", "cif")),
        (with_modelcif, "cif"),
    ],
)
def test_readers_of_structures_get_the_prediction(fv, read, suffix):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = read(fv / f"{NAME}_unrelaxed.{suffix}")
    assert [str(warning.message) for warning in caught if not KNOWN.search(str(warning.message))] == []
    output = read_pickle(fv / f"{NAME}_output_dict.pkl")
    residue, atom = np.nonzero(output["final_atom_mask"])
    names = [
        (chain, number, gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA))
        for chain, sequence in SEQUENCES.items()
        for number, letter in enumerate(sequence, start=1)
    ]
    expected = [(*names[r], ATOM37[a]) for r, a in zip(residue, atom, strict=True)]
    assert [row[:4] for row in rows] == expected
    # Half of the last of three digits, and float32's own rounding.
    coordinates = np.array([row[4] for row in rows])
    assert np.abs(coordinates - output["final_atom_positions"][residue, atom]).max() <= 0.0005 + 1e-5
    b_factors = np.array([row[5] for row in rows])
    assert np.abs(b_factors - output["plddt"][residue]).max() <= 0.005 + 1e-5


def test_sequences_are_read_from_the_entities(fv):
    """Not from the atoms, which may be missing: entity_poly and entity_poly_seq."""
    cif = fv / f"{NAME}_unrelaxed.cif"
    assert {chain: str(s) for chain, s in get_sequence(CIFFile.read(cif)).items()} == SEQUENCES
    structure = gemmi.read_structure(str(cif))
    by_gemmi = {e.subchains[0]: gemmi.one_letter_code(e.full_sequence) for e in structure.entities}
    assert by_gemmi == SEQUENCES
    assert [entity.polymer_type for entity in structure.entities] == [gemmi.PolymerType.PeptideL] * 2
    (system,) = modelcif.reader.read(io.StringIO(cif.read_text()))
    by_modelcif = {a.id: "".join(c.code_canonical for c in a.entity.sequence) for a in system.asym_units}
    assert by_modelcif == SEQUENCES


@pytest.fixture
def with_pae(predict, inputs):
    """A prediction by a small OpenFold 0.0.1 with random weights: it has PAE and pTM."""
    heavy, light = SEQUENCES["H"][:25], SEQUENCES["L"][:18]
    return predict(f">heavy\n{heavy}\n>light\n{light}\n", arguments=["--multimer_ri_gap", 200])


def exported(predictions, out):
    """Export what a folder holds; returns the folder of the one target, and OpenFold's own output."""
    (result,) = results.find([predictions])
    return export.export_alphafold2([result], out).folder, result.read()


def multimer(fv, folder):
    """Export the antibody as a multimer's output with some PAE; returns the folder."""
    known = read_pickle(fv / f"{NAME}_output_dict.pkl")
    preset = "model_1_multimer_v3"
    output = CoordAdapter(preset, "2.2.0").output(
        known["final_atom_positions"],
        ":".join(SEQUENCES.values()),
        mask=known["final_atom_mask"],
        plddt=known["plddt"],
        pae=np.full((227, 227), 2.25),
    )
    target = Target("fv", tuple(Chain(tag, sequence) for tag, sequence in SEQUENCES.items()))
    Prediction(target, preset, output, None, {}).save(folder / "predictions")
    return exported(folder, folder / "out")[0]


def test_foldmetrics_reads_what_openfold_predicted(with_pae, tmp_path):
    folder, output = exported(with_pae, tmp_path / "out")
    (prediction,) = foldmetrics.load_predictions(folder)
    assert (prediction.tool, prediction.chains) == ("alphafold2", ["A", "B"])
    assert prediction.warnings == []
    np.testing.assert_array_equal([token.plddt for token in prediction.tokens], output["plddt"])
    np.testing.assert_array_equal(prediction.pae, output["predicted_aligned_error"])
    (row,) = foldmetrics.evaluate(folder).to_dict("records")
    assert row["plddt_mean"] == pytest.approx(output["plddt"].mean(), abs=1e-4)
    assert row["ptm"] == output["predicted_tm_score"]
    assert row["pae_mean"] == pytest.approx(output["predicted_aligned_error"].mean(), abs=1e-4)
    assert np.isnan(row["iptm"])


def test_foldmetrics_shows_no_pae_where_nobody_predicted_one(fv, tmp_path):
    folder, output = exported(fv, tmp_path / "out")
    (row,) = foldmetrics.evaluate(folder).to_dict("records")
    assert row["plddt_mean"] == pytest.approx(output["plddt"].mean(), abs=1e-4)
    assert (row["chains"], row["n_res"], row["has_pae"]) == ("H,L", 227, False)
    assert all(np.isnan(row[column]) for column in ("ptm", "iptm", "pae_mean", "ipsae", "pdockq2"))
    # From structure and pLDDT alone: the chains of an Fv touch.
    assert row["pdockq"] > 0.3


# Runs in an environment with af-analysis; prints what it read.
AF_ANALYSIS = """
import glob, json, sys
import af_analysis
from af_analysis.analysis import get_pae
folder, named = sys.argv[1:]
if named == "multimer":
    data = af_analysis.Data(folder, verbose=False)
else:
    (pickled,) = glob.glob(folder + "/result_*.pkl")
    structure = pickled.replace("result_", "unrelaxed_").replace(".pkl", ".pdb")
    data = af_analysis.Data(data_dict={"pdb": [structure], "query": ["x"], "data_file": [pickled]})
try:
    pae = get_pae(data.df["data_file"][0]).tolist()
except KeyError as error:
    pae = str(error)
print(json.dumps({
    "format": data.format if named == "multimer" else "custom",
    "plddt": data.get_plddt(0).tolist(),
    "pae": pae,
    "chains": data.chains[data.df["query"][0]],
    "lengths": data.chain_length[data.df["query"][0]],
}))
"""


@pytest.fixture(scope="module")
def run_af_analysis(tmp_path_factory):
    """Install af-analysis with what reading needs; its viewers would bring JupyterLab."""
    home = tmp_path_factory.mktemp("af_analysis")
    venv.create(home, with_pip=True, symlinks=True)
    python = home / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    # What the tests' environment has, numpy, pandas and matplotlib among it, is not installed again.
    (site / "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for arguments in (
        ["--no-deps", "af-analysis>=0.2.1,<0.3"],
        ["pdb_cpp", "seaborn", "cmcrameri", "ipywidgets", "tqdm"],
    ):
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *arguments], check=True, capture_output=True
        )

    def run(folder, named="custom"):
        done = subprocess.run(
            [python, "-W", "ignore", "-c", AF_ANALYSIS, folder, named],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.slow
def test_af_analysis_reads_what_openfold_predicted(run_af_analysis, with_pae, fv, tmp_path):
    folder, output = exported(with_pae, tmp_path / "out")
    read = run_af_analysis(folder)
    np.testing.assert_array_equal(read["plddt"], output["plddt"])
    np.testing.assert_array_equal(read["pae"], output["predicted_aligned_error"])
    assert (read["chains"], read["lengths"]) == (["A", "B"], [25, 18])
    # Of AlphaFold's names it finds those of multimers by itself.
    read = run_af_analysis(multimer(fv, tmp_path / "multimer"), "multimer")
    assert (read["format"], read["chains"], read["lengths"]) == ("default", ["A", "B"], [120, 107])
    np.testing.assert_array_equal(read["pae"], np.full((227, 227), 2.25))
    folder, output = exported(fv, tmp_path / "fv")
    read = run_af_analysis(folder)
    np.testing.assert_array_equal(read["plddt"], output["plddt"])
    assert read["pae"] == "'predicted_aligned_error'"
    assert (read["chains"], read["lengths"]) == (["H", "L"], [120, 107])
