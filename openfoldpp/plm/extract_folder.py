"""The folder that ``openfoldpp embed`` fills: what it is for, whose embeddings it has, and one run at a time.

``embeddings.json`` says the layout and the embedder; a run with others is refused. ``embeddings.fasta`` has
the records of every run, written before their embeddings are: an embedding's file that is there and whose
record is listed with the same sequence is complete, so that a run that was killed needs no other account of
what it had done.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from openfoldpp.errors import InputError
from openfoldpp.files import locked_folder, write_json, write_text
from openfoldpp.plm.embedder import Embedder

MANIFEST = "embeddings.json"
LISTING = "embeddings.fasta"
_LOCK = ".embeddings.lock"
# What two runs into one folder must agree on.
_IDENTITY = ("layout", "model", "fingerprint", "channels")


class EmbeddingFolder:
    """A folder of embeddings.

    Parameters
    ----------
    path : pathlib.Path
        The folder.
    """

    def __init__(self, path: Path):
        self.path = path

    def locked(self) -> contextlib.AbstractContextManager[str | None]:
        """Make the folder, and keep other runs out of it; see :func:`openfoldpp.files.locked_folder`."""
        return locked_folder(self.path, _LOCK, "openfoldpp embed")

    def claim(self, embedder: Embedder, layout: str) -> None:
        """Write what the folder is for, or compare it.

        Parameters
        ----------
        embedder : Embedder
            Whose embeddings it has.
        layout : str
            In which.

        Raises
        ------
        InputError
            The folder has another embedder's, or another layout.
        """
        ours: dict[str, Any] = {
            "openfoldpp": metadata.version("openfoldpp"),
            "layout": layout,
            "model": embedder.name,
            "fingerprint": embedder.fingerprint,
            "channels": embedder.channels,
        }
        theirs = read_manifest(self.path)
        if theirs is None:
            if (self.path / LISTING).exists():
                raise InputError(
                    f"{self.path}: has {LISTING} and no {MANIFEST}, so whose embeddings these are is not "
                    "known; name another folder with --out"
                )
            write_json(self.path / MANIFEST, ours)
            return
        differing = [name for name in _IDENTITY if theirs.get(name) != ours[name]]
        if differing:
            what = "; ".join(f"{name} {theirs.get(name)}, now {ours[name]}" for name in differing)
            short = re.sub(r"([0-9a-f]{8})[0-9a-f]{8,}", r"\1...", what)  # the hash of the weights
            raise InputError(
                f"{self.path}: has embeddings of another run ({short}). Model, weights, layer, dtype and "
                "layout must be the same in a folder; name another with --out"
            )

    def read_listing(self) -> dict[str, str]:
        """Return the sequence of every record that a run was given, by its tag."""
        return read_listing(self.path)

    def write_listing(self, records: Mapping[str, str]) -> None:
        """Replace the listing by the `records`, sequences by tag."""
        write_text(self.path / LISTING, "".join(f">{tag}\n{sequence}\n" for tag, sequence in records.items()))


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Read what a folder is for.

    Parameters
    ----------
    folder : pathlib.Path
        Which.

    Returns
    -------
    dict or None
        None where ``openfoldpp embed`` has not written there.

    Raises
    ------
    InputError
        The file is damaged.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{path}: is damaged ({error}); name another folder with --out") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: is no manifest of openfoldpp embed; name another folder with --out")
    return found


def read_listing(folder: Path) -> dict[str, str]:
    """Read the records of a `folder`: sequences by tag; empty where there is no listing.

    Raises :class:`InputError` where somebody has changed it.
    """
    try:
        lines = (folder / LISTING).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    if len(lines) % 2 or not all(line.startswith(">") for line in lines[::2]):
        raise InputError(
            f"{folder / LISTING}: is not as openfoldpp embed wrote it, two lines a record; name another "
            "folder"
        )
    return {line[1:]: sequence for line, sequence in zip(lines[::2], lines[1::2], strict=True)}
