"""Teach a network what backbone to expect from a language model's embeddings: the recipe that made it.

    openfoldpp train motif-profile --out runs/motif_profile

Antibody Fvs are generated and modelled by FlashABB. At each step stretches of their chains are drawn, three
in four of them around CDR-H3, where structures differ most, the others from anywhere in a chain.
The network expects distances and dihedrals of CA with a width each; the loss is the negative logarithm of
Laplace's density. Everything random follows from the seed and the number of the step, dropout too, so that a
run that was stopped goes on to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openfoldpp.files import write_json
from openfoldpp.motifs import profile
from openfoldpp.motifs.profile import GEOMETRY, ProfileNetwork, local_geometry
from openfoldpp.plm import plm_lite
from openfoldpp.plm.weights import sha256_of
from openfoldpp.training import fragments
from openfoldpp.training.fragments import Chain
from openfoldpp.training.run_folder import RunFolder, one_run_in, steps_done
from openfoldpp.training.schedule import warm_up_and_cosine

#: The last Fvs, which the log's figures are of.
HELD_OUT = 100

# Residues of a stretch, and those at its ends, but a chain's, that are only seen: the network looks so far.
_STRETCH, _CONTEXT = 52, 12
_AROUND_H3 = 0.75
# Residues by which a stretch is moved along the chain at most.
_JITTER = 6
_WARM_UP = 100
_WEIGHT_DECAY = 0.02
_CLIP = 1.0


@dataclass(frozen=True)
class Settings:
    """What decides a run; the checkpoint keeps it.

    Attributes
    ----------
    fvs, steps, stretches, channels, blocks, seed : int
        Fvs that are modelled; updates; stretches in each; width and blocks of the network; what everything
        random follows from.
    dropout, learning_rate : float
        Share of channels that are left out; the highest rate, which falls along a cosine.
    """

    fvs: int = 4000
    steps: int = 4000
    stretches: int = 48
    channels: int = 96
    blocks: int = 4
    seed: int = 10
    dropout: float = 0.2
    learning_rate: float = 2e-3


@dataclass(frozen=True)
class Example:
    """One chain.

    Attributes
    ----------
    embedding : torch.Tensor of shape (N_res, C_plm), float16
        Of the language model.
    geometry : torch.Tensor of shape (N_res, GEOMETRY), float32
        See :func:`openfoldpp.motifs.profile.local_geometry`.
    h3 : tuple of int, optional
        First residue of CDR-H3 and the one after its last, of a heavy chain.
    """

    embedding: Tensor
    geometry: Tensor
    h3: tuple[int, int] | None


def train(
    settings: Settings, out: Path, *, checkpoint_every: int = 500, say: Callable[[str], None] = print
) -> Path:
    """Train, or go on where the checkpoint in the folder ends, and write the network.

    Parameters
    ----------
    settings : Settings
        Of the run.
    out : pathlib.Path
        Folder for the Fvs' models, ``checkpoint.pt``, ``log.jsonl``, and ``motif_profile.safetensors`` with
        ``motif_profile.json``; of one run at a time.
    checkpoint_every : int
        Steps between checkpoints, each with the error on the held-out Fvs.
    say : callable
        Gets a line of text now and then.

    Returns
    -------
    pathlib.Path
        ``motif_profile.safetensors``.

    Raises
    ------
    ConfigError
        The checkpoint is of a run with other settings or weights.
    InputError
        Another run is writing into the folder.
    MissingDependencyError
        OLGA or flash-abb is not installed.
    """
    lite = plm_lite.load()
    path = out / "motif_profile.safetensors"
    with one_run_in(out, say):
        # Before the models of another run's Fvs are replaced.
        steps_done(out, _decides(settings, lite.fingerprint))
        fvs = fragments.model_fvs(
            fragments.draw(settings.fvs, settings.seed),
            out / "models",
            "pool",
            progress=lambda done: say(f"modelled {done:,} of {settings.fvs:,} Fvs"),
        )
        found = examples([chain for fv in fvs for chain in fv], lite)
        say(f"embedded {len(found):,} chains")
        network = learn(settings, found, out, lite.fingerprint, checkpoint_every, say)
        profile.write(path, network, lite.fingerprint)
        figures = measure(network, found[len(found) - _held_out(found) :])
        write_json(path.with_suffix(".json"), _described(settings, path) | {"held_out": figures})
    return path


def examples(chains: Sequence[Chain], lite: plm_lite.LiteModel) -> list[Example]:
    """Embed chains.

    Parameters
    ----------
    chains : sequence of Chain
        With backbones.
    lite : plm_lite.LiteModel
        The language model.

    Returns
    -------
    list of Example
        In the chains' order.
    """
    found: dict[int, Example] = {}
    for number, embedding in lite.embed_each([chain.sequence for chain in chains]):
        chain = chains[number]
        geometry = torch.from_numpy(local_geometry(chain.backbone[:, 1]))
        found[number] = Example(embedding.half(), geometry, chain.cdrs[2] if chain.is_heavy else None)
    return [found[number] for number in range(len(chains))]


def learn(
    settings: Settings,
    found: Sequence[Example],
    out: Path,
    plm: str,
    checkpoint_every: int = 500,
    say: Callable[[str], None] = print,
) -> ProfileNetwork:
    """Run the loop on examples that are there.

    Parameters
    ----------
    settings : Settings
        Of the run.
    found : sequence of Example
        Heavy and light chains in turns; the last ones are only measured on.
    out : pathlib.Path
        Folder for ``checkpoint.pt`` and ``log.jsonl``.
    plm : str
        Fingerprint of the language model: a checkpoint of another is refused.
    checkpoint_every : int
        Steps between checkpoints.
    say : callable
        Gets a line of text at each checkpoint.

    Returns
    -------
    ProfileNetwork

    Raises
    ------
    ConfigError
        The checkpoint is of a run with other settings or another language model.
    """
    held_out = _held_out(found)
    learned, checked = found[: len(found) - held_out], found[len(found) - held_out :]
    heavy = [example for example in learned if example.h3]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = ProfileNetwork(
            found[0].embedding.shape[1], settings.channels, settings.blocks, settings.dropout
        )
        optimiser = torch.optim.AdamW(network.parameters(), weight_decay=_WEIGHT_DECAY)
        run = RunFolder(out, _decides(settings, plm), {"network": network, "optimiser": optimiser})
        for step in range(run.resume(), settings.steps):
            for group in optimiser.param_groups:
                group["lr"] = warm_up_and_cosine(
                    step, settings.steps, highest=settings.learning_rate, warm_up=_WARM_UP
                )
            torch.manual_seed(settings.seed * settings.steps + step)
            rng = np.random.default_rng([settings.seed, step])
            drawn = [_stretch(learned, heavy, rng) for _ in range(settings.stretches)]
            embeddings, mask, wanted = (torch.stack(column) for column in zip(*drawn, strict=True))
            loss = error(*network.train()(embeddings, mask), wanted)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
            optimiser.step()
            run.note(step + 1, loss=loss, rate=optimiser.param_groups[0]["lr"])
            if (step + 1) % checkpoint_every == 0 or step + 1 == settings.steps:
                figures = measure(network, checked)
                run.note(step + 1, **figures)
                run.save(step + 1)
                said = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in figures.items())
                say(f"step {step + 1:,} of {settings.steps:,}: loss {loss.item():.3f}; {said}")
    return network.eval()


def error(geometry: Tensor, log_width: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean negative logarithm of Laplace's density, less log 2: the loss.

    Parameters
    ----------
    geometry, log_width : torch.Tensor of shape (..., GEOMETRY)
        What the network expects.
    wanted : torch.Tensor of shape (..., GEOMETRY)
        What is; not a number where nothing is.

    Returns
    -------
    torch.Tensor of shape ()
    """
    off = (geometry - wanted.nan_to_num()).abs() * torch.exp(-log_width) + log_width
    return off[~wanted.isnan()].mean()


