"""Fixtures that more than one folder of tests uses."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

REPOSITORY = Path(__file__).parents[1]


def pytest_addoption(parser):
    parser.addoption(
        "--update-snapshots", action="store_true", help="write the schema snapshots from vanilla runs"
    )


@pytest.fixture(scope="session")
def data_dir():
    """Folder of measuring data (``fv/``, ``general/``), which is not part of the project."""
    folder = Path(os.environ.get("OPENFOLD_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no measuring data at {folder}; OPENFOLD_TEST_DATA names another place")
    return folder


@pytest.fixture(scope="session")
def run_vanilla_jobs(tmp_path_factory):
    """Run upstream's own code alone, several targets in one subprocess; see upstream/vanilla.py."""
    from openfoldpp.upstream import locate

    root = locate().root

    def prepare(
        *, sequences, tags=None, preset="model_1_ptm", overrides=None, alignments=None, templates=None,
        gap=200, seed=0, checkpoint=None,
    ):  # fmt: skip
        folder = tmp_path_factory.mktemp("vanilla")
        tags = tags or [f"chain{i}" for i in range(1, len(sequences) + 1)]
        fasta = folder / "target.fasta"
        fasta.write_text("\n".join(f">{tag}\n{seq}" for tag, seq in zip(tags, sequences, strict=True)))
        files = SimpleNamespace(
            fasta=fasta,
            checkpoint=Path(checkpoint or folder / "random.pt"),
            output_dict=folder / "output_dict.pkl",
            pdb=folder / "unrelaxed.pdb",
        )
        job = {name: str(path) for name, path in vars(files).items()} | {
            "preset": preset,
            "alignments": alignments and str(alignments),
            "templates": templates and str(templates),
            "gap": gap,
            "seed": seed,
            "overrides": overrides or {},
        }
        return files, job

    def run(jobs):
        """Predict each job's sequences as one target; a checkpoint that is not there is drawn at random."""
        prepared = [prepare(**job) for job in jobs]
        folder = tmp_path_factory.mktemp("vanilla_jobs")
        (folder / "jobs.json").write_text(json.dumps([job for _, job in prepared]))
        done = subprocess.run(
            [sys.executable, "-W", "ignore", REPOSITORY / "tests/upstream/vanilla.py", folder / "jobs.json"],
            env=os.environ | {"PYTHONPATH": str(root)},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [files for files, _ in prepared]

    return run


@pytest.fixture(scope="session")
def run_vanilla(run_vanilla_jobs):
    """Run upstream's own code alone on one target."""
    return lambda *sequences, **job: run_vanilla_jobs([{"sequences": sequences, **job}])[0]


@pytest.fixture
def run_command():
    """Run one of the package's console scripts as a user would, from another folder."""

    def run(*arguments, cwd, path=None, **environment):
        """Return the finished process; ``path`` is one more folder to import from."""
        program = Path(sys.executable).parent / arguments[0]
        variables = os.environ | environment | ({"PYTHONPATH": str(path)} if path else {})
        return subprocess.run(
            [program, *map(str, arguments[1:])],
            cwd=cwd,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def plugin_folder(tmp_path_factory):
    """Make a folder that, on the import path, has an installed plugin of the given source."""

    def make(name, source, target=None):
        folder = tmp_path_factory.mktemp(f"plugin_{name}")
        metadata = folder / f"{name}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (folder / f"{name}.py").write_text(source)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[openfoldpp.plugins]\n{name} = {target or name}\n")
        return folder

    return make
