import io
import re
from pathlib import Path

import numpy as np
import pytest

from openfoldpp.inference.summary import TargetSummary, print_summary
from openfoldpp.types import Chain, Output, Target


class Terminal(io.StringIO):
    def isatty(self):
        return True


FOLDER = Path("/home/ada/a rather deep folder/of results/predictions")
LONG = "1ABC_heavy_chain-1ABC_light_chain-and_something_more"


def summaries():
    return [
        TargetSummary(
            "[b]a", 230, 93.456, None, 0.71, (FOLDER / "a_unrelaxed.pdb", FOLDER / "a_output_dict.pkl")
        ),
        TargetSummary(LONG, 12, 5, 0.8123, 1234.5, (FOLDER / f"{LONG}_model_1_ptm_unrelaxed.pdb",)),
        TargetSummary("[bold]c", error="a line\nand   [another]; use --flag"),
    ]


def shown(file, *arguments):
    print_summary(*arguments, file)
    return re.sub(r"\x1b\[[\d;]*m", "", file.getvalue()).splitlines()


def test_a_pipe_gets_aligned_columns_of_80():
    lines = shown(io.StringIO(), summaries())
    assert lines[0].split() == ["target", "residues", "mean", "pLDDT", "pTM", "seconds"]
    assert lines[1].split() == ["[b]a", "230", "93.5", "not", "predicted", "0.7"]
    assert lines[2] == LONG
    assert lines[3].split() == ["12", "5.0", "0.81", "1234.5"]
    assert {len(lines[row]) for row in (0, 1, 3)} == {80}


def test_files_stand_whole_below_their_folder_which_is_named_once():
    for file in (io.StringIO(), Terminal()):
        lines = shown(file, summaries())
        start = lines.index(f"files in {FOLDER}:")
        names = ["a_unrelaxed.pdb", "a_output_dict.pkl", f"{LONG}_model_1_ptm_unrelaxed.pdb"]
        assert lines[start + 1 : start + 4] == [f"  {name}" for name in names]
        assert sum(str(FOLDER) in line for line in lines) == 1


def test_failures_are_listed_in_one_line_each():
    for file in (io.StringIO(), Terminal()):
        assert shown(file, summaries())[-2:] == [
            "1 of 3 targets failed:",
            "  [bold]c: a line and [another]; use --flag",
        ]


def test_a_run_without_results_shows_failures_only():
    assert shown(io.StringIO(), [TargetSummary("a", error="b")]) == ["", "1 of 1 target failed:", "  a: b"]
    assert shown(io.StringIO(), []) == []


@pytest.mark.parametrize("width", [60, 80, 120])
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


def output(**provenance):
    values = {"plddt": np.array([50, 60], np.float32), "predicted_tm_score": np.float32(0.25)}
    return Output(values, source="test", chain_ids=("A",), provenance=provenance)


def test_from_output_takes_the_figures_and_hides_a_filled_ptm():
    target = Target("x", (Chain("x", "EV"),))
    made = TargetSummary.from_output(output(), target, seconds=2.0, files=[FOLDER / "x.pdb"])
    assert made == TargetSummary("x", 2, 55.0, 0.25, 2.0, (FOLDER / "x.pdb",))
    filled = output(predicted_aligned_error="filled: the largest value")
    assert TargetSummary.from_output(filled, target, seconds=2.0, files=()).ptm is None
    renamed = Output({"ptm_score": np.array(0.5)}, source="test", chain_ids=("A",), provenance={})
    assert TargetSummary.from_output(renamed, target, seconds=2.0, files=()).ptm == 0.5
    assert TargetSummary.from_output(renamed, target, seconds=2.0, files=()).mean_plddt is None
