import importlib
import subprocess
import sys
import time
from argparse import Namespace

import pytest

from openfoldpp.errors import InputError
from openfoldpp.inference.fasta import (
    FastaInputs,
    parse_sequence_argument,
    read_target,
    read_targets,
    unknown_residues_note,
)
from openfoldpp.inference.inputs import check_names
from openfoldpp.types import Chain


@pytest.fixture
def fasta(tmp_path):
    def write(text, name="x.fasta"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_records_become_chains_in_the_order_of_the_file(fasta):
    path = fasta(">1ABC_H heavy chain\nEVQL\nVESG\n\n>1ABC_L\nDIQM\n")
    target = read_target(path)
    assert target.tag == "1ABC_H-1ABC_L"
    assert target.chains == (Chain("1ABC_H", "EVQLVESG"), Chain("1ABC_L", "DIQM"))
    assert target.source == path


@pytest.mark.parametrize(
    ("text", "sequence"),
    [
        ("\ufeff>a\r\nEV\r\n\r\nQL\r\n", "EVQL"),
        (">a\rEV\rQL\r", "EVQL"),
        (">a\nEVQL", "EVQL"),
        ("\n\n>a\nEVQ LVE\n  SG\n", "EVQLVESG"),
        (">a\nevQl\n", "EVQL"),
        (">a\nEVQL*\n", "EVQL"),
        (">a\nEV\n>\n", "EV"),
        (">a\nBJOUZX\n", "BJOUZX"),
    ],
    ids=[
        "windows",
        "old mac",
        "no last line end",
        "blanks",
        "lower case",
        "stop",
        "dangling",
        "rare letters",
    ],
)
def test_harmless_forms_are_accepted(fasta, text, sequence):
    assert read_target(fasta(text)).chains == (Chain("a", sequence),)


def test_a_colon_cuts_a_record_into_chains(fasta):
    target = read_target(fasta(">trastuzumab\nEVQL*:\nDIQM*\n"))
    assert target.tag == "trastuzumab"
    assert target.chains == (Chain("trastuzumab_1", "EVQL"), Chain("trastuzumab_2", "DIQM"))
    mixed = read_target(fasta(">a\nEV:QL\n>b\nDI\n"))
    assert mixed.tag == "a-b"
    assert [chain.tag for chain in mixed.chains] == ["a_1", "a_2", "b"]


@pytest.mark.parametrize(
    ("headers", "rule", "tags"),
    [
        (["1ABC|H", "1ABC|L"], "first_word", ["1ABC|H", "1ABC|L"]),
        (["1ABC|H", "1ABC|L"], "word_characters", ["1ABC_H", "1ABC_L"]),
        (["1ABC heavy chain", "1ABC light chain"], "first_word", ["1ABC_heavy", "1ABC_light"]),
        (["1ABC|Chain A", "1ABC|Chain B", "2X"], "word_characters", ["1ABC_1", "1ABC_2", "2X"]),
        (["1ABC", "1ABC|L"], "word_characters", ["1ABC_1", "1ABC_2"]),
        (["my-protein v2"], "first_word", ["my-protein"]),
        (["my-protein v2"], "word_characters", ["my"]),
    ],
)
def test_tags_follow_upstream_and_gain_the_chain_where_they_collide(fasta, headers, rule, tags):
    target = read_target(fasta("".join(f">{header}\nEV\n" for header in headers)), tag_rule=rule)
    assert [chain.tag for chain in target.chains] == tags
    assert target.tag == "-".join(tags)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"x\.fasta: the file is empty; write a line '>NAME'"),
        (" \n\n", r"x\.fasta: the file is empty"),
        ("EVQL\n", r"x\.fasta, line 1: expected a line that begins with '>', found 'EVQL'"),
        (">\nEVQL\n", r"line 1: the '>' line has no name"),
        (">a\n>b\nEV\n", r"x\.fasta, record 'a': the sequence is empty"),
        (">a\nEV:\n", r"record 'a': chain 2 of 2 is empty"),
        (">a\n*\n", r"record 'a': the sequence is empty"),
        (">a\nEV\nQ1L\n", r"x\.fasta, record 'a': '1' at line 3, column 2 is not an amino acid"),
        (">a\nEV-QL\n", r"'-' at line 2, column 3 is not an amino acid: remove the gaps"),
        (">a\nEV*QL\n", r"'\*' before the end of the chain"),
        (">a\nEVÉ\n", r"'É' at line 2, column 3"),
        (">a/b\nEV\n", r"record 'a/b': 'a/b' cannot name output files: use letters"),
        (">../../etc/passwd\nEV\n", "cannot name output files"),
        (">..\nEV\n", "cannot name output files"),
        (">a\\b\nEV\n", "cannot name output files"),
        (">-rf\nEV\n", "cannot name output files"),
        (">a\x00b\nEV\n", "cannot name output files"),
        (">" + "n" * 200 + "\nEV\n", "is 200 bytes long and 180 fit"),
        (">a\nEV:QL\n>a_1\nEV\n", "two chains are named 'a_1'"),
        (">a\nE*\n", "the target has one residue, 'E', and OpenFold predicts two or more"),
        (b"\x1f\x8b\x08\x00", "byte 1 is not UTF-8 text"),
    ],
)
def test_an_unusable_file_is_an_error_that_says_where(fasta, text, message):
    with pytest.raises(InputError, match=message):
        read_target(fasta(text))


