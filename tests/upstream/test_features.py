"""Raw features: presets, gap, templates that cannot be used, and searches of databases."""

import shutil
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest

from openfoldpp.errors import InputError
from openfoldpp.types import Chain, Target
from openfoldpp.upstream import activate, schema
from openfoldpp.upstream.configuration import model_config
from openfoldpp.upstream.databases import add_data_options
from openfoldpp.upstream.features import raw_features
from openfoldpp.upstream.model import process_features

HEAVY = "EVQLVESGGGLVQPGGSLRLSCAAS"
LIGHT = "DIQMTQSPSSLSASVGDR"


@pytest.fixture(scope="module", autouse=True)
def active():
    return activate()


@pytest.fixture
def options(tmp_path):
    """Options as the command has them, with more given."""
    parser = ArgumentParser()
    add_data_options(parser)

    def make(*arguments, **more):
        common = {
            "multimer_ri_gap": 200,
            "cpus": 1,
            "preset": "full_dbs",
            "config_preset": "model_1",
            "output_dir": str(tmp_path / "out"),
        }
        common |= {"use_precomputed_alignments": None, "template_mmcif_dir": None}
        options = parser.parse_args([str(argument) for argument in arguments])
        vars(options).update(common | more)
        return options

    return make


def target(*sequences):
    return Target("t", tuple(Chain(f"chain{i}", sequence) for i, sequence in enumerate(sequences, start=1)))


@pytest.mark.parametrize("preset", [preset for version, preset in schema.available() if version == "0.0.1"])
def test_every_preset_makes_a_batch(preset, options):
    config = model_config(preset)
    raw = raw_features(target(HEAVY, LIGHT), options(), config)
    batch = process_features(raw, config, "cpu")
    assert batch["aatype"].shape == (43, 4)
    assert batch["msa_feat"].shape[1:] == (43, 49, 4)
    # Presets 3 to 5 were trained without templates.
    without = ("model_3", "model_4", "model_5", "finetuning_no_templ")
    assert ("template_aatype" in batch) != preset.startswith(without)


def test_the_gap_separates_the_chains(options):
    config = model_config("model_1")
    for gap in (200, 7):
        raw = raw_features(target(HEAVY, LIGHT, HEAVY), options(multimer_ri_gap=gap), config)
        steps = np.diff(raw["residue_index"])
        assert steps[24] == steps[42] == gap + 1
        assert (np.delete(steps, [24, 42]) == 1).all()


def test_a_folder_without_the_chains_alignments_is_named(options, tmp_path):
    (tmp_path / "chain1").mkdir()
    with pytest.raises(InputError, match=r"alignments folder .* has no folder for chain2"):
        raw_features(
            target(HEAVY, LIGHT),
            options(use_precomputed_alignments=str(tmp_path)),
            model_config("model_1"),
        )


def refused(options, *sequences):
    with pytest.raises(InputError) as caught:
        raw_features(target(*(sequences or [HEAVY])), options, model_config("model_1"))
    return str(caught.value)


@pytest.fixture
def with_hit(tmp_path, write_template, hhr):
    """Alignments with a hit on a template; the hit's sequence can be another than the file's."""

    def make(hit, query):
        folder = tmp_path / "alignments" / "chain1"
        folder.mkdir(parents=True)
        (folder / "pdb70_hits.hhr").write_text(hhr(hit, query))
        (tmp_path / "mmcif").mkdir()
        write_template(tmp_path / "mmcif" / "1ay7.cif")
        return {
            "use_precomputed_alignments": str(tmp_path / "alignments"),
            "template_mmcif_dir": str(tmp_path / "mmcif"),
        }

    return make


@pytest.fixture(scope="module")
def query(template_sequence):
    return f"{template_sequence}LKKELAL"


def test_a_template_enters_the_features(with_hit, template_sequence, query, options):
    raw = raw_features(target(query), options(**with_hit(template_sequence, query)), model_config("model_1"))
    assert raw["template_domain_names"].tolist() == [b"1ay7_B"]
    assert raw["template_sequence"].tolist() == [template_sequence.encode() + b"-" * 7]
    there = raw["template_all_atom_mask"][0].any(axis=-1)
    assert there.tolist() == [True] * 14 + [False] * 7


def test_templates_newer_than_the_date_are_left_out(with_hit, template_sequence, query, options):
    given = options("--max_template_date", "1998-11-03", **with_hit(template_sequence, query))
    raw = raw_features(target(query), given, model_config("model_1"))
    assert len(raw["template_all_atom_mask"]) == 0


def test_a_date_that_is_none_is_refused(options, capsys):
    with pytest.raises(SystemExit):
        options("--max_template_date", "3 May 2020")
    assert "'3 May 2020' is not a date: expected YYYY-MM-DD" in capsys.readouterr().err


