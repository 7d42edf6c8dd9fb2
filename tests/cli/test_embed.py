"""``openfoldpp embed``: what it reads, says and returns, and what killing it leaves."""

import json
import random
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
import typer
from typer.testing import CliRunner

from openfoldpp import plm
from openfoldpp.cli.embed import _clock, embed
from openfoldpp.plm import extract_shards, registry
from openfoldpp.plm.embedder import LanguageModel
from openfoldpp.plm.layouts import read_tokens_file

HEAVY = "EVQLVESGGGLVQPGGSLRLSCAAS"
LIGHT = "DIQMTQSPSSLSASVGDR"


@pytest.fixture
def run():
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(embed)
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})


def write(path, text):
    path.write_text(text)
    return path


def outputs(folder):
    return sorted(path.stem for path in folder.glob("*.pt"))


def test_records_become_files_and_the_summary_counts_them(run, tmp_path):
    one = write(
        tmp_path / "one.fasta", f">pair heavy:light\n{HEAVY}:\n{LIGHT}*\n\n>low\r\n{HEAVY.lower()}\r\n"
    )
    two = write(tmp_path / "two.fa", f">1ABC|H\n{HEAVY}\n>1ABC|L\n{LIGHT}\n>seq\nAC DE\n>seq\nXX\n>")
    done = run(one, two, "--plm", "antiberty", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert outputs(tmp_path / "out") == ["1ABC|H", "1ABC|L", "low", "pair_1", "pair_2", "seq_1", "seq_2"]
    assert re.fullmatch(
        r"7 embeddings in .*out: 7 new of 4 sequences embedded in [\d.]+ s, [\d,]+ tokens/s; 0 were there\n",
        done.stdout,
    )
    assert "2 records share a name with another" in done.stderr
    assert "seq is now seq_1" in done.stderr
    [expected] = plm.load("antiberty").embed([LIGHT])
    found = read_tokens_file(tmp_path / "out" / "pair_2.pt", LIGHT).float()
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
    again = run(tmp_path, "--plm", "antiberty", "--out", tmp_path / "out")
    assert again.stdout.endswith("0 new of 0 sequences embedded in 0.0 s; 7 were there\n")


def test_bad_records_are_named_and_the_others_embedded(run, tmp_path):
    fasta = write(
        tmp_path / "bad.fasta",
        f">good\n{HEAVY}\n>digit\nAC1DE\n>../up\nACD\n>.hidden\nACD\n>empty\n\n>\nACD\n>stop\nAC*D\n>half\nACD:\n"
        f">sharp\nAß\n>gap\nAC-D\n>{'long' * 61}\nACD\n>last\nacd",
    )
    other = tmp_path / "latin.fasta"
    other.write_bytes(b">caf\xe9\nACD\n")
    plain = write(tmp_path / "plain.fasta", "ACDEF\n")
    done = run(fasta, other, plain, "--plm", "antiberty", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert outputs(tmp_path / "out") == ["gap", "good", "last"]
    assert done.stdout.startswith("3 embeddings in")
    said = done.stderr
    assert "11 without an embedding:" in said
    for part in (
        "bad.fasta, line 3, record 'digit': '1' at line 4, column 3 is not an amino acid",
        "record '../up': '../up' cannot name output files",
        "record '.hidden': '.hidden' cannot name output files",
        "line 9, record 'empty': the sequence is empty",
        "line 11, record '': the name is empty",
        "record 'stop': '*' before the end of the chain",
        "record 'half': chain 2 of 2 is empty",
        "record 'sharp': 'ß' at line 18, column 2",
        "the name is 244 bytes long and 240 fit into a file name",
        "latin.fasta: byte 4 is not UTF-8 text",
        "plain.fasta, line 1: expected a line that begins with '>'",
        "1 record has '-' or '.'",
    ):
        assert part in said
    assert not (tmp_path / "up.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.fasta"], "no such file or folder: none.fasta"),
        (["."], "has no FASTA file"),
        (["a.faa", "--layout", "soloseq"], "SoloSeq was trained on esm1b"),
        (["a.faa", "--plm", "antibert"], "did you mean antiberty"),
        (["a.faa", "--plm_layer", "9"], "layer 9: antiberty has layers 0"),
        (["a.faa", "--plm_weights", "none.bin"], "there is no such file or folder"),
        (["a.faa", "--out", "a.faa"], "File exists"),
    ],
)
def test_what_cannot_be_done_is_one_message(arguments, said, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.faa", ">a\nACD\n")
    done = run("--plm", "antiberty", "--out", "out", *arguments)
    assert done.exit_code == 1
    assert done.stderr.startswith("openfoldpp embed: ")
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dash", ["_", "-"])
def test_the_flags_of_the_model_reach_it(dash, run, tmp_path, monkeypatch):
    batches = []
    compute = LanguageModel._run

    def keep(self, batch, encoded):
        batches.append(sum(map(len, batch)))
        return compute(self, batch, encoded)

    monkeypatch.setattr(LanguageModel, "_run", keep)
    fasta = write(tmp_path / "a.fasta", "".join(f">s{n}\n{HEAVY[n:]}\n" for n in range(5)))
    flags = {"plm_layer": 3, "plm_dtype": "bfloat16", "batch_tokens": 50}
    given = [part for name, value in flags.items() for part in ("--" + name.replace("_", dash), value)]
    done = run(fasta, "--plm", "antiberty", "--out", tmp_path / "out", *given)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out" / "embeddings.json").read_text())["fingerprint"].endswith(
        ":3:bfloat16"
    )
    assert batches == [49, 45, 21]
    given = [f"--plm{dash}weights", tmp_path / "none.bin"]
    assert (
        "none.bin: there is no such file" in run(fasta, "--plm", "antiberty", "--out", "out", *given).stderr
    )


