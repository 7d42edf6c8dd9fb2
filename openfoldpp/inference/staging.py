"""The hidden folder in which OpenFold 2's own script works on one target, and how its files leave it.

The script writes its files one by one, in place. Here it does so where nobody looks; what it has finished
is then moved to where it belongs, each file by a rename within one file system.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from openfoldpp.files import write_json
from openfoldpp.types import OutputPaths, Target

# Then the machine and the process.
_PREFIX = f".openfoldpp-{socket.gethostname()}-"


@dataclass(frozen=True)
class Staging:
    """The folder of one target.

    Attributes
    ----------
    root : pathlib.Path
        The folder; below it ``fasta`` with the target's FASTA file, ``templates``, which is empty, and
        ``output``, the script's output folder.
    target : Target
        The target.
    """

    root: Path
    target: Target

    @property
    def fasta_dir(self) -> Path:
        """Folder with the one FASTA file."""
        return self.root / "fasta"

    @property
    def templates(self) -> Path:
        """An empty folder: no templates."""
        return self.root / "templates"

    @property
    def output_dir(self) -> Path:
        """The script's ``--output_dir``."""
        return self.root / "output"

    @property
    def script_tag(self) -> str:
        """The tag that the script gives the target: its chains' tags joined."""
        return "-".join(chain.tag for chain in self.target.chains)

    def without_alignments(self, *, paired: bool) -> Path:
        """Make a folder of alignments in which each chain has none but its own sequence.

        Parameters
        ----------
        paired : bool
            Whether the script will look for the sequences that pair chains by species (multimer presets).

        Returns
        -------
        pathlib.Path
            What to give as ``--use_precomputed_alignments``.
        """
        folder = self.root / "alignments"
        for chain in self.target.chains:
            (folder / chain.tag).mkdir(parents=True, exist_ok=True)
            if paired:
                text = f"# STOCKHOLM 1.0\n\n{chain.tag} {chain.sequence}\n//\n"
                (folder / chain.tag / "uniprot_hits.sto").write_text(text)
        return folder

    def without_hits(self, given: Path) -> Path:
        """Make a folder of alignments that leads to the `given` ones, but not to hits of a template search.

        For a run without templates: upstream would want the file of each hit.
        """
        folder = self.root / "alignments"
        for chain in self.target.chains:
            if not (given / chain.tag).is_dir():
                continue  # of equal chains upstream reads the first one's
            (folder / chain.tag).mkdir(parents=True, exist_ok=True)
            for file in sorted((given / chain.tag).iterdir()):
                if file.suffix != ".hhr" and file.name != "hmm_output.sto":
                    (folder / chain.tag / file.name).symlink_to(file.absolute())
        return folder

    def publish(self, paths: OutputPaths, output_dir: Path) -> list[Path]:
        """Move the script's finished files to where they belong, under the target's own name.

        Parameters
        ----------
        paths : OutputPaths
            Folder and name of the target's files.
        output_dir : pathlib.Path
            The user's ``--output_dir``, which has ``timings.json``.

        Returns
        -------
        list of pathlib.Path
            The files moved, in the order in which the script wrote them.
        """
        paths.directory.mkdir(parents=True, exist_ok=True)
        staged = self.output_dir / "predictions"
        moved = []
        for file in sorted(staged.iterdir(), key=lambda file: file.stat().st_mtime_ns):
            if file.name == "timings.json":
                _merge(file, paths.directory / file.name, {})
                continue
            suffix = file.name.removeprefix(self.script_tag)
            moved.append(paths.directory / f"{self.target.tag}{suffix}")
            with file.open("rb") as written:
                os.fsync(written.fileno())  # its content is on the disk before its name is
            file.replace(moved[-1])
        _merge(
            self.output_dir / "timings.json",
            output_dir / "timings.json",
            {self.script_tag: self.target.tag},
        )
        return moved


@contextmanager
def staging(target: Target, folder: Path | None) -> Iterator[Staging]:
    """Make a target's staging folder, and remove it with all that is left in it.

    Parameters
    ----------
    target : Target
        The target.
    folder : pathlib.Path or None
        The folder to make it in, that of the finished files; None: where temporary files go.

    Yields
    ------
    Staging
        With the FASTA file written.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
    root = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=folder)).absolute()
    try:
        made = Staging(root, target)
        for path in (made.fasta_dir, made.templates, made.output_dir):
            path.mkdir()
        records = (f">{chain.tag}\n{chain.sequence}\n" for chain in target.chains)
        (made.fasta_dir / "target.fasta").write_text("".join(records))
        yield made
    finally:
        shutil.rmtree(root)


def _remove_abandoned(folder: Path) -> None:
    """Remove the staging folders of processes of this machine that were killed."""
    for old in folder.glob(f"{_PREFIX}*"):
        pid = old.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            shutil.rmtree(old, ignore_errors=True)


def keep_alignments(folder: Path, output_dir: Path) -> None:
    """Move a chain's finished alignment files into the user's output folder, and leave a link in their place.

    Parameters
    ----------
    folder : pathlib.Path
        ``STAGING/output/alignments/TAG``.
    output_dir : pathlib.Path
        The user's; they go to ``alignments/TAG`` below it.
    """
    kept = output_dir.absolute() / "alignments" / folder.name
    kept.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():  # what else is there stays
        file.replace(kept / file.name)
    folder.rmdir()
    folder.symlink_to(kept, target_is_directory=True)


def _merge(staged: Path, file: Path, names: dict[str, str]) -> None:
    """Add a staged ``timings.json`` to the one in place, its keys renamed."""
    if not staged.is_file():
        return
    timings = {}
    if file.is_file():
        try:
            timings = json.loads(file.read_bytes())
        except ValueError:  # upstream replaces it too
            timings = {}
    if not isinstance(timings, dict):
        timings = {}
    added = {names.get(key, key): value for key, value in json.loads(staged.read_bytes()).items()}
    write_json(file, {**timings, **added})
