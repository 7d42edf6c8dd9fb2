"""Alignments that the user brings: what upstream would end in a traceback, or use without a word."""

import pytest
import torch

from openfoldpp.errors import InputError
from openfoldpp.types import Chain, Target
from openfoldpp.upstream.alignments import check_alignments

SEQUENCE = "MKVLAWGT"
A3M = "#8\t1\n>query\nMKVLAWGT\n>b\nMKaaV-AWGT\n>c\nMKVL\nAWGT\n"
STO = "# STOCKHOLM 1.0\n#=GS q DE x\nq MK--VL\nb MKAAVL\n\nq AWGT\nb AWG-\n//\n"


def target(*sequences):
    return Target("t", tuple(Chain(f"chain{i}", sequence) for i, sequence in enumerate(sequences, start=1)))


@pytest.fixture
def write(tmp_path):
    """Put files into the folder of a chain; returns the folder of all chains."""

    def put(chain="chain1", **files):
        (tmp_path / chain).mkdir(exist_ok=True)
        for name, content in files.items():
            file = tmp_path / chain / name.replace("__", ".")
            if isinstance(content, bytes | str):
                file.write_bytes(content if isinstance(content, bytes) else content.encode())
            else:
                torch.save(content, file)
        return tmp_path

    return put


def message(folder, *sequences, preset="model_1_ptm"):
    with pytest.raises(InputError) as caught:
        check_alignments(folder, target(*(sequences or (SEQUENCE,))), preset)
    return str(caught.value)


def test_good_files_pass_without_a_note(write):
    folder = write(
        bfd__a3m=A3M,
        uniref90_hits__sto=STO,
        pdb70__hhr="Query q\n",
        hmm_output__sto="# STOCKHOLM 1.0\n\n1abc_A/1-4 MKVL\n//\n",
    )
    assert check_alignments(folder, target(SEQUENCE), "model_1_ptm") == ()


def test_letters_that_programs_rewrite_are_the_same_letter(write):
    assert check_alignments(write(a__a3m=">q\nMXVLAWGT\n"), target("MUVLAWGT"), "model_1") == ()


def test_a_chain_without_alignments_is_noted(write):
    notes = check_alignments(write(), target(SEQUENCE), "model_1_ptm")
    assert len(notes) == 1
    assert "chain chain1 is predicted from its sequence alone" in notes[0]


