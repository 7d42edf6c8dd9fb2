import io
import re
from pathlib import Path

import pytest

from openfoldpp.inference.summary import TargetSummary, print_summary


class Terminal(io.StringIO):
    def isatty(self):
        return True


FOLDER = Path("/home/ada/a rather deep folder/of results/predictions")
LONG = "1ABC_heavy_chain-1ABC_light_chain-and_something_more"


def summaries():
    return [
        TargetSummary(
            "[b]a", 230, 93.456, None, 0.71, (FOLDER / "[b]a_unrelaxed.pdb", FOLDER / "[b]a_output_dict.pkl")
        ),
        TargetSummary(LONG, 12, 5, 0.8123, 1234.5, (FOLDER / f"{LONG}_model_1_ptm_unrelaxed.pdb",)),
        TargetSummary("[bold]c", error="a line\nand   [another]; use --flag"),
    ]


def shown(file, *arguments):
    print_summary(*arguments, file)
    return re.sub(r"\x1b\[[\d;]*m", "", file.getvalue()).splitlines()


def test_a_pipe_gets_aligned_columns_of_80():
    lines = shown(io.StringIO(), summaries())
    assert lines[0].split() == ["target", "residues", "mean", "pLDDT", "pTM", "seconds", "files"]
    assert lines[1].split() == ["[b]a", "230", "93.5", "not", "predicted", "0.7", "2"]
    assert lines[2] == LONG
    assert lines[3].split() == ["12", "5.0", "0.81", "1234.5", "1"]
    assert {len(lines[row]) for row in (0, 1, 3)} == {80}


def test_files_stand_whole_below_their_folder():
    for file in (io.StringIO(), Terminal()):
        lines = shown(file, summaries())
        start = lines.index(f"files in {FOLDER}:")
        assert lines[start + 1 : start + 3] == ["  [b]a_unrelaxed.pdb", "  [b]a_output_dict.pkl"]
        assert f"  {LONG}_model_1_ptm_unrelaxed.pdb" in lines


def test_files_that_differ_only_in_the_target_are_named_once():
    done = [TargetSummary(tag, files=(FOLDER / f"{tag}_x.pdb", FOLDER / f"{tag}_y.pkl")) for tag in "ab"]
    lines = shown(io.StringIO(), done)
    assert lines[-3:] == [f"files in {FOLDER}, for each target:", "  TARGET_x.pdb", "  TARGET_y.pkl"]


def test_a_file_of_another_name_is_named_as_it_is():
    lines = shown(io.StringIO(), [TargetSummary("a", files=(Path("x.pdb"),))])
    assert lines[-2:] == ["files in .:", "  x.pdb"]


def test_failures_are_listed_in_one_line_each():
    for file in (io.StringIO(), Terminal()):
        assert shown(file, summaries())[-2:] == [
            "1 of 3 targets failed:",
            "  [bold]c: a line and [another]; use --flag",
        ]


def test_a_run_without_results_shows_failures_only():
    assert shown(io.StringIO(), [TargetSummary("a", error="b")]) == ["", "1 of 1 target failed:", "  a: b"]
    assert shown(io.StringIO(), []) == []


@pytest.mark.parametrize("width", [70, 80, 120])
def test_a_terminal_shows_every_letter_and_figure(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    lines = shown(Terminal(), summaries())
    table = lines[: lines.index("")]
    assert max(map(len, table)) <= width
    assert "".join(line.split(" ")[0] for line in table[3:]) == LONG
    assert table[2].startswith("[b]a ")
    assert "not predicted" in table[2]
    assert "1234.5" in table[3]
