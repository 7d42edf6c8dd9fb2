"""Plot the confidence of predictions: pLDDT along the chains, and the predicted aligned error (PAE).

    python plot_confidence.py PREDICTIONS [PREDICTIONS ...]

PREDICTIONS is an output folder of OpenFold or openfoldpp, or a single ``NAME_output_dict.pkl``. The plots are
those of OpenFold's own notebook, with the chains and the bands of confidence marked; each picture,
``NAME_confidence.png``, stands beside its pickle.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from openfoldpp.errors import OpenFoldPPError
from openfoldpp.inference.results import find
from openfoldpp.inference.structure_files import chain_lengths, read_as_pdb

# Where each band of pLDDT begins, with the colours of the AlphaFold database.
BANDS = (
    (90, "#0053D6", "very high (90 to 100)"),
    (70, "#65CBF3", "confident (70 to 90)"),
    (50, "#FFDB13", "low (50 to 70)"),
    (0, "#FF7D45", "very low (0 to 50)"),
)


def band_color(plddt):
    """Colour of the band that a pLDDT from 0 to 100 lies in."""
    return next(color for start, color, _ in BANDS if plddt >= start)


def plot(result):
    """Draw one prediction.

    Parameters
    ----------
    result : openfoldpp.inference.results.Result
        Where its provenance says that nobody predicted the PAE, none is drawn.

    Returns
    -------
    matplotlib.figure.Figure
        pLDDT on the first axes; PAE, where there is one, on the second.
    """
    output = result.read()
    file = result.unrelaxed or result.relaxed
    chains = chain_lengths(read_as_pdb(file)) if file else {}
    if sum(chains.values()) != len(output["plddt"]):  # no structure, or one of another length
        chains = {"": len(output["plddt"])}
    has_pae = "predicted_aligned_error" in output and not result.is_filled("predicted_aligned_error")

    figure = Figure(figsize=(14.5, 5.5) if has_pae else (9, 4.5), layout="constrained")
    axes = figure.subplots(
        1, 2 if has_pae else 1, width_ratios=[1.35, 1] if has_pae else None, squeeze=False
    )[0]
    plot_plddt(axes[0], output["plddt"], chains)
    if has_pae:
        plot_pae(axes[1], output["predicted_aligned_error"], output["max_predicted_aligned_error"], chains)
    title = [result.target, result.source or result.preset, f"mean pLDDT {output['plddt'].mean():.1f}"]
    # 0.0.1 and 2.x name the pTM differently; only multimers have an ipTM.
    for key, name in (("predicted_tm_score", "pTM"), ("ptm_score", "pTM"), ("iptm_score", "ipTM")):
        if has_pae and key in output:
            title.append(f"{name} {float(output[key]):.2f}")
    figure.suptitle(", ".join(title))
    return figure


def plot_plddt(axes, plddt, chains):
    """Draw pLDDT ``[N_res]`` against the residues, each in the colour of its band."""
    position = np.arange(1, len(plddt) + 1)
    tops = (100, *(start for start, _, _ in BANDS))
    for (start, color, _), top in zip(BANDS, tops, strict=False):
        axes.axhspan(start, top, color=color, alpha=0.15, linewidth=0)
    start = 0
    for length in chains.values():  # a line within each chain, none between two
        rows = slice(start, start + length)
        axes.plot(position[rows], plddt[rows], color="0.35", linewidth=1, zorder=2)
        start += length
    axes.scatter(position, plddt, c=[band_color(value) for value in plddt], s=14, zorder=3)
    axes.set(ylim=(0, 100), xlim=(0.5, len(plddt) + 0.5), ylabel="pLDDT", xlabel="residue in its chain")
    mark_chains(axes, chains, vertical="black")
    handles = [
        Line2D([], [], marker="o", linestyle="", color=color, label=label) for _, color, label in BANDS
    ]
    axes.figure.legend(handles=handles, loc="outside lower left", ncols=len(BANDS), frameon=False)


def plot_pae(axes, pae, max_pae, chains):
    """Draw the PAE ``[N_res, N_res]`` in angstrom, from 0 to the largest that the model can predict."""
    n_res = len(pae)
    image = axes.imshow(
        pae, vmin=0, vmax=float(max_pae), cmap="Greens_r", extent=(0.5, n_res + 0.5, n_res + 0.5, 0.5)
    )
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.046, pad=0.04)
    bar.set_label("predicted aligned error (Å)")
    axes.set(xlabel="scored residue", ylabel="aligned residue")
    mark_chains(axes, chains, vertical="red", horizontal="red")


def mark_chains(axes, chains, vertical, horizontal=None):
    """Write numbers from 1 for each chain, and the chains' names, and draw lines between them."""
    step = next((step for step in (5, 10, 20, 50, 100, 200) if sum(chains.values()) / step <= 12), 500)
    places, labels, start = [], [], 0
    for name, length in chains.items():
        # A number close to the next chain's 1 would touch it.
        last = length if start + length == sum(chains.values()) else length - step // 2
        local = [1, *range(step, last + 1, step)]
        places += [start + number for number in local]
        labels += [str(number) for number in local]
        if len(chains) > 1:
            axes.text(
                start + length / 2 + 0.5, 1.01, f"chain {name}", transform=axes.get_xaxis_transform(),
                ha="center", va="bottom",
            )  # fmt: skip
        if start:
            axes.axvline(start + 0.5, color=vertical, linewidth=1)
            if horizontal:
                axes.axhline(start + 0.5, color=horizontal, linewidth=1)
        start += length
    axes.set_xticks(places, labels)
    if horizontal:
        axes.set_yticks(places, labels)


def main(arguments=None):
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "predictions", nargs="+", type=Path, help="output folders, or NAME_output_dict.pkl files"
    )
    options = parser.parse_args(arguments)
    try:
        for result in find(options.predictions):
            figure = plot(result)
            name = result.output_dict.name.removesuffix("output_dict.pkl") + "confidence.png"
            picture = result.output_dict.with_name(name)
            figure.savefig(picture, dpi=150)
            print(picture)
            if len(figure.axes) == 1:
                print(
                    f"  without PAE, which {result.source or result.preset} does not predict", file=sys.stderr
                )
    except OpenFoldPPError as error:
        print(f"plot_confidence.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
