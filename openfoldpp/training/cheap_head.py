"""Teach CheapHead to tell how far apart the backbones of two windows are: the recipe that made it.

    openfoldpp train cheap-head --out runs/cheap_head

Antibody Fvs are generated and modelled by FlashABB. At each step pairs of windows of two Fvs are drawn, half
of them from anywhere, a quarter at the same place and a quarter at the same place of a CDR, where small RMSDs
are. The distance between the two windows' vectors is compared with the RMSD of their backbones (N, CA, C), by
smooth L1: in angstrom for pairs from anywhere, whose RMSDs are large; at the same place divided by the RMSD,
so that a small error among alike fragments counts as much as a large one among unlike ones.

The validation Fvs, which the log's figures are of, and the held-out Fvs, which
``benchmarks/cheap_head.py`` measures, share less than 90 % of their residues with any chain
that is trained on. Everything random follows from the seed and the number of the step, so that a run that was
stopped goes on to the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openfoldpp.files import atomic_write
from openfoldpp.plm import plm_lite
from openfoldpp.plm.cheap_head import CheapHead, pool_windows, write
from openfoldpp.training import fragments
from openfoldpp.training.fragment_pairs import KINDS, Pairs, agreement
from openfoldpp.training.fragments import Chain, Windows
from openfoldpp.training.run_folder import RunFolder, one_run_in, steps_done
from openfoldpp.training.schedule import warm_up_and_cosine

#: Fvs that validation and held-out Fvs are apart from, if fewer are trained on: so that runs on fewer Fvs are
#: measured on the same ones.
APART_FROM = 1000
VALIDATION, HELD_OUT = 60, 150

# Pairs of each kind that the log's figures are of.
_CHECKED = 5000
# Of the pairs of each kind.
_SHARES = dict(zip(KINDS, (0.5, 0.25, 0.25), strict=True))
# Below these errors, angstrom, the loss is quadratic: of pairs from anywhere, and at the same place.
_BETA, _BETA_PLACE = 0.5, 0.1
# Added to the RMSD that an error is divided by, angstrom: about that of fragments that are the same.
_SAME = 0.5
# Spread of the windows' vectors at the start, angstrom: about that of RMSDs between fragments.
_SPREAD = 2.0
_WARM_UP = 100
_WEIGHT_DECAY = 1e-4
# The square root's slope at zero is infinite.
_NO_DISTANCE = 1e-6


@dataclass(frozen=True)
class Settings:
    """What decides a run; the checkpoint keeps it.

    Attributes
    ----------
    fvs : int
        How many are trained on.
    steps, pairs, seed : int
        Updates; pairs of windows in each; what everything random follows from.
    learning_rate : float
        The highest; it falls along a cosine.
    """

    fvs: int = 600
    steps: int = 3000
    pairs: int = 2048
    seed: int = 0
    learning_rate: float = 4e-3


@dataclass(frozen=True)
class Examples:
    """Windows and what CheapHead sees of them.

    Attributes
    ----------
    windows : Windows
        Backbone fragments and where they are from.
    pooled : torch.Tensor of shape (N, 64)
        Means of the projections of their residues.
    """

    windows: Windows
    pooled: Tensor


def train(
    settings: Settings,
    out: Path,
    *,
    weights: Path | None = None,
    checkpoint_every: int = 500,
    say: Callable[[str], None] = print,
) -> Path:
    """Train, or go on where the checkpoint in the folder ends, and write the head.

    Parameters
    ----------
    settings : Settings
        Of the run.
    out : pathlib.Path
        Folder for the Fvs' models, ``checkpoint.pt``, ``log.jsonl`` and ``cheap_head.safetensors``; of one
        run at a time.
    weights : pathlib.Path, optional
        Of plm_lite; by default those that come with openfoldpp.
    checkpoint_every : int
        Steps between checkpoints, each with the agreement on the validation Fvs.
    say : callable
        Gets a line of text now and then.

    Returns
    -------
    pathlib.Path
        ``cheap_head.safetensors``.

    Raises
    ------
    ConfigError
        The checkpoint is of a run with other settings or weights.
    InputError
        Another run is writing into the folder.
    MissingDependencyError
        OLGA or flash-abb is not installed.
    WeightsError
        The weights are damaged or another model's.
    """
    lite = plm_lite.load(weights=weights)
    path = out / "cheap_head.safetensors"
    with one_run_in(out, say):
        # Before the models of another run's Fvs are replaced.
        steps_done(out, _decides(settings, lite.fingerprint))
        learned, checked = (examples(name, lite, settings, out, say) for name in ("train", "validation"))
        head = learn(learned, checked, settings, out, lite.fingerprint, checkpoint_every, say)
        write(path, head, lite.fingerprint)
    return path


def learn(
    learned: Examples,
    checked: Examples,
    settings: Settings,
    out: Path,
    projection: str,
    checkpoint_every: int = 500,
    say: Callable[[str], None] = print,
) -> CheapHead:
    """Run the loop on examples that are there.

    Parameters
    ----------
    learned, checked : Examples
        To learn from, and for the log's figures.
    settings : Settings
        Of the run.
    out : pathlib.Path
        Folder for ``checkpoint.pt`` and ``log.jsonl``.
    projection : str
        What the examples were made with: a checkpoint of another is refused.
    checkpoint_every : int
        Steps between checkpoints.
    say : callable
        Gets a line of text at each checkpoint.

    Returns
    -------
    CheapHead

    Raises
    ------
    ConfigError
        The checkpoint is of a run with other settings or another projection.
    """
    pairs, head = Pairs(learned.windows), untrained(learned.pooled, settings.seed)
    optimiser = torch.optim.AdamW(head.parameters(), weight_decay=_WEIGHT_DECAY)
    run = RunFolder(out, _decides(settings, projection), {"head": head, "optimiser": optimiser})
    for step in range(run.resume(), settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = warm_up_and_cosine(
                step, settings.steps, highest=settings.learning_rate, warm_up=_WARM_UP
            )
        first, second = draw(pairs, settings.pairs, np.random.default_rng([settings.seed, step]))
        rmsd = torch.from_numpy(pairs.rmsd(first, second)).float()
        distance = distances(head(learned.pooled[first]), head(learned.pooled[second]))
        loss = error(distance, rmsd, round(_SHARES["anywhere"] * settings.pairs))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        run.note(step + 1, loss=loss, rate=optimiser.param_groups[0]["lr"])
        if (step + 1) % checkpoint_every == 0 or step + 1 == settings.steps:
            distance = euclidean(vectors(head, checked.pooled))
            figures = agreement(checked.windows, {"head": distance}, count=_CHECKED)["head"]
            run.note(step + 1, **{key.replace(" ", "_"): value for key, value in figures.items()})
            run.save(step + 1)
            said = ", ".join(f"{key} {value:.3f}" for key, value in figures.items())
            say(f"step {step + 1:,} of {settings.steps:,}: loss {loss.item():.4f}; Spearman {said}")
    return head


def _decides(settings: Settings, projection: str) -> dict[str, Any]:
    return asdict(settings) | {"projection": projection}


def error(distance: Tensor, rmsd: Tensor, anywhere: int) -> Tensor:
    """Return how far distances are from RMSDs: the loss.

    Parameters
    ----------
    distance, rmsd : torch.Tensor of shape (P,)
        Angstrom.
    anywhere : int
        The first so many pairs are from anywhere, the others at the same place.

    Returns
    -------
    torch.Tensor of shape ()
    """
    apart, alike = slice(None, anywhere), slice(anywhere, None)
    relative = F.smooth_l1_loss(distance[alike], rmsd[alike], beta=_BETA_PLACE, reduction="none")
    return (
        F.smooth_l1_loss(distance[apart], rmsd[apart], beta=_BETA) / 2
        + (relative / (rmsd[alike] + _SAME)).mean()
    )


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the Euclidean distances between vectors `a` and `b`, ``[P, 64]``, with a slope even at zero."""
    return ((a - b).square().sum(-1) + _NO_DISTANCE).sqrt()