def test_soloseqs_files_are_named_as_openfold_2_names_targets(run, tmp_path, monkeypatch):
    class ESM1b:
        name, channels, max_residues, fingerprint = "esm1b", 2, None, "of this test"

        def embed_each(self, sequences):
            return enumerate(torch.zeros(len(sequence), 2) for sequence in sequences)

    monkeypatch.setattr(registry, "load", lambda *_, **__: ESM1b())
    fasta = write(tmp_path / "a.fasta", f">1ABC|H heavy\n{HEAVY}\n")
    done = run(fasta, "--plm", "esm1b", "--layout", "soloseq", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert [path.name for path in (tmp_path / "out").glob("*/*")] == ["1ABC.pt"]


def test_the_account_of_an_output_folder_is_no_input(run, tmp_path):
    write(tmp_path / "a.fasta", f">a\n{HEAVY}\n")
    for _ in range(2):
        done = run(tmp_path, "--plm", "antiberty", "--out", tmp_path)
        assert done.exit_code == 0
    assert done.stdout.startswith("1 embedding in")


def test_a_clock():
    assert [_clock(value) for value in (None, 0.4, 61, 3600, 36061.7)] == [
        "?",
        "0:00",
        "1:01",
        "1:00:00",
        "10:01:02",
    ]


# Processes

# A shell that starts the tests in the background has them ignore Ctrl-C, and what they start too.
PROGRAM = """
import signal, typer
from openfoldpp.cli.embed import embed
signal.signal(signal.SIGINT, signal.default_int_handler)
typer.run(embed)
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def many(number, seed=0):
    """Sequences of antibody length, each fifth of them a second time under another name."""
    draw = random.Random(seed)  # noqa: S311
    sequences = [
        "".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=draw.randint(105, 130))) for _ in range(number)
    ]
    return {f"s{i}": sequence for i, sequence in enumerate(sequences + sequences[::5])}


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.slow
def test_ctrl_c_ends_with_a_message_and_complete_files(tmp_path):
    records = many(400)
    fasta = write(tmp_path / "in.fasta", "".join(f">{tag}\n{seq}\n" for tag, seq in records.items()))
    process = start(fasta, "--plm", "antiberty", "--out", tmp_path / "out")
    wait_for(tmp_path / "out" / "embeddings.fasta", process)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.endswith("is complete. The same command goes on from there\n")
    assert "Traceback" not in said
    for tag in outputs(tmp_path / "out"):
        read_tokens_file(tmp_path / "out" / f"{tag}.pt", records[tag])
    assert not list((tmp_path / "out").glob("*.tmp"))


def held_in_shards(folder):
    """Every tag that shards and journal have, as often as they have it, with its bytes."""
    held = []
    for shard in extract_shards.shards(folder):
        sequences = extract_shards.tags_and_sequences(shard)
        held += [(tag, extract_shards.read_shard(shard, tag, sequences[tag])) for tag in sequences]
    journal = folder / extract_shards.JOURNAL
    if journal.exists():
        with journal.open("rb") as file:
            held += [
                next(iter(extract_shards.parse(entry).items())) for entry in extract_shards._entries(file)
            ]
    return [(tag, tensor.numpy().tobytes()) for tag, tensor in held]


def held_in_files(folder):
    """Every tag that has a file, with the file's bytes."""
    return [(path.stem, path.read_bytes()) for path in folder.glob("*.pt")]


def extent(folder):
    """What grows while a run goes on."""
    journal = folder / extract_shards.JOURNAL
    return len(list(folder.glob("*.pt"))), journal.stat().st_size if journal.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "held"), [("tokens", held_in_files), ("safetensors", held_in_shards)])
def test_killed_ten_times_it_repeats_and_loses_nothing(layout, held, tmp_path):
    records = many(400)
    fasta = write(tmp_path / "in.fasta", "".join(f">{tag}\n{seq}\n" for tag, seq in records.items()))
    out = tmp_path / "out"
    draw = random.Random(1)  # noqa: S311
    # Small batches: more moments to be killed at.
    arguments = (fasta, "--plm", "antiberty", "--out", out, "--layout", layout, "--batch_tokens", 256)
    before, kills = {}, 0
    for _ in range(10):
        process = start(*arguments)
        wait_for(out / "embeddings.fasta", process)
        seen = extent(out)
        while extent(out) == seen and process.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        now = held(out)
        assert len(now) == len(dict(now)), "doubled"
        assert before.items() <= dict(now).items(), "lost, or made again"
        before = dict(now)
    assert kills == 10, f"it had ended after {kills} kills: give it more sequences"
    assert 10 <= len(before) < len(records)
    process = start(*arguments)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert f"{len(records) - len(before):,} new of" in said
    assert f"{len(before):,} were there" in said
    after = dict(held(out))
    assert set(after) == set(records)
    assert before.items() <= after.items()
    assert not list(out.glob(".openfoldpp-*"))
    model = plm.load("antiberty")
    for tag, sequence in draw.sample(sorted(records.items()), 20):
        if layout == "tokens":
            found = read_tokens_file(out / f"{tag}.pt", sequence)
        else:
            found = torch.frombuffer(bytearray(after[tag]), dtype=torch.float16).view(-1, 512)
        torch.testing.assert_close(found.float(), model.embed([sequence])[0], rtol=2e-3, atol=2e-3)
