"""Teach GraphCompositor to put motifs together: the recipe that made it.

    openfoldpp train compositor --library LIB --out runs/compositor

Antibody Fvs that are not in the library are generated, modelled by FlashABB, and searched for. What the
search finds is laid out as :func:`openfoldpp.motifs.assembly.assemble` does, and the network learns from
there: the loss is 1 - mean TM-score to FlashABB's model, and the cross-entropy of the confidence with the
lDDT of CA. In the last epochs weights and the inputs of layers are rounded to 8 bits, as the file has them.

The last Fvs are only measured on.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from openfoldpp.errors import InputError, MissingDependencyError
from openfoldpp.files import write_json
from openfoldpp.motifs import graph_weights
from openfoldpp.motifs.graph_compositor import GraphCompositor
from openfoldpp.motifs.library import Library
from openfoldpp.training import compositor_samples, fragments, motif_library
from openfoldpp.training.compositor_figures import Figures, measure
from openfoldpp.training.compositor_samples import Sample
from openfoldpp.training.run_folder import one_run_in

#: Fvs that are measured on, the last ones.
HELD_OUT = 100
#: Of the smoke test: Fvs in its library, Fvs that it overfits, epochs, and the TM-score that it must reach.
SMOKE_LIBRARY, SMOKE_FVS, SMOKE_EPOCHS, SMOKE_TM = 40, 10, 20, 0.9

_LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Settings:
    """What decides a run.

    Attributes
    ----------
    fvs, epochs, rounded_epochs, batch, seed : int
        Fvs that are generated; epochs in float32, and with 8 bits; Fvs in each update; what everything random
        follows from.
    learning_rate : float
        The highest; it falls along a cosine, and begins again at a quarter when rounding begins.
    """

    fvs: int = 600
    epochs: int = 8
    rounded_epochs: int = 2
    batch: int = 4
    seed: int = 20
    learning_rate: float = 5e-3


def train(
    settings: Settings,
    library: Library,
    out: Path,
    *,
    made_by: str = "",
    say: Callable[[str], None] = print,
) -> tuple[Path, dict[str, Any]]:
    """Search, learn, measure and write the weights.

    Parameters
    ----------
    settings : Settings
        Of the run.
    library : Library
        Searched.
    out : pathlib.Path
        Folder for the Fvs' models, ``samples``, ``float.ckpt`` and ``int8.ckpt``, ``compositor.safetensors``
        and ``compositor.json`` with the calibration; of one run at a time. What is there of a run with these
        settings is gone on with.
    made_by : str
        The command, for the file.
    say : callable
        Gets a line of text now and then.

    Returns
    -------
    (pathlib.Path, dict)
        The weights' file and the figures on the held-out Fvs.

    Raises
    ------
    ConfigError
        The checkpoints are of a run with other settings.
    InputError
        Another run is writing into the folder, or the Fvs are too few.
    MissingDependencyError
        OLGA, flash-abb, FAISS or Lightning is not installed.
    """
    if settings.fvs < 8:
        raise InputError(f"--fvs {settings.fvs}: expected 8 or more, to learn from and to measure on")
    with one_run_in(out, say):
        pairs = fragments.draw(settings.fvs, settings.seed)
        fvs = fragments.model_fvs(
            pairs,
            out / "models",
            "queries",
            progress=lambda done: say(f"modelled {done} of {len(pairs)} Fvs"),
        )
        paths = compositor_samples.prepare(fvs, library, out / "samples", say)
        held_out = min(HELD_OUT, len(paths) // 4)
        learned = [compositor_samples.read(path) for path in paths[: len(paths) - held_out]]
        measured = [compositor_samples.read(path) for path in paths[len(paths) - held_out :]]
        model, figures = learn(settings, learned, measured, out, say)
        path = out / "compositor.safetensors"
        graph_weights.save(path, model, made_by)
        write_json(out / "compositor.json", {"settings": asdict(settings)} | figures)
    return path, figures


def learn(
    settings: Settings,
    learned: Sequence[Sample],
    measured: Sequence[Sample],
    out: Path,
    say: Callable[[str], None] = print,
) -> tuple[GraphCompositor, dict[str, Any]]:
    """Learn from samples that are there, and measure on others.

    Parameters
    ----------
    settings : Settings
        Of the run.
    learned, measured : sequence of Sample
        To learn from, and to measure on.
    out : pathlib.Path
        Folder for the checkpoints.
    say : callable
        Gets a line of text for each epoch.

    Returns
    -------
    (GraphCompositor, dict)
        The model, and its figures: untrained, in float32, rounded without having learned to be, and rounded.

    Raises
    ------
    ConfigError
        A checkpoint is of a run with other settings.
    MissingDependencyError
        Lightning is not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = GraphCompositor()
    figures: dict[str, Any] = {"learned_fvs": len(learned), "held_out_fvs": len(measured)}

    def note(name: str) -> None:
        found: Figures = measure(model, measured)
        figures[name] = asdict(found)
        say(f"{name}: TM {found.tm:.4f}, RMSD {found.rmsd:.3f} A, error of the confidence {found.ece:.3f}")

    note("untrained")
    fit(model, settings, learned, settings.epochs, out / "float.ckpt", say=say)
    note("float32")
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    _round(model)
    note("rounded afterwards")
    model.load_state_dict(kept)
    fit(model, settings, learned, settings.rounded_epochs, out / "int8.ckpt", is_rounded=True, say=say)
    _round(model)
    note("int8")
    return model.eval().requires_grad_(False), figures


