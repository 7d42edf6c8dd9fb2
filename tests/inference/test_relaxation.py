"""Relaxation by OpenMM through the whole command: two peptides in a crystal's conformation."""

import json
from pathlib import Path

import numpy as np
import pytest

from openfoldpp.inference import driver

PEPTIDE = "NGEQIRSISDLHQT"
NAME = "pair_model_1_ptm"

# Two copies of the peptide, 30 angstrom apart; "broken" lacks a carbonyl carbon.
PLUGIN = f"""
from pathlib import Path

import numpy as np

from openfoldpp import CoordAdapter
from openfoldpp.plugins.hookspecs import hookimpl

PDB = Path({str(Path(__file__).parents[1] / "upstream" / "data" / "peptide.pdb")!r})

@hookimpl
def openfoldpp_make_features(target, options):
    return {{}}

@hookimpl
def openfoldpp_predict(model, batch, target):
    from openfold.np import protein

    peptide = protein.from_pdb_string(PDB.read_text())
    coords = np.concatenate([peptide.atom_positions, peptide.atom_positions + [30.0, 0.0, 0.0]])
    mask = np.concatenate([peptide.atom_mask, peptide.atom_mask])
    if target.tag == "broken":
        mask[3, 2] = 0
    return CoordAdapter().output(
        coords, ":".join(chain.sequence for chain in target.chains), mask=mask,
        plddt=np.linspace(50, 90, 28), chain_ids=("H", "L"),
    )
"""


@pytest.fixture(scope="module")
def run(plugin_folder, tmp_path_factory):
    """Run the command over FASTA files of these tags, with the plugin; returns exit code and folder."""
    plugin = plugin_folder("peptides", PLUGIN)

    def run(*tags, arguments=()):
        folder = tmp_path_factory.mktemp("relaxation")
        fasta = folder / "fasta"
        fasta.mkdir()
        for tag in tags:
            (fasta / f"{tag}.fasta").write_text(f">{tag}\n{PEPTIDE}:{PEPTIDE}\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(plugin)
            code = driver.main(
                [str(fasta), "--plugins", "peptides", "--output_dir", str(folder), "--quiet", *arguments],
                program="run_pretrained_openfold.py",
            )
        return code, folder

    return run


@pytest.fixture(scope="module")
def relaxed(run):
    """Folder of a run over a structure that lacks a backbone atom and a whole one, relaxed to PDB."""
    code, folder = run("broken", "pair")
    assert code == 1
    return folder


def gemmi_model(path):
    import gemmi

    return gemmi.read_structure(str(path))[0]


def test_chains_keep_their_labels_and_residues(relaxed):
    import gemmi

    model = gemmi_model(relaxed / "predictions" / f"{NAME}_relaxed.pdb")
    assert [chain.name for chain in model] == ["H", "L"]
    for chain in model:
        assert gemmi.one_letter_code([residue.name for residue in chain]) == PEPTIDE
        assert [residue.seqid.num for residue in chain] == list(range(1, len(PEPTIDE) + 1))


def test_hydrogens_are_added_and_heavy_atoms_hardly_move(relaxed):
    before = gemmi_model(relaxed / "predictions" / f"{NAME}_unrelaxed.pdb")
    after = gemmi_model(relaxed / "predictions" / f"{NAME}_relaxed.pdb")
    elements = [atom.element.name for chain in after for residue in chain for atom in residue]
    assert elements.count("H") > 0.4 * len(elements)
    moved = [
        atom.pos.dist(new[atom.name][0].pos)
        for chain in before
        for residue, new in zip(chain, after[chain.name], strict=True)
        for atom in residue
    ]
    assert 0.001 < np.sqrt(np.mean(np.square(moved))) < 0.5


def test_plddt_stays_the_b_factor_of_every_atom(relaxed):
    model = gemmi_model(relaxed / "predictions" / f"{NAME}_relaxed.pdb")
    written = [{atom.b_iso for atom in residue} for chain in model for residue in chain]
    assert all(len(values) == 1 for values in written)
    np.testing.assert_allclose([values.pop() for values in written], np.linspace(50, 90, 28), atol=0.006)


def test_biotite_reads_the_relaxed_file_as_well(relaxed):
    from biotite.structure import get_chains, get_residue_count
    from biotite.structure.io.pdb import PDBFile

    atoms = PDBFile.read(relaxed / "predictions" / f"{NAME}_relaxed.pdb").get_structure(model=1)
    assert list(get_chains(atoms)) == ["H", "L"]
    assert get_residue_count(atoms) == 28
    assert set(atoms.element) == {"C", "N", "O", "H"}


def test_the_time_of_relaxation_is_recorded(relaxed):
    timings = json.loads((relaxed / "timings.json").read_text())
    assert timings["targets"][NAME]["relaxation"] > 0.01
    assert timings["targets"][NAME]["total"] >= timings["targets"][NAME]["relaxation"]


def test_a_failed_relaxation_leaves_the_unrelaxed_files_and_the_next_target_runs(run, capsys):
    code, folder = run("broken", "pair", arguments=["--subtract_plddt"])
    said = capsys.readouterr().out
    assert code == 1
    assert "1 of 2 targets failed:" in said
    assert "broken" in said
    assert "relaxation failed (every heavy atom is needed, and 1 are missing, the first is C of GLN 4" in said
    assert "--skip_relaxation" in said
    suffixes = {"unrelaxed.pdb", "output_dict.pkl", "protein.pkl", "provenance.json"}
    names = {path.name for path in (folder / "predictions").iterdir()}
    assert names == {
        *(f"broken_model_1_ptm_{suffix}" for suffix in suffixes),
        *(f"{NAME}_{suffix}" for suffix in suffixes | {"relaxed.pdb"}),
    }
    model = gemmi_model(folder / "predictions" / f"{NAME}_relaxed.pdb")
    assert model["H"][0]["CA"][0].b_iso == pytest.approx(50)
    assert model["L"][13]["CA"][0].b_iso == pytest.approx(10)


def test_relaxed_modelcif(run):
    code, folder = run("pair", arguments=["--cif_output"])
    assert code == 0
    before = gemmi_model(folder / "predictions" / f"{NAME}_unrelaxed.cif")
    after = gemmi_model(folder / "predictions" / f"{NAME}_relaxed.cif")
    assert [chain.name for chain in after] == ["H", "L"]
    moved = []
    for chain in before:
        for residue, new in zip(chain, after[chain.name], strict=True):
            assert {atom.name for atom in residue} <= {atom.name for atom in new}
            assert residue["CA"][0].b_iso == new["CA"][0].b_iso
            moved += [atom.pos.dist(new[atom.name][0].pos) for atom in residue]
    assert 0.001 < np.sqrt(np.mean(np.square(moved))) < 0.5
