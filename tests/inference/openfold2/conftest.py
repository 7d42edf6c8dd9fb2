"""Fixtures of the tests with OpenFold 2: targets, weights, what vanilla makes of them, and the command."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from openfoldpp.files import read_pickle

REPOSITORY = Path(__file__).parents[3]
HEAVY = "EVQLVESGGGLVQPGGSLRLSCAAS"
LIGHT = "DIQMTQSPSSLSASVGDR"
SEED = 3
SHALLOW = {
    "model.evoformer_stack.no_blocks": 2,
    "model.extra_msa.extra_msa_stack.no_blocks": 1,
    "model.template.template_pair_stack.no_blocks": 1,
    "model.structure_module.no_blocks": 2,
    "data.common.max_recycling_iters": 1,
}
FEW_ROWS = {"data.predict.max_extra_msa": 16, "data.predict.max_msa_clusters": 20}
SHRINK = f"""
from openfoldpp.plugins.hookspecs import hookimpl

@hookimpl
def openfoldpp_configure(config, options):
    config.update_from_flattened_dict({SHALLOW!r})
    if not options.config_preset.startswith("seq"):
        config.update_from_flattened_dict({FEW_ROWS!r})
"""


def small(preset):
    """Overrides of a small model; SoloSeq has one row already."""
    return SHALLOW if preset.startswith("seq") else SHALLOW | FEW_ROWS


@pytest.fixture(scope="session")
def seed():
    return SEED


@pytest.fixture(scope="session")
def runs():
    return RUNS


@pytest.fixture(scope="session")
def home():
    return Path(os.environ["OPENFOLD_HOME"])


@pytest.fixture(scope="session", autouse=True)
def version():
    """Activate the checkout before anything imports another openfold."""
    from openfoldpp.upstream import activate

    return activate().version


@pytest.fixture(scope="session")
def shrink(plugin_folder):
    return plugin_folder("shrink2", SHRINK)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory, write_template, hhr, template_sequence):
    """Targets as a user has them: FASTA folders, alignments, embeddings and templates."""
    import torch

    folder = tmp_path_factory.mktemp("inputs")
    targets = {
        "monomer": {"query": HEAVY},
        "templated": {"templated": template_sequence + "LKKELAL"},
        "dimer": {"heavy": HEAVY, "light": LIGHT},
        "homotrimer": {"a": LIGHT, "b": HEAVY, "c": LIGHT},
        "pair": {"light": LIGHT, "query": HEAVY},
    }
    found = SimpleNamespace(
        alignments=folder / "alignments", templates=folder / "templates", sequences=targets
    )
    for name, records in targets.items():
        (folder / name).mkdir()
        setattr(found, name, folder / name)
        if name == "pair":  # two targets
            for tag, sequence in records.items():
                (folder / name / f"{tag}.fasta").write_text(f">{tag}\n{sequence}\n")
        else:
            text = "".join(f">{tag}\n{sequence}\n" for tag, sequence in records.items())
            (folder / name / "target.fasta").write_text(text)
        for tag, sequence in records.items():
            chain = found.alignments / tag
            chain.mkdir(parents=True, exist_ok=True)
            homologs = [
                sequence.replace("G", "A"),
                sequence.replace("L", "-"),
                sequence[:9] + "kk" + sequence[9:],
            ]
            text = "".join(f">{i}\n{seq}\n" for i, seq in enumerate([sequence, *homologs]))
            (chain / "uniref90_hits.a3m").write_text(text)
            paired = "".join(
                f"tr|A0A00{i}|A0A00{i}_{species} {seq}\n"
                for i, (species, seq) in enumerate([("HUMAN", homologs[0]), ("MOUSE", homologs[1])])
            )
            (chain / "uniprot_hits.sto").write_text(f"# STOCKHOLM 1.0\n\n{tag} {sequence}\n{paired}//\n")
            embedding = torch.randn(len(sequence), 1280, generator=torch.Generator().manual_seed(7))
            torch.save({"label": tag, "representations": {33: embedding}}, chain / f"{tag}.pt")
    (found.alignments / "templated" / "pdb70_hits.hhr").write_text(
        hhr(template_sequence, template_sequence + "LKKELAL")
    )
    found.templates.mkdir()
    write_template(found.templates / "1ay7.cif")
    return found


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Paths of weights, drawn at random by the first vanilla run that names them."""
    folder = tmp_path_factory.mktemp("weights")
    return lambda preset, suffix="": (
        folder
        / (
            f"params_{preset}{suffix}.npz"
            if "multimer" in preset or suffix == "jax"
            else f"{preset}{suffix}.pt"
        )
    )


