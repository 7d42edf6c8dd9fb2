"""Distil a protein language model into a few of its blocks: the recipe that made plm_lite.

    openfoldpp train plm-lite --teacher antiberty --keep-every 2 --dtype bfloat16 --out runs/plm_lite

The student keeps every n-th block of the teacher and its frozen embedding of tokens. Each of its blocks
learns to give what the teacher has after the block that it came from; the last counts most. Batches are
antibodies that are generated as they are needed and never seen twice, or drawn from a FASTA file. From a
part of the steps on, the student computes with its weights rounded to 4 bits, as the file will hold them,
while the gradient moves the exact ones ("straight through", arXiv 1308.3432): it learns to live with the
rounding.

A head of 64 channels learns that distances between residues are those between the teacher's whole
embeddings. It starts as the teacher's principal components; its gradient does not reach the blocks.

Everything random follows from the seed and the number of the step, so that a run that was stopped goes on
from its last checkpoint to the same bits. The loop is plain torch: there is one process, and nothing that a
trainer would take off the reader's hands.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from openfoldpp.plm import plm_lite
from openfoldpp.plm.alphabet import Alphabet
from openfoldpp.plm.embedder import LanguageModel
from openfoldpp.plm.transformer import Encoder
from openfoldpp.training.distillation import (
    distance,
    head_loss,
    layer_outputs,
    load_teacher,
    make_head,
    make_optimisers,
    make_student,
    rounded,
)
from openfoldpp.training.plm_lite_data import (
    Batch,
    Pool,
    calibration_sequences,
    collate,
    read_pool,
    training_sequences,
    validation_sequences,
)
from openfoldpp.training.run_folder import RunFolder, load_parts, one_run_in
from openfoldpp.training.schedule import warm_up_and_cosine

# Weight of the mean loss of the blocks before the last, beside the last one's 1.
_EARLIER_BLOCKS = 0.3
# A tenth of the steps, at most this many, lead up to the highest rate, which transformers do not bear at
# once.
_WARM_UP = 200
_CLIP = 1.0
# Settings that are paths: the model says their names, and not where they were.
_FILES = ("weights", "sequences", "start_from")
_VALIDATION_RESIDUES = _CALIBRATION_RESIDUES = 6000


@dataclass(frozen=True)
class Settings:
    """What decides a run; the checkpoint keeps it.

    Attributes
    ----------
    teacher : str
        As :func:`openfoldpp.plm.load` takes it.
    keep_every : int
        Every how many-th block is kept, counted back from the last.
    width : int or None
        Channels of the student's blocks; None: the teacher's, and its weights to start from.
    steps, batch_tokens, seed : int
        Updates; residues in each, about; what everything random follows from.
    learning_rate : float
        The highest; it falls along a cosine.
    round_from : float
        From which part of the steps on weights are rounded, 0 to 1.
    weights, sequences : str or None
        The teacher's weights, if not its own; a FASTA file to learn from instead of generated antibodies.
    dtype : str
        In which matrix products are computed: ``float32`` or ``bfloat16``.
    start_from : str or None
        ``checkpoint.pt`` of another run, whose student and head are trained further. Give another seed, or
        the same batches come again.
    """

    teacher: str = "antiberty"
    keep_every: int = 2
    width: int | None = None
    steps: int = 3000
    batch_tokens: int = 1035
    seed: int = 0
    learning_rate: float = 7e-4
    round_from: float = 0.7
    weights: str | None = None
    sequences: str | None = None
    dtype: str = "float32"
    start_from: str | None = None


def train(
    settings: Settings,
    out: Path,
    *,
    checkpoint_every: int = 100,
    device: str = "cpu",
    workers: int = 0,
    say: Callable[[str], Any] = print,
) -> Path:
    """Train, or go on where the checkpoint in the folder ends.

    Parameters
    ----------
    settings : Settings
        Of the run.
    out : pathlib.Path
        Folder for ``checkpoint.pt``, ``log.jsonl`` and ``plm_lite.safetensors``. One run at a time.
    checkpoint_every : int
        Steps between checkpoints, each with the model so far and its cosine on sequences not learned from.
    device : str
        A torch device.
    workers : int
        Processes that make batches; 0: this one does. A CPU is busy with the model, a GPU waits for batches.
    say : callable
        Gets a line of text at each checkpoint.

    Returns
    -------
    pathlib.Path
        ``plm_lite.safetensors``.

    Raises
    ------
    ConfigError
        A setting cannot be used, or differs from that of the checkpoint; the teacher cannot be learned from.
    InputError
        The FASTA file cannot be used, or another run is writing into the folder.
    WeightsError
        A checkpoint or the teacher's weights are missing, damaged, or another model's.
    MissingDependencyError
        OLGA is not installed and no sequences are given, or torch is older than 2.9.
    """
    teacher = load_teacher(settings.teacher, settings.weights, device)
    pool = read_pool(settings.sequences, teacher.max_residues, settings.batch_tokens)
    with one_run_in(out, say):
        return _train(settings, out, teacher, pool, checkpoint_every, workers, say)


def _train(
    settings: Settings,
    out: Path,
    teacher: LanguageModel,
    pool: Pool | None,
    checkpoint_every: int,
    workers: int,
    say: Callable[[str], Any],
) -> Path:
    learned, apart = pool or (None, None)
    student, kept = make_student(teacher.encoder, settings.keep_every, settings.width, settings.seed)
    student.to(teacher.device)
    known, check = (
        collate(sequences, teacher.alphabet).to(teacher.device)
        for sequences in (
            calibration_sequences(settings.seed, _CALIBRATION_RESIDUES, learned),
            validation_sequences(settings.seed, _VALIDATION_RESIDUES, apart),
        )
    )
    with torch.no_grad():
        head = make_head(layer_outputs(teacher.encoder, known, kept)[-1])
        wanted = layer_outputs(teacher.encoder, check, kept)[-1]
    if settings.start_from:
        load_parts(Path(settings.start_from), {"student": student, "head": head})
    if settings.dtype == "bfloat16":
        # Autocast would round the teacher's weights so, and would do it again at every step.
        for module in teacher.encoder.modules():
            if isinstance(module, nn.Linear):
                module.bfloat16()
    optimisers = make_optimisers(student, head)
    linears = [module for module in student.modules() if isinstance(module, nn.Linear)]
    every = range(len(kept))
    parts = {"student": student, "head": head, "muon": optimisers[0], "adamw": optimisers[1]}
    folder = RunFolder(out, asdict(settings), parts)
    path = out / "plm_lite.safetensors"
    # For sequences this short its gradient takes less than half of the time of the fused one on a CPU.
    kernels = [SDPBackend.MATH] if teacher.device.type == "cpu" else [*SDPBackend.__members__.values()]

    steps = range(folder.resume(), settings.steps)
    say(
        f"{settings.teacher}: {len(kept)} of {len(teacher.encoder.blocks)} blocks, steps {steps.start + 1:,} "
        f"to {settings.steps:,}; each is a line of {folder.log}"
    )
    make = functools.partial(_make_batch, settings, teacher.alphabet, learned)
    warm_up = max(1, min(_WARM_UP, settings.steps // 10))
    start = time.perf_counter()
    for step, batch in zip(steps, DataLoader(steps, None, num_workers=workers, collate_fn=make), strict=True):
        batch = batch.to(teacher.device)
        rounding = step >= settings.round_from * settings.steps
        rate = warm_up_and_cosine(
            step, settings.steps, highest=settings.learning_rate, warm_up=warm_up, falls_from=warm_up
        )
        with torch.autocast(teacher.device.type, torch.bfloat16, enabled=settings.dtype == "bfloat16"):
            with torch.no_grad():
                targets = layer_outputs(teacher.encoder, batch, kept)
            with rounded(linears if rounding else []):
                with sdpa_kernel(kernels):
                    outputs = layer_outputs(student, batch, every)
                *before, last = (distance(*pair) for pair in zip(outputs, targets, strict=True))
                earlier = sum(before, torch.zeros((), device=last.device)) / max(1, len(before))
                short = head_loss(head, outputs[-1].detach(), targets[-1], (settings.seed, step))
                (last + _EARLIER_BLOCKS * earlier + short).backward()
        nn.utils.clip_grad_norm_(student.parameters(), _CLIP)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad()
        cosine = F.cosine_similarity(outputs[-1].detach(), targets[-1], dim=-1).mean()
        figures = {"loss": last, "earlier": earlier, "head": short, "cosine": cosine, "rate": rate}
        seconds, start = time.perf_counter() - start, time.perf_counter()
        folder.note(step + 1, **figures, rounded=rounding, tokens=len(batch.tokens), seconds=seconds)

        if (step + 1) % checkpoint_every == 0 or step + 1 == settings.steps:
            with rounded(linears if rounding else []), torch.no_grad():
                found = layer_outputs(student, check, every)[-1]
            cosine = F.cosine_similarity(found, wanted, dim=-1).mean()
            folder.note(step + 1, validation_cosine=cosine)
            plm_lite.write(path, student, head, describe(settings, teacher, student, kept, step + 1))
            folder.save(step + 1)
            say(f"step {step + 1:,} of {settings.steps:,}: cosine {cosine:.4f}, {seconds:.2f} s a step")
    return path


def _make_batch(settings: Settings, alphabet: Alphabet, pool: list[str] | None, step: int) -> Batch:
    return collate(training_sequences(settings.seed, step, settings.batch_tokens, pool), alphabet)


def describe(
    settings: Settings, teacher: LanguageModel, student: Encoder, kept: Sequence[int], steps: int
) -> dict[str, Any]:
    """Return what the model's file says of itself.

    Parameters
    ----------
    settings : Settings
        Of the run.
    teacher : LanguageModel
        Its alphabet and limit are the student's.
    student : Encoder
        Its architecture.
    kept : sequence of int
        The teacher's blocks that the student's came from.
    steps : int
        Done so far.

    Returns
    -------
    dict
        Plain values: what loads it, and how it was made.
    """
    return {
        "architecture": student.architecture.to_dict(),
        "channels": teacher.channels,
        "alphabet": next(name for name, one in plm_lite.ALPHABETS.items() if one == teacher.alphabet),
        "max_residues": teacher.max_residues,
        "blocks_of_the_teacher": list(kept),
        "steps_done": steps,
        "training": {
            key: Path(value).name if key in _FILES and value else value
            for key, value in asdict(settings).items()
        },
    }
