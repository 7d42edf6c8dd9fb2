"""``openfoldpp motifs search``, with a library of two extended chains."""

import io
import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from openfoldpp.cli.main import app
from openfoldpp.geometry.residues import LETTERS, NAMES
from openfoldpp.motifs import default_library
from openfoldpp.motifs.embedder import installed_embedding, shingle_embedder
from openfoldpp.motifs.part_files import write_library
from openfoldpp.motifs.segments import Segment, SegmentInfo

CHAINS = {"good_H": "EVQLVESGGGLVQPGGSLRLSCAAS", "other_L": "DIQMTQSPSSLSASVGDRVTITCRAS"}
ROW = re.compile(r"^ +(\d+)-(\d+) +(\d+) +(\d\.\d\d) +(\d+\.\d\d) +(\d\.\d\d)  (\S+) (\S+)$", re.MULTILINE)


def run(*args):
    return CliRunner().invoke(app, ["motifs", "search", *(str(arg) for arg in args)])


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Working folder with a library in ``lib``."""
    monkeypatch.chdir(tmp_path)
    segments = []
    for name, sequence in CHAINS.items():
        n = len(sequence)
        places = np.arange(4 * n, dtype=np.float32).reshape(n, 4, 1) * np.float32([0.9, 0.1, 0])
        segments.append(Segment(SegmentInfo(name, f"1..{n}", sequence), places))
    vectors = np.concatenate(shingle_embedder().embed(list(CHAINS.values())))
    write_library(tmp_path / "lib", segments, vectors, installed_embedding())
    return tmp_path / "lib"


def test_a_table_is_printed(library):
    result = run(CHAINS["good_H"], "--library", library, "--top", 1)
    assert result.exit_code == 0, result.output
    assert "\nquery: 1 motif\n" in result.output
    [(start, end, length, _, distance, _, source, residue)] = ROW.findall(result.output)
    assert (start, end, length, source, residue) == ("1", "25", "25", "good_H", "1")
    assert float(distance) < 0.05


def test_records_of_a_fasta_are_searched_one_by_one(library):
    text = "".join(f">{name} of a test\n{sequence}\n" for name, sequence in CHAINS.items())
    (library.parent / "two.fasta").write_text(text)
    both = run("two.fasta", "--library", library, "--out", "both.json")
    assert both.exit_code == 0, both.output
    found = json.loads((library.parent / "both.json").read_text())
    assert [(one["name"], one["sequence"]) for one in found] == list(CHAINS.items())
    assert [one["motifs"][0]["source"] for one in found] == list(CHAINS)
    again = run("two.fasta", "--library", library, "--out", "again.json")
    assert again.output.replace("again", "both") == both.output
    assert (library.parent / "again.json").read_bytes() == (library.parent / "both.json").read_bytes()
    first = found[0]["motifs"][0]
    assert np.array(first["coords"]).shape == (first["length"], 4, 3)
    assert found[0]["atoms"] == ["N", "CA", "C", "O"]


def test_a_pdb_has_a_model_for_each_motif_numbered_as_the_query(library):
    from biotite.structure.io.pdb import PDBFile

    query = ":".join(CHAINS.values())
    result = run(query, "--library", library, "--out", "x.pdb")
    assert result.exit_code == 0, result.output
    text = (library.parent / "x.pdb").read_text()
    rows = ROW.findall(result.output)
    assert text.count("\nMODEL ") == len(rows)
    whole = "".join(CHAINS.values())
    assert PDBFile.read(io.StringIO(text)).get_model_count() == len(rows)
    for model, (start, end, *_) in enumerate(rows, 1):
        block = text.split("\nMODEL ")[model].split("ENDMDL")[0]
        numbers = [int(line[22:26]) for line in block.splitlines() if line.startswith("ATOM")]
        assert numbers == list(np.repeat(np.arange(int(start), int(end) + 1), 4))
    first = text.split("\nMODEL ")[1].splitlines()[1]
    assert first[17:20] == NAMES[LETTERS.index(whole[int(rows[0][0]) - 1])]


def test_max_identity_leaves_out_the_query_itself(library):
    result = run(CHAINS["good_H"], "--library", library, "--max-identity", 1)
    assert {row[6] for row in ROW.findall(result.output)} == {"other_L"}


def test_the_default_library_is_searched_where_none_is_named(library, monkeypatch):
    monkeypatch.setattr(default_library, "path", lambda: library)
    result = run(CHAINS["other_L"], "--min-score", 0, "--top", 1)
    assert ROW.findall(result.output)[0][6] == "other_L"


def test_nothing_probable_enough_is_no_error(library):
    result = run("W" * 15, "--library", library, "--min-score", 1)
    assert result.exit_code == 0
    assert result.output == "\nquery: no motifs\n"


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["evqlvesggg", "--library", "lib"], 1, "neither a file nor a sequence"),
        (["EVQLV", "--library", "lib"], 1, "5 residues; expected 10 or more"),
        (["EVQLVESGGGLVQ", "--library", "nowhere"], 1, "nowhere"),
        (["EVQLVESGGGLVQ", "--library", "lib", "--max-identity", "2"], 1, "--max-identity 2.0: expected"),
        (["EVQLVESGGGLVQ", "--library", "lib", "--out", "x.cif"], 2, "ends in .json or .pdb"),
        (["EVQLVESGGGLVQ", "--library", "lib", "--top", "0"], 2, "--top"),
    ],
)
def test_what_cannot_be_done_is_said(library, args, code, said):
    result = run(*args)
    assert result.exit_code == code
    assert said in " ".join(result.output.replace("│", " ").split())


def test_a_library_that_is_damaged_gives_no_hits(library):
    (library / "part-00000" / "coordinates.npy").unlink()
    result = run(CHAINS["good_H"], "--library", library)
    assert result.exit_code == 1
    assert "coordinates.npy" in result.output
    assert not ROW.findall(result.output)