@pytest.fixture(scope="session")
def arguments(inputs, weights):
    """Return the arguments of a run with alignments and templates; by default with the preset's weights."""

    def make(target, preset, *more, weights_file=None):
        file = weights_file or weights(preset)
        flag = "--jax_param_path" if file.suffix == ".npz" else "--openfold_checkpoint_path"
        return [
            getattr(inputs, target), inputs.templates, flag, file,
            "--use_precomputed_alignments", inputs.alignments, "--config_preset", preset,
            "--data_random_seed", SEED, "--save_outputs", *more,
        ]  # fmt: skip

    return make


@pytest.fixture(scope="session")
def run_vanilla_script(home, tmp_path_factory):
    """Run upstream's script alone, several times in one subprocess; returns the output folders."""

    def run(*jobs, shrunk=True):
        """Each job has the arguments, the preset, and overrides of its configuration."""
        folder = tmp_path_factory.mktemp("vanilla_script")
        written, outputs = [], []
        for number, (argv, preset, overrides) in enumerate(jobs):
            outputs.append(folder / str(number))
            written.append(
                {
                    "script": str(home / "run_pretrained_openfold.py"),
                    "argv": [*map(str, argv), "--output_dir", str(outputs[-1])],
                    "random": SEED,
                    "preset": preset,
                    "overrides": (small(preset) if shrunk else {}) | overrides,
                    "checkpoint": str(argv[3]),
                }
            )
        (folder / "jobs.json").write_text(json.dumps(written))
        done = subprocess.run(
            [
                sys.executable,
                "-W",
                "ignore",
                REPOSITORY / "tests/upstream/vanilla_script.py",
                folder / "jobs.json",
            ],
            env=os.environ | {"PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return outputs

    return run


# name: (target, preset, further arguments)
RUNS = {
    "monomer": ("monomer", "model_1_ptm", ["--skip_relaxation"]),
    "templated": ("templated", "model_1_ptm", ["--skip_relaxation"]),
    "soloseq": ("monomer", "seq_model_esm1b_ptm", ["--skip_relaxation"]),
    "dimer": ("dimer", "model_1_multimer_v3", ["--skip_relaxation"]),
    "homotrimer": ("homotrimer", "model_1_multimer_v3", ["--skip_relaxation"]),
    "cif": ("monomer", "model_3", ["--skip_relaxation", "--cif_output", "--output_postfix", "x"]),
    "subtract": ("monomer", "model_1_ptm", ["--skip_relaxation", "--subtract_plddt"]),
}


@pytest.fixture(scope="session")
def vanilla(run_vanilla_script, arguments):
    """Output folder of upstream's own script for each of RUNS."""
    jobs = [(arguments(target, preset, *more), preset, {}) for target, preset, more in RUNS.values()]
    return dict(zip(RUNS, run_vanilla_script(*jobs), strict=True))


@pytest.fixture
def run(monkeypatch, shrink, tmp_path):
    """Run the command in this process, its softmax by torch; returns exit code and output folder."""
    from openfoldpp.inference import driver
    from openfoldpp.ops import dispatch

    monkeypatch.syspath_prepend(shrink)
    monkeypatch.setenv("OPENFOLDPP_BACKEND", "torch")
    dispatch.settings.cache_clear()

    def main(*arguments, plugins="shrink2", folder="out"):
        code = driver.main(
            [*map(str, arguments), "--plugins", plugins, "--output_dir", str(tmp_path / folder), "--quiet"],
            program="run_pretrained_openfold.py",
        )
        return code, tmp_path / folder

    yield main
    monkeypatch.undo()
    dispatch.settings.cache_clear()


@pytest.fixture(scope="session")
def assert_same_files(assert_same_bits):
    """Compare every file that vanilla wrote with ours: pickles bit for bit, structures to the letter."""
    # What a ModelCIF file says of the day and of itself.
    dated = ("_ma_data.", "_pdbx_audit", "_entry", "data_")

    def undated(text):
        return [line for line in text.splitlines() if not line.startswith(dated)]

    def check(ours, vanillas):
        written = [file for file in (vanillas / "predictions").rglob("*") if file.is_file()]
        assert written
        for file in written:
            mine = ours / file.relative_to(vanillas)
            if file.suffix == ".pkl":
                assert_same_bits(read_pickle(mine), read_pickle(file))
            elif file.suffix == ".cif":
                assert undated(mine.read_text()) == undated(file.read_text())
            elif file.name != "timings.json":
                assert mine.read_text() == file.read_text()

    return check