def test_an_empty_template_folder_means_no_templates(options, tmp_path):
    raw = raw_features(target(HEAVY), options(template_mmcif_dir=str(tmp_path)), model_config("model_1"))
    assert raw["template_aatype"].shape[0] == 0


def test_a_missing_template_file_is_named(with_hit, template_sequence, query, options, tmp_path):
    given = with_hit(template_sequence, query)
    (tmp_path / "mmcif" / "1ay7.cif").rename(tmp_path / "mmcif" / "1abc.cif")
    said = refused(options(**given), query)
    assert f"{tmp_path / 'mmcif' / '1ay7.cif'} is missing" in said


def test_a_missing_kalign_is_named_where_it_is_needed(with_hit, query, options):
    given = options("--kalign_binary_path", "/nowhere/kalign", **with_hit("NGEQIRSLSDLHQT", query))
    said = refused(given, query)
    assert "--kalign_binary_path /nowhere/kalign: there is no such program" in said
    assert "apt install kalign" in said


@pytest.mark.skipif(shutil.which("kalign") is None, reason="no kalign (Debian's package of that name)")
def test_kalign_aligns_a_template_whose_sequence_has_changed(with_hit, query, options):
    given = options("--kalign_binary_path", shutil.which("kalign"), **with_hit("NGEQIRSLSDLHQT", query))
    raw = raw_features(target(query), given, model_config("model_1"))
    assert raw["template_sequence"].tolist() == [b"NGEQIRSISDLHQT-------"]


def test_release_dates_that_cannot_be_read_name_their_flag(with_hit, template_sequence, query, options):
    given = options("--release_dates_path", "/nowhere/dates", **with_hit(template_sequence, query))
    assert "--release_dates_path /nowhere/dates" in refused(given, query)


@pytest.fixture
def database(tmp_path):
    """A database of two proteins, one of them a homolog of the heavy chain."""
    path = tmp_path / "uniref90.fasta"
    path.write_text(
        f">UniRef90_HOMOLOG\n{HEAVY.replace('GGG', 'GAG')}\n>UniRef90_OTHER\n{'MKTAYIAKQRQISFVKSHF' * 3}\n"
    )
    return path


@pytest.mark.skipif(shutil.which("jackhmmer") is None, reason="no jackhmmer (Debian's package hmmer)")
def test_a_search_is_kept_and_used_again(database, options, tmp_path):
    jackhmmer = shutil.which("jackhmmer")
    given = options("--uniref90_database_path", database, "--jackhmmer_binary_path", jackhmmer)
    raw = raw_features(target(HEAVY), given, model_config("model_1"))
    assert raw["msa"].shape == (2, 25)
    kept = tmp_path / "out" / "alignments"
    assert [path.relative_to(kept) for path in kept.rglob("*.*")] == [Path("chain1/uniref90_hits.a3m")]
    assert HEAVY in (kept / "chain1" / "uniref90_hits.a3m").read_text()
    database.unlink()
    again = raw_features(target(HEAVY), given, model_config("model_1"))
    np.testing.assert_array_equal(again["msa"], raw["msa"])


def test_a_failed_search_says_why_and_leaves_nothing(database, options, tmp_path):
    tool = tmp_path / "jackhmmer"
    tool.write_text("#!/bin/sh\necho 'Error: the disk is full' >&2\nexit 1\n")
    tool.chmod(0o755)
    said = refused(options("--uniref90_database_path", database, "--jackhmmer_binary_path", tool))
    assert "searched for chain chain1: Jackhmmer failed" in said
    assert "the disk is full" in said
    assert list((tmp_path / "out").rglob("*.*")) == []
    assert not (tmp_path / "out" / "alignments" / "chain1").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--uniref90_database_path", "DB"], "--jackhmmer_binary_path /nowhere: there is no such program, "
         "and --uniref90_database_path needs it. Install it (on Debian and Ubuntu: apt install hmmer)"),
        (["--bfd_database_path", "DB"], "--hhblits_binary_path /nowhere: there is no such program"),
        (["--pdb70_database_path", "DB"], "--pdb70_database_path is searched with the hits of"),
        (["--uniclust30_database_path", "DB"], "give --bfd_database_path"),
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_run_names_the_flag(arguments, message, database, options, tmp_path):
    arguments = [database if argument == "DB" else argument for argument in arguments]
    tools = [f"--{name}_binary_path=/nowhere" for name in ("jackhmmer", "hhblits", "hhsearch")]
    assert message in refused(options(*arguments, *tools))
    assert not (tmp_path / "out").exists()


def test_a_missing_database_is_named(options, tmp_path):
    tool = shutil.which("true")
    given = options("--mgnify_database_path", "/nowhere/mgy.fa", "--jackhmmer_binary_path", tool)
    assert "--mgnify_database_path /nowhere/mgy.fa: there is no such database" in refused(given)
    assert not (tmp_path / "out").exists()
