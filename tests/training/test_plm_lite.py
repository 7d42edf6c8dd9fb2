"""The recipe on a small random teacher: it learns, it goes on to the same bits, and its file loads."""

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from openfoldpp.cli.train import app
from openfoldpp.errors import ConfigError, InputError
from openfoldpp.plm import esm, plm_lite, registry
from openfoldpp.plm.transformer import Encoder
from openfoldpp.training import plm_lite as recipe
from openfoldpp.training.plm_lite import Settings, train
from openfoldpp.training.plm_lite_data import collate, read_pool, training_sequences
from openfoldpp.training.run_folder import one_run_in

SEQUENCES = {"a": "MKTAYIAKQRQISFVKSHFSRQ", "b": "GSHMLEDPVDAFKELLQ", "c": "ACDEFGHIKLMNPQRSTVWYACDEF"}


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "sequences.fasta"
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in SEQUENCES.items()))
    return path


@pytest.fixture
def settings(small_teacher, fasta, monkeypatch):
    monkeypatch.setattr(recipe, "_VALIDATION_RESIDUES", 100)
    monkeypatch.setattr(recipe, "_CALIBRATION_RESIDUES", 200)
    name, path = small_teacher
    return Settings(
        teacher=name,
        keep_every=2,
        steps=6,
        batch_tokens=60,
        weights=str(path),
        sequences=str(fasta),
        round_from=0.5,
    )


def quiet(_line):
    pass


# Python 3.12 warns of any fork beside threads; torch's loader forks.
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_run_goes_on_to_the_same_bits(settings, tmp_path, workers):
    whole = train(settings, tmp_path / "whole", checkpoint_every=2, say=quiet)

    def stop(line):
        if line.startswith("step 4"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "parts", checkpoint_every=2, say=stop)
    said = []
    parts = train(settings, tmp_path / "parts", checkpoint_every=2, workers=workers, say=said.append)
    assert said[0].startswith(f"{settings.teacher}: ")
    assert "steps 5 to 6;" in said[0]
    assert [line.split()[1] for line in said[1:]] == ["6"]
    assert parts.read_bytes() == whole.read_bytes()
    logs = [
        [
            {k: v for k, v in json.loads(line).items() if k != "seconds"}
            for line in log.read_text().splitlines()
        ]
        for log in (tmp_path / "whole" / "log.jsonl", tmp_path / "parts" / "log.jsonl")
    ]
    assert logs[0] == logs[1]
    assert [line["rounded"] for line in logs[0] if "loss" in line] == [False] * 3 + [True] * 3


def test_another_seed_learns_from_other_batches(settings, tmp_path):
    one = train(settings, tmp_path / "one", say=quiet)
    other = train(replace(settings, seed=1), tmp_path / "other", say=quiet)
    assert one.read_bytes() != other.read_bytes()


def test_it_learns(settings, tmp_path):
    train(replace(settings, steps=60, learning_rate=3e-3), tmp_path / "run", checkpoint_every=5, say=quiet)
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    cosines = [line["validation_cosine"] for line in map(json.loads, lines) if "validation_cosine" in line]
    assert 1 - cosines[-1] < 0.7 * (1 - cosines[0])


def test_a_run_can_start_from_anothers_model(settings, tmp_path):
    train(replace(settings, steps=30, learning_rate=3e-3), tmp_path / "first", say=quiet)
    start = str(tmp_path / "first" / "checkpoint.pt")
    train(replace(settings, steps=1, start_from=start), tmp_path / "second", say=quiet)
    losses = [
        json.loads((tmp_path / run / "log.jsonl").read_text().splitlines()[0])["loss"]
        for run in ("first", "second")
    ]
    assert losses[1] < 0.8 * losses[0]


def test_other_settings_do_not_take_over_a_run(settings, tmp_path):
    train(replace(settings, steps=1), tmp_path / "run", say=quiet)
    with pytest.raises(ConfigError, match="steps 1, not 6"):
        train(settings, tmp_path / "run", say=quiet)


def test_a_narrow_student_from_the_command_line_loads_and_embeds(settings, tmp_path):
    options = ["--teacher", settings.teacher, "--teacher-weights", settings.weights, "--keep-every", "4"]
    options += ["--width", "32", "--sequences", settings.sequences, "--steps", "3", "--batch-tokens", "60"]
    result = CliRunner().invoke(
        app, ["plm-lite", "--out", str(tmp_path / "run"), *options, "--dtype", "bfloat16"]
    )
    assert result.exit_code == 0, result.output
    path = tmp_path / "run" / "plm_lite.safetensors"
    assert f"{path}: " in result.output
    model = plm_lite.load(weights=path)
    assert model.settings["blocks_of_the_teacher"] == [0, 4]
    assert model.encoder.architecture.channels == 32
    assert model.settings["training"]["sequences"] == "sequences.fasta"
    teacher = registry.load(settings.teacher, weights=settings.weights)
    assert torch.equal(model.encoder.frequencies, teacher.encoder.frequencies)
    [embedding] = model.embed([SEQUENCES["a"]])
    assert embedding.shape == (22, 64)
    assert model.project(embedding).shape == (22, 64)
    result = CliRunner().invoke(app, ["plm-lite", "--out", str(tmp_path / "run"), *options, "--seed", "2"])
    assert result.exit_code == 1
    assert "seed 0, not 2" in result.output


