import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from openfoldpp.errors import InputError, InsufficientMemoryError
from openfoldpp.inference.interruption import Interrupted
from openfoldpp.motifs import build_parts, build_worker
from openfoldpp.motifs.build import build_library
from openfoldpp.motifs.embedder import shingle_embedder
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.library_files import Options, Skipped, read_manifest, verify


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def build(structures, out, **options):
    return build_library([structures], out, **options)


def test_every_chain_of_a_folder(structures, tmp_path, chains):
    seen = []
    report = build(structures, tmp_path / "lib", progress=seen.append, made_by="me")
    library = Library.open(tmp_path / "lib")
    found = {library.segment(i).name: library.segment(i) for i in range(library.counts.segments)}
    assert list(found) == ["1abc_A", "1abc_B", "3def_A", "sub/2xyz_H"]
    assert found["1abc_A"].sequence == chains.sequence
    np.testing.assert_allclose(
        np.diff(library.coordinates(0), axis=0), np.diff(chains.backbone(30), axis=0), atol=0.011
    )
    # The vectors are those of the chain's sequence.
    [expected] = shingle_embedder().embed([chains.sequence])
    np.testing.assert_allclose(library.vectors(np.arange(21)), expected, atol=2e-3)
    assert report.counts == report.added == library.counts
    assert (report.counts.files, report.there, report.resumed) == (3, 0, 0)
    assert [state.phase for state in seen if state.done == state.total][-1] == "indexing"
    manifest = read_manifest(tmp_path / "lib")
    assert manifest.made_by == "me"
    assert verify(tmp_path / "lib", manifest) == []
    assert not (tmp_path / "lib.building").exists()


def test_segments_of_one_chain_are_embedded_with_the_whole_chain(tmp_path, chains):
    atoms = [a for a in chains.atoms_of() if (a.number, a.name) != (15, "CA")]
    (tmp_path / "cut.pdb").write_text(chains.pdb(atoms))
    build(tmp_path / "cut.pdb", tmp_path / "lib")
    library = Library.open(tmp_path / "lib")
    assert [library.segment(i).numbering for i in (0, 1)] == ["1..14", "16..30"]
    assert {library.segment(i).name for i in (0, 1)} == {"cut_A"}
    [whole] = shingle_embedder().embed([chains.sequence])
    expected = np.concatenate([whole[:5], whole[15:]])
    np.testing.assert_allclose(library.vectors(np.arange(11)), expected, atol=2e-3)
    assert read_manifest(tmp_path / "lib").left_out == {"incomplete_residues": 1}


def test_files_that_give_nothing_are_named_and_the_others_not_affected(structures, tmp_path, chains):
    (structures / "empty.pdb").write_text("")
    (structures / "broken.cif").write_text("data_x\n")
    (structures / "short.pdb").write_text(chains.pdb(chains.atoms_of("ACDEF")))
    (structures / "copy.pdb").write_bytes((structures / "1abc.pdb").read_bytes())
    (structures / "3def.pdb").write_text(chains.pdb(chains.atoms_of(seed=9)))
    (structures / "notes.txt").write_text("not looked at")
    report = build(structures, tmp_path / "lib")
    assert report.counts.files == 3
    empty, no_table, short = (
        hashlib.sha256((structures / name).read_bytes()).hexdigest()
        for name in ("empty.pdb", "broken.cif", "short.pdb")
    )
    assert sorted(report.skipped, key=lambda one: one.name) == [
        Skipped("3def", f"{structures / '3def.pdb'} has the name of {structures / '3def.ent.gz'}; rename one "
                "of them", True),
        Skipped("broken", "has no atom_site table: it has no structure", True, no_table),
        Skipped("copy", "is the same file as 1abc", False),
        Skipped("empty", "is empty", True, empty),
        Skipped("short", "has no protein chain with 10 whole residues in a row", False, short),
    ]  # fmt: skip
    assert list(read_manifest(tmp_path / "lib").skipped) == sorted(report.skipped, key=lambda one: one.name)
    # Fewer of them are another library.
    with pytest.raises(InputError, match="is there, made of other files; give --add"):
        build(structures / "1abc.pdb", tmp_path / "lib")
    # The same again is the same library, and says the same.
    before = contents(tmp_path / "lib")
    again = build(structures, tmp_path / "lib")
    assert (again.there, again.added.files, len(again.skipped)) == (3, 0, 5)
    assert contents(tmp_path / "lib") == before


def test_a_file_that_cannot_be_opened_is_named(structures, tmp_path, monkeypatch):
    real = Path.open

    def refuse(path, *args, **kwargs):
        if path.name == "1abc.pdb":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    report = build(structures, tmp_path / "lib")
    assert report.skipped == [Skipped("1abc", "cannot be read (Permission denied)", True)]


