"""Embeddings into folders: the three layouts, runs that go on, bad records."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from openfoldpp import plm
from openfoldpp.errors import DiskFullError, InputError, WeightsError
from openfoldpp.plm import extract_shards
from openfoldpp.plm.extract import extract
from openfoldpp.plm.extract_fasta import Record, read_records
from openfoldpp.plm.extract_folder import EmbeddingFolder, read_listing
from openfoldpp.plm.layouts import read_representations_file, read_tokens_file

LAYOUTS = ("tokens", "safetensors")
RECORDS = [
    Record("first", "EVQLVESGGGLVQ"),
    Record("again", "EVQLVESGGGLVQ"),
    Record("short", "AC"),
    Record("unknown", "XBZUO-J"),
    Record("sp|P1|NAME", "DIQMTQSPSSLSASVGD"),
]


class Counting:
    """An embedder that remembers what it was asked for."""

    max_residues = None

    def __init__(self, embedder, refused=()):
        self.embedder, self.refused, self.seen = embedder, refused, []
        self.name, self.channels, self.fingerprint = embedder.name, embedder.channels, embedder.fingerprint

    def embed(self, sequences):
        raise AssertionError("embed_each is asked")

    def embed_each(self, sequences):
        for number, sequence in enumerate(sequences):
            if sequence in self.refused:
                raise self.refused[sequence]
            self.seen.append(sequence)
            yield number, self.embedder.embed([sequence])[0]


@pytest.fixture
def esm2(esm_file, monkeypatch):
    """A small ESM-2 with random weights."""
    return load_small("esm2_t6_8M_UR50D", esm_file, monkeypatch)


@pytest.fixture
def esm1b(esm_file, monkeypatch):
    """A small ESM-1b with random weights."""
    return load_small("esm1b", esm_file, monkeypatch)


def load_small(name, esm_file, monkeypatch, **options):
    size = (3, 40, 4)
    monkeypatch.setitem(plm.esm.SIZES, name, size)
    _, path = esm_file(name, size)
    return plm.load(name, path, **options)


def read(folder, layout, tag, sequence):
    if layout == "tokens":
        return read_tokens_file(folder / f"{tag}.pt", sequence)
    index = json.loads((folder / extract_shards.INDEX).read_text())["weight_map"]
    return extract_shards.read_shard(folder / index[tag], tag, sequence)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_record_has_the_models_embedding_in_float16(layout, esm2, tmp_path):
    report = extract(RECORDS, esm2, tmp_path, layout)
    assert (report.written, report.there, report.failures) == (5, 0, [])
    assert (report.sequences, report.tokens) == (4, 39)
    for tag, sequence in RECORDS:
        found = read(tmp_path, layout, tag, sequence)
        assert found.dtype == torch.float16
        torch.testing.assert_close(found.float(), esm2.embed([sequence])[0], rtol=2e-3, atol=2e-3)
    assert read_listing(tmp_path) == dict(RECORDS)
    assert not list(tmp_path.glob(".openfoldpp-*"))


def test_the_layout_tokens_has_the_sequence_and_a_token_for_each_row(esm2, tmp_path):
    extract(RECORDS, esm2, tmp_path, "tokens")
    found = torch.load(tmp_path / "unknown.pt", weights_only=True)
    assert list(found) == ["seq", "tokens", "repr"]
    assert found["seq"] == "XBZUO-J"
    vocabulary = esm2.alphabet.tokens
    assert [vocabulary[i] for i in found["tokens"]] == [*"XBZUO-", "<unk>"]
    assert found["repr"].untyped_storage().nbytes() == 2 * found["repr"].numel()


def test_shards_are_bounded_and_say_what_they_hold(esm2, tmp_path, monkeypatch):
    monkeypatch.setattr(extract_shards.ShardLayout.__init__, "__kwdefaults__", {"shard_bytes": 2 * 40 * 20})
    extract(RECORDS, esm2, tmp_path, "safetensors")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) == 4  # 17 | 13 | 13 | 7 + 2 residues of 80 bytes each
    held = {}
    for path in shards:
        with safe_open(path, "pt") as file:
            about = file.metadata()
            held |= {tag: (path.name, file.get_tensor(tag)) for tag in file.keys()}  # noqa: SIM118
        assert about["model"] == "esm2_t6_8M_UR50D"
        assert about["fingerprint"] == esm2.fingerprint
    index = json.loads((tmp_path / extract_shards.INDEX).read_text())
    assert index["weight_map"] == {tag: name for tag, (name, _) in held.items()}
    assert index["metadata"]["total_size"] == sum(path.stat().st_size for path in shards)
    assert set(held) == {record.tag for record in RECORDS}
    assert not (tmp_path / extract_shards.JOURNAL).exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_second_run_embeds_only_what_is_new(layout, esm2, tmp_path):
    model = Counting(esm2) if layout == "safetensors" else esm2
    extract(RECORDS[:3], model, tmp_path, layout)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.suffix != ".json"}
    assert extract(RECORDS[:3], model, tmp_path, layout).there == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    model = Counting(esm2) if layout == "safetensors" else esm2
    more = [*RECORDS, Record("copy", RECORDS[2].sequence)]
    report = extract(more, model, tmp_path, layout)
    assert (report.written, report.there, report.sequences) == (3, 3, 2)
    if layout == "safetensors":
        assert sorted(model.seen) == sorted([RECORDS[3].sequence, RECORDS[4].sequence])
    for tag, sequence in more:
        assert len(read(tmp_path, layout, tag, sequence)) == len(sequence)


@pytest.mark.parametrize("change", ["layer", "weights", "dtype", "layout"])
def test_a_folder_takes_one_model_and_one_layout(change, esm2, esm_file, monkeypatch, tmp_path):
    extract(RECORDS, esm2, tmp_path / "out", "tokens")
    before = names(tmp_path / "out")
    other, layout = esm2, "tokens"
    if change == "layout":
        layout = "safetensors"
    elif change == "weights":
        other = plm.load(esm2.name, esm_file(esm2.name, (3, 40, 4), seed=1)[1])
    else:
        other = load_small(
            esm2.name, esm_file, monkeypatch, **({"layer": 2} if change == "layer" else {"dtype": "bfloat16"})
        )
    with pytest.raises(InputError, match=r"has embeddings of another run \((fingerprint|layout) .*--out"):
        extract(RECORDS, other, tmp_path / "out", layout)
    assert names(tmp_path / "out") == before


def test_another_sequence_under_a_name_is_refused_and_the_others_are_embedded(esm2, tmp_path):
    extract(RECORDS[:2], esm2, tmp_path, "tokens")
    report = extract([Record("first", "ACDEF"), RECORDS[2]], esm2, tmp_path, "tokens")
    [failure] = report.failures
    assert "record 'first'" in failure
    assert "another sequence" in failure
    assert report.written == 1
    read_tokens_file(tmp_path / "first.pt", RECORDS[0].sequence)


def test_a_sequence_that_did_not_fit_may_be_cut_under_its_name(esm2, tmp_path):
    long, cut = Record("short", "ACDEF" * 8), Record("short", "ACDEF")
    refused = Counting(esm2, {long.sequence: MemoryError()})
    assert "cut the sequence" in extract([long, *RECORDS[:2]], refused, tmp_path, "safetensors").failures[0]
    report = extract([cut], esm2, tmp_path, "safetensors")
    assert (report.written, report.failures) == (1, [])
    assert read_listing(tmp_path) == dict([*RECORDS[:2], cut])
    assert len(read(tmp_path, "safetensors", *cut)) == 5
    assert "another sequence" in extract([long], esm2, tmp_path, "safetensors").failures[0]


def test_a_foreign_file_is_not_overwritten(esm2, tmp_path):
    (tmp_path / "short.pt").write_text("mine")
    report = extract(RECORDS, esm2, tmp_path, "tokens")
    assert "short.pt is there and is not of openfoldpp embed" in report.failures[0]
    assert report.written == 4
    assert (tmp_path / "short.pt").read_text() == "mine"


def test_a_sequence_that_cannot_be_embedded_does_not_spoil_the_others(esm2, tmp_path):
    refused = {
        "AC": InputError("no such thing"),
        "XBZUO-J": RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    }
    report = extract(RECORDS, Counting(esm2, refused), tmp_path, "safetensors")
    assert report.written == 3
    assert sorted(report.failures) == [
        "record 'short': no such thing",
        "record 'unknown': there is not enough memory to embed it; cut the sequence, or take a smaller model",
    ]
    # What failed is tried again.
    assert extract(RECORDS, Counting(esm2), tmp_path, "safetensors").written == 2


def test_a_fault_of_the_program_is_not_taken_for_one_of_the_sequence(esm2, tmp_path):
    with pytest.raises(RuntimeError, match="shapes"):
        extract(RECORDS, Counting(esm2, {"AC": RuntimeError("shapes differ")}), tmp_path, "safetensors")


@pytest.mark.parametrize(
    ("value", "said"), [(float("nan"), "NaN or infinity"), (1e5, "beyond float16's 65,504")]
)
def test_numbers_that_float16_cannot_hold_are_refused(value, said, esm2, tmp_path):
    class Broken(Counting):
        def embed_each(self, sequences):
            for number, embedding in super().embed_each(sequences):
                embedding[0, 0] = value if len(embedding) == 2 else 0
                yield number, embedding

    report = extract(RECORDS, Broken(esm2), tmp_path, "safetensors")
    assert report.written == 4
    assert said in report.failures[0]


def test_long_sequences_are_noted_once(esm1b, tmp_path):
    said = []
    records = [Record("long", "ACDEF" * 250), Record("longer", "ACDEF" * 260), Record("short", "ACDEF")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = extract(records, esm1b, tmp_path, "tokens", note=said.append)
    assert said == report.notes
    assert said[0].startswith(
        "2 sequences are longer than the 1,022 residues that esm1b takes at once (up to 1,300)"
    )
    torch.testing.assert_close(
        read_tokens_file(tmp_path / "short.pt").float(), esm1b.embed(["ACDEF"])[0], rtol=2e-3, atol=2e-3
    )
    assert len(read_tokens_file(tmp_path / "long.pt")) == 1250


def test_progress_counts_residues(esm2, tmp_path):
    states = []
    extract(RECORDS, esm2, tmp_path, "tokens", progress=states.append)
    assert (states[0].tokens, states[0].left_s) == (0, None)
    assert (states[-1].tokens, states[-1].total_tokens, states[-1].sequences) == (39, 39, 4)
    assert states[-1].tokens_per_s > 0
    assert states[-1].left_s == 0


def test_two_runs_do_not_write_into_one_folder(esm2, tmp_path):
    with (
        EmbeddingFolder(tmp_path).locked(),
        pytest.raises(InputError, match="another run of openfoldpp embed"),
    ):
        extract(RECORDS, esm2, tmp_path, "tokens")
    assert extract(RECORDS, esm2, tmp_path, "tokens").written == 5


def test_where_case_does_not_count_two_names_are_one(esm2, tmp_path, monkeypatch):
    monkeypatch.setattr("openfoldpp.plm.extract._ignores_case", lambda folder: True)
    records = [Record("1abc_a", "ACDEF"), Record("1abc_A", "ACDEFG")]
    report = extract(records, esm2, tmp_path, "tokens")
    assert report.failures == ["record '1abc_A': this file system takes it for '1abc_a'; change the '>' line"]
    assert extract(records, esm2, tmp_path, "tokens").failures == report.failures


def test_batch_tokens_is_for_language_models(esm2, tmp_path):
    assert extract(RECORDS, esm2, tmp_path, "tokens", batch_tokens=15).written == 5
    with pytest.raises(InputError, match="--batch_tokens 15: expected 1 or more, and a language model"):
        extract(RECORDS, Counting(esm2), tmp_path, "safetensors", batch_tokens=15)


# What a killed run leaves


@pytest.fixture
def journal(esm2, tmp_path):
    """The journal of a run that was killed before it wrote a shard."""
    layout = extract_shards.ShardLayout(tmp_path, esm2)
    layout.open()
    for tag, sequence in RECORDS[:3]:
        layout.write(tag, sequence, esm2.embed([sequence])[0].half())
    layout.close()
    folder = EmbeddingFolder(tmp_path)
    folder.claim(esm2, "safetensors")
    folder.write_listing(dict(RECORDS))
    return tmp_path / extract_shards.JOURNAL


def test_a_journal_is_taken_up(journal, esm2):
    model = Counting(esm2)
    report = extract(RECORDS, model, journal.parent, "safetensors")
    assert (report.there, report.written) == (3, 2)
    assert sorted(model.seen) == sorted([RECORDS[3].sequence, RECORDS[4].sequence])
    for tag, sequence in RECORDS:
        torch.testing.assert_close(
            read(journal.parent, "safetensors", tag, sequence).float(),
            esm2.embed([sequence])[0],
            rtol=2e-3,
            atol=2e-3,
        )


@pytest.mark.parametrize("damage", ["cut in the data", "cut in the head", "flipped", "garbage"])
def test_the_torn_end_of_a_journal_is_cut_off(damage, journal, esm2):
    data = bytearray(journal.read_bytes())
    if damage == "cut in the data":
        del data[-5:]
    elif damage == "cut in the head":
        with journal.open("rb") as file:
            sizes = [len(entry) + extract_shards._ENTRY.size for entry in extract_shards._entries(file)]
        data = data[: sizes[0] + sizes[1] + 4]
    elif damage == "flipped":
        data[-1] ^= 1
    else:
        data[-100:] = b"\xff" * 100
    journal.write_bytes(data)
    report = extract(RECORDS, esm2, journal.parent, "safetensors")
    assert (report.there, report.written) == (2, 3)
    for tag, sequence in RECORDS:
        assert len(read(journal.parent, "safetensors", tag, sequence)) == len(sequence)


def test_a_shard_and_its_journal_do_not_double(journal, esm2):
    """Killed after the shard was written and before the journal was emptied."""
    before = journal.read_bytes()
    extract(RECORDS[:3], esm2, journal.parent, "safetensors")
    journal.write_bytes(before)
    assert extract(RECORDS[:3], esm2, journal.parent, "safetensors").there == 3
    assert len(list(journal.parent.glob("*.safetensors"))) == 1


def test_a_file_named_nearly_as_a_shard_is_none(esm2, tmp_path):
    extract(RECORDS, esm2, tmp_path, "safetensors")
    [shard] = extract_shards.shards(tmp_path)
    shard.with_name("embeddings-backup.safetensors").write_bytes(shard.read_bytes())
    assert extract(RECORDS, esm2, tmp_path, "safetensors").there == 5


def test_a_damaged_shard_is_an_error(esm2, tmp_path):
    extract(RECORDS, esm2, tmp_path, "safetensors")
    [shard] = tmp_path.glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-3])
    with pytest.raises(WeightsError, match=r"00001.safetensors: cannot be read .* remove it"):
        extract(RECORDS, esm2, tmp_path, "safetensors")


def test_what_a_killed_run_was_writing_is_cleared_away(esm1b, tmp_path):
    torn = [tmp_path / ".openfoldpp-0123.tmp", tmp_path / "short" / ".openfoldpp-4567.tmp"]
    torn[1].parent.mkdir()
    for path in torn:
        path.write_bytes(b"half")
    extract(RECORDS[2:3], esm1b, tmp_path, "soloseq")
    assert not any(path.exists() for path in torn)


def test_a_full_disk_ends_the_run(esm2, tmp_path, monkeypatch):
    def no_space(*arguments):
        raise DiskFullError("no space")

    monkeypatch.setattr(torch, "save", no_space)
    with pytest.raises(DiskFullError):
        extract(RECORDS, esm2, tmp_path, "tokens")


# SoloSeq's layout


def test_soloseq_files_are_those_of_the_script(esm1b, tmp_path):
    extract(RECORDS, esm1b, tmp_path, "soloseq")
    found = torch.load(tmp_path / "again" / "again.pt", weights_only=True)
    assert list(found) == ["label", "representations"]
    assert found["label"] == "again"
    assert list(found["representations"]) == [33]
    assert found["representations"][33].dtype == torch.float32
    torch.testing.assert_close(
        read_representations_file(tmp_path / "first" / "first.pt", RECORDS[0].sequence),
        esm1b.embed([RECORDS[0].sequence])[0],
        rtol=1e-4,
        atol=1e-5,
    )


def test_soloseq_takes_the_last_layer_of_esm1b_alone(esm1b, esm2, esm_file, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="SoloSeq was trained on esm1b, and reads no embeddings of esm2_t6"):
        extract(RECORDS, esm2, tmp_path / "out", "soloseq")
    with pytest.raises(InputError, match="SoloSeq reads the last layer, not layer 2; leave out --plm_layer"):
        extract(RECORDS, load_small("esm1b", esm_file, monkeypatch, layer=2), tmp_path / "out", "soloseq")
    assert not (tmp_path / "out").exists()


# Run by upstream's code alone: what DataPipeline reads goes through the feature pipeline into the model's
# embedder.
VANILLA = """
import sys, numpy, torch
sys.path.insert(0, sys.argv[1])
import vanilla
vanilla.stand_in_for_what_is_missing()
from openfold.config import model_config
from openfold.data.data_pipeline import DataPipeline
from openfold.data.feature_pipeline import FeaturePipeline
from openfold.model.embedders import PreembeddingEmbedder
config = model_config("seq_model_esm1b_ptm")
features = DataPipeline(None).process_fasta(sys.argv[2], sys.argv[3], seqemb_mode=True)
batch = FeaturePipeline(config.data).process_features(features, mode="predict")
one = {name: value[..., -1] for name, value in batch.items()}
numpy.save(sys.argv[4], one["seq_embedding"].numpy())
embedder = PreembeddingEmbedder(22, 40, 8, 8, 4)
given = one["target_feat"], one["residue_index"], one["seq_embedding"]
print(*[tuple(value.shape) for value in embedder(*given)])
try:
    embedder(given[0], given[1], given[2].half())
except RuntimeError as error:
    print("float16 refused:", error)
"""


@pytest.mark.upstream
def test_openfold_reads_the_soloseq_layout(esm1b, tmp_path):
    fasta = tmp_path / "target.fasta"
    fasta.write_text(">1ABC|H a heavy chain\nEVQLVESGGGLVQ\n")
    [record] = read_records([fasta], tag_rule="word_characters").records
    assert record.tag == "1ABC"  # where the script looks
    extract([record], esm1b, tmp_path / "alignments", "soloseq")
    arguments = [
        Path(__file__).parents[1] / "upstream",
        fasta,
        tmp_path / "alignments" / "1ABC",
        tmp_path / "read.npy",
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", VANILLA, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.environ["OPENFOLD_HOME"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "(1, 13, 8) (13, 13, 8)" in done.stdout
    assert "float16 refused" in done.stdout  # the reason for float32
    import numpy as np

    np.testing.assert_array_equal(np.load(tmp_path / "read.npy"), esm1b.embed([record.sequence])[0].numpy())