def test_a_student_of_esm2_650m_takes_at_most_40_mb():
    """Of the real layout, without its memory: what the file would hold, counted."""
    with torch.device("meta"):
        teacher = Encoder(esm.architecture_of("esm2_t33_650M_UR50D"))
        sizes = replace(teacher.architecture, layers=9, channels=768, heads=12, hidden=3072)
        student = plm_lite.make_encoder({"architecture": sizes.to_dict(), "channels": 1280})
    linears = sum(m.weight.numel() for m in student.modules() if isinstance(m, torch.nn.Linear))
    others = sum(p.numel() for p in student.parameters()) - linears
    assert 30e6 < linears * 4.25 / 8 + others * 2 < 40e6


def test_batches_mark_residues_and_put_equal_lengths_together(small_teacher):
    model = registry.load(small_teacher[0], weights=small_teacher[1])
    batch = collate(["ACDE", "GH", "KLMN"], model.alphabet)
    assert batch.lengths == [4, 6, 6]
    assert batch.tokens[batch.residues].tolist() == [
        number for sequence in ("GH", "ACDE", "KLMN") for number in model.alphabet.encode(sequence)[1:-1]
    ]


def write(path, text):
    path.write_text(text)
    return path


def test_sequences_are_read_as_embed_reads_them_and_cut_to_the_limit_and_to_a_batch(tmp_path):
    path = write(tmp_path / "a.fasta", ">a/1-9\r\nacdef\r\nghi kl*\r\n>a\nAC-D:\nXB\n")
    for limit, residues, expected in (
        (None, 100, ["ACDEFGHIKL", "AC-D", "XB"]),
        (7, 100, ["ACDEFGH", "AC-D", "XB"]),
        (7, 3, ["ACD", "AC-", "XB"]),
    ):
        pool = read_pool(path, limit, residues)
        assert sorted(pool.training + pool.validation) == sorted(expected)
    assert sum(map(len, training_sequences(0, 3, 50, ["ACDEFGHIKL"]))) == 50


def test_what_is_measured_on_is_never_learned_from(tmp_path):
    letters = "ACDEFGHIKLMNPQRSTVWY"
    distinct = [a + b for a in letters for b in letters[:5]]
    pool = read_pool(write(tmp_path / "a.fasta", "".join(f">s\n{one}\n" for one in distinct * 2)), None, 100)
    assert len(pool.validation) == 5
    assert not set(pool.validation) & set(pool.training)
    assert sorted(pool.training + 2 * pool.validation) == sorted(distinct * 2)
    other = read_pool(
        write(tmp_path / "b.fasta", "".join(f">t\n{one}\n" for one in reversed(distinct))), None, 100
    )
    assert other.validation == pool.validation


def test_a_run_measures_on_what_is_kept_apart(settings, tmp_path, monkeypatch):
    drawn = {}
    for name in ("validation", "calibration", "training"):
        draw = getattr(recipe, f"{name}_sequences")

        def keep(*arguments, name=name, draw=draw):
            found = draw(*arguments)
            drawn.setdefault(name, set()).update(found)
            return found

        monkeypatch.setattr(recipe, f"{name}_sequences", keep)
    train(settings, tmp_path / "run", say=quiet)
    assert drawn["training"] == drawn["calibration"]
    assert drawn["training"] | drawn["validation"] == set(SEQUENCES.values())
    assert len(drawn["validation"]) == 1
    assert not drawn["training"] & drawn["validation"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        (b"", "the file is empty"),
        (b"ACDEF\n", "line 1: expected a line that begins with '>'"),
        (b">a\nAC*DE\n>b\nACD\n", "record 'a': '*' before the end of the chain"),
        (b">a\nACDE\n>b\nAC1D\n", "line 3, record 'b': '1' at line 4, column 3"),
        (b"\xff\xfe\x00", "byte 0 is not UTF-8 text"),
        (b">a\nACDE\n>b\nacde\n", "has one sequence alone; expected two or more"),
    ],
)
def test_a_fasta_file_that_cannot_be_learned_from_is_named(tmp_path, text, message):
    path = tmp_path / "none.fasta"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(InputError) as caught:
        read_pool(path, None, 100)
    assert str(caught.value).startswith(f"--sequences {path}")
    assert message in str(caught.value)


def test_two_runs_do_not_write_into_one_folder(settings, tmp_path):
    with one_run_in(tmp_path / "run", quiet), pytest.raises(InputError, match="another run"):
        train(settings, tmp_path / "run", say=quiet)


# OLGA 1.3.0 leaves the files of its models open.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_generated_batches_differ_between_steps_and_repeat():
    pytest.importorskip("olga")
    steps = [tuple(training_sequences(0, step, 690)) for step in range(4)]
    assert len(set(steps)) == 4
    assert all(len(step) == 6 for step in steps)
    assert tuple(training_sequences(0, 2, 690)) == steps[2]