def test_adding_is_adding_what_is_new(structures, tmp_path, chains):
    lib = tmp_path / "lib"
    build(structures, lib, options=Options("int8", flat_below=10))
    first = contents(lib)
    more = chains.write_structures(tmp_path / "more", 2)
    report = build_library([structures, more], lib, add=True)
    assert (report.there, report.added.files, report.counts.files) == (3, 2, 5)
    after = contents(lib)
    assert {name for name in after if name not in first} == {
        name.replace("00000", "00001") for name in first if name.startswith("part-")
    }
    assert all(after[name] == data for name, data in first.items() if name != "manifest.json")
    library = Library.open(lib)
    assert [library.segment(i).name for i in (4, 5)] == ["s000_A", "s001_A"]
    assert len(library.shards) == 2
    # Nothing new changes nothing.
    assert build_library([more], lib, add=True).added.files == 0
    assert contents(lib) == after
    (structures / "1abc.pdb").write_text(chains.pdb(chains.atoms_of(seed=4)))
    [changed] = build_library([structures], lib, add=True).skipped
    assert changed.is_broken
    assert changed.reason.startswith("the library was made of another file of this name")


def test_a_file_that_was_broken_can_be_added_when_it_is_mended(structures, tmp_path, chains):
    (structures / "late.pdb").write_text("")
    lib = tmp_path / "lib"
    assert [one.name for one in build(structures, lib).skipped] == ["late"]
    (structures / "late.pdb").write_text(chains.pdb(chains.atoms_of(seed=6)))
    with pytest.raises(InputError, match="is there, made of other files; give --add"):
        build(structures, lib)
    report = build(structures, lib, add=True)
    assert report.added.files == 1
    assert read_manifest(lib).skipped == ()


def test_the_same_with_any_number_of_jobs(tmp_path, chains, monkeypatch):
    monkeypatch.setattr(build_parts, "FILES", 2)
    folder = chains.write_structures(tmp_path / "structures", 9)
    for jobs in (1, 2):
        build(folder, tmp_path / str(jobs), jobs=jobs, options=Options(flat_below=50, part_shingles=80))
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert len(read_manifest(tmp_path / "1").parts) == 3


def test_a_run_that_was_stopped_goes_on(tmp_path, chains, monkeypatch):
    monkeypatch.setattr(build_parts, "FILES", 2)
    folder = chains.write_structures(tmp_path / "structures", 5)
    options = Options(flat_below=50, part_shingles=80)
    build(folder, tmp_path / "whole", options=options)

    def stop_at(phase, done):
        def progress(state):
            if (state.phase, state.done) == (phase, done):
                raise Interrupted

        return progress

    lib = tmp_path / "lib"
    for phase, done in (("reading and embedding", 2), ("reading and embedding", 5), ("indexing", 105)):
        with pytest.raises(Interrupted):
            build(folder, lib, options=options, progress=stop_at(phase, done))
        assert not lib.exists()
    report = build(folder, lib, options=options)
    assert report.resumed == 5
    assert contents(lib) == contents(tmp_path / "whole")


def test_work_on_other_files_or_options_is_begun_anew(tmp_path, chains):
    folder = chains.write_structures(tmp_path / "structures", 3)

    def stop(state):
        if state.phase == "indexing":
            raise Interrupted

    notes = []
    with pytest.raises(Interrupted):
        build(folder, tmp_path / "lib", progress=stop)
    assert build(folder, tmp_path / "lib", options=Options("int8"), note=notes.append).resumed == 0
    assert notes == [
        f"{tmp_path / 'lib.building'}: has an unfinished library of other files or options; begun anew"
    ]
    build(folder, tmp_path / "other", options=Options("int8"))
    assert contents(tmp_path / "lib") == contents(tmp_path / "other")


def test_a_damaged_block_is_named(tmp_path, chains):
    folder = chains.write_structures(tmp_path / "structures", 1)

    def stop(state):
        if state.done == state.total and state.phase == "reading and embedding":
            raise Interrupted

    with pytest.raises(Interrupted):
        build(folder, tmp_path / "lib", progress=stop)
    [block] = (tmp_path / "lib.building").glob("blocks-*/000000.npz")
    data = block.read_bytes()
    for bad in (data[:-300], data[:200] + b"####" + data[204:]):
        block.write_bytes(bad)
        with pytest.raises(InputError, match=r"000000\.npz: is damaged .* remove .*lib\.building, and run"):
            build(folder, tmp_path / "lib")


