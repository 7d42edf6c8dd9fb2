"""What CheapHead reaches on antibodies that it did not learn from.

    python benchmarks/cheap_head.py RUN [--fv FOLDER]

RUN is the folder of ``openfoldpp train cheap-head``. Writes ``docs/reports/cheap_head.md`` and the
description beside the shipped weights. With ``--fv``, a folder with ``chains.json`` and ``NAME.pdb`` of
crystal structures, these are measured too. Every distance is measured on the same pairs of windows: that of
the head, those of the embeddings that it starts from, and the part of residues that differ.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import cheap_head_report
import numpy as np
import torch

from openfoldpp.files import write_json, write_text
from openfoldpp.geometry.superposition import fragment_rmsd
from openfoldpp.plm import cheap_head, plm_lite
from openfoldpp.plm.cheap_head import K
from openfoldpp.plm.weights import sha256_of
from openfoldpp.training import cheap_head as recipe
from openfoldpp.training import fragments
from openfoldpp.training.fragment_pairs import Pairs, agreement
from openfoldpp.training.fragments import Chain, Windows

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "openfoldpp" / "weights" / "cheap_head.safetensors"
REPORT = ROOT / "docs" / "reports" / "cheap_head.md"
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]

HEAD, IDENTITY = cheap_head_report.HEAD, "sequence identity"
# Queries and library of the search, in windows: a few million superpositions.
QUERIES, LIBRARY = 300, 5000
# Bins of the RMSD, angstrom, in which the head's distance is compared with it.
_BINS = (0, 0.5, 1, 1.5, 2, 3, 4, 6, 10)


def main() -> None:
    """Measure, print, and write report and description."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of the training run")
    parser.add_argument("--fv", type=Path, help="folder with chains.json and NAME.pdb of crystal structures")
    options = parser.parse_args()
    figures = measure(options.run, options.fv)
    text = cheap_head_report.render(figures)
    write_json(WEIGHTS.with_suffix(".json"), cheap_head_report.describe(figures))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    write_text(REPORT, text)
    print(text)


def measure(run: Path, fv: Path | None) -> dict[str, Any]:
    """Return every figure of the report, by name.

    Parameters
    ----------
    run, fv : pathlib.Path
        Folders of the training run, and of crystal structures, if any.
    """
    lite = plm_lite.load()
    head = cheap_head.load(lite.fingerprint)
    made = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["settings"]
    settings = recipe.Settings(**{field.name: made[field.name] for field in fields(recipe.Settings)})
    if sha256_of(run / "cheap_head.safetensors") != sha256_of(WEIGHTS):
        raise SystemExit(f"{WEIGHTS} is not the head of {run}: copy {run / 'cheap_head.safetensors'} there")
    held_out = recipe.fvs("held_out", settings, run)
    windows, distances, vectors = distances_of(held_out, lite, head)
    library = recipe.examples("train", lite, settings, run)
    found = {
        "settings": made,
        "file": WEIGHTS.name,
        "bytes": WEIGHTS.stat().st_size,
        "sha256": sha256_of(WEIGHTS),
        "learned_windows": len(library.windows),
        "validation_fvs": recipe.VALIDATION,
        "held_out_fvs": len(held_out),
        "held_out_windows": len(windows),
        "spearman_held_out": agreement(windows, distances),
        "error_by_rmsd_held_out": errors(windows, distances[HEAD]),
        "search_held_out": search(windows, vectors, library, head),
        "queries": QUERIES,
        "library": LIBRARY,
    }
    if fv is not None:
        crystals = fragments.crystal_fvs(fv)
        windows, distances, _ = distances_of(crystals, lite, head)
        found |= {"crystal_fvs": len(crystals), "spearman_crystals": agreement(windows, distances)}
    return found


def distances_of(
    fvs: Sequence[tuple[Chain, Chain]], lite: plm_lite.LiteModel, head: cheap_head.CheapHead
) -> tuple[Windows, dict[str, Distance], dict[str, np.ndarray]]:
    """Return all distances between the windows of Fvs.

    Parameters
    ----------
    fvs : sequence of (Chain, Chain)
        Heavy and light chains.
    lite : LiteModel
        Gives embeddings and projections.
    head : CheapHead
        Of that projection.

    Returns
    -------
    (Windows, dict of str to callable, dict of str to numpy.ndarray)
        The windows; distances by name; the vectors behind them, where there are any.
    """
    windows = fragments.windows(fvs)
    embeddings = lite.embed([chain.sequence for fv in fvs for chain in fv])
    pooled = torch.cat([cheap_head.pool_windows(lite.project(embedding)) for embedding in embeddings])
    raw = torch.cat([embedding.unfold(0, K, 1).mean(-1) for embedding in embeddings])
    vectors = {
        HEAD: recipe.vectors(head, pooled),
        f"embedding, {raw.shape[1]} channels": raw.numpy(),
        f"projection, {pooled.shape[1]} channels": pooled.numpy(),
    }
    distances: dict[str, Distance] = {HEAD: recipe.euclidean(vectors[HEAD])}
    for name, values in list(vectors.items())[1:]:
        distances[f"{name}, Euclidean"] = recipe.euclidean(values)
        distances[f"{name}, cosine"] = cosine(values)
    letters = windows.letters
    distances[IDENTITY] = lambda first, second: (letters[first] != letters[second]).mean(1)
    return windows, distances, vectors