@torch.inference_mode()
def measure(network: ProfileNetwork, checked: Sequence[Example]) -> dict[str, float]:
    """Measure a network on CDR-H3 and on whole chains.

    Parameters
    ----------
    network : ProfileNetwork
        In use.
    checked : sequence of Example
        Not learned from.

    Returns
    -------
    dict of str to float
        ``loss`` and ``distance_error`` (mean absolute, angstrom) of whole chains; the same with ``h3_``
        before it, of stretches that begin in CDR-H3 or up to five residues before it.
    """
    found: dict[str, list[float]] = {"loss": [], "distance_error": [], "h3_loss": [], "h3_distance_error": []}
    for example in checked:
        one = network.eval().profile(example.embedding)
        geometry, log_width = torch.from_numpy(one.geometry), torch.from_numpy(one.log_width)
        parts = [("", slice(None))]
        if example.h3:
            parts.append(("h3_", slice(max(example.h3[0] - 5, 0), example.h3[1])))
        for name, rows in parts:
            wanted = example.geometry[rows]
            off = (geometry[rows] - wanted)[:, :-2].abs()
            found[f"{name}loss"].append(float(error(geometry[rows], log_width[rows], wanted)))
            found[f"{name}distance_error"].append(float(off.nanmean()))
    return {name: float(np.mean(values)) for name, values in found.items() if values}


