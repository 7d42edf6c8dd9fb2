"""Generated FASTA files of every kind: a result or an error that says what is wrong, never a traceback."""

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openfoldpp.errors import InputError
from openfoldpp.inference import driver
from openfoldpp.inference.fasta import read_targets

VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS"
)
VL = (
    "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPP"
    "TFGQGTKVEIK"
)

# Derandomised: the same files in each run.
same_files = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))

letters = st.text("ACDEFGHIKLMNPQRSTVWY", min_size=1, max_size=12)
strange_letters = st.text("AGXBZUOJxg*-.:1 \t>#;\x00éß", max_size=12)
sequences = st.one_of(letters, letters, strange_letters)
tame_names = st.from_regex(r"[A-Za-z0-9_]{1,6}([|. -][A-Za-z0-9]{1,3})?", fullmatch=True)
names = st.one_of(
    tame_names,
    st.sampled_from(
        ["", " ", "..", "../x", "a/b", "-rf", "|x", ">", "\u2028", "a\tb", "n" * 300, "#1", "\ud55c"]
    ),
    st.text(max_size=8),
)


def record(name, lines):
    return ">" + "\n".join([name, *lines])


records = st.builds(record, names, st.lists(sequences, max_size=3))
tame_records = st.builds(record, tame_names, st.lists(letters, min_size=1, max_size=3))
texts = st.one_of(
    st.lists(st.one_of(records, sequences, st.just("")), max_size=4).map("\n".join),
    # One thing at most is wrong with these.
    *[st.tuples(tame_records, st.one_of(tame_records, records)).map("\n".join)] * 3,
)
line_ends = st.sampled_from(["\n", "\r\n", "\r"])
encodings = st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "latin-1"])


def encode(text, line_end, encoding):
    return text.replace("\n", line_end).encode(encoding, "surrogatepass" if "utf" in encoding else "replace")


encoded = st.builds(encode, texts, line_ends, encodings)
files = st.one_of(*[encoded] * 9, st.binary(max_size=40))


@pytest.fixture(scope="module")
def parse_upstream():
    """Parse a FASTA text by the installed release's own function; tags and sequences."""
    from openfoldpp.upstream import activate

    activate()
    from openfold.data.parsers import parse_fasta

    return lambda text: parse_fasta(text)[::-1]


@pytest.mark.parametrize("tag_rule", ["first_word", "word_characters"])
def test_a_file_is_read_as_upstream_will_or_refused(tag_rule, parse_upstream, tmp_path):
    path = tmp_path / "x.fasta"
    read = refused = 0

    @settings(same_files, max_examples=1000)
    @given(files)
    def check(content):
        nonlocal read, refused
        path.write_bytes(content)
        targets, failures, _ = read_targets(path, tag_rule=tag_rule)
        assert len(targets) + len(failures) == 1
        for _, error in failures:
            refused += 1
            assert isinstance(error, InputError)
            assert str(path) in str(error)
        for target in targets:
            read += 1
            assert_usable(target, tag_rule, parse_upstream)

    check()
    # Neither side is all that the files were.
    assert min(read, refused) > 200, (read, refused)


def assert_usable(target, tag_rule, parse_upstream):
    """Its names can be those of files, its letters are amino acids, and upstream reads back the same."""
    output = Path("folder") / f"{target.tag}_model_1_multimer_v3_unrelaxed.pdb"
    assert output.parent == Path("folder")
    assert len(output.name.encode()) <= 255
    assert not output.name.startswith((".", "-"))
    tags = [chain.tag for chain in target.chains]
    assert len(set(tags)) == len(tags)
    for chain in target.chains:
        assert re.fullmatch("[A-Z]+", chain.sequence)
        assert (Path("alignments") / chain.tag).parent == Path("alignments")
        if tag_rule == "word_characters":
            assert re.split(r"\W", chain.tag) == [chain.tag]  # what 2.x's script makes of it
        else:
            assert chain.tag.split() == [chain.tag]
    assert len(target.sequence) >= 2
    text = "".join(f">{chain.tag}\n{chain.sequence}\n" for chain in target.chains)
    assert parse_upstream(text) == (tags, [chain.sequence for chain in target.chains])


def fv(name, chains, width, lower):
    """Return the text of an antibody's Fv as people write it."""
    joined = ":".join(chains)
    joined = joined.lower() if lower else joined
    return record(name, [joined[start : start + width] for start in range(0, len(joined), width)])


# The order of the chains, the lines, the case and the ends of lines vary: each of them can be predicted.
fvs = st.builds(
    encode,
    st.builds(
        fv,
        st.from_regex(r"fv_[A-Za-z0-9]{1,6}( light and heavy)?", fullmatch=True),
        st.permutations([VH, VL]),
        st.integers(20, 300),
        st.booleans(),
    ),
    line_ends,
    st.sampled_from(["utf-8", "utf-8-sig"]),
)


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_the_command_ends_with_a_result_or_an_error_for_each_file(count, capsys):
    a_folder = 25  # the models of FlashABB are loaded once for each folder

    @settings(same_files, max_examples=count // a_folder)
    @given(st.lists(files, min_size=a_folder - 1, max_size=a_folder - 1), fvs)
    def check(contents, antibody):
        with tempfile.TemporaryDirectory() as name:
            fasta, out = Path(name) / "fasta", Path(name) / "out"
            fasta.mkdir()
            for number, content in enumerate([*contents, antibody]):
                (fasta / f"{number}.fasta").write_bytes(content)
            arguments = ["--plugins", "openfoldpp", "--output_dir", str(out), "--skip_relaxation"]
            code = driver.main([str(fasta), *arguments, "--quiet"], program="run_pretrained_openfold.py")
            captured = capsys.readouterr()
            assert code == 1
            assert "Traceback" not in captured.out + captured.err
            assert f"{a_folder - 1} of {a_folder} targets failed" in captured.out
            (written,) = (out / "predictions").glob("*.pdb")
            assert written.name.startswith("fv_")
            residues = sum(" CA " in line for line in written.read_text().splitlines())
            assert residues == len(VH + VL)
            assert not list(out.rglob(".*"))

    check()