def cosine(values: np.ndarray) -> Distance:
    """Return a function of two arrays of numbers: one less the cosine of those rows of the `values`."""
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    return lambda first, second: 1 - (unit[first] * unit[second]).sum(-1)


def errors(windows: Windows, distance: Distance) -> list[dict[str, float]]:
    """Compare a distance with the RMSD, in bins of the RMSD.

    Parameters
    ----------
    windows : Windows
        Pairs are drawn from, of each kind as many.
    distance : callable
        Angstrom.

    Returns
    -------
    list of dict
        For each bin ``from`` and ``to``, ``pairs``, and of the difference, distance less RMSD, ``mean`` and
        ``mean_absolute``; angstrom.
    """
    first, second = recipe.draw(Pairs(windows), 60_000, np.random.default_rng(1))
    rmsd = Pairs(windows).rmsd(first, second)
    difference = distance(first, second) - rmsd
    found = []
    for low, high in itertools.pairwise(_BINS):
        inside = (rmsd >= low) & (rmsd < high)
        if inside.any():
            found.append(
                {
                    "from": low,
                    "to": high,
                    "pairs": int(inside.sum()),
                    "mean": float(difference[inside].mean()),
                    "mean_absolute": float(abs(difference[inside]).mean()),
                }
            )
    return found


def search(
    windows: Windows,
    vectors: Mapping[str, np.ndarray],
    library: recipe.Examples,
    head: cheap_head.CheapHead,
) -> dict[str, dict[str, float]]:
    """Search held-out windows of CDRs among windows that were trained on, as motif retrieval will.

    Parameters
    ----------
    windows : Windows
        Queries are drawn from those of CDRs.
    vectors : mapping of str to numpy.ndarray
        Theirs, see :func:`distances_of`.
    library : Examples
        What is searched; a part is drawn.
    head : CheapHead
        Makes the library's vectors.

    Returns
    -------
    dict of str to dict of str to float
        By name of what chooses, for all CDRs and for CDR-H3: the mean RMSD of the window found, angstrom.
    """
    rng = np.random.default_rng(2)
    is_h3 = (windows.cdr == 3) & windows.is_heavy
    queries = np.concatenate(
        [
            rng.choice(members, min(QUERIES, len(members)), replace=False)
            for members in (np.flatnonzero((windows.cdr > 0) & ~is_h3), np.flatnonzero(is_h3))
        ]
    )
    chosen = rng.choice(len(library.windows), min(LIBRARY, len(library.windows)), replace=False)
    coordinates, letters = library.windows.fragments[chosen], library.windows.letters[chosen]
    places = library.windows.place[chosen] * 2 + library.windows.is_heavy[chosen]
    pooled = library.pooled[chosen].numpy()
    raw = next(values for name, values in vectors.items() if name.startswith("projection"))
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    pooled_unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    of_library = recipe.vectors(head, library.pooled[chosen])
    # What is lowest is found.
    choosers = {
        HEAD: lambda query: np.linalg.norm(of_library - vectors[HEAD][query], axis=1),
        "projection, Euclidean": lambda query: np.linalg.norm(pooled - raw[query], axis=1),
        "projection, cosine": lambda query: -(pooled_unit @ unit[query]),
        IDENTITY: lambda query: (letters != windows.letters[query]).sum(1),
        "any window at the same place": lambda query: (
            places != windows.place[query] * 2 + windows.is_heavy[query]
        ),
    }
    rmsds = np.stack(
        [
            fragment_rmsd(np.broadcast_to(windows.fragments[query], coordinates.shape), coordinates)
            for query in queries
        ]
    )
    found = {
        name: np.array([rmsd[chooser(query).argmin()] for query, rmsd in zip(queries, rmsds, strict=True)])
        for name, chooser in choosers.items()
    }
    found["the best window of the library"] = rmsds.min(1)
    of_h3 = is_h3[queries]
    return {
        name: {"other CDRs": float(values[~of_h3].mean()), "CDR-H3": float(values[of_h3].mean())}
        for name, values in found.items()
    }


if __name__ == "__main__":
    main()
