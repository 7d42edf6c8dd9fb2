"""The page on CheapHead, from the figures that ``benchmarks/cheap_head.py`` measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEAD = "CheapHead"

_DID_NOT_WORK = """\
Windows of the framework hardly differ between Fvs, by a few tenths of an angstrom. CheapHead ranks these
differences no better than the embedding that it starts from; sequence identity ranks them better, and in the
crystals so much so that it is ahead over all pairs at the same place. See "within a place".

600 Fvs of humans alone, 3,000 steps: 0.823 anywhere on held-out Fvs of humans, but 0.652 on the crystals,
many of them murine.

Tried on 200 Fvs of humans, judged on the validation Fvs:

- Errors relative to the RMSD for all pairs: small RMSDs at one place were ranked better, but pairs from
  anywhere hardly at all.
- Errors in angstrom for all pairs: the other way round. So each kind of pair now has the error that suits it.
- A loss on ranks (logistic, over pairs of pairs): ranked about as well after as many steps. Its distances are
  no angstrom, so that no threshold could be set on them.
- Relative errors that stay sharp down to a tenth of an angstrom: a little better at the same place, worse
  anywhere.
"""


def describe(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is shipped beside the weights: what they are, how they were made, what they reach."""
    return {
        "name": "cheap_head",
        "what": "CheapHead: means of plm_lite's 64-channel projection over windows of ten residues, to "
        "vectors of 64 channels whose Euclidean distance estimates the RMSD of the windows' backbones "
        "(N, CA, C), in angstrom",
        "made_by": command(figures["settings"]),
        "learned_from": "generated antibody Fvs (OLGA, with mutations), modelled by FlashABB",
        **figures,
    }


def command(settings: Mapping[str, Any]) -> str:
    """Return the command of a training run by its `settings`."""
    flags = ("fvs", "steps", "pairs", "learning_rate", "seed")
    given = " ".join(f"--{flag.replace('_', '-')} {settings[flag]:g}" for flag in flags)
    return f"openfoldpp train cheap-head --out RUN {given}"


def render(figures: Mapping[str, Any]) -> str:
    """Return the page of the `figures`, Markdown."""
    settings = figures["settings"]
    parts = [
        f"""\
# CheapHead: what it reaches

Written by `python benchmarks/cheap_head.py RUN --fv FOLDER`. The head was made by
`{command(settings)}`
for plm_lite `{settings["projection"].partition(":")[0][:16]}`.

It learned from {figures["learned_windows"]:,} windows of {settings["fvs"]:,} generated Fvs of humans and
mice. It is measured on
{figures["held_out_windows"]:,} windows of {figures["held_out_fvs"]} others: each of their chains shares less
than 90 % of its residues with every chain that was learned from, or that the {figures["validation_fvs"]} Fvs
have by which the recipe was chosen. All these backbones are FlashABB's models, so what is measured is
agreement with FlashABB; the crystals below are the exception.

## Spearman correlation with RMSD, held-out Fvs

RMSD of N, CA and C of ten residues after superposition. Every pair is of two Fvs. "Anywhere" is any two
windows, "same place" two that begin at the same IMGT number in the same kind of chain. Within a place: the
correlation over pairs of one place by itself, averaged over places. There a memory of what each place looks
like is worth nothing.
""",
        table(figures["spearman_held_out"]),
    ]
    if "spearman_crystals" in figures:
        parts += [
            f"""
## The same on {figures["crystal_fvs"]} crystal structures

Fragments and RMSDs are the crystals' own. CheapHead has not seen them; FlashABB, AntiBERTy and so plm_lite
may have learned from these antibodies. They are few: figures within a place are of 27 windows each.
""",
            table(figures["spearman_crystals"]),
        ]
    rows = figures["error_by_rmsd_held_out"]
    found = figures["search_held_out"]
    parts += [
        """
## The distance in angstrom, held-out Fvs

Half of the pairs from anywhere, a quarter at the same place, a quarter at the same place of a CDR.

| RMSD | pairs | distance less RMSD, mean | its size, mean |
|---|---|---|---|""",
        *(
            f"| {row['from']:g} to {row['to']:g} | {row['pairs']:,} | {row['mean']:+.2f} "
            f"| {row['mean_absolute']:.2f} |"
            for row in rows
        ),
        f"""
## Search: RMSD of the nearest window, angstrom

Queries: {figures["queries"]} held-out windows of CDR-H3, and as many of the other CDRs. Searched are
{figures["library"]:,} windows drawn from those that were learned from. Means.

| nearest by | other CDRs | CDR-H3 |
|---|---|---|""",
        *(f"| {name} | {row['other CDRs']:.2f} | {row['CDR-H3']:.2f} |" for name, row in found.items()),
        "\n## What did not work\n",
        _DID_NOT_WORK,
    ]
    return "\n".join(parts)


def table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table of the `figures` of ``agreement``, as Markdown."""
    columns = list(figures[HEAD])
    rows = [
        f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in columns) + " |"
        for name, row in figures.items()
    ]
    return "\n".join([f"| distance | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|", *rows])
