"""Inputs of whole runs of OpenFold 2's script, and how both sides are started."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKRQTLGQHDFS"
# Presets of one row and of an alignment; and how many rows the latter gets.
SINGLE_ROW = "seq_model_esm1b_ptm"
ALIGNMENT = "model_1"
ALIGNMENT_ROWS = 128
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
REPOSITORY = Path(__file__).parents[1]


def sequences(targets: int, residues: int) -> list[str]:
    """Return sequences of one length, each another window of one that repeats."""
    long = SEQUENCE * (-(-(residues + targets) // len(SEQUENCE)))
    return [long[number : number + residues] for number in range(targets)]


def alignment(sequence: str, rows: int, *, seed: int = 0) -> list[str]:
    """Return the sequence and homologs of it: one residue in five another one, one in twenty a gap.

    Parameters
    ----------
    sequence : str
        The first row.
    rows : int
        Rows in all.
    seed : int
        The same rows for the same seed.

    Returns
    -------
    list of str
        Rows of the sequence's length.
    """
    draw = random.Random(seed)  # noqa: S311

    def mutated(letter: str) -> str:
        chance = draw.random()
        if chance < 0.05:
            return "-"
        return draw.choice(AMINO_ACIDS) if chance < 0.25 else letter

    return [sequence] + ["".join(mutated(letter) for letter in sequence) for _ in range(rows - 1)]


def write(folder: Path, targets: dict[str, str], *, rows: int = 0) -> None:
    """Write what the script reads: FASTA files, and an embedding or an alignment for each target.

    Parameters
    ----------
    folder : pathlib.Path
        Gets ``fasta``, ``alignments`` and ``templates``, the latter with the one file that vanilla asks for.
    targets : dict of str to str
        Tag and sequence.
    rows : int
        Rows of each alignment; 0 for embeddings of the size that SoloSeq takes.
    """
    import torch

    (folder / "fasta").mkdir(parents=True)
    (folder / "templates").mkdir()
    (folder / "templates" / "none.cif").touch()
    for number, (tag, sequence) in enumerate(targets.items()):
        (folder / "fasta" / f"{tag}.fasta").write_text(f">{tag}\n{sequence}\n")
        (folder / "alignments" / tag).mkdir(parents=True)
        if rows:
            text = "".join(f">{i}\n{row}\n" for i, row in enumerate(alignment(sequence, rows, seed=number)))
            (folder / "alignments" / tag / "uniref90_hits.a3m").write_text(text)
            continue
        embedding = torch.randn(len(sequence), 1280, generator=torch.Generator().manual_seed(number))
        file = folder / "alignments" / tag / f"{tag}.pt"
        torch.save({"label": tag, "representations": {33: embedding}}, file)


def arguments(folder: Path, preset: str) -> list[str]:
    """Return what both commands are given, but for the folder of outputs."""
    return [
        str(folder / "fasta"), str(folder / "templates"),
        "--use_precomputed_alignments", str(folder / "alignments"),
        "--openfold_checkpoint_path", str(folder / "random.pt"), "--config_preset", preset,
        "--data_random_seed", "1", "--skip_relaxation", "--save_outputs",
    ]  # fmt: skip


def vanilla(folder: Path, home: Path, preset: str, output: str, settings: dict) -> list[str]:
    """Return the command that runs upstream's script alone; the first run draws the weights at random.

    Parameters
    ----------
    folder : pathlib.Path
        What :func:`write` has filled.
    home : pathlib.Path
        The checkout of OpenFold.
    preset : str
        Of the model's configuration.
    output : str
        Name of the folder of outputs, in `folder`.
    settings : dict
        Dotted path in the configuration -> value.

    Returns
    -------
    list of str
        To be run with ``PYTHONPATH`` set to `home`.
    """
    job = {
        "script": str(home / "run_pretrained_openfold.py"),
        "argv": [*arguments(folder, preset), "--output_dir", str(folder / output)],
        "preset": preset,
        "overrides": settings,
        "checkpoint": str(folder / "random.pt"),
    }
    jobs = folder / f"{output}_jobs.json"
    jobs.write_text(json.dumps([job]))
    return [sys.executable, str(REPOSITORY / "tests" / "upstream" / "vanilla_script.py"), str(jobs)]


def host(folder: Path, home: Path, preset: str, output: str, settings: dict) -> list[str]:
    """Return the command that runs the same through ``run_pretrained_openfold.py --plugins openfoldpp``.

    Parameters
    ----------
    folder : pathlib.Path
        What :func:`write` has filled.
    home : pathlib.Path
        The checkout of OpenFold.
    preset : str
        Of the model's configuration.
    output : str
        Name of the folder of outputs, in `folder`.
    settings : dict
        Dotted path in the configuration -> value.

    Returns
    -------
    list of str
        The command.
    """
    file = folder / f"{output}_settings.json"
    file.write_text(json.dumps(settings))
    return [
        str(Path(sys.executable).parent / "run_pretrained_openfold.py"), *arguments(folder, preset),
        "--plugins", "openfoldpp", "--openfold_home", str(home), "--experiment_config_json", str(file),
        "--output_dir", str(folder / output),
    ]  # fmt: skip


def run(command: list[str], folder: Path, **environment: str) -> float:
    """Run one side in a folder and return its seconds; where it fails, end with its output."""
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - start


def model_seconds(output: Path) -> dict[str, float]:
    """Return the seconds of each target in the model's forward pass, as a run's ``timings.json`` has them."""
    timings = json.loads((output / "timings.json").read_text())
    return {tag: target["inference"] for tag, target in timings.items()}