def test_what_is_not_a_readable_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read_target(tmp_path)


def test_a_long_list_of_records_cannot_make_too_long_a_file_name(fasta):
    with pytest.raises(InputError, match="shorten the '>' lines"):
        read_target(fasta("".join(f">chain_{n}\nEV\n" for n in range(40))))


def test_a_name_without_word_characters_is_an_error(fasta):
    with pytest.raises(InputError, match="the name is empty"):
        read_target(fasta(">|x\nEV\n"), tag_rule="word_characters")


def test_a_folder_gives_its_fasta_files_shortest_target_first(fasta, tmp_path):
    fasta(">long\nEVQLEVQL\n", "a.fasta")
    fasta(">short\nEV\n", "b.fa")
    fasta(">same_length\nQL\n", "c.fasta")
    fasta(">other\nEV\n", "d.faa")
    (tmp_path / "folder.fasta").mkdir()
    targets, failures, _ = read_targets(tmp_path)
    assert [target.tag for target in targets] == ["short", "same_length", "long"]
    assert failures == ()
    explicit = read_targets([tmp_path / "d.faa", tmp_path, tmp_path / "a.fasta"])
    assert [target.tag for target in explicit.targets] == ["other", "short", "same_length", "long"]


def test_a_bad_file_does_not_stop_the_others(fasta, tmp_path):
    good, bad = fasta(">good\nEV\n", "b.fasta"), fasta("", "a.fasta")
    targets, failures, _ = read_targets(tmp_path)
    assert [target.source for target in targets] == [good]
    assert [path for path, _ in failures] == [bad]
    assert isinstance(failures[0][1], InputError)


def test_of_two_files_with_one_tag_the_second_is_refused_and_both_are_named(fasta, tmp_path):
    first, second = fasta(">a\nEVQL\n", "1.fasta"), fasta(">A\nEV\n", "2.fasta")
    targets, failures, _ = read_targets(tmp_path)
    assert [target.source for target in targets] == [first]
    assert failures[0][0] == second
    assert str(first) in str(failures[0][1])
    assert str(second) in str(failures[0][1])


def test_names_that_upstreams_rule_makes_one_are_told_across_files(fasta, tmp_path):
    fasta(">1ABC|H\nEVQL\n", "h.fasta")
    fasta(">1ABC|L\nDIQM\n", "l.fasta")
    assert [t.tag for t in read_targets(tmp_path).targets] == ["1ABC|H", "1ABC|L"]
    read = read_targets(tmp_path, tag_rule="word_characters")
    assert [target.tag for target in read.targets] == ["1ABC"]
    assert "its target has the name '1ABC', as has that of" in str(read.failures[0][1])


def test_missing_paths_and_folders_without_fasta_stop_at_once(tmp_path):
    with pytest.raises(InputError, match=r"no such file or folder: .*one.*two"):
        read_targets([tmp_path / "one", tmp_path / "two"])
    with pytest.raises(InputError, match=r"has no FASTA file: expected names ending in \.fasta or \.fa$"):
        read_targets(tmp_path)
    with pytest.raises(
        InputError, match=r"EVQLEVQL.*\.\.\. \(4,001 characters\) cannot be read .*letters alone"
    ):
        read_targets("EVQL" * 1000 + "1")
    with pytest.raises(InputError, match="null byte"):
        read_targets("EV\0QL")


def test_files_that_look_like_fasta_and_are_passed_over_are_named(fasta, tmp_path):
    for name in ("b.faa", "a.FASTA", "c.fasta.gz"):
        fasta(">a\nEV\n", name)
    passed_over = r"a\.FASTA, b\.faa, c\.fasta\.gz passed over, as OpenFold does: rename to \.fasta or unpack"
    with pytest.raises(InputError, match=rf"has no FASTA file: .*; {passed_over}"):
        read_targets(tmp_path)
    fasta(">a\nEV\n", "d.fasta")
    (note,) = read_targets(tmp_path).notes
    assert note.startswith(f"{tmp_path}: a.FASTA, b.faa, c.fasta.gz passed over")


