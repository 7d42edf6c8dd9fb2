"""Coarse models of GraphCompositor beside the assembly that it begins from, and the nearest whole Fv.

    python benchmarks/graph_compositor.py RUN --fv FOLDER > docs/reports/compositor.md

RUN is the folder of ``openfoldpp train compositor``, FOLDER has crystal structures of Fvs (``chains.json``
and ``NAME.pdb``). They are searched for without the library's chains that share 90 % of their residues with
them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from openfoldpp.geometry.lddt import lddt_ca
from openfoldpp.geometry.superposition import ca_rmsd, superimpose
from openfoldpp.motifs import default_library, graph_weights
from openfoldpp.motifs.assembly import assemble
from openfoldpp.motifs.coarse_fragments import fragments_of, ranked_structures, structure_of
from openfoldpp.motifs.compose import compose
from openfoldpp.motifs.hits import MotifHit
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.retriever import Retriever
from openfoldpp.teachers import flashabb
from openfoldpp.training import fragments
from openfoldpp.training.compositor_figures import reliability, tm_of_part
from openfoldpp.training.fragments import IDENTITY, Chain

_CA = 1


def nearest_whole(
    chains: Sequence[str], hits: Sequence[MotifHit], library: Library
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return CA of the library's Fv that the hits say is nearest, which residues it has, and its name.

    It is that with the greatest sum of scores among those which hits of both chains are of; both of its
    chains are aligned with the query's.
    """
    total = sum(map(len, chains))
    for structure in ranked_structures(hits):
        own = [hit for hit in hits if structure_of(hit.source) == structure]
        whole = fragments_of(chains, own, library, structures=1, most_hits=0, max_identity=IDENTITY)
        if len({fragment.chain for fragment in whole}) == len(chains):
            ca, covered = np.zeros((total, 3)), np.zeros(total, bool)
            for fragment in whole:
                ca[fragment.places], covered[fragment.places] = fragment.ca, True
            return ca, covered, structure
    raise SystemExit(f"no structure has hits of all chains of {':'.join(chains)}")


def regions(fv: tuple[Chain, Chain]) -> np.ndarray:
    """Return for each residue 0 in a framework, 1 in a CDR, 2 in CDR-H3."""
    found = [np.zeros(len(chain.sequence), int) for chain in fv]
    for one, chain in zip(found, fv, strict=True):
        for number, (start, end) in enumerate(chain.cdrs):
            one[start:end] = 2 if chain.is_heavy and number == 2 else 1
    return np.concatenate(found)


