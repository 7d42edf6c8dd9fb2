import json
import time

import pytest
from typer.testing import CliRunner

from openfoldpp.cli.main import app
from openfoldpp.inference.interruption import Interrupted

PEPTIDES = {"good": "EVQLVESGGGLVQPGG", "other": "DIQMTQSPSSLSASVG"}


def run(*args):
    return CliRunner().invoke(app, ["motifs", *(str(arg) for arg in args)])


def peptide(sequence):
    """PDB text of an extended chain."""
    from openfoldpp.geometry.residues import LETTERS, NAMES

    offsets = {"N": (0, 0, 0), "CA": (1.2, 0.8, 0), "C": (2.4, 0, 0), "O": (2.4, -1.2, 0)}
    lines = []
    for i, letter in enumerate(sequence):
        for name, (x, y, z) in offsets.items():
            lines.append(
                f"ATOM  {len(lines) + 1:5d}  {name:<3} {NAMES[LETTERS.index(letter)]} A{i + 1:4d}    "
                f"{x + 3.7 * i:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           {name[0]}"
            )
    return "\n".join(lines) + "\nEND\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Working folder with two structures in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pdb").mkdir()
    for name, sequence in PEPTIDES.items():
        (tmp_path / "pdb" / f"{name}.pdb").write_text(peptide(sequence))
    return tmp_path


@pytest.fixture
def library(folder):
    result = run("build", "pdb", "--out", "lib")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("lib: 14 shingles of 2 chains from 2 files; 2 new, 0 were there; ")
    return folder / "lib"


def test_a_library_is_made_shown_and_verified(library):
    shown = run("info", "lib")
    assert shown.exit_code == 0
    assert "made by   openfoldpp motifs build pdb --out lib\n" in shown.output
    assert "14 shingles and 32 residues in 2 segments of 2 chains from 2 files" in shown.output
    assert "index     0 parts by a graph, 1 by comparing all vectors\n" in shown.output
    found = json.loads(run("info", "lib", "--json").output)
    assert found["counts"] == {"files": 2, "chains": 2, "segments": 2, "residues": 32, "shingles": 14}
    files = found["parts"][0]["files"]
    assert found["bytes"] == sum(entry["bytes"] for entry in files.values())
    assert (found["format"], found["version"]) == ("openfoldpp motif library", 1)
    result = run("verify", "lib")
    assert result.exit_code == 0
    assert f"lib: {len(files)} files, " in result.output
    assert "as the manifest says" in result.output


def test_verify_names_bad_files(library):
    path = library / "part-00000" / "vectors.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\xaa")
    (library / "part-00000" / "starts.npy").unlink()
    result = run("verify", "lib")
    assert result.exit_code == 1
    assert "2 of 6 files not as the manifest says" in result.output
    assert "vectors.npy: its SHA-256 is not the manifest's" in result.output
    assert "starts.npy: is missing" in result.output
    assert run("verify", "absent").exit_code == 1


def test_a_dry_run_loads_the_index_and_writes_nothing(library):
    before = {path: path.stat().st_mtime_ns for path in library.parent.rglob("*")}
    start = time.perf_counter()
    result = run("build", "pdb", "--out", "lib", "--dry-run")
    assert time.perf_counter() - start < 10
    assert result.exit_code == 0
    assert "2 structure files found" in result.output
    assert "index loaded in " in result.output
    assert "lib, 14 shingles of 2 chains, 1 part, " in result.output
    assert " kB; nothing was written" in result.output
    assert {path: path.stat().st_mtime_ns for path in library.parent.rglob("*")} == before
    (library / "part-00000" / "index.faiss").write_bytes(b"")
    result = run("build", "--out", "lib", "--dry_run")
    assert result.exit_code == 1
    assert "index.faiss: has 0 bytes, expected" in result.output


def test_what_is_new_is_added(library):
    result = run("build", "pdb", "--out", "lib", "--jobs", 2)
    assert result.exit_code == 0
    assert "0 new, 2 were there" in result.output
    (library.parent / "pdb" / "third.pdb").write_text(peptide("QVQLQQSGAELARPG"))
    result = run("build", "pdb", "--out", "lib")
    assert result.exit_code == 1
    assert "give --add" in result.output
    result = run("build", "pdb", "--out", "lib", "--add")
    assert result.exit_code == 0
    assert "lib: 20 shingles of 3 chains from 3 files; 1 new, 2 were there; " in result.output
    assert (
        "motifs build pdb --out lib; openfoldpp motifs build pdb --out lib --add\n"
        in run("info", "lib").output
    )


def test_options_are_those_of_the_library(folder):
    assert run("build", "pdb", "--out", "lib", "--vectors", "int8", "--no_graph").exit_code == 0
    options = json.loads(run("info", "lib", "--json").output)["options"]
    assert (options["vectors"], options["graph"]) == ("int8", False)
    assert not (folder / "lib" / "part-00000" / "index.faiss").exists()
    assert (
        "made by   openfoldpp motifs build pdb --out lib --vectors int8 --no_graph"
        in run("info", "lib").output
    )


def test_a_broken_file_is_named_and_the_exit_code_is_1(folder):
    (folder / "pdb" / "bad.pdb").write_text("")
    (folder / "pdb" / "short.pdb").write_text(peptide("ACDEF"))
    result = run("build", "pdb", "--out", "lib")
    assert result.exit_code == 1
    assert "2 files gave nothing:\n  bad: is empty\n  short: has no protein chain with 10" in result.output
    assert "left out  proteins without ten residues in a row: 1\n" in result.output
    assert "2 files gave nothing:\n  bad: is empty" in run("info", "lib").output
    (folder / "pdb" / "bad.pdb").unlink()
    # That a structure is no protein is no mistake.
    assert run("build", "pdb", "--out", "other").exit_code == 0


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("build", "--out", "lib"), 2, "name structure files"),
        (("build", "nothing", "--out", "lib"), 1, "nothing: there is no such file or folder"),
        (
            ("build", "pdb", "--out", "lib", "--plm", "esm1b"),
            1,
            "which was trained on the projection of plm_lite",
        ),
        (("build", "pdb", "--out", "lib", "--jobs", "0"), 1, "--jobs 0: expected 1 or more"),
        (("build", "pdb", "--out", "pdb"), 1, "pdb: is there and is no library of motifs"),
        (("build", "pdb", "--out", "lib", "--dry-run"), 1, "lib: is no library of motifs"),
        (("info", "pdb"), 1, "pdb: is no library of motifs"),
    ],
)
def test_what_cannot_be_done_is_said(folder, args, code, message):
    result = run(*args)
    assert result.exit_code == code
    assert message in " ".join(result.output.split())
    assert {path.name for path in folder.iterdir()} == {"pdb"}


def test_an_interrupted_build_says_how_it_goes_on(folder, monkeypatch):
    from openfoldpp.motifs import build_parts

    def interrupt(*args):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(build_parts, "make_blocks", interrupt)
        result = run("build", "pdb", "--out", "lib")
    assert result.exit_code == 130
    assert (
        "interrupted by SIGINT; what is done is in lib.building, and the same command goes on"
        in result.output
    )
    assert run("build", "pdb", "--out", "lib").exit_code == 0