def test_letters_of_no_one_amino_acid_are_named(fasta):
    assert unknown_residues_note(parse_sequence_argument("ACDEFGHIKLMNPQRSTVWY")) is None
    note = unknown_residues_note(read_target(fasta(">a\nEX:BQZU\n")))
    assert (
        "target 'a' has letters of no one amino acid (X at residue 2 of a_1, B at residue 1 of a_2, " in note
    )
    assert (
        "Z at residue 3 of a_2 and 1 more): OpenFold predicts them as unknown residues without atoms" in note
    )


def test_a_sequence_argument_is_read_as_a_record_is():
    target = parse_sequence_argument("evql:DIQM", tag="x")
    assert target.tag == "x"
    assert target.chains == (Chain("x_1", "EVQL"), Chain("x_2", "DIQM"))
    assert parse_sequence_argument(" EVQL ").chains == (Chain("prediction", "EVQL"),)
    with pytest.raises(InputError, match=r"the sequence: '1' at line 1, column 3"):
        parse_sequence_argument("EV1")
    with pytest.raises(InputError, match="cannot name output files"):
        parse_sequence_argument("EV", tag="../x")


@pytest.mark.parametrize("module", ["fasta", "modelcif", "pdb", "progress", "structure", "summary"])
def test_importing_loads_nothing_heavy(module):
    name = f"openfoldpp.inference.{module}"
    importlib.import_module(name)
    heavy = ["torch", "biotite", "modelcif", "rich", "openfold"]
    code = f"import sys, {name}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (">a\n" + "ACGT" * 1_250_000, "its sequences have 5,000,000 letters"),
        ("".join(f">sp|P{i}\n{'ACDEF' * 50}\n" for i in range(20_000)), "5,000,000 letters"),
        (">a\n" + "ACGT:" * 19_999 + "1", "'1' at line 2, column 99996"),
        ("".join(f">sp|P{i}\nA\n" for i in range(50_000)), "records' names joined by '-'"),
    ],
    ids=["genome", "proteome", "many chains", "many records of one name"],
)
def test_a_file_that_is_no_target_is_soon_refused(fasta, text, words):
    path = fasta(text)
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        read_target(path, tag_rule="word_characters")
    assert time.process_time() - start < 2
    assert words in str(caught.value)


@pytest.fixture
def checkout(tmp_path):
    """Return what of a checkout of OpenFold 2.2.0 says that it is one."""
    root = tmp_path / "openfold-2.2.0"
    package = ["__init__.py", "config.py", "model/model.py", "np/residue_constants.py"]
    files = [f"openfold/{name}" for name in (*package, "data/mmcif_parsing.py")]
    for name in (*files, "scripts/utils.py", "run_pretrained_openfold.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "setup.py").write_text("setup(\n    name='openfold',\n    version='2.2.0',\n)\n")
    return root


def options(**given):
    none = ("config_preset", "output_postfix", "openfold_home", "openfold_checkpoint_path", "jax_param_path")
    return Namespace(**{**dict.fromkeys(none), **given})


def test_names_of_all_chains_have_to_fit_where_openfold_2_writes_them(checkout):
    target = parse_sequence_argument(":".join(["AC"] * 20), tag="complex_of_mine")
    inputs = FastaInputs((target,), ())
    check_names(inputs, options(openfold_home=checkout))
    with_weights = {"openfold_home": checkout, "jax_param_path": "params.npz"}
    with pytest.raises(InputError) as caught:
        check_names(inputs, options(config_preset="model_1_multimer_v3", **with_weights))
    tags = "-".join(chain.tag for chain in target.chains)
    length = len(f"{tags}_model_1_multimer_v3_output_dict.pkl")
    assert f"complex_of_mine_1-complex_of_mine_2-comp..., would be {length} bytes long" in str(caught.value)
    assert "shorten its '>' line, or split its 20 chains" in str(caught.value)
    with pytest.raises(InputError, match="or split its 20 chains"):
        check_names(inputs, options(**with_weights))


def test_a_postfix_that_makes_a_name_too_long():
    inputs = FastaInputs((parse_sequence_argument("ACDE"),), ())
    check_names(inputs, options(output_postfix="x" * 228))
    with pytest.raises(InputError, match="would be 256 bytes long, and 255 are allowed"):
        check_names(inputs, options(output_postfix="x" * 229))
