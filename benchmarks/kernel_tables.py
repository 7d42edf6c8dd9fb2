"""The figures of ``kernels.py`` as tables in Markdown, and as a line for each measurement."""

from __future__ import annotations

from collections.abc import Iterable

from memory import GIB

# Sizes of the table of single steps, which has a column for each; all are in the JSON file.
COLUMNS = (128, 256, 512, 1024)


def ratio(result: dict, side: str = "best") -> float | None:
    """Return how many times as long as ours one of upstream's sides takes; None where it was left out."""
    seconds = result["seconds"]
    return seconds[side] / seconds["openfoldpp"] if side in seconds else None


def percent_of_sgemm(result: dict, side: str = "openfoldpp") -> float:
    """Return a side's rate, by the floor's operations, in percent of the sgemm rate measured with it."""
    return 100 * result["operations"] / result["seconds"][side] / 1e9 / result["sgemm_gflops"]


def line(name: str, result: dict) -> str:
    """Return one line about one measurement."""
    parts = [f"{name:<34}{result['residues']:>5}  openfoldpp {_seconds(result, 'openfoldpp')}"]
    parts += [
        f"{side} {_seconds(result, side)} ({result['upstream'][side]}), {ratio(result, side):.2f}x"
        for side in ("best", "default")
        if side in result["seconds"]
    ]
    parts.append(f"{percent_of_sgemm(result):.0f} % of {result['sgemm_gflops']:.0f} GFLOP/s")
    return "; ".join(parts)


def markdown(report: dict) -> str:
    """Return all tables of a run, with what they were measured on and what was left out."""
    named = report["machine"]
    parts = [
        f"{named['cpu']}, {named['threads']} threads, {named['simd']}; {named['system']}, Python "
        f"{named['python']}, torch {named['torch']} ({named['torch_blas']}), OpenFold {report['openfold']}; "
        f"copies at {report['copy_gbytes_per_s']:.1f} GB/s. Medians of at most {report['rounds']} rounds."
    ]
    results = report["results"]
    for name, title in (
        ("evoformer_block", "Evoformer block, one row"),
        ("evoformer_block_alignment", "Evoformer block, alignment of {rows} rows"),
    ):
        if results.get(name):
            parts.append(f"{title.format(**results[name][0])}:\n\n{_blocks(results[name])}")
    steps = {
        name: found for name, found in results.items() if not name.startswith("evoformer_block") and found
    }
    if steps:
        words = "Steps: seconds, how many times as fast as upstream's best, percent of the sgemm rate:"
        parts.append(f"{words}\n\n{_steps(steps)}")
    if report["memory"]:
        parts.append(f"Peak memory of one block beyond its inputs, one row:\n\n{_memory(report['memory'])}")
    if notes := _left_out(results):
        parts.append("Left out:\n\n" + "\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    lines = [list(header), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _seconds(result: dict, side: str) -> str:
    return f"{result['seconds'][side]:.3g} s"


def _side(result: dict, side: str) -> str:
    if side not in result["seconds"]:
        return "left out"
    return f"{_seconds(result, side)} ({result['upstream'][side]}), {ratio(result, side):.2f}x"


def _blocks(results: list[dict]) -> str:
    header = (
        "N_res", "openfoldpp", "upstream's best", "upstream's default", "GFLOP", "sgemm GFLOP/s",
        "openfoldpp, % of it", "upstream's best, % of it", "rounds",
    )  # fmt: skip
    rows = [
        (
            str(result["residues"]), _seconds(result, "openfoldpp"), _side(result, "best"),
            _side(result, "default"), f"{result['operations'] / 1e9:.1f}", f"{result['sgemm_gflops']:.0f}",
            f"{percent_of_sgemm(result):.0f}",
            f"{percent_of_sgemm(result, 'best'):.0f}" if "best" in result["seconds"] else "left out",
            str(len(result["samples"]["openfoldpp"])),
        )
        for result in results
    ]  # fmt: skip
    return table(header, rows)


def _steps(steps: dict[str, list[dict]]) -> str:
    measured = {result["residues"] for found in steps.values() for result in found}
    columns = [n for n in COLUMNS if n in measured] or sorted(measured)
    rows = []
    for name, found in steps.items():
        by_size = {result["residues"]: result for result in found}
        label = name.removesuffix("_alignment") + (
            f", {found[0]['rows']} rows" if found[0]["rows"] > 1 else ""
        )
        rows.append([label.replace("_", " "), *(_step(by_size.get(n)) for n in columns)])
    return table(["step", *(f"N_res {n}" for n in columns)], rows)


def _step(result: dict | None) -> str:
    if result is None:
        return ""
    times = ratio(result)
    return (
        f"{_seconds(result, 'openfoldpp')}, {'left out' if times is None else f'{times:.2f}x'}, "
        f"{percent_of_sgemm(result):.0f} %"
    )


def _memory(measured: list[dict]) -> str:
    rows = [
        (
            str(result["residues"]),
            result["side"] if result["side"] == "openfoldpp" else f"upstream ({result['side']})",
            f"{result['extra_bytes'] / result['z_bytes']:.2f}",
            f"{result['extra_bytes'] / GIB:.2f} GiB",
            f"{result['peak_bytes'] / GIB:.2f} GiB",
        )
        for result in measured
    ]
    return table(("N_res", "side", "copies of z", "extra", "whole process"), rows)


def _left_out(results: dict[str, list[dict]]) -> list[str]:
    notes = []
    for name, found in results.items():
        for result in found:
            where = f"{name}, N_res {result['residues']}"
            notes += [
                f"{where}: upstream's {setting} {reason}"
                for setting, reason in result["search"].items()
                if isinstance(reason, str)
            ]
            if reason := result["upstream"].get("default_left_out"):
                notes.append(f"{where}: upstream's default: {reason}")
    return notes
