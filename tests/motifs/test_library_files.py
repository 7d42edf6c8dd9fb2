import json
from pathlib import Path

import numpy as np
import pytest

from openfoldpp.errors import InputError
from openfoldpp.motifs import library_files as files
from openfoldpp.motifs.embedder import installed_embedding
from openfoldpp.motifs.part_files import write_library, write_part
from openfoldpp.motifs.segments import Segment, SegmentInfo, numbering_of


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    counts = files.Counts(1, 2, 3, 40, 13)
    part = files.PartEntry("part-00000", counts, {"starts.npy": files.FileEntry(180, "0" * 64)})
    manifest = files.Manifest(
        installed_embedding(),
        files.Options("int8", False, 7, 100),
        (part, part),
        {"models": 2},
        {"oxygens_placed": 1},
        (files.Skipped("1abc", "is empty", True),),
        "openfoldpp motifs build x",
    )
    files.write_manifest(tmp_path, manifest)
    assert files.read_manifest(tmp_path) == manifest
    assert manifest.counts == files.Counts(2, 4, 6, 80, 26)
    document = json.loads((tmp_path / "manifest.json").read_text())
    assert (document["format"], document["version"]) == ("openfoldpp motif library", 1)
    assert document["counts"]["shingles"] == 26


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d | {"version": 2, "openfoldpp": "9.0"}, r"version 2, and this .* version 1; .* \(9.0\)"),
        (lambda d: d | {"format": "recipe"}, "is not the manifest of a library of motifs"),
        (lambda d: {k: v for k, v in d.items() if k != "parts"}, "is damaged .* 'parts'"),
        (lambda d: d | {"options": {"colour": "red"}}, "is damaged .* 'colour'"),
        (lambda d: d | {"counts": d["counts"] | {"shingles": 1}}, "its counts are not the sums"),
        (lambda d: [], "is not the manifest"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(make_library, change, message):
    library, *_ = make_library()
    path = library / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(InputError, match=message):
        files.read_manifest(library)


def test_a_folder_without_a_manifest_is_no_library(tmp_path, make_library):
    with pytest.raises(InputError, match=r"is no library of motifs .* motifs build STRUCTURES --out LIB"):
        files.read_manifest(tmp_path)
    (tmp_path / "lib.building").mkdir()
    with pytest.raises(InputError, match=r"lib\.building is an unfinished one: run its command again"):
        files.read_manifest(tmp_path / "lib")
    assert files.building_folder(Path()).name == f"{Path.cwd().name}.building"
    library, *_ = make_library("whole")
    (library / "manifest.json").write_text((library / "manifest.json").read_text()[:-40])
    with pytest.raises(InputError, match="is damaged"):
        files.read_manifest(library)


@pytest.mark.parametrize(
    "name", ["index.faiss", "vectors.npy", "coordinates.npy", "starts.npy", "segments.json"]
)
def test_a_file_that_is_cut_missing_or_changed_is_named(make_library, name):
    library, *_ = make_library()
    manifest = files.read_manifest(library)
    files.check_sizes(library, manifest)
    assert files.verify(library, manifest) == []
    path = library / "part-00000" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    files.check_sizes(library, manifest)
    assert files.verify(library, manifest) == [f"{path}: its SHA-256 is not the manifest's"]
    path.write_bytes(data[:-1])
    said = f"{path}: has {len(data) - 1:,} bytes, expected {len(data):,}"
    assert files.verify(library, manifest) == [said]
    with pytest.raises(InputError, match="copy the library again") as error:
        files.check_sizes(library, manifest)
    assert said in str(error.value)
    path.unlink()
    assert files.verify(library, manifest) == [f"{path}: is missing"]
    with pytest.raises(InputError, match="is missing"):
        files.check_sizes(library, manifest)


def test_the_same_library_is_the_same_bytes(make_library):
    one, *_ = make_library("one", options=files.Options(flat_below=50))
    two, *_ = make_library("two", options=files.Options(flat_below=50))
    for path in sorted(one.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()


def test_what_does_not_go_together_is_refused(tmp_path, chains):
    segments, vectors = chains.random_segments(3)
    part, options = tmp_path / "part-00000", files.Options()
    for bad in (vectors[:-1], vectors[:, :32], np.where(vectors > 2, np.nan, vectors)):
        with pytest.raises(InputError, match="one row for each shingle"):
            write_part(part, segments, bad, options)
    short = Segment(SegmentInfo("s_A", "1..9", "ACDEFGHIK"), chains.backbone(9))
    with pytest.raises(InputError, match="segment of s_A: has less than 10 residues"):
        write_part(part, [*segments, short], vectors, options)
    wrong = Segment(segments[0].info, segments[0].coordinates[:-1])
    with pytest.raises(InputError, match="coordinates of s0_A"):
        write_part(part, [wrong, *segments[1:]], vectors, options)
    with pytest.raises(InputError, match="vectors 'float64': expected float16 or int8"):
        files.Options("float64")
    assert not part.exists()
    (tmp_path / "lib").mkdir()
    with pytest.raises(InputError, match="is there; name another folder"):
        write_library(tmp_path / "lib", segments, vectors, installed_embedding())


@pytest.mark.parametrize(
    ("numbers", "codes", "text"),
    [
        ([1, 2, 3], ["", "", ""], "1..3"),
        ([-2, -1, 0], ["", "", ""], "-2..0"),
        ([51, 52, 52, 52, 53, 60], ["", "", "A", "B", "", ""], "51..52,52A,52B,53,60"),
        ([5, 4], ["", ""], "5,4"),
    ],
)
def test_numbering_says_every_residue(numbers, codes, text):
    assert numbering_of(numbers, codes) == text
    info = SegmentInfo("x", text, "A" * len(numbers))
    assert [info.residue_number(i) for i in range(len(numbers))] == [
        f"{number}{code}" for number, code in zip(numbers, codes, strict=True)
    ]
    with pytest.raises(InputError, match="it has"):
        info.residue_number(len(numbers))
