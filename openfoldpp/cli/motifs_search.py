"""``openfoldpp motifs search``: pieces of known structure for a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from openfoldpp.motifs.hits import MotifHit

# Rows of the table, unless --top says otherwise.
_ROWS = 20
# The format has four columns for a residue's number.
_PDB_RESIDUES = 9999


def search(
    query: Annotated[
        str,
        typer.Argument(
            metavar="SEQ|FASTA",
            help="One-letter codes, chains separated by ':' (VH:VL); or a FASTA file, whose records are "
            "searched one by one.",
            show_default=False,
        ),
    ],
    library: Annotated[
        list[Path] | None,
        typer.Option(
            "--library",
            metavar="LIB",
            help="Folder of a library; give it again to search several as one. By default the one of "
            "antibody variable domains that comes with openfoldpp.",
            show_default=False,
        ),
    ] = None,
    max_identity: Annotated[
        float | None,
        typer.Option(
            "--max-identity",
            "--max_identity",
            metavar="X",
            help="Leave out chains that share this part of their residues with the query, or more, 0 to 1; 1 "
            "leaves out the query itself.",
            show_default=False,
        ),
    ] = None,
    min_score: Annotated[
        float,
        typer.Option(
            "--min-score", "--min_score", min=0, max=1, help="Leave out motifs that are less probable."
        ),
    ] = 0.0,
    top: Annotated[
        int, typer.Option("--top", min=1, metavar="N", help="Motifs of each query, at most.")
    ] = _ROWS,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write the motifs to FILE.json, or to FILE.pdb, a model for each, numbered as the query.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Find motifs: pieces of a library's structures that probably have the backbone of the query's residues.

    The first ones together cover the query, alternatives follow. Residues are counted from 1 through all of
    the query's chains. The score is the probability that ten residues are within 1.5 angstrom of the query's,
    the mean over the motif. The distance, in angstrom, and the TM-score are estimates.
    """
    from openfoldpp.errors import OpenFoldPPError
    from openfoldpp.files import explain_os_error

    if out is not None and out.suffix not in (".json", ".pdb"):
        raise typer.BadParameter(f"{out}: expected a name that ends in .json or .pdb", param_hint="--out")
    try:
        found = _found(query, library or [], max_identity, min_score, top)
        if out is not None:
            _write(out, found)
    except (OpenFoldPPError, OSError) as error:
        said = explain_os_error(error) if isinstance(error, OSError) else error
        typer.echo(f"openfoldpp motifs search: {said}", err=True)
        raise typer.Exit(1) from error
    for name, _, hits in found:
        _show(name, hits)
    if out is not None:
        typer.echo(f"{out}: {sum(len(hits) for _, _, hits in found):,} motifs")


def _found(
    query: str, library: Sequence[Path], max_identity: float | None, min_score: float, top: int
) -> list[tuple[str, str, list[MotifHit]]]:
    from openfoldpp.motifs import default_library
    from openfoldpp.motifs.library import Library
    from openfoldpp.motifs.retriever import Retriever

    named = _queries(query)
    with Library.open(
        library or [default_library.path()],
        note=lambda text: typer.echo(f"openfoldpp motifs search: {text}", err=True),
    ) as opened:
        retriever = Retriever(opened, max_identity=max_identity)
        hits = retriever.search([sequence for _, sequence in named], min_score=min_score, top=top)
    return [(name, sequence, some) for (name, sequence), some in zip(named, hits, strict=True)]


def _queries(query: str) -> list[tuple[str, str]]:
    """Return name and sequence of each query."""
    from openfoldpp import fasta
    from openfoldpp.errors import InputError

    path = Path(query)
    is_sequence = query.replace(":", "").isalpha() and query.isupper()
    if not is_sequence or path.is_file():
        if not path.is_file():
            raise InputError(
                f"{query[:60]}: is neither a file nor a sequence; give one-letter codes in capitals, chains "
                "separated by ':', or a FASTA file"
            )
        found = []
        for record in fasta.split_records(fasta.read_text(path), str(path)):
            fasta.require_header(record, str(path))
            where = f"{path}, {record.header}"
            found.append((record.header.split()[0], ":".join(fasta.chain_sequences(record.lines, where))))
        return found
    return [("query", query)]


def _show(name: str, hits: Sequence[MotifHit]) -> None:
    typer.echo(f"\n{name}: {len(hits) or 'no'} motif{'s' * (len(hits) != 1)}")
    if not hits:
        return
    typer.echo(f"{'residues':>11}  {'length':>6}  {'score':>5}  {'distance':>8}  {'TM':>4}  source")
    for hit in hits:
        span = f"{hit.offset + 1}-{hit.offset + hit.length}"
        typer.echo(
            f"{span:>11}  {hit.length:>6}  {hit.score:>5.2f}  {hit.distance:>8.2f}  {hit.tm:>4.2f}  "
            f"{hit.source} {hit.residue}"
        )


def _write(out: Path, found: Sequence[tuple[str, str, list[MotifHit]]]) -> None:
    from openfoldpp.files import write_json, write_text

    if out.suffix == ".json":
        write_json(out, [_document(*one) for one in found])
    else:
        write_text(out, _pdb(found))


def _document(name: str, sequence: str, hits: Sequence[MotifHit]) -> dict[str, Any]:
    def plain(hit: MotifHit) -> dict[str, Any]:
        columns = {
            key: value for key, value in vars(hit).items() if key not in ("coords", "segment", "start")
        }
        # The library keeps hundredths of an angstrom.
        return columns | {"coords": hit.coords.astype(float).round(2).tolist()}

    return {
        "name": name,
        "sequence": sequence,
        "atoms": ["N", "CA", "C", "O"],
        "motifs": [plain(hit) for hit in hits],
    }


def _pdb(found: Sequence[tuple[str, str, list[MotifHit]]]) -> str:
    """Return a model for each motif: residue numbers are the query's, B-factors the score in percent."""
    from openfoldpp.errors import InputError
    from openfoldpp.geometry.residues import LETTERS, NAMES
    from openfoldpp.motifs.segments import BACKBONE

    lines, model = [], 0
    for name, _, hits in found:
        for hit in hits:
            if hit.offset + hit.length > _PDB_RESIDUES:
                raise InputError(
                    f"{name}: has a motif up to residue {hit.offset + hit.length}, and PDB numbers no more "
                    f"than {_PDB_RESIDUES}; give --out a name that ends in .json"
                )
            model += 1
            lines.append(
                f"REMARK   1 MODEL {model}: {name} FROM {hit.source} {hit.residue} SCORE {hit.score:.3f}"
            )
            lines.append(f"MODEL     {model:4d}")
            serial = 0
            for i, (letter, atoms) in enumerate(zip(hit.sequence, hit.coords, strict=True)):
                residue = NAMES[LETTERS.index(letter)] if letter in LETTERS[:20] else "UNK"
                for atom, (x, y, z) in zip(BACKBONE, atoms, strict=True):
                    serial += 1
                    lines.append(
                        f"ATOM  {serial:5d}  {atom:<3} {residue} A{hit.offset + i + 1:4d}    "
                        f"{x:8.3f}{y:8.3f}{z:8.3f}{1.0:6.2f}{100 * hit.score:6.2f}          {atom[0]:>2}"
                    )
            lines.append("ENDMDL")
    return "\n".join([*lines, "END", ""])
