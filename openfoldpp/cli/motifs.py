"""``openfoldpp motifs``: libraries of structure pieces, made, looked at and searched."""

from __future__ import annotations

import enum
import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openfoldpp.cli.motifs_search import search

if TYPE_CHECKING:
    from openfoldpp.motifs.build import Report
    from openfoldpp.motifs.library_files import Manifest, Options, Skipped

app = typer.Typer(
    help="Make libraries of structure pieces, and search them.",
    no_args_is_help=True,
)

# How a count of openfoldpp.motifs.structures is told.
_KINDS = {
    "alternate_locations": "residues with alternate locations",
    "nonstandard_residues": "non-standard residues read as the amino acid they derive from",
    "unknown_residues": "residues read as X",
    "oxygens_placed": "missing O placed",
    "models": "models after a file's first",
    "other_residues": "waters, ligands and other residues that are no amino acids",
    "incomplete_residues": "residues without a whole backbone",
    "distorted_residues": "residues with impossible bonds",
    "short_stretches": "stretches of less than ten residues",
    "short_stretch_residues": "residues in these",
    "chains": "proteins without ten residues in a row",
}


class Vectors(enum.StrEnum):
    """How vectors are kept."""

    FLOAT16 = "float16"
    INT8 = "int8"


@app.callback()
def motifs() -> None:
    """Make libraries of structure pieces, and search them."""


@app.command()
def build(
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="LIB",
            help="Folder of the library. A run that was stopped goes on in LIB.building.",
            show_default=False,
        ),
    ],
    structures: Annotated[
        list[Path] | None,
        typer.Argument(
            help="PDB, mmCIF and BinaryCIF files, also with .gz; folders are searched with their subfolders.",
            metavar="STRUCTURES",
            show_default=False,
        ),
    ] = None,
    plm: Annotated[
        str,
        typer.Option("--plm", metavar="NAME", help="The language model; CheapHead was trained on plm_lite."),
    ] = "plm_lite",
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            metavar="N",
            help="Processes; by default one for each core. The library is the same with any number.",
            show_default=False,
        ),
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add the structures that LIB does not have yet.")
    ] = False,
    vectors: Annotated[
        Vectors | None,
        typer.Option(
            help="How vectors are kept: float16 (default), or int8 in half of the space, whose distances are "
            "off by 0.003 angstrom.",
            show_default=False,
        ),
    ] = None,
    no_graph: Annotated[
        bool,
        typer.Option(
            "--no_graph",
            "--no-graph",
            help="Leave out the index, most of a library's size: it is made at first use, and kept in the "
            "cache.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", "--dry_run", help="Load the index of LIB, print its size, write nothing."),
    ] = False,
) -> None:
    """Make a library of every protein chain of structure files, or add to one.

    A structure that gives nothing is named with the reason; if one is damaged, the exit code is 1, and the
    library has the others. A run that was stopped, however, goes on where it was when the same command is
    given again; a library is complete or not there.
    """
    from openfoldpp.inference.interruption import Interrupted, interruptible
    from openfoldpp.motifs.library_files import building_folder

    with _errors("build"):
        if dry_run:
            _dry_run(structures or [], out)
            return
        if not structures:
            raise typer.BadParameter(
                "name structure files, or folders that have some", param_hint="STRUCTURES"
            )
        try:
            with interruptible():
                report = _build(
                    structures, out, plm, _cores() if jobs is None else jobs, add, vectors, no_graph
                )
        except Interrupted as error:
            building = building_folder(out)
            state = f"what is done is in {building}, and the same command goes on from there"
            typer.echo(
                f"openfoldpp motifs build: {error}; {state if building.is_dir() else 'nothing was made'}",
                err=True,
            )
            raise typer.Exit(error.exit_code) from error
    _show_report(report, out)
    if any(one.is_broken for one in report.skipped):
        raise typer.Exit(1)


app.command()(search)


