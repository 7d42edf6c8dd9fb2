"""Databases and programs of an alignment search: upstream's flags, and what has to be there at its start."""

from __future__ import annotations

import os
import shutil
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import UTC, datetime
from pathlib import Path

from openfoldpp.errors import InputError

#: Databases that every release searches, and those of OpenFold 2 alone.
DATABASES = ("uniref90", "mgnify", "pdb70", "uniclust30", "bfd")
DATABASES_OF_2 = ("pdb_seqres", "uniref30", "uniprot")
TOOLS = ("jackhmmer", "hhblits", "hhsearch", "kalign")
TOOLS_OF_2 = ("hmmsearch", "hmmbuild")
DEBIAN_PACKAGES = {
    "jackhmmer": "hmmer",
    "hmmsearch": "hmmer",
    "hmmbuild": "hmmer",
    "hhblits": "hhsuite",
    "hhsearch": "hhsuite",
    "kalign": "kalign",
}


def add_data_options(parser: ArgumentParser) -> None:
    """Add to a parser the data flags of upstream's ``scripts/utils.py``, which the PyPI release lacks."""
    group = parser.add_argument_group("alignments and templates (upstream's flags)")
    for name in DATABASES:
        group.add_argument(f"--{name}_database_path", metavar="PATH", help=f"{name} database to search")
    for name in DATABASES_OF_2:
        group.add_argument(
            f"--{name}_database_path", metavar="PATH", help=f"{name} database to search (OpenFold 2)"
        )
    for name in (*TOOLS, *TOOLS_OF_2):
        group.add_argument(f"--{name}_binary_path", metavar="FILE", default=program_path(name))
    group.add_argument(
        "--max_template_date",
        type=_date,
        metavar="YYYY-MM-DD",
        default=f"{datetime.now(UTC):%Y-%m-%d}",
        help="newer templates are left out",
    )
    group.add_argument("--obsolete_pdbs_path", metavar="FILE", help="replacements of obsolete PDB entries")
    group.add_argument("--release_dates_path", metavar="FILE", help="release dates of PDB entries")


def program_path(tool: str) -> str:
    """Return where a `tool` is: in the conda environment, on ``PATH``, else upstream's ``/usr/bin``."""
    conda = os.environ.get("CONDA_PREFIX")
    if conda and (Path(conda) / "bin" / tool).is_file():
        return str(Path(conda) / "bin" / tool)
    return shutil.which(tool) or f"/usr/bin/{tool}"


def searches_databases(options: Namespace) -> bool:
    """Say whether the options give a database and no precomputed alignments."""
    names = (*DATABASES, *DATABASES_OF_2)
    given = any(getattr(options, f"{name}_database_path") for name in names)
    return given and options.use_precomputed_alignments is None


def require_program(tool: str, path: str, what: str) -> None:
    """Refuse to go on without a program.

    Parameters
    ----------
    tool : str
        Its name.
    path : str
        Where it should be.
    what : str
        What needs it.

    Raises
    ------
    InputError
        It is not there; the message says how to install it.
    """
    if shutil.which(path) is None:
        raise InputError(
            f"--{tool}_binary_path {path}: there is no such program, and {what} needs it. Install it (on "
            f"Debian and Ubuntu: apt install {DEBIAN_PACKAGES[tool]}), or give its path."
        )


def check_databases(options: Namespace) -> None:
    """Refuse what 0.0.1 would ignore, and what it would find missing only after a search of hours.

    Parameters
    ----------
    options : argparse.Namespace
        Upstream's options.

    Raises
    ------
    InputError
        A database or a program is missing, or one database is given without the other that it needs.
    """
    given = {name: getattr(options, f"{name}_database_path") for name in DATABASES}
    small_bfd = options.preset == "reduced_dbs"
    if given["pdb70"] and not given["uniref90"]:
        raise InputError(
            "--pdb70_database_path is searched with the hits of --uniref90_database_path: give both"
        )
    if given["uniclust30"] and (small_bfd or not given["bfd"]):
        raise InputError(
            "--uniclust30_database_path is searched together with the full BFD: give --bfd_database_path and "
            "--preset full_dbs as well"
        )
    tools = {
        "uniref90": ["jackhmmer"],
        "mgnify": ["jackhmmer"],
        "bfd": ["jackhmmer" if small_bfd else "hhblits"],
        "uniclust30": ["hhblits"],
        "pdb70": ["hhsearch"],
    }
    _require_all(options, given, tools)


def check_databases_of_2(options: Namespace, *, differ: bool) -> None:
    """Refuse what the script of OpenFold 2 cannot search, before it starts.

    Its search always looks for templates, whose files it then wants: with hhsearch in PDB70, for a multimer
    with hmmsearch in the sequences of the PDB; and it does so with the hits of UniRef90. Different chains of
    a multimer are paired by the hits of UniProt.

    Parameters
    ----------
    options : argparse.Namespace
        Upstream's options.
    differ : bool
        Whether the target has different chains.

    Raises
    ------
    InputError
        A database or a program is missing, or one that would not be searched is given.
    """
    given = {name: getattr(options, f"{name}_database_path") for name in (*DATABASES, *DATABASES_OF_2)}
    multimer = "multimer" in options.config_preset
    needed = ["uniref90", "pdb_seqres" if multimer else "pdb70"] + ["uniprot"] * (multimer and differ)
    missing = [f"--{name}_database_path" for name in needed if not given[name]]
    if options.template_mmcif_dir is None:
        missing.append("the folder of mmCIF files for templates")
    if missing:
        raise InputError(
            f"a search by OpenFold 2 with --config_preset {options.config_preset} needs "
            f"{', '.join(f'--{name}_database_path' for name in needed)} and the template folder; not given: "
            f"{', '.join(missing)}. Give them, or finished alignments with --use_precomputed_alignments DIR"
        )
    for name in ("uniclust30", "uniref30"):
        if given[name] and not given["bfd"]:
            raise InputError(
                f"--{name}_database_path is searched together with BFD: give --bfd_database_path as well"
            )
    tools = {
        "uniref90": ["jackhmmer"],
        "mgnify": ["jackhmmer"],
        "uniprot": ["jackhmmer"],
        "bfd": ["hhblits"],
        "uniclust30": ["hhblits"],
        "uniref30": ["hhblits"],
        "pdb70": ["hhsearch"],
        "pdb_seqres": ["hmmsearch", "hmmbuild"],
    }
    _require_all(options, given, tools)


def _require_all(options: Namespace, given: dict[str, str | None], tools: dict[str, list[str]]) -> None:
    """Require each given database and the programs that search it."""
    for name, path in given.items():
        if path is None:
            continue
        for tool in tools[name]:
            require_program(tool, getattr(options, f"{tool}_binary_path"), f"--{name}_database_path")
        # hhblits and hhsearch databases are several files, given by the beginning of their names.
        path = Path(path)
        several = tools[name][0] in ("hhblits", "hhsearch")
        if not path.exists() and not (several and any(path.parent.glob(f"{path.name}*"))):
            raise InputError(f"--{name}_database_path {path}: there is no such database")


def _date(text: str) -> str:
    try:
        datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a date: expected YYYY-MM-DD") from None
    return text