def compare(
    fv: tuple[Chain, Chain], models: dict[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, list[float]]:
    """Return TM-score, RMSD and RMSD of each region, after superposition of all that is covered."""
    truth = np.concatenate([chain.backbone[:, _CA] for chain in fv])
    where = regions(fv)
    found = {}
    for name, (ca, covered) in models.items():
        moved = superimpose(ca[covered], truth[covered])
        off = np.linalg.norm(moved - truth[covered], axis=1) ** 2
        by_region = [float(np.sqrt(off[where[covered] == region].mean())) for region in range(3)]
        found[name] = [
            tm_of_part(ca, truth, covered), ca_rmsd(ca[covered], truth[covered]), *by_region,
            float((~covered).sum()),
        ]  # fmt: skip
    return found


def table(found: Sequence[dict[str, list[float]]]) -> str:
    """Return the figures of all Fvs as a table."""
    lines = [
        "| | TM, median | TM, mean | TM, lowest | RMSD, mean | frameworks | CDRs but H3 | CDR-H3 | absent |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in found[0]:
        tm, *others, absent = np.array([one[name] for one in found]).T
        rmsd = " | ".join(f"{column.mean():.2f}" for column in others)
        lines.append(
            f"| {name} | {np.median(tm):.4f} | {tm.mean():.4f} | {tm.min():.4f} | {rmsd} | "
            f"{absent.sum():.0f} |"
        )
    return "\n".join(lines)


def bins(rows: Sequence[dict[str, float]]) -> str:
    """Return a calibration as a table."""
    lines = ["| confidence | residues | its mean | lDDT |", "|---|---|---|---|"]
    lines += [
        f"| {row['from']:.1f} to {row['from'] + 0.1:.1f} | {row['residues']:,} | {row['confidence']:.3f} | "
        f"{row['lddt']:.3f} |"
        for row in rows
    ]
    return "\n".join(lines)


def report(run: Path, fv: Path, library: Library) -> str:
    """Measure, and return the report."""
    trained = json.loads((run / "compositor.json").read_text())
    model = graph_weights.read(run / "compositor.safetensors")
    fvs = fragments.crystal_fvs(fv)
    retriever = Retriever(library, max_identity=IDENTITY)
    teacher = flashabb.load()
    found, confidence, right, better = [], [], [], 0
    for pair in fvs:
        chains = [chain.sequence for chain in pair]
        sequence = ":".join(chains)
        [hits] = retriever.search([sequence])
        given = (sequence, hits, library)
        composed = compose(*given, max_identity=IDENTITY, model=model, embedder=retriever.embedder)
        made = {"assembly": assemble(*given, max_identity=IDENTITY), "GraphCompositor": composed}
        models = {"nearest whole Fv": nearest_whole(chains, hits, library)[:2]}
        models |= {name: (one.ca.astype(np.float64), one.covered) for name, one in made.items()}
        theirs = teacher.predict(*chains).coords[:, _CA].astype(np.float64)
        models["FlashABB, the teacher"] = theirs, np.ones(len(theirs), bool)
        found.append(compare(pair, models))
        better += found[-1]["GraphCompositor"][0] > found[-1]["nearest whole Fv"][0]
        truth = torch.from_numpy(np.concatenate([chain.backbone[:, _CA] for chain in pair]))
        covered = torch.from_numpy(composed.covered)
        right.append(lddt_ca(torch.from_numpy(composed.ca), truth, covered).numpy()[composed.covered])
        confidence.append(composed.confidence[composed.covered])
    said, true = np.concatenate(confidence), np.concatenate(right)
    error, rows = reliability(said, true)
    settings = trained["settings"]
    held_out = "\n".join(
        f"| {label} | {trained[name]['median_tm']:.4f} | {trained[name]['tm']:.4f} | "
        f"{trained[name]['rmsd']:.3f} | {trained[name]['ece']:.4f} |"
        for label, name in (
            ("untrained: the assembly", "untrained"),
            ("float32", "float32"),
            ("the same, rounded to 8 bits", "rounded afterwards"),
            ("trained on with 8 bits: what is shipped", "int8"),
        )
    )
    size = (run / "compositor.safetensors").stat().st_size
    return f"""# GraphCompositor: what it reaches

Written by `python benchmarks/graph_compositor.py RUN --fv FOLDER`. The weights ({size / 1e3:.0f} kB) were
made by `openfoldpp train compositor --out RUN --fvs {settings["fvs"]} --epochs {settings["epochs"]} \
--rounded-epochs {settings["rounded_epochs"]} --batch {settings["batch"]} --learning-rate \
{settings["learning_rate"]} --seed {settings["seed"]}`,
which learned from {trained["learned_fvs"]} generated Fvs, each with FlashABB's model as the truth, and the
library that comes with openfoldpp.

## {len(fvs)} crystal structures of Fvs

The library's chains that share 90 % or more of their residues with the query's are left out. TM-score and
RMSD are of CA over both chains, all at once; residues without a partner ("absent", in all of them) count as 0
in the TM-score and are left out of the RMSD. The nearest whole Fv is that library structure of which hits of
both chains have the greatest sum of scores, its chains aligned with the query's by sequence. RMSD in
angstrom; those of regions are after the superposition of all residues.

{table(found)}

GraphCompositor's TM-score is above that of the nearest whole Fv for {better} of {len(fvs)}.

Its confidence is the expected lDDT of CA. On these crystals its mean is {said.mean():.3f} and the lDDT's
{true.mean():.3f}; expected calibration error {error:.3f}, correlation over residues
{np.corrcoef(said, true)[0, 1]:.2f}.

{bins(rows)}

## {trained["held_out_fvs"]} generated Fvs that were not learned from

Truth: FlashABB's models. Every second one is searched for without near relatives.

| | TM, median | TM, mean | RMSD, mean | calibration error |
|---|---|---|---|---|
{held_out}

The calibration of what is shipped, also in `openfoldpp/weights/compositor.json`:

{bins(trained["int8"]["bins"])}
"""


def main() -> None:
    """Parse the command line, print the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--fv", type=Path, required=True)
    parser.add_argument("--library", type=Path)
    arguments = parser.parse_args()
    with Library.open(arguments.library or default_library.path()) as library:
        print(report(arguments.run, arguments.fv, library), end="")


if __name__ == "__main__":
    main()
