"""What the README says is so: its commands run, its flags, files and settings exist."""

import ast
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openfoldpp.cli.main import app
from openfoldpp.config import Settings
from openfoldpp.inference import options
from openfoldpp.plm.__main__ import main as embed_one
from openfoldpp.upstream.locate import HOME_VARIABLE

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.S)
# make demo and make test are run by CI as a whole; this test is part of the second.
COMMANDS = [code for language, code in BLOCKS if language == "bash" and not code.startswith("make ")]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda code: code.split()[0] + " " + code.split()[1][:12])
def test_command_runs(command, tmp_path):
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert any(tmp_path.rglob("*.pdb"))


def test_the_table_shown_is_what_the_demo_prints_but_for_seconds():
    shown = next(code for language, code in BLOCKS if code.startswith("target "))
    fasta = sorted((REPOSITORY / "examples/fv").glob("*.fasta"))
    tags = {line.split()[0] for line in shown.splitlines()[1 : len(fasta) + 1]}
    from openfoldpp.inference.fasta import read_targets

    assert tags == {target.tag for target in read_targets(fasta).targets}


@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "python"])
def test_python_parses_and_names_what_exists(code):
    import openfoldpp

    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "openfoldpp":
            assert hasattr(openfoldpp, node.attr)
    names = set(re.findall(r"\bp\.(\w+)", code))
    assert all(hasattr(openfoldpp.Prediction, name) for name in names)


COMMAND_LINES = (
    *("doctor", "export", "schema show", "schema check", "schema diff"),
    *("embed", "quantize", "train plm-lite", "train cheap-head", "train compositor"),
    *("train motif-library", "train motif-profile", "train motif-score"),
    *("motifs build", "motifs info", "motifs search", "motifs verify"),
)
# Of git, in the line that clones OpenFold.
OTHER_PROGRAMS = {"--branch"}


def click_help(command):
    return CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).output


def test_every_flag_exists(capsys):
    with pytest.raises(SystemExit):
        options.parse(["--plugins", "openfoldpp", "--help"], program="run_pretrained_openfold.py")
    known = capsys.readouterr().out
    with pytest.raises(SystemExit):
        options.parse(["--help"], program="openfoldpp predict", targets=True)
    known += capsys.readouterr().out
    for benchmark in (
        "fv_accuracy",
        "plm",
        "plm_quantized",
        "plm_libraries",
        "single_row",
        "motifs",
        "coarse",
    ):
        known += (REPOSITORY / "benchmarks" / f"{benchmark}.py").read_text()
    with pytest.raises(SystemExit):
        embed_one(["--help"])
    known += capsys.readouterr().out
    for command in COMMAND_LINES:
        known += click_help(command.split())
    pages = (
        "openfold2",
        "input",
        "readers",
        "plm",
        "embed",
        "quantize",
        "train",
        "motifs",
        "motif_adapter",
        "coarse",
    )
    docs = "".join((REPOSITORY / "docs" / f"{name}.md").read_text() for name in pages)
    flags = set(re.findall(r"(?<![\w-])--\w+(?:-\w+)*", README + docs)) - OTHER_PROGRAMS
    assert flags
    assert {flag for flag in flags if flag not in known} == set()


@pytest.mark.parametrize(
    "page", [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))], ids=str
)
def test_every_linked_file_exists(page):
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_settings_are_those_that_are_read():
    named = set(re.findall(r"^\| `(OPENFOLD\w+)`", README, flags=re.M))
    fields = {field.name for field in dataclasses.fields(Settings)}
    assert named == {HOME_VARIABLE} | {f"OPENFOLDPP_{name.upper()}" for name in fields}
