"""Coarse models of motifs beside crystal structures: how good they are, and how well they know it.

    python benchmarks/coarse.py --fv FV [--library LIB] [--max_identity 0.9] [--json FILE]

FV is a folder of crystal structures NAME.pdb, each an antibody Fv of two chains without a gap, LIB a library
of motifs, by default the one that comes with openfoldpp. Its segments of which 90 % or more of the residues
are those of the query are left out. What is compared is what ``openfoldpp predict --path motifs`` gives: CA
atoms after superposition of all, and pLDDT with the lDDT of CA atoms.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

import openfoldpp
from openfoldpp.geometry.lddt import lddt_ca
from openfoldpp.geometry.superposition import ca_rmsd, superimpose, tm_score
from openfoldpp.motifs.structures import read_structure

BINS = (0, 50, 70, 80, 90, 95, 100.1)
_CA = 1


def measure(file: Path, flags: list[str]) -> dict:
    """Predict one structure and compare."""
    chains = read_structure(file).chains
    sequence = ":".join(chain.sequence for chain in chains)
    stretches = [stretch for chain in chains for stretch in chain.stretches]
    reference = np.concatenate([stretch.coordinates[:, _CA] for stretch in stretches])
    prediction = openfoldpp.predict(sequence, "--path", "motifs", *flags)
    model = prediction.coords[:, _CA]
    fitted = superimpose(model, reference)
    return {
        "rmsd": ca_rmsd(fitted, reference),
        "tm": tm_score(model, reference),
        "lddt": (100 * lddt_ca(torch.from_numpy(model), torch.from_numpy(reference))).tolist(),
        "plddt": prediction.plddt.tolist(),
    }


def markdown(found: dict[str, dict]) -> str:
    """Return the tables."""
    lines = ["| | CA RMSD, A | TM | lDDT | pLDDT |", "|---|---|---|---|---|"]
    for name, one in found.items():
        means = f"{np.mean(one['lddt']):.1f} | {np.mean(one['plddt']):.1f}"
        lines.append(f"| {name} | {one['rmsd']:.2f} | {one['tm']:.3f} | {means} |")
    median = {key: np.median([one[key] for one in found.values()]) for key in ("rmsd", "tm")}
    actual, said = (np.concatenate([one[key] for one in found.values()]) for key in ("lddt", "plddt"))
    means = f"{actual.mean():.1f} | {said.mean():.1f}"
    lines.append(f"| median; mean | {median['rmsd']:.2f} | {median['tm']:.3f} | {means} |")
    lines += ["", "| pLDDT | residues | its mean | lDDT |", "|---|---|---|---|"]
    for low, high in pairwise(BINS):
        chosen = (said >= low) & (said < high)
        if chosen.any():
            means = f"{said[chosen].mean():.1f} | {actual[chosen].mean():.1f}"
            lines.append(f"| {low} to {high:.0f} | {chosen.sum():,} | {means} |")
    return "\n".join([*lines, "", f"Correlation over residues: {np.corrcoef(said, actual)[0, 1]:.2f}"])


def main() -> None:
    """Parse the command line, measure, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fv", type=Path, required=True)
    parser.add_argument("--library", type=Path)
    parser.add_argument("--max_identity", type=float, default=0.9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    flags = ["--motif_max_identity", str(arguments.max_identity)]
    flags += ["--motif_library", str(arguments.library)] if arguments.library else []
    found = {file.stem: measure(file, flags) for file in sorted(arguments.fv.glob("*.pdb"))}
    print(markdown(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