def _stretch(
    learned: Sequence[Example], heavy: Sequence[Example], rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a stretch's embedding, its mask and its geometry where the network sees all it looks at."""
    if heavy and rng.random() < _AROUND_H3:
        example = heavy[rng.integers(len(heavy))]
        first = sum(example.h3) // 2 - _STRETCH // 2 + int(rng.integers(-_JITTER, _JITTER + 1))
    else:
        example = learned[rng.integers(len(learned))]
        last = max(len(example.embedding) - _STRETCH + _CONTEXT, 1 - _CONTEXT)
        first = int(rng.integers(-_CONTEXT, last))
    length = len(example.embedding)
    start, end = max(first, 0), min(first + _STRETCH, length)
    rows = slice(start - first, end - first)
    embedding = torch.zeros(_STRETCH, example.embedding.shape[1])
    mask, wanted = torch.zeros(_STRETCH), torch.full((_STRETCH, GEOMETRY), torch.nan)
    embedding[rows], mask[rows], wanted[rows] = (
        example.embedding[start:end].float(),
        1,
        example.geometry[start:end],
    )
    if start:
        wanted[: start - first + _CONTEXT] = torch.nan
    if end < length:
        wanted[end - first - _CONTEXT :] = torch.nan
    return embedding, mask, wanted


def _held_out(found: Sequence[Example]) -> int:
    return 2 * min(HELD_OUT, len(found) // 8)


def _described(settings: Settings, path: Path) -> dict[str, Any]:
    flags = " ".join(
        f"--{name.replace('_', '-')} {getattr(settings, name):g}"
        for name in ("fvs", "steps", "learning_rate", "seed")
    )
    return {
        "name": "motif_profile",
        "what": "the backbone that plm_lite's embeddings lead one to expect: for each residue its CA's "
        "distances to the CA of two to nine residues on, and the dihedral of four CA, each with a width; a "
        "part of the score of motifs",
        "made_by": f"openfoldpp train motif-profile --out RUN {flags}",
        "learned_from": "generated antibody Fvs (OLGA, with mutations), modelled by FlashABB",
        "settings": asdict(settings),
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
    }


def _decides(settings: Settings, plm: str) -> dict[str, Any]:
    return asdict(settings) | {"plm": plm}
