"""Measure the retrieval of motifs: how often the best hit of a window has the query's backbone.

    python benchmarks/motif_retrieval.py --fv FV --general GENERAL --out docs/reports/motif_retrieval.md

FV is a folder of crystal structures of Fvs with ``chains.json``, which are searched for in the default
library; GENERAL one of structures of single chains: every fifth is searched for in a library of the others.
Chains of the library that share 90 % of their residues with a query are left out. A hit is right if N, CA and
C of its ten residues are within 1.5 angstrom of the query's after superposition.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openfoldpp.geometry.superposition import fragment_rmsd
from openfoldpp.motifs import default_library
from openfoldpp.motifs.build import build_library
from openfoldpp.motifs.candidates import CODES
from openfoldpp.motifs.exclusion import Exclusion
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.retriever import Retriever
from openfoldpp.motifs.scoring import NEAR, table
from openfoldpp.motifs.structures import read_structure
from openfoldpp.plm.cheap_head import K
from openfoldpp.teachers import flashabb
from openfoldpp.training import fragments
from openfoldpp.training.fragments import IDENTITY, Chain
from openfoldpp.training.motif_score import reliability

REGIONS = ("framework", "CDR-L1", "CDR-L2", "CDR-L3", "CDR-H1", "CDR-H2", "CDR-H3")
_DRAWS = 20


def main() -> None:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--library", type=Path, help="another one that `openfoldpp train motif-library` made")
    parser.add_argument("--fv", type=Path, required=True)
    parser.add_argument("--general", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = {"crystals": crystals(arguments.library or default_library.path(), arguments.fv)}
    if arguments.general:
        found["general"] = general(arguments.general)
    text = report(found)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


def crystals(path: Path, folder: Path) -> dict:
    """Search the library for crystal Fvs."""
    fvs = fragments.crystal_fvs(folder)
    chains = [chain for fv in fvs for chain in fv]
    wanted = [fragments.fragments(chain.backbone) for chain in chains]
    regions = [window_regions(chain) for chain in chains]
    with Library.open(path) as library:
        methods, hits = _methods(library, [chain.sequence for chain in chains], wanted)
        methods |= {"random window of the same region": _random(library, regions, wanted)}
        counts = vars(library.counts)
    predictor = flashabb.load()
    models = [predictor.predict(heavy.sequence, light.sequence).coords[:, :3] for heavy, light in fvs]
    halves = [
        half for (h, _), model in zip(fvs, models, strict=True) for half in np.split(model, [len(h.sequence)])
    ]
    methods["FlashABB's model of the query"] = [
        fragment_rmsd(fragments.fragments(half), one) for half, one in zip(halves, wanted, strict=True)
    ]
    region = np.concatenate(regions)
    table = {
        name: {where: _right(np.concatenate(rmsd, -1)[..., region == i]) for i, where in enumerate(REGIONS)}
        for name, rmsd in methods.items()
    }
    rmsd = np.concatenate(methods["score"])
    calibration = {
        where: {"score": float(hits[region == i].mean()), "right": float((rmsd[region == i] <= NEAR).mean())}
        for i, where in enumerate(REGIONS)
    }
    h3 = [r[g == 6] for r, g in zip(methods["score"], regions, strict=True) if (g == 6).any()]
    spread = np.array([(r <= NEAR).mean() for r in h3])
    return {
        "fvs": len(fvs),
        "windows": {where: int((region == i).sum()) for i, where in enumerate(REGIONS)},
        "library": counts,
        "right": table,
        "calibration": calibration,
        "reliability": reliability(hits[:, None], rmsd[:, None], np.ones((len(rmsd), 1), bool)),
        "h3_standard_error": float(spread.std(ddof=1) / np.sqrt(len(spread))),
    }


def general(folder: Path) -> dict:
    """Search a library of four fifths of the chains for every fifth."""
    paths = sorted(
        path for path in folder.iterdir() if path.name.endswith((".pdb.gz", ".pdb", ".cif", ".cif.gz"))
    )
    queries = paths[::5]
    stretches = [
        (chain.sequence[one.start : one.start + len(one)], one.coordinates)
        for path in queries
        for chain in read_structure(path).chains
        for one in chain.stretches
    ]
    wanted = [fragments.fragments(coordinates[:, :3]) for _, coordinates in stretches]
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "library"
        build_library([path for path in paths if path not in queries], out)
        with Library.open(out) as library:
            methods, hits = _methods(library, [sequence for sequence, _ in stretches], wanted)
            methods["random window"] = _random(library, [np.zeros(len(one), int) for one in wanted], wanted)
            counts = vars(library.counts)
    rmsd = np.concatenate(methods["score"])
    return {
        "chains": len(queries),
        "windows": len(rmsd),
        "library": counts,
        "right": {name: _right(np.concatenate(one, -1)) for name, one in methods.items()},
        "reliability": reliability(hits[:, None], rmsd[:, None], np.ones((len(rmsd), 1), bool)),
    }


def window_regions(chain: Chain) -> np.ndarray:
    """Return where each window's middle residue lies, as a number of :data:`REGIONS`."""
    found = np.zeros(len(chain.sequence), int)
    for number, (start, end) in enumerate(chain.cdrs, 1):
        found[start:end] = number + 3 * chain.is_heavy
    return found[K // 2 :][: len(chain.sequence) - K + 1]


def _methods(
    library: Library, sequences: Sequence[str], wanted: Sequence[np.ndarray]
) -> tuple[dict[str, list[np.ndarray]], np.ndarray]:
    """Return RMSDs of the best hits of each chain's windows by method, and the score's probabilities."""
    retriever = Retriever(library, max_identity=IDENTITY)
    windows = retriever.windows(list(sequences))
    excluded = Exclusion(library, sequences, IDENTITY)
    vectors = retriever.embedder.embed(list(sequences))
    best = {
        "score": [one.shingles[:, 0] for one in windows],
        "CheapHead's distance": [_nearest(library, v, excluded, i) for i, v in enumerate(vectors)],
        "BLOSUM62 of the window": _by_substitution(library, sequences, excluded),
    }
    rmsd = {
        name: [_rmsd(library, shingles, one) for shingles, one in zip(some, wanted, strict=True)]
        for name, some in best.items()
    }
    return rmsd, np.concatenate([one.scores[:, 0] for one in windows])


def _nearest(library: Library, vectors: np.ndarray, excluded: Exclusion, chain: int) -> np.ndarray:
    count = 64
    while True:
        _, shingles = library.nearest(vectors, count)
        good = ~excluded(chain, shingles)
        if good.any(1).all() or count >= len(library):
            return shingles[np.arange(len(shingles)), good.argmax(1)]
        count *= 4


def _by_substitution(library: Library, sequences: Sequence[str], excluded: Exclusion) -> list[np.ndarray]:
    """Return the shingle with the highest BLOSUM62 score for each window; of equal ones the first."""
    exchange = table()[:, 0].reshape(CODES, CODES)
    ids = np.arange(len(library))
    codes = library.letters(ids) - np.uint8(ord("A") - 1)
    best = []
    for number, sequence in enumerate(sequences):
        query = np.frombuffer(sequence.encode(), np.uint8) - np.uint8(ord("A") - 1)
        rows = np.lib.stride_tricks.sliding_window_view(
            exchange[query].astype(np.int16), K, axis=0
        )  # [W, 32, K]
        bad = excluded(number, ids)
        found = np.empty(len(rows), np.int64)
        for window, row in enumerate(rows):
            scores = sum(row[:, place][codes[:, place]] for place in range(K))
            found[window] = np.where(bad, np.iinfo(np.int16).min, scores).argmax()
        best.append(found)
    return best


def _random(
    library: Library, regions: Sequence[np.ndarray], wanted: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return RMSDs to windows drawn from the same region, several for each window, ``[draws, windows]``."""
    rng = np.random.default_rng(0)
    of = _library_regions(library) if any(one.any() for one in regions) else np.zeros(len(library), int)
    pools = {number: np.flatnonzero(of == number) for number in np.unique(np.concatenate(regions))}
    found = []
    for region, one in zip(regions, wanted, strict=True):
        draws = [np.array([rng.choice(pools[number]) for number in region]) for _ in range(_DRAWS)]
        found.append(np.stack([_rmsd(library, shingles, one) for shingles in draws]))
    return found


def _library_regions(library: Library) -> np.ndarray:
    """Return the region of each shingle of the default library; its Fvs are generated again to know them."""
    from openfoldpp.training.motif_library import Settings

    settings = Settings()
    pairs = fragments.draw(settings.fvs + settings.stretches, settings.seed)
    places = library.places(np.arange(len(library)))
    found = np.zeros(len(library), int)
    for segment in np.unique(places.segments):
        info = library.segment(int(segment))
        heavy, light = pairs[int(info.name[2:6])]
        domain, is_heavy = (heavy, True) if info.name.endswith("H") else (light, False)
        regions = window_regions(Chain(domain.sequence, is_heavy, domain.cdrs, np.empty((0, 3, 3))))
        first = int(info.residue_number(0)) - 1
        chosen = places.segments == segment
        found[chosen] = regions[first + places.starts[chosen]]
    return found


def _rmsd(library: Library, shingles: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    backbones = library.shingle_coordinates(np.maximum(shingles, 0))[..., :3, :].reshape(wanted.shape)
    return np.where(shingles < 0, np.inf, fragment_rmsd(backbones, wanted))


def _right(rmsd: np.ndarray) -> dict[str, float]:
    return {"within_1.5": float((rmsd <= NEAR).mean()), "median_rmsd": float(np.median(rmsd))}


def report(found: dict) -> str:
    """Return the report, Markdown."""
    one = found["crystals"]
    lines = [
        "# Retrieval of motifs",
        "",
        "Made by `benchmarks/motif_retrieval.py`. A hit is right if N, CA and C of its ten residues are",
        "within 1.5 angstrom of the query's after superposition. Library chains that share 90 % of their",
        "residues with a query, or more, are left out.",
        "",
        f"## {one['fvs']} crystal structures of Fvs, the default library",
        "",
        f"The library has {one['library']['shingles']:,} shingles of {one['library']['chains']:,} chains, "
        "FlashABB's models of generated Fvs. A window belongs to",
        "the region of its middle residue. Windows whose best hit is right, by what ranks the library:",
        "",
        "| ranked by | " + " | ".join(f"{name} ({one['windows'][name]:,})" for name in REGIONS) + " |",
        "|---" * (len(REGIONS) + 1) + "|",
    ]
    for name, row in one["right"].items():
        lines.append(
            f"| {name} | " + " | ".join(f"{row[where]['within_1.5']:.1%}" for where in REGIONS) + " |"
        )
    row = one["calibration"]
    lines += [
        "| the score's own estimate | "
        + " | ".join(f"{row[where]['score']:.1%}" for where in REGIONS)
        + " |",
        "",
        f"Windows of one loop are alike: the standard error of CDR-H3 over the loops is "
        f"{one['h3_standard_error']:.1%}. FlashABB may have learned from these",
        "crystals; its own model is the ceiling of a library of its models.",
    ]
    if "general" in found:
        other = found["general"]
        lines += [
            "",
            f"## {other['chains']} chains of other proteins, a library of the others",
            "",
            f"{other['windows']:,} windows; the library has {other['library']['shingles']:,} shingles of "
            f"{other['library']['chains']:,} chains. No two",
            "chains share 30 % of their stretches of four residues. Language model, CheapHead, profile and",
            "score have learned from antibodies alone.",
            "",
            "| ranked by | right | median RMSD |",
            "|---|---|---|",
        ]
        for name, row in other["right"].items():
            lines.append(f"| {name} | {row['within_1.5']:.1%} | {row['median_rmsd']:.2f} |")
        lines += [
            "",
            f"Mean score of the best hits: {other['reliability']['top_score']:.1%}; expected calibration "
            f"error {other['reliability']['ece_top']:.3f}.",
        ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
