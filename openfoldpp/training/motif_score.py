"""Teach the score of motifs which candidates are right: the recipe that made it.

    openfoldpp train motif-score --out runs/motif_score --library LIB

Antibody Fvs that are not in the library are generated, modelled by FlashABB, and searched for. Every second
one is searched for without the library's chains that share 90 % of their residues with it, so that the score
is right with near relatives in the library and without. A candidate is right if its backbone is within
1.5 angstrom of the query's.

The first step, which is linear, learns from candidates drawn from all; the second, a small network, from the
finalists that the first chooses. The last Fvs are only measured on: how often a score of so much was right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from openfoldpp.files import write_json
from openfoldpp.geometry.superposition import fragment_rmsd
from openfoldpp.motifs import scoring
from openfoldpp.motifs.candidates import CODES, STRIDE, Blocks
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.retriever import Retriever
from openfoldpp.motifs.scoring import DISTANCES, FEATURES, NEAR, PLACES, TABLES, MotifScore
from openfoldpp.plm.weights import sha256_of
from openfoldpp.training import fragments
from openfoldpp.training.fragments import IDENTITY, Chain
from openfoldpp.training.run_folder import one_run_in
from openfoldpp.training.schedule import warm_up_and_cosine

#: Fvs that are measured on, the last ones.
HELD_OUT = 50
# Windows of a chain that are learned from beside those of its CDR3, where candidates differ most.
_OTHERS = 16
# Candidates of a window that the first step learns from.
_DRAWN = 96
_WARM_UP = 50
_WEIGHT_DECAY = 1e-3
_BINS = 10


@dataclass(frozen=True)
class Settings:
    """What decides a run.

    Attributes
    ----------
    fvs, steps, windows, hidden, seed : int
        Fvs that are searched for; updates of each step of the score; windows in each update; width of the
        network; what everything random follows from.
    learning_rate : float
        The highest; it falls along a cosine.
    """

    fvs: int = 250
    steps: int = 4000
    windows: int = 64
    hidden: int = 32
    seed: int = 12
    learning_rate: float = 5e-3


@dataclass(frozen=True)
class Query:
    """One chain that was searched for.

    Attributes
    ----------
    chain : Chain
        With its backbone.
    blocks : Blocks
        Its candidates.
    windows : numpy.ndarray of shape (W,), int64
        Those that are learned from or measured on.
    """

    chain: Chain
    blocks: Blocks
    windows: np.ndarray


def train(
    settings: Settings, library: Library, out: Path, *, say: Callable[[str], None] = print
) -> tuple[Path, dict[str, Any]]:
    """Search, learn, measure and write the score.

    Parameters
    ----------
    settings : Settings
        Of the run.
    library : Library
        Searched.
    out : pathlib.Path
        Folder for the Fvs' models, which a run that was stopped goes on with, and ``motif_score.safetensors``
        with ``motif_score.json``; of one run at a time.
    say : callable
        Gets a line of text now and then.

    Returns
    -------
    (pathlib.Path, dict)
        The weights' file and the figures on the held-out Fvs.

    Raises
    ------
    InputError
        Another run is writing into the folder.
    MissingDependencyError
        OLGA, flash-abb or FAISS is not installed.
    """
    with one_run_in(out, say):
        pairs = fragments.draw(settings.fvs, settings.seed)
        fvs = fragments.model_fvs(
            pairs,
            out / "models",
            "queries",
            progress=lambda done: say(f"modelled {done} of {len(pairs)} Fvs"),
        )
        score, figures = learn(settings, library, fvs, say)
        path = out / "motif_score.safetensors"
        scoring.write(path, score)
        write_json(path.with_suffix(".json"), _described(settings, library, path) | figures)
    return path, figures


def learn(
    settings: Settings,
    library: Library,
    fvs: Sequence[tuple[Chain, Chain]],
    say: Callable[[str], None] = print,
) -> tuple[MotifScore, dict[str, Any]]:
    """Learn both steps from Fvs that are there, and measure on the last ones.

    Parameters
    ----------
    settings : Settings
        Of the run.
    library : Library
        Searched.
    fvs : sequence of (Chain, Chain)
        Not in the library.
    say : callable
        Gets a line of text now and then.

    Returns
    -------
    (MotifScore, dict)
        The score, and its figures.
    """
    held_out = min(HELD_OUT, len(fvs) // 4)
    learned, measured = fvs[: len(fvs) - held_out], fvs[len(fvs) - held_out :]
    queries = _searched(settings, library, learned)
    say(f"searched for {len(learned)} Fvs")
    untrained = _untrained(settings)
    score = _learn_first(settings, library, queries, untrained, say)
    retriever = Retriever(library, score=score)
    score = _learn_second(settings, *_finalists(retriever, queries), score, say)
    figures: dict[str, Any] = {"learned_fvs": len(learned), "held_out_fvs": len(measured)}
    retriever = Retriever(library, score=score)
    # The same number first, so that the two halves are of the same kind as those learned from.
    whole = _searched(settings, library, measured, everything=True)
    for name, some in (
        ("without near relatives", whole[0::4] + whole[1::4]),
        ("as it is", whole[2::4] + whole[3::4]),
    ):
        features, rmsd, there = _finalists(retriever, some)
        figures[name] = reliability(score.second(features), rmsd, there)
        say(
            f"{name}: {figures[name]['top_right']:.3f} of top hits right, "
            f"error {figures[name]['ece_top']:.3f}"
        )
    return score, figures


def reliability(scores: np.ndarray, rmsd: np.ndarray, there: np.ndarray) -> dict[str, Any]:
    """Say how far scores are from how often they are right.

    Parameters
    ----------
    scores : numpy.ndarray of shape (W, M)
        Probabilities.
    rmsd : numpy.ndarray of shape (W, M)
        Angstrom.
    there : numpy.ndarray of shape (W, M), bool
        Which are candidates.

    Returns
    -------
    dict
        Of all candidates and of each window's best: how many, their mean score, how many are right, and the
        expected calibration error (Guo et al. 2017, arXiv 1706.04599) over ten bins, with the bins.
    """
    best = (np.arange(len(scores)), np.where(there, scores, -1).argmax(1))
    found: dict[str, Any] = {"windows": len(scores)}
    for name, p, right in (
        ("all", scores[there], rmsd[there] <= NEAR),
        ("top", scores[best], rmsd[best] <= NEAR),
    ):
        bins = np.minimum((p * _BINS).astype(int), _BINS - 1)
        table = [
            {
                "from": i / _BINS,
                "candidates": int((bins == i).sum()),
                "score": float(p[bins == i].mean()),
                "right": float(right[bins == i].mean()),
            }
            for i in np.unique(bins)
        ]
        error = sum(row["candidates"] * abs(row["score"] - row["right"]) for row in table) / len(p)
        found |= {f"{name}_score": float(p.mean()), f"{name}_right": float(right.mean())}
        found |= {f"ece_{name}": float(error), f"bins_{name}": table}
    return found


def _described(settings: Settings, library: Library, path: Path) -> dict[str, Any]:
    flags = " ".join(
        f"--{name.replace('_', '-')} {getattr(settings, name):g}"
        for name in ("fvs", "steps", "learning_rate", "seed")
    )
    return {
        "name": "motif_score",
        "what": "the score of motifs: probability that a candidate's backbone (N, CA, C) of ten residues is "
        f"within {scoring.NEAR} angstrom of the query's; a linear step over exchange scores by place and "
        f"CheapHead's distances, then a network of {settings.hidden} units that sees how far the best "
        "candidates agree with each other and with the expected backbone (motif_profile)",
        "made_by": f"openfoldpp train motif-score --library LIB --out RUN {flags}",
        "learned_from": "generated antibody Fvs (OLGA, with mutations), modelled by FlashABB, searched for "
        f"in a library of {library.counts.shingles:,} shingles of others",
        "settings": asdict(settings),
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
    }


def _searched(
    settings: Settings, library: Library, fvs: Sequence[tuple[Chain, Chain]], *, everything: bool = False
) -> list[Query]:
    """Search for the chains of Fvs; every second Fv with its near relatives."""
    rng = np.random.default_rng(settings.seed)
    found = []
    for number, fv in enumerate(fvs):
        retriever = Retriever(
            library, max_identity=IDENTITY if number % 2 == 0 else None, score=_untrained(settings)
        )
        for chain, blocks in zip(fv, retriever.blocks([chain.sequence for chain in fv]), strict=True):
            windows = np.arange(blocks.windows)
            if not everything:
                (start, end), middle = chain.cdrs[2], windows + PLACES // 2 - scoring.CONTEXT
                inside = (middle >= start) & (middle < end)
                drawn = rng.permutation(windows[~inside])[:_OTHERS]
                windows = np.sort(np.concatenate([windows[inside], drawn]))
            found.append(Query(chain, blocks, windows))
    return found


def _learn_first(
    settings: Settings,
    library: Library,
    queries: Sequence[Query],
    start: MotifScore,
    say: Callable[[str], None],
) -> MotifScore:
    rng = np.random.default_rng([settings.seed, 1])
    examples = [_examples(library, query, rng) for query in queries]
    pairs, distances, right = (
        torch.from_numpy(np.concatenate(column)) for column in zip(*examples, strict=True)
    )
    say(f"first step: {len(right):,} candidates, {right.float().mean():.3f} right")
    table = torch.from_numpy(scoring.table())
    places = torch.zeros(PLACES, TABLES, requires_grad=True)
    weights = torch.zeros(DISTANCES, requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)

    def odds(chosen: Tensor) -> Tensor:
        stands = table[pairs[chosen].long()]
        return (stands * places).sum((-1, -2)) + distances[chosen] @ weights + bias

    _descend(settings, [places, weights, bias], odds, right, settings.windows * _DRAWN, say)
    return replace(
        start, places=places.detach().numpy(), distances=weights.detach().numpy(), bias=bias.detach().numpy()
    )


def _examples(library: Library, query: Query, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Return pairs of codes, features of distances and whether right, of candidates of a chain's windows."""
    blocks = query.blocks
    valid, distances = blocks.valid(), scoring.distance_features(blocks)
    atoms = fragments.fragments(query.chain.backbone)
    found = []
    for window in query.windows:
        block, step = divmod(int(window), STRIDE)
        chosen = rng.permutation(np.flatnonzero(valid[block, :, step]))[:_DRAWN]
        codes = blocks.codes[block, chosen, step : step + PLACES]
        pairs = blocks.query[block, step : step + PLACES].astype(np.int16) * CODES + codes
        rmsd = _rmsd(
            library,
            np.broadcast_to(atoms[window], (len(chosen), *atoms.shape[1:])),
            blocks.shingles[block, chosen] + step,
        )
        found.append((pairs, distances[block, chosen, step], rmsd <= NEAR))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def _finalists(retriever: Retriever, queries: Sequence[Query]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features and RMSDs of the finalists of the windows, and which are there."""
    found = []
    for query in queries:
        odds, shingles, distances = (column[query.windows] for column in retriever.finalists(query.blocks))
        features = retriever.features(query.blocks, query.windows, odds, shingles, distances)
        atoms = fragments.fragments(query.chain.backbone)[query.windows]
        wanted = np.repeat(atoms, shingles.shape[1], 0)
        rmsd = _rmsd(retriever.library, wanted, np.maximum(shingles, 0).ravel()).reshape(shingles.shape)
        found.append((features, rmsd, shingles >= 0))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def _learn_second(
    settings: Settings,
    features: np.ndarray,
    rmsd: np.ndarray,
    there: np.ndarray,
    start: MotifScore,
    say: Callable[[str], None],
) -> MotifScore:
    seen, right = torch.from_numpy(features[there]), torch.from_numpy(rmsd[there] <= NEAR)
    say(f"second step: {len(right):,} finalists, {right.float().mean():.3f} right")
    mean, scale = seen.mean(0), 1 / (seen.std(0) + 1e-3)
    seen = (seen - mean) * scale
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        expand = (torch.randn(FEATURES, settings.hidden) / math.sqrt(FEATURES)).requires_grad_()
        contract = (torch.randn(settings.hidden) / math.sqrt(settings.hidden)).requires_grad_()
    biases = [torch.zeros(settings.hidden, requires_grad=True), torch.zeros(1, requires_grad=True)]

    def odds(chosen: Tensor) -> Tensor:
        return (seen[chosen] @ expand + biases[0]).relu() @ contract + biases[1]

    _descend(settings, [expand, contract, *biases], odds, right, settings.windows * scoring.FINALISTS, say)
    return replace(
        start,
        mean=mean.numpy(),
        scale=scale.numpy(),
        expand=expand.detach().numpy(),
        expand_bias=biases[0].detach().numpy(),
        contract=contract.detach().numpy(),
        contract_bias=biases[1].detach().numpy(),
    )


def _descend(
    settings: Settings,
    weights: list[Tensor],
    odds: Callable[[Tensor], Tensor],
    right: Tensor,
    batch: int,
    say: Callable[[str], None],
) -> None:
    optimiser = torch.optim.AdamW(weights, weight_decay=_WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(settings.seed)
    total = 0.0
    for step in range(settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = warm_up_and_cosine(
                step, settings.steps, highest=settings.learning_rate, warm_up=_WARM_UP
            )
        chosen = torch.randint(len(right), (batch,), generator=generator)
        loss = F.binary_cross_entropy_with_logits(odds(chosen), right[chosen].float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.item()
        if (step + 1) % 500 == 0:
            say(f"step {step + 1:,} of {settings.steps:,}: loss {total / 500:.4f}")
            total = 0.0


def _rmsd(library: Library, wanted: np.ndarray, shingles: np.ndarray) -> np.ndarray:
    found = library.shingle_coordinates(shingles)[..., :3, :].reshape(wanted.shape)
    return fragment_rmsd(wanted, found)


def _untrained(settings: Settings) -> MotifScore:
    """Return a score whose first step ranks by distance alone."""
    distances = np.zeros(DISTANCES, np.float32)
    distances[0] = -1
    zeros = {
        "places": (PLACES, TABLES),
        "bias": (1,),
        "mean": (FEATURES,),
        "scale": (FEATURES,),
        "expand": (FEATURES, settings.hidden),
        "expand_bias": (settings.hidden,),
        "contract": (settings.hidden,),
        "contract_bias": (1,),
    }
    return MotifScore(
        distances=distances, **{name: np.zeros(shape, np.float32) for name, shape in zeros.items()}
    )
