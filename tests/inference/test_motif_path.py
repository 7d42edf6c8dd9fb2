"""``predict --path motifs``, from a library on disk to OpenFold's files."""

import json

import numpy as np
import pytest

import openfoldpp
from openfoldpp.files import read_pickle
from openfoldpp.geometry.superposition import ca_rmsd, superimpose, tm_score
from openfoldpp.inference import driver
from openfoldpp.motifs.embedder import installed_embedding, shingle_embedder
from openfoldpp.motifs.part_files import write_library
from openfoldpp.motifs.segments import Segment, SegmentInfo

pytest.importorskip("faiss")
CHAIN = "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSK"


@pytest.fixture(scope="module")
def helix():
    """Backbone of a long helix."""
    place = np.arange(len(CHAIN))
    atoms = [
        np.stack([r * np.cos(1.745 * place + a), r * np.sin(1.745 * place + a), 1.5 * place + z], 1)
        for r, a, z in ((1.55, -0.49, -0.9), (2.3, 0, 0), (1.7, 0.45, 1.1), (2.0, 0.65, 2.2))
    ]
    return np.stack(atoms, 1).astype(np.float32)


@pytest.fixture(scope="module")
def library(tmp_path_factory, helix):
    folder = tmp_path_factory.mktemp("motifs") / "lib"
    segments = [Segment(SegmentInfo("1abc_A", f"1..{len(CHAIN)}", CHAIN), helix)]
    vectors = np.concatenate(shingle_embedder().embed([CHAIN]))
    write_library(folder, segments, vectors, installed_embedding())
    return folder


@pytest.fixture
def plugin(plugin_folder, monkeypatch):
    source = "from openfoldpp.adapters.motif_adapter import plugin"
    monkeypatch.syspath_prepend(plugin_folder("motif_plugin", source, "motif_plugin:plugin"))
    return "motif_plugin"


def test_a_chain_of_the_library_comes_out_as_it_is_there(library, plugin, helix, tmp_path, capsys):
    target = CHAIN[4:60]
    (tmp_path / "one.fasta").write_text(f">one\n{target}\n")
    command = [
        str(tmp_path / "one.fasta"),
        "--plugins",
        plugin,
        "--path",
        "motifs",
        "--motif_library",
        str(library),
    ]
    assert (
        driver.main([*command, "--output_dir", str(tmp_path)], program="openfoldpp predict", targets=True)
        == 0
    )
    assert "target 'one': CA atoms alone are predicted" in capsys.readouterr().err
    name = tmp_path / "predictions" / "one_model_1_ptm"
    output = read_pickle(name.with_name(f"{name.name}_output_dict.pkl"))
    assert ca_rmsd(superimpose(output["final_atom_positions"][:, 1], helix[4:60, 1]), helix[4:60, 1]) < 0.1
    lines = name.with_name(f"{name.name}_unrelaxed.pdb").read_text().splitlines()
    atoms = [line for line in lines if line.startswith("ATOM")]
    assert [line[12:16] for line in atoms] == [" CA "] * len(target)
    columns = [float(line[60:66]) for line in atoms]
    np.testing.assert_allclose(columns, output["plddt"], atol=0.005)
    said = json.loads(name.with_name(f"{name.name}_provenance.json").read_text())
    assert said["predicted_by"] == f"motifs of {library}"
    assert said["values"]["final_atom_positions"].startswith("predicted; CA atoms alone are predicted, from ")
    assert said["values"]["predicted_aligned_error"] == "filled: not predicted"
    # The same in Python, and as one file without OpenFold's.
    called = openfoldpp.predict(target, *command[3:], plugins=plugin)
    np.testing.assert_array_equal(called.coords, output["final_atom_positions"])
    assert called.pae is None
    command += ["--out", str(tmp_path / "one.cif"), "--quiet"]
    assert driver.main(command, program="openfoldpp predict", targets=True) == 0
    assert "_atom_site" in (tmp_path / "one.cif").read_text()


def test_a_target_without_motifs_does_not_stop_the_next(library, plugin, tmp_path, capsys):
    for tag, sequence in (("a", "ACDEFGH"), ("b", CHAIN)):
        (tmp_path / f"{tag}.fasta").write_text(f">{tag}\n{sequence}\n")
    command = [
        str(tmp_path),
        "--plugins",
        plugin,
        "--path",
        "motifs",
        "--motif_library",
        str(library),
        "--quiet",
    ]
    assert (
        driver.main([*command, "--output_dir", str(tmp_path)], program="openfoldpp predict", targets=True)
        == 1
    )
    assert "motifs need 10 in a row" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "predictions" / "b_model_1_ptm_unrelaxed.pdb").exists()
    assert not (tmp_path / "predictions" / "a_model_1_ptm_unrelaxed.pdb").exists()


def test_an_antibody_is_put_together_from_openfoldpps_own_library_by_its_network(plugin):
    from openfoldpp.teachers import flashabb

    pytest.importorskip("flash_abb")
    heavy = (
        "QVQLVQSGAEVKKPGASVKVSCKASGYTFTSYGISWVRQAPGQGLEWMGWISAYNGNTNYAQKLQGRVTMTTDTSTSTAYMELRSLRSDDTAVYYCAR"
        "DGYSSGYYGMDVWGQGTTVTVSS"
    )
    light = (
        "DIQMTQSPSSLSASVGDRVTITCRASQSISSYLNWYQQKPGKAPKLLIYAASSLQSGVPSRFSGSGSGTDFTLTISSLQPEDFATYYCQQSYSTPLTF"
        "GGGTKVEIK"
    )
    made = openfoldpp.predict(f"{heavy}:{light}", "--path", "motifs", plugins=plugin)
    assert "by GraphCompositor" in made.output.provenance["final_atom_positions"]
    reference = flashabb.load().predict(heavy, light)
    assert tm_score(made.coords[:, 1], reference.coords[:, 1]) > 0.95
    assert made.plddt.mean() > 85