@pytest.mark.parametrize(
    ("present", "words"),
    [
        ("chain_1", "did you mean chain_1?"),
        ("other", "it has other."),
        (None, "it has none."),
    ],
)
def test_a_missing_folder_names_the_nearest(present, words, tmp_path):
    if present:
        (tmp_path / present).mkdir()
    assert f"the alignments folder {tmp_path} has no folder for chain1: {words}" in message(tmp_path)
    assert "has no folder for chain1" in message(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.a3m", "", "has no sequence: make it again"),
        ("a.sto", "# STOCKHOLM 1.0\n//\n", "has no sequence"),
        ("a.a3m", "MKVLAWGT\n", "line 1: expected a line that begins with '>', found 'MKVLAWGT'"),
        ("a.a3m", ">q\nMKVL\n", "(4 letters, the chain has 8): it was made for another sequence"),
        ("a.a3m", ">q\nMKVLAWGA\n", "(letter 8 is A, that of the chain is T)"),
        ("a.a3m", ">q\nMKVL-AWGT\n", "line 1: the first sequence, that of the chain, has gaps"),
        ("a.a3m", ">q\nMKVLAWGT\n>b\nMKV\n", "line 3: the sequence has 3 aligned letters, the first has 8"),
        ("a.a3m", ">q\nMKVLAWGT\n>b\nMKVL.WGT\n", "line 3: '.' is neither an amino acid"),
        ("a.a3m", b"\x1f\x8b\x08\x00\xff", "byte 1 is not text: unpack it"),
        ("a.sto", "q MKVLAWGT\nb MKVLAWGT extra\n", "line 2: expected a name and a piece of its sequence"),
        ("a.sto", "q MKVLAWGT\nb MKVLA\n", "line 2: b has 5 columns, the first sequence has 8"),
        ("a.sto", "q MKVLAWGT\nb MKvLAWGT\n", "line 2: 'v' is neither an amino acid in upper case"),
        (
            "a.hhr",
            "<html>\n",
            "no line begins with 'Query' or 'No ', as in a result of hhsearch; it begins with",
        ),
        ("a.a3m.gz", b"\x1f\x8b", "nothing that OpenFold reads, but a.a3m.gz: expected files ending in .a3m"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(name, content, words, write, tmp_path):
    text = message(write(**{name.replace(".", "__"): content}))
    assert str(tmp_path / "chain1") in text
    assert words in text


def test_different_chains_need_the_sequences_that_pair_them(write):
    write("chain1", a__a3m=A3M)
    folder = write("chain2", a__a3m=">q\nMKV\n")
    multimer = "model_1_multimer_v3"
    assert "chain1 has no uniprot_hits.sto" in message(folder, SEQUENCE, "MKV", preset=multimer)
    write("chain1", uniprot_hits__sto=STO)
    write("chain2", uniprot_hits__sto="q MKV\n")
    assert check_alignments(folder, target(SEQUENCE, "MKV"), multimer) == ()


MULTIMER = "model_1_multimer_v3"


def test_of_equal_chains_a_multimer_preset_reads_the_first(write):
    folder = write("chain1", a__a3m=A3M)
    assert check_alignments(folder, target(SEQUENCE, SEQUENCE), MULTIMER) == ()
    assert "no folder for chain2" in message(folder, SEQUENCE, SEQUENCE, preset="model_1_ptm")
    write("chain1", uniprot_hits__sto=STO)
    write("chain3", a__a3m=">q\nMKV\n")
    assert "chain3 has no uniprot_hits.sto" in message(folder, SEQUENCE, SEQUENCE, "MKV", preset=MULTIMER)


@pytest.mark.parametrize(("preset", "chains"), [("model_1_ptm", 1), (MULTIMER, 1), (MULTIMER, 2)])
def test_sequences_that_pair_chains_are_not_looked_at_where_none_are_paired(preset, chains, write):
    folder = write(uniprot_hits__sto="q MK extra\n")
    (note,) = check_alignments(folder, target(*[SEQUENCE] * chains), preset)
    assert "chain1 is predicted from its sequence alone" in note
    assert "line 1" in message(write("chain2", uniprot_hits__sto=STO), SEQUENCE, "MKV", preset=MULTIMER)


WILD_TYPE = "MQIFVKTLTGKTITLEVEPS"


def test_the_wild_types_alignment_serves_a_mutant_and_is_noted(write):
    files = {"a__a3m": f">q\n{WILD_TYPE}\n", "b__sto": f"q {WILD_TYPE}\n"}
    folder = write(**files)
    (note,) = check_alignments(folder, target("AA" + WILD_TYPE[2:]), "model_1_ptm")
    assert "the first sequence of a.a3m, b.sto is not quite that of chain chain1" in note
    assert "(letter 1 is M, that of the chain is A; 2 of 20 letters differ)" in note
    assert "3 of 20 letters differ): it was made for another" in message(folder, "AAA" + WILD_TYPE[3:])
    assert "(20 letters, the chain has 19)" in message(folder, WILD_TYPE[1:])


def test_a_result_of_hhsearch_may_begin_with_anything(write):
    folder = write(a__a3m=A3M, a__hhr="\nmade yesterday\nNo 1\n", b__hhr="", c__hhr="\nQuery q\n")
    assert check_alignments(folder, target(SEQUENCE), "model_1_ptm") == ()


def test_hidden_files_are_refused_where_upstream_reads_them(write, tmp_path):
    write(__DS_Store=b"\xff", a__a3m=A3M)
    folder = write(**{"._x__pt": b"\xff"})
    assert check_alignments(folder, target(SEQUENCE), "model_1_ptm") == ()
    write(**{"._a__a3m": b"\xff"})
    file = tmp_path / "chain1" / "._a.a3m"
    assert f"{file} is a hidden file, which OpenFold reads as any other: remove it (rm {file})" in message(
        folder
    )


SOLO = "seq_model_esm1b_ptm"


@pytest.mark.parametrize("preset", [SOLO, "seq"])
def test_an_embedding_of_the_chain_passes_and_alignments_beside_it_are_not_read(preset, write):
    embedding = {"label": "chain1", "representations": {33: torch.zeros(8, 1280)}}
    folder = write(chain1__pt=embedding, a__a3m=">other\nMK\n", uniprot_hits__sto="q MK extra\n")
    assert check_alignments(folder, target(SEQUENCE), preset) == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "has no embedding (.pt) of chain chain1"),
        (
            {"representations": {33: torch.zeros(7, 1280)}},
            "shape [7, 1280], and chain chain1 needs [8, 1280]",
        ),
        ({"representations": {33: torch.zeros(8, 512)}}, "shape [8, 512]"),
        ({"representations": {6: torch.zeros(8, 1280)}}, "is no embedding of ESM-1b (KeyError: 33)"),
        ([1], "is no embedding of ESM-1b (TypeError"),
        (b"version https://git-lfs", "is no embedding of ESM-1b (UnpicklingError"),
        (b"", "is no embedding of ESM-1b (EOFError"),
    ],
)
def test_what_is_no_embedding_names_the_script_that_makes_one(content, words, write):
    text = message(write(**({} if content is None else {"chain1__pt": content})), preset=SOLO)
    assert words in text
    assert "scripts/precompute_embeddings.py" in text