def draw(pairs: Pairs, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the pairs of a step.

    Parameters
    ----------
    pairs : Pairs
        To draw from.
    count : int
        How many, about.
    rng : numpy.random.Generator
        The source of chance.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        Numbers of the first and of the second windows, the pairs from anywhere first.
    """
    drawn = [pairs.draw(kind, round(share * count), rng) for kind, share in _SHARES.items()]
    first, second = zip(*drawn, strict=True)
    return np.concatenate(first), np.concatenate(second)


def untrained(pooled: Tensor, seed: int) -> CheapHead:
    """Make a head to start from.

    Parameters
    ----------
    pooled : torch.Tensor of shape (N, 64)
        Windows, whose mean is taken away, and whose channels get the same spread.
    seed : int
        Of the weights.

    Returns
    -------
    CheapHead
        Its skip connection dominates.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = CheapHead()
    with torch.no_grad():
        head.mean.copy_(pooled.mean(0))
        # Distances between random windows are the spread of a channel times the root of twice the channels.
        head.scale.copy_(_SPREAD / pooled.std(0) / math.sqrt(2 * pooled.shape[1]))
        head.contract.weight.mul_(0.1)
        nn.init.zeros_(head.contract.bias)
    return head


def vectors(head: CheapHead, pooled: Tensor) -> np.ndarray:
    """Return the vectors that the `head` makes of `pooled` windows, float32 ``[N, 64]``."""
    with torch.inference_mode():
        return head(pooled).numpy()


def euclidean(values: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function of two arrays of numbers: the Euclidean distances of those rows of the `values`."""
    return lambda first, second: np.linalg.norm(values[first] - values[second], axis=-1)


def fvs(
    name: str, settings: Settings, out: Path, say: Callable[[str], None] = print
) -> list[tuple[Chain, Chain]]:
    """Generate and model the Fvs of a set, or read those that a former run has modelled.

    Parameters
    ----------
    name : str
        ``"train"``, ``"validation"`` or ``"held_out"``.
    settings : Settings
        Of the run.
    out : pathlib.Path
        Its folder.
    say : callable
        Gets a line of text for each file of models.

    Returns
    -------
    list of (Chain, Chain)
        Heavy and light chains.

    Raises
    ------
    MissingDependencyError
        OLGA or flash-abb is not installed.
    """
    seed = 3 * settings.seed
    pairs = fragments.draw(max(settings.fvs, APART_FROM), seed + 1)
    if name == "train":
        pairs = pairs[: settings.fvs]
    else:
        validation = fragments.draw_apart(VALIDATION, seed + 2, pairs)
        held_out = (
            fragments.draw_apart(HELD_OUT, seed + 3, pairs + validation) if name == "held_out" else None
        )
        pairs = held_out or validation
    return fragments.model_fvs(
        pairs, out / "models", name, progress=lambda done: say(f"{name}: {done} of {len(pairs)} Fvs")
    )


def examples(
    name: str, lite: plm_lite.LiteModel, settings: Settings, out: Path, say: Callable[[str], None] = print
) -> Examples:
    """Return the windows of a set with their pooled projections; these are kept for the next time.

    Parameters
    ----------
    name : str
        See :func:`fvs`.
    lite : LiteModel
        Whose projection it is.
    settings : Settings
        Of the run.
    out : pathlib.Path
        Its folder.
    say : callable
        Gets a line of text now and then.

    Returns
    -------
    examples : Examples
        Windows in the order of :func:`openfoldpp.training.fragments.windows`.

    Raises
    ------
    MissingDependencyError
        OLGA or flash-abb is not installed.
    """
    found = fvs(name, settings, out, say)
    windows = fragments.windows(found)
    path = out / f"{name}_pooled.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["projection"]) == lite.fingerprint and len(stored["pooled"]) == len(windows):
                return Examples(windows, torch.from_numpy(stored["pooled"]))
    say(f"{name}: embedding {len(found)} Fvs with {lite.name}")
    pooled = pooled_projections(found, lite)
    with atomic_write(path) as file:
        np.savez(file, projection=np.array(lite.fingerprint), pooled=pooled.numpy())
    return Examples(windows, pooled)


def pooled_projections(found: Sequence[tuple[Chain, Chain]], lite: plm_lite.LiteModel) -> Tensor:
    """Return the means of `lite`'s projection over the windows of the Fvs that were `found`, ``[N, 64]``."""
    embeddings = lite.embed([chain.sequence for fv in found for chain in fv])
    return torch.cat([pool_windows(lite.project(embedding)) for embedding in embeddings])