def fit(
    model: GraphCompositor,
    settings: Settings,
    samples: Sequence[Sample],
    epochs: int,
    checkpoint: Path,
    *,
    is_rounded: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Train a model for some epochs, or go on where the checkpoint ends.

    Parameters
    ----------
    model : GraphCompositor
        Trained in place.
    settings : Settings
        Of the run.
    samples : sequence of Sample
        To learn from.
    epochs : int
        How many.
    checkpoint : pathlib.Path
        Written after each epoch.
    is_rounded : bool
        Whether it learns with 8 bits.
    say : callable
        Gets a line of text for each epoch.

    Raises
    ------
    ConfigError
        The checkpoint is of a run with other settings.
    MissingDependencyError
        Lightning is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pytorch_lightning as lightning

            from openfoldpp.training.compositor_module import CompositorModule, Epochs, batches
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f'{error.name} is not installed, which this recipe trains with: pip install "openfoldpp[train]"'
        ) from error
    steps = epochs * math.ceil(len(samples) / settings.batch)
    rate = settings.learning_rate / 4 if is_rounded else settings.learning_rate
    module = CompositorModule(model, learning_rate=rate, steps=steps, is_rounded=is_rounded)
    data = batches(samples, settings.batch, settings.seed)
    told = asdict(settings) | {"samples": len(samples)}
    with _quiet():
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            gradient_clip_val=_LARGEST_GRADIENT,
            callbacks=[Epochs(checkpoint, told, say)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
        )
        begun = str(checkpoint) if checkpoint.is_file() else None
        trainer.fit(module, data, ckpt_path=begun, weights_only=True)


def smoke_test(out: Path, *, say: Callable[[str], None] = print) -> tuple[float, float]:
    """Overfit ten Fvs whose motifs are of a library of a few others, all made here.

    Parameters
    ----------
    out : pathlib.Path
        A folder; what a former smoke test left there is used.
    say : callable
        Gets a line of text now and then.

    Returns
    -------
    (float, float)
        The mean TM-score untrained, which is the assembly's, and that of the model with 8-bit weights, as
        read from its file.

    Raises
    ------
    MissingDependencyError
        OLGA, flash-abb, FAISS or Lightning is not installed.
    """
    settings = Settings(fvs=SMOKE_FVS, epochs=SMOKE_EPOCHS, rounded_epochs=SMOKE_EPOCHS // 4)
    path = out / "library"
    if not path.exists():
        motif_library.make(motif_library.Settings(fvs=SMOKE_LIBRARY, stretches=0), out, say=say)
    with one_run_in(out, say), Library.open(path) as library:
        fvs = fragments.model_fvs(fragments.draw(SMOKE_FVS, settings.seed), out / "models", "queries")
        paths = compositor_samples.prepare(fvs, library, out / "samples", say)
        samples = [compositor_samples.read(path) for path in paths]
        for name in ("float.ckpt", "int8.ckpt"):
            (out / name).unlink(missing_ok=True)
        model, found = learn(settings, samples, samples, out, say)
        graph_weights.save(out / "compositor.safetensors", model)
    return found["untrained"]["tm"], measure(graph_weights.read(out / "compositor.safetensors"), samples).tm


def _round(model: GraphCompositor) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if graph_weights.is_rounded(name):
                parameter.copy_(graph_weights.rounded(parameter))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning from saying which GPUs there are not, and from advising on processes for loading."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