@app.command()
def info(
    library: Annotated[Path, typer.Argument(metavar="LIB", help="Folder of a library.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a library is: how it was made, what is in it, what was mended and left out."""
    from dataclasses import asdict

    from openfoldpp.motifs.library_files import FORMAT, VERSION, read_manifest

    with _errors("info"):
        manifest = read_manifest(library)
    if as_json:
        sizes = {"counts": asdict(manifest.counts), "bytes": _bytes(manifest)}
        head = {"library": str(library), "format": FORMAT, "version": VERSION}
        typer.echo(json.dumps(head | sizes | asdict(manifest), indent=2))
        return
    _show_info(library, manifest)


@app.command()
def verify(
    libraries: Annotated[
        list[Path], typer.Argument(metavar="LIB...", help="Folders of libraries.", show_default=False)
    ],
) -> None:
    """Compare every file of libraries with the SHA-256 in their manifests; exit code 1 where one differs."""
    from openfoldpp.motifs.library_files import read_manifest
    from openfoldpp.motifs.library_files import verify as problems_of

    is_bad = False
    for library in libraries:
        with _errors("verify"):
            manifest = read_manifest(library)
            problems = problems_of(library, manifest)
        files = sum(len(part.files) for part in manifest.parts)
        if not problems:
            typer.echo(f"{library}: {_count(files, 'file')}, {_size(_bytes(manifest))}, as the manifest says")
            continue
        is_bad = True
        typer.echo(
            f"{library}: {len(problems):,} of {_count(files, 'file')} not as the manifest says:", err=True
        )
        for problem in problems:
            typer.echo(f"  {problem}", err=True)
        typer.echo("Copy the library again, or make it again with `openfoldpp motifs build`.", err=True)
    if is_bad:
        raise typer.Exit(1)


def _build(
    structures: list[Path],
    out: Path,
    plm: str,
    jobs: int,
    add: bool,
    vectors: str | None,
    no_graph: bool,
) -> Report:
    from openfoldpp.cli.motifs_progress import Reporter
    from openfoldpp.motifs.build import build_library

    # Without --jobs, so that the library is the same with any number.
    words = ["openfoldpp", "motifs", "build", *map(str, structures), "--out", str(out)]
    words += ["--add"] * add + (["--vectors", str(vectors)] if vectors else []) + ["--no_graph"] * no_graph
    with Reporter() as reporter:
        return build_library(
            structures,
            out,
            plm=plm,
            jobs=jobs,
            add=add,
            options=_options(vectors, no_graph),
            made_by=shlex.join(words),
            progress=reporter.show,
            note=lambda text: typer.echo(f"openfoldpp motifs build: {text}", err=True),
        )


def _options(vectors: str | None, no_graph: bool) -> Options | None:
    from openfoldpp.motifs.library_files import Options

    if vectors is None and not no_graph:
        return None
    return Options(vectors=str(vectors or Vectors.FLOAT16), graph=not no_graph)


def _dry_run(structures: list[Path], out: Path) -> None:
    from openfoldpp.motifs.build_inputs import find_structures
    from openfoldpp.motifs.library import Library

    if structures:
        typer.echo(f"{_count(len(find_structures(structures)), 'structure file')} found")
    start = time.perf_counter()
    with Library.open(
        out, note=lambda text: typer.echo(f"openfoldpp motifs build: {text}", err=True)
    ) as library:
        library.load_index()
        seconds = time.perf_counter() - start
        counts = library.counts
        typer.echo(
            f"index loaded in {seconds:.2f} s: {out}, {_count(counts.shingles, 'shingle')} of "
            f"{_count(counts.chains, 'chain')}, {_count(len(library.shards), 'part')}, "
            f"{_size(_bytes(library.manifests[0]))}; nothing was written"
        )


def _show_report(report: Report, out: Path) -> None:
    counts, added = report.counts, report.added
    resumed = f" ({report.resumed:,} by a run before this one)" if report.resumed else ""
    typer.echo(
        f"{out}: {_count(counts.shingles, 'shingle')} of {_count(counts.chains, 'chain')} from "
        f"{_count(counts.files, 'file')}; {added.files:,} new{resumed}, {report.there:,} were there; "
        f"{report.elapsed_s:.1f} s"
    )
    _show_kinds("mended", report.mended)
    _show_kinds("left out", report.left_out)
    if report.skipped:
        typer.echo(f"\n{_count(len(report.skipped), 'file')} gave nothing:", err=True)
        _show_skipped(report.skipped)


def _show_info(library: Path, manifest: Manifest) -> None:
    from openfoldpp.motifs.library_files import INDEX, VERSION

    counts, options, embedding = manifest.counts, manifest.options, manifest.embedding
    rows = {
        "library": f"{library}, format {VERSION}, written by openfoldpp {manifest.openfoldpp}",
        "made by": manifest.made_by or "not said",
        "in it": f"{_count(counts.shingles, 'shingle')} and {_count(counts.residues, 'residue')} in "
        f"{_count(counts.segments, 'segment')} of {_count(counts.chains, 'chain')} from "
        f"{_count(counts.files, 'file')}",
        "size": f"{_size(_bytes(manifest))} in {_count(len(manifest.parts), 'part')}",
        "vectors": f"{options.vectors}, by {embedding.plm} {embedding.fingerprint[:8]} and CheapHead "
        f"{embedding.head[:8]}",
    }
    indexed = [part.name for part in manifest.parts if INDEX in part.files]
    graphs = sum(part.counts.shingles >= options.flat_below for part in manifest.parts)
    kind = f"{_count(graphs, 'part')} by a graph, {len(manifest.parts) - graphs:,} by comparing all vectors"
    rows["index"] = kind if indexed or not graphs else f"{kind}; not among the files: made at first use"
    for name, text in rows.items():
        typer.echo(f"{name:<8}  {text}")
    _show_kinds("mended", manifest.mended)
    _show_kinds("left out", manifest.left_out)
    if manifest.skipped:
        typer.echo(f"\n{_count(len(manifest.skipped), 'file')} gave nothing:")
        _show_skipped(manifest.skipped, err=False)


def _show_kinds(what: str, counts: Mapping[str, int]) -> None:
    for kind, count in sorted(counts.items()):
        typer.echo(f"{what:<8}  {_KINDS[kind]}: {count:,}")


def _show_skipped(skipped: tuple[Skipped, ...] | list[Skipped], *, err: bool = True) -> None:
    for one in skipped:
        typer.echo(f"  {one.name}: {one.reason}", err=err)


def _bytes(manifest: Manifest) -> int:
    return sum(entry.bytes for part in manifest.parts for entry in part.files.values())


def _cores() -> int:
    # Those that this process may use, where the system tells.
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


@contextmanager
def _errors(command: str) -> Iterator[None]:
    """Print an error of ours as one line and exit with 1."""
    from openfoldpp.errors import OpenFoldPPError
    from openfoldpp.files import explain_os_error

    try:
        yield
    except OSError as error:
        typer.echo(f"openfoldpp motifs {command}: {explain_os_error(error)}", err=True)
        raise typer.Exit(1) from error
    except OpenFoldPPError as error:
        typer.echo(f"openfoldpp motifs {command}: {error}", err=True)
        raise typer.Exit(1) from error