def test_two_runs_at_once_are_refused(tmp_path, chains):
    folder = chains.write_structures(tmp_path / "structures", 1)

    def meddle(state):
        if state.phase == "indexing":
            build(folder, tmp_path / "lib")

    with pytest.raises(InputError, match="another run of openfoldpp motifs build"):
        build(folder, tmp_path / "lib", progress=meddle)


def test_a_file_that_changes_meanwhile_stops_the_build(tmp_path, chains):
    folder = chains.write_structures(tmp_path / "structures", 1)

    def change(state):
        if state.phase == "reading and embedding":
            (folder / "s000.pdb").write_text("other")

    with pytest.raises(InputError, match=r"s000\.pdb: has changed while the library was being made"):
        build(folder, tmp_path / "lib", progress=change)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"structures": ["absent"]}, "absent: there is no such file or folder"),
        ({"structures": []}, "got none"),
        ({"structures": ["bare"]}, "bare: has no structure file; expected files ending in .pdb"),
        ({"structures": ["bare/notes.txt"]}, r"no structure gave a motif: notes\.txt: its ending is none of"),
        ({"structures": ["sub"], "jobs": 0}, "--jobs 0: expected 1 or more"),
        ({"structures": ["sub"], "plm": "antiberty"}, "--plm antiberty: .* give --plm plm_lite"),
        ({"structures": ["sub"], "add": True}, "lib: is no library of motifs"),
        ({"structures": ["sub"], "out": "bare"}, "bare: is there and is no library of motifs"),
        ({"structures": ["3def.ent.gz"], "out": "there"}, "there: is there, made of other files; give --add"),
        (
            {"structures": ["sub"], "out": "there", "add": True, "options": Options("int8")},
            "with other options",
        ),
    ],
)
def test_what_cannot_be_made(structures, arguments, message, monkeypatch):
    monkeypatch.chdir(structures)
    Path("bare").mkdir()
    Path("bare/notes.txt").write_text("x")
    build_library(["sub"], "there")
    before = contents(structures)
    with pytest.raises(InputError, match=message):
        build_library(**{"out": "lib"} | arguments)
    assert contents(structures) == before


def test_a_damaged_library_is_not_added_to(structures, tmp_path):
    lib = tmp_path / "lib"
    build(structures / "sub", lib)
    (lib / "part-00000" / "starts.npy").unlink()
    with pytest.raises(InputError, match=r"starts\.npy: is missing"):
        build(structures, lib, add=True)


def test_a_worker_that_is_killed_is_no_mystery(tmp_path, chains, monkeypatch):
    folder = chains.write_structures(tmp_path / "structures", 4)
    monkeypatch.setattr(build_parts, "FILES", 1)
    real = build_worker._start

    def start():
        worker = real()
        worker.kill()
        return worker

    monkeypatch.setattr(build_worker, "_start", start)
    with pytest.raises(InsufficientMemoryError, match="give fewer --jobs"):
        build(folder, tmp_path / "lib", jobs=2)
    monkeypatch.setattr(build_worker, "_start", real)
    monkeypatch.setattr(build_worker.sys, "executable", "/bin/false")
    with pytest.raises(InputError, match="ended with exit code 1"):
        build(folder, tmp_path / "lib", jobs=2)


@pytest.mark.slow
@pytest.mark.parametrize("add", [False, True])
def test_killed_ten_times_it_is_the_same_library(tmp_path, chains, add):
    chains.write_structures(tmp_path / "first", 2, length=25)
    for path in list((tmp_path / "first").iterdir()):
        path.rename(path.with_name(f"first_{path.name}"))
    chains.write_structures(tmp_path / "structures", 9)

    def run(lib, kill_at, *, structures="structures", mode=("add",) if add else ()):
        return subprocess.run(
            [sys.executable, Path(__file__).with_name("kill_build.py"), structures, lib, str(kill_at), *mode],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    def finish(lib, **options):
        done = run(lib, 0, **options)
        assert done.returncode == 0, done.stderr

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    if add:
        for lib in ("whole", "killed"):
            finish(lib, structures="first", mode=())
    before = contents(killed)
    finish("whole")
    after = contents(whole)
    for kill_at in (1, 7, 16, 3, 24, 9, 38, 12, 5, 30):
        done = run("killed", kill_at)
        assert done.returncode == -signal.SIGKILL, done.stderr
        # Not there, or as it was, or complete: never anything else.
        named = contents(killed)
        if named.get("manifest.json") == before.get("manifest.json"):
            assert before.items() <= named.items()
        else:
            assert named == after
    finish("killed")
    assert contents(killed) == after
    assert not (tmp_path / "killed.building").exists()
