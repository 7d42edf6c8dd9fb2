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


@pytest.fixture
def environment(monkeypatch):
    """Set variables of the environment for the rest of the test, as if the process had started with them."""
    from openfoldpp.ops import dispatch

    def set_variables(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        dispatch.settings.cache_clear()

    yield set_variables
    monkeypatch.undo()
    dispatch.settings.cache_clear()


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


@pytest.fixture(scope="session")
def to_jax():
    """Give a model's parameters AlphaFold's names and shapes: upstream's translation, turned round.

    Its attention has the heads as an axis of their own; how many there are is read from the model.
    """
    import numpy as np

    def convert(model, preset):
        from openfold.utils import import_weights as upstream

        translation = upstream.process_translation_dict(upstream.generate_translation_dict(model, preset))
        kinds = upstream.ParamType
        heads = {
            id(part): module.no_heads
            for module in model.modules()
            if hasattr(module, "no_heads") and hasattr(module, "linear_o")
            for part in module.parameters()
        }
        arrays = {}
        for name, param in translation.items():
            parts = []
            for tensor in param.param if param.stacked else [param.param]:
                value, kind = tensor.detach(), param.param_type
                if kind is kinds.LinearWeight:
                    value = value.T
                elif kind is kinds.LinearWeightMHA:
                    value = value.T.reshape(value.shape[1], heads[id(tensor)], -1)
                elif kind is kinds.LinearBiasMHA:
                    value = value.reshape(heads[id(tensor)], -1)
                elif kind is kinds.LinearMHAOutputWeight:
                    value = value.T.reshape(heads[id(tensor)], -1, value.shape[0])
                elif kind is kinds.LinearWeightOPM:
                    side = round(value.shape[1] ** 0.5)
                    value = value.T.reshape(side, side, value.shape[0])
                parts.append(value.numpy())
            arrays[name] = np.stack(parts) if param.stacked else parts[0]
        return arrays

    return convert


@pytest.fixture(scope="session")
def template_sequence():
    """Sequence of upstream/data/peptide.pdb."""
    return "NGEQIRSISDLHQT"


@pytest.fixture(scope="session")
def write_template():
    """Write that peptide as a PDB entry's mmCIF file, with all that upstream's parser reads."""

    def write(path):
        import gemmi

        structure = gemmi.read_structure(str(REPOSITORY / "tests/upstream/data/peptide.pdb"))
        structure.name = path.stem.upper()
        structure[0][0].name = "B"
        structure.setup_entities()
        structure.entities[0].full_sequence = [residue.name for residue in structure[0]["B"]]
        structure.assign_label_seq_id()
        block = structure.make_mmcif_document().sole_block()
        block.set_pair("_exptl.entry_id", structure.name)
        block.set_pair("_exptl.method", "'X-RAY DIFFRACTION'")
        block.set_pair("_pdbx_audit_revision_history.revision_date", "1998-11-04")
        components = block.init_loop("_chem_comp.", ["id", "type"])
        for name in sorted(set(structure.entities[0].full_sequence)):
            components.add_row([name, "'L-peptide linking'"])
        block.write_file(str(path))

    return write


@pytest.fixture(scope="session")
def hhr():
    """Text of a hit on chain B of 1AY7, as hhsearch writes it: the alignment begins at column 23."""

    def text(hit, query):
        length = len(hit)
        return f"""Query         query
Match_columns {len(query)}

No 1
>1AY7_B Barstar; inhibitor
Probab=99.51  E-value=1e-20  Score=88.07  Aligned_cols={length}  Identities=100%  Similarity=1.500  \
Sum_probs=13.2  Template_Neff=8.800

Q query             1 {query[:length]} {length:>4} ({len(query)})
Q Consensus         1 {query[:length].lower()} {length:>4} ({len(query)})
                      {"|" * length}
T Consensus         1 {hit.lower()} {length:>4} ({length})
T 1AY7_B            1 {hit} {length:>4} ({length})
Confidence            {"9" * length}
"""

    return text
