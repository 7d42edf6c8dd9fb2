"""Tables of what ``benchmarks/motifs.py`` measured."""

from __future__ import annotations

from importlib import metadata

#: Least recall at which sides are compared.
TARGETS = (0.95, 0.98, 0.99, 0.995, 0.999)
SPEEDS = {"single": "single_s", "batch, one thread": "batch_one_thread_s", "batch, all threads": "batch_s"}


def versions() -> dict[str, str]:
    """Return the versions of what is compared."""
    return {name: metadata.version(name) for name in ("faiss-cpu", "hnswlib", "usearch")}


def point(report: dict, side: str, ef: int) -> dict:
    """Return what a side does with so many candidates."""
    return next(one for one in report["curves"][side] if one["ef"] == ef)


def fastest_at(report: dict, side: str, target: float, speed: str) -> dict | None:
    """Return the fastest point of a side's curve with at least such a recall; None where it has none."""
    points = [one for one in report["curves"][side] if one["recall"] >= target]
    return min(points, key=lambda one: one[speed]) if points else None


def exact_best(report: dict, kind: str) -> tuple[str, str, float]:
    """Return way, threads and seconds of the fastest exact search."""
    times = [
        (seconds, name, count)
        for name, way in report["exact"].items()
        for count, seconds in way[f"{kind}_s"].items()
    ]
    seconds, name, count = min(times)
    return name, count, seconds


def markdown(report: dict) -> str:
    """Return all tables."""
    sections = (_head, _exact, _equal_recall, _curve, _build, _bytes)
    return "\n\n".join("\n".join(section(report)) for section in sections)


def _head(report: dict) -> list[str]:
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return [
        f"{report['shingles']:,} shingles of {report['channels']} channels, {report['queries']:,} queries "
        f"of other sequences; {machine['cpu']}, {report['threads']} threads, "
        f"{machine['copy_gbytes_per_s']:.1f} GB/s; {versions}.",
        "",
        f"By default, {report['ef']} candidates: recall at 10 is {report['recall_at_10']:.4f}.",
    ]


def _exact(report: dict) -> list[str]:
    lines = ["| exact search | threads | single | batch |", "|---|---|---|---|"]
    for name, way in report["exact"].items():
        for count in way["single_s"]:
            lines.append(
                f"| {name} | {count} | {_us(way['single_s'][count])} | {_us(way['batch_s'][count])} |"
            )
    lines += ["", "| openfoldpp and the fastest exact search | exact | by default | at recall 0.95 |"]
    lines += ["|---|---|---|---|"]
    for kind, speed in (("single", "single_s"), ("batch", "batch_s")):
        name, count, seconds = exact_best(report, kind)
        default = point(report, "openfoldpp", report["ef"])[speed]
        best = fastest_at(report, "openfoldpp", 0.95, speed)
        cells = [
            f"{_us(ours)}, {seconds / ours:.0f}x" for ours in (default, best[speed] if best else default)
        ]
        lines.append(f"| {kind} | {_us(seconds)}, {name}, {count} threads | {' | '.join(cells)} |")
    return lines


def _equal_recall(report: dict) -> list[str]:
    sides = list(report["curves"])
    lines = [f"| recall at least | | {' | '.join(sides)} |", "|---|---|" + "---|" * len(sides)]
    for target in TARGETS:
        for label, speed in SPEEDS.items():
            found = [fastest_at(report, side, target, speed) for side in sides]
            cells = ["-" if one is None else f"{_us(one[speed])} (ef {one['ef']})" for one in found]
            lines.append(f"| {target} | {label} | {' | '.join(cells)} |")
    return lines


def _curve(report: dict) -> list[str]:
    sides = list(report["curves"])
    lines = [f"| candidates | {' | '.join(sides)} |", "|---|" + "---|" * len(sides)]
    for i, one in enumerate(report["curves"][sides[0]]):
        points = [report["curves"][side][i] for side in sides]
        cells = [f"{p['recall']:.4f}: {p['single_s'] * 1e6:.0f}, {_us(p['batch_s'])}" for p in points]
        lines.append(f"| {one['ef']} | {' | '.join(cells)} |")
    return [*lines, "", "Recall: single, and batched on all threads."]


def _build(report: dict) -> list[str]:
    lines = ["| building | threads | seconds | memory of the index | at its peak |", "|---|---|---|---|---|"]
    for name, runs in report["build"].items():
        for count, one in runs.items():
            lines.append(
                f"| {name} | {count} | {one['seconds']:.1f} | {one['bytes'] / 1e6:.0f} MB | "
                f"{one['peak_bytes'] / 1e6:.0f} MB |"
            )
    return lines


def _bytes(report: dict) -> list[str]:
    lines = ["| file | bytes of a shingle |", "|---|---|"]
    lines += [f"| {name} | {size:.1f} |" for name, size in report["bytes"].items()]
    return [*lines, f"| together | {sum(report['bytes'].values()):.1f} |"]


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"
