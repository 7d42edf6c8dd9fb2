"""The staging folder: what the script finds in it, and how finished files leave it."""

import json
import os
import socket
import subprocess
import sys

import pytest

from openfoldpp.inference.staging import keep_alignments, staging
from openfoldpp.types import Chain, OutputPaths, Target

TARGET = Target("fv", (Chain("fv_1", "EVQL"), Chain("fv_2", "DIQM")))


@pytest.fixture
def made(tmp_path):
    with staging(TARGET, tmp_path / "out") as folder:
        yield folder


def test_the_fasta_file_has_the_targets_chains(made):
    (file,) = made.fasta_dir.iterdir()
    assert file.read_text() == ">fv_1\nEVQL\n>fv_2\nDIQM\n"
    assert list(made.templates.iterdir()) == []


def test_the_folder_is_removed_whatever_happens(tmp_path):
    def interrupted():
        with staging(TARGET, tmp_path) as folder:
            (folder.output_dir / "half").write_text("written")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_files_of_the_script_get_the_targets_name(made, tmp_path):
    predictions = made.output_dir / "predictions"
    predictions.mkdir()
    (predictions / "fv_1-fv_2_model_1_unrelaxed.pdb").write_text("ATOM")
    (predictions / "timings.json").write_text('{"relaxation": 2.0}')
    (made.output_dir / "timings.json").write_text('{"fv_1-fv_2": {"inference": 1.0}}')
    out = tmp_path / "out"
    (out / "timings.json").write_text('{"earlier": {"inference": 3.0}}')
    files = made.publish(OutputPaths(out / "predictions", "fv_model_1"), out)
    assert files == [out / "predictions" / "fv_model_1_unrelaxed.pdb"]
    assert files[0].read_text() == "ATOM"
    timings = json.loads((out / "timings.json").read_text())
    assert timings == {"earlier": {"inference": 3.0}, "fv": {"inference": 1.0}}
    assert json.loads((out / "predictions" / "timings.json").read_text()) == {"relaxation": 2.0}


@pytest.mark.parametrize("paired", [False, True])
def test_chains_without_alignments_have_a_folder(paired, made):
    folder = made.without_alignments(paired=paired)
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    assert [path.name for path in sorted(folder.iterdir())] == ["fv_1", "fv_2"]
    assert files == (["fv_1/uniprot_hits.sto", "fv_2/uniprot_hits.sto"] if paired else [])


def test_hits_of_a_template_search_are_left_out(made, tmp_path):
    given = tmp_path / "given" / "fv_1"
    given.mkdir(parents=True)
    for name in ("uniref90_hits.sto", "bfd.a3m", "pdb70_hits.hhr", "hmm_output.sto"):
        (given / name).write_text(name)
    folder = made.without_hits(tmp_path / "given")
    assert {file.name: file.read_text() for file in (folder / "fv_1").iterdir()} == {
        "uniref90_hits.sto": "uniref90_hits.sto",
        "bfd.a3m": "bfd.a3m",
    }
    assert not (folder / "fv_2").exists()


def test_found_alignments_are_kept_beside_what_is_there(made, tmp_path):
    found = made.output_dir / "alignments" / "fv_1"
    found.mkdir(parents=True)
    (found / "uniref90_hits.sto").write_text("new")
    kept = tmp_path / "out" / "alignments" / "fv_1"
    kept.mkdir(parents=True)
    (kept / "mine.a3m").write_text("mine")
    (kept / "uniref90_hits.sto").write_text("old")
    keep_alignments(found, tmp_path / "out")
    assert {file.name: file.read_text() for file in kept.iterdir()} == {
        "mine.a3m": "mine",
        "uniref90_hits.sto": "new",
    }
    assert (found / "uniref90_hits.sto").read_text() == "new"  # the script goes on reading it there


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="no /proc to ask for processes")  # noqa: PTH110
def test_folders_of_killed_processes_are_removed_and_no_others(tmp_path):
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    host = socket.gethostname()
    gone = tmp_path / f".openfoldpp-{host}-{done.pid}-x"
    stay = [tmp_path / f".openfoldpp-{host}-{os.getpid()}-y", tmp_path / f".openfoldpp-other-{done.pid}-z"]
    for folder in (gone, *stay):
        (folder / "fasta").mkdir(parents=True)
    with staging(TARGET, tmp_path):
        assert not gone.exists()
    assert sorted(tmp_path.iterdir()) == sorted(stay)
