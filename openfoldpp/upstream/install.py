"""Install OpenFold 0.0.1 from its sdist on the package index, built with what ``patches/`` supplies."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any

from openfoldpp.errors import MissingDependencyError, UpstreamError
from openfoldpp.upstream.locate import Installation, installed
from openfoldpp.upstream.patches import patches_folder, stereo_chemical_props

# setuptools 70.1 is the first that builds wheels without the package `wheel`.
_BUILD_BACKEND = "setuptools>=70.1"


def install_openfold(
    *,
    constraint: Path | None = None,
    sdist: Path | None = None,
    force: bool = False,
    report: Callable[[str], None] = print,
) -> Installation:
    """Install OpenFold 0.0.1 and what it needs into this Python environment, unless an OpenFold is there.

    The wheel is built in a temporary folder before anything is installed, so a failure leaves the
    environment as it was, or with dependencies only.

    Parameters
    ----------
    constraint : pathlib.Path, optional
        A pip constraints file for the dependencies.
    sdist : pathlib.Path, optional
        The sdist, where it has been downloaded already; its hash is checked all the same.
    force : bool, default False
        Build and install even if an OpenFold is there; it is replaced.
    report : callable, default print
        Is handed each line that says what is done and why.

    Returns
    -------
    Installation
        The installed OpenFold.

    Raises
    ------
    MissingDependencyError
        If this environment has no pip.
    UpstreamError
        If the sdist is not the expected one, or pip fails.
    """
    if not force:
        try:
            present = installed()
        except UpstreamError as error:
            raise UpstreamError(f"{error} `openfoldpp install-openfold --force` replaces it.") from error
        if present is not None:
            report(f"OpenFold {present.version} is already there, in {present.root}: nothing to do.")
            return present
    for option, path in (("--constraint", constraint), ("--sdist", sdist)):
        if path is not None and not path.is_file():
            raise UpstreamError(f"{option} = {path}: no such file.")
    if importlib.util.find_spec("pip") is None:
        raise MissingDependencyError(
            f"pip is not in this Python environment ({sys.prefix}), and OpenFold is installed with it. "
            f"Install it with `{sys.executable} -m ensurepip`, or with `uv pip install pip`."
        )
    folder = patches_folder()
    manifest = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="openfoldpp-") as name:
        work = Path(name)
        wheel = _build(work, folder, manifest, sdist, report)
        report("Installing the wheel and what it needs into " + sys.prefix + " ...")
        constraints = [] if constraint is None else ["--constraint", str(constraint.resolve())]
        _pip(["install", str(wheel), *constraints], work)
        if force:
            # Without --force-reinstall pip keeps an installed wheel of the same version.
            _pip(["install", "--force-reinstall", "--no-deps", str(wheel)], work)
    importlib.invalidate_caches()
    installation = installed()
    if installation is None:
        raise UpstreamError(
            f"pip reported success, but `openfold` is not in this environment ({sys.prefix})."
        )
    report(f"OpenFold {installation.version} is installed in {installation.root}.")
    return installation


def _build(
    work: Path,
    folder: Traversable,
    manifest: dict[str, Any],
    sdist: Path | None,
    report: Callable[[str], None],
) -> Path:
    if sdist is not None:
        require_hash(sdist, manifest["sha256"])  # before anything is fetched
    backend = work / "backend"
    _pip(["install", "--target", str(backend), _BUILD_BACKEND], work)
    if sdist is None:
        report(f"Downloading the sdist of {manifest['name']} {manifest['version']} ...")
        sdist = _download(work, folder, manifest, backend)
        require_hash(sdist, manifest["sha256"])
    report(f"{sdist.name}: sha256 is {manifest['sha256']}, as expected.")
    source = unpack(sdist, work / "source")
    for line in patch(source, folder, manifest):
        report("  " + line)
    report("Building a pure-Python wheel ...")
    # Without isolation: the build then needs nothing that the first step has not brought.
    _pip(
        ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(work / "wheel"), str(source)],
        work,
        [backend],
    )
    (wheel,) = (work / "wheel").glob("*.whl")
    return wheel


def _download(work: Path, folder: Traversable, manifest: dict[str, Any], backend: Path) -> Path:
    stubs = work / "stubs"
    _copy(folder / manifest["metadata_stubs"]["folder"], stubs)
    requirements = work / "requirements.txt"
    name, version = manifest["name"], manifest["version"]
    requirements.write_text(f"{name}=={version} --hash=sha256:{manifest['sha256']}\n", encoding="utf-8")
    destination = work / "download"
    options = ["--no-binary", name, "--no-deps", "--require-hashes", "--no-build-isolation", "--use-pep517"]
    _pip(["download", *options, "--dest", str(destination), "-r", str(requirements)], work, [stubs, backend])
    (sdist,) = destination.iterdir()
    return sdist


def require_hash(sdist: Path, sha256: str) -> None:
    """Raise :class:`UpstreamError` unless the file `sdist` has the SHA-256 `sha256`, in hexadecimal."""
    found = hashlib.sha256(sdist.read_bytes()).hexdigest()
    if found != sha256:
        raise UpstreamError(
            f"{sdist}: sha256 is {found}, expected {sha256}. It is not the sdist that OpenFold published, or "
            "it is damaged; nothing was installed. Download it again, or ask who runs your package index."
        )


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist into `folder`; return the one folder that it holds.

    Raises
    ------
    UpstreamError
        If the archive would write outside of `folder`, or holds something other than one folder.
    """
    folder.mkdir(parents=True)
    try:
        with tarfile.open(sdist) as archive:
            _require_plain_members(archive, sdist)
            # Python below 3.11.4 has no filters; later ones warn where none is named.
            filters = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            archive.extractall(folder, **filters)  # noqa: S202
    except tarfile.TarError as error:
        raise UpstreamError(f"{sdist}: cannot be unpacked safely: {error}.") from error
    roots = list(folder.iterdir())
    if len(roots) != 1 or not roots[0].is_dir():
        raise UpstreamError(
            f"{sdist}: expected one folder in it, found {sorted(root.name for root in roots)}."
        )
    return roots[0]


def _require_plain_members(archive: tarfile.TarFile, sdist: Path) -> None:
    for member in archive.getmembers():
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
            raise UpstreamError(f"{sdist}: cannot be unpacked safely: it holds {member.name!r}.")


def patch(source: Path, folder: Traversable, manifest: dict[str, Any]) -> list[str]:
    """Add and remove the files that the manifest names; return one line for each, with its reason.

    Parameters
    ----------
    source : pathlib.Path
        The unpacked sdist.
    folder : importlib.resources.abc.Traversable
        The release's folder in ``patches/``.
    manifest : dict
        Its ``manifest.toml``.

    Returns
    -------
    list of str
        One line for each file.

    Raises
    ------
    UpstreamError
        If a file that is to be added is there already, or one that is to be removed is not: the patches
        are for another release.
    """
    lines = []
    for entry in manifest["files"]:
        path = source / entry["path"]
        if path.exists() != (entry["action"] == "remove"):
            state = "is there already" if path.exists() else "is missing"
            raise UpstreamError(f"Cannot {entry['action']} {entry['path']}: it {state} in {source.name}.")
        if entry["action"] == "remove":
            path.unlink()
        elif entry["from"].endswith(".json"):
            path.write_text(stereo_chemical_props(), encoding="utf-8")
        else:
            path.write_bytes((folder / entry["from"]).read_bytes())
        lines.append(f"{entry['action']} {entry['path']}: {' '.join(entry['reason'].split())}")
    return lines


def _copy(source: Traversable, destination: Path) -> None:
    destination.mkdir(parents=True)
    for item in source.iterdir():
        if item.is_dir():
            _copy(item, destination / item.name)
        else:
            (destination / item.name).write_bytes(item.read_bytes())


def _pip(arguments: Sequence[str], work: Path, python_path: Sequence[Path] = ()) -> None:
    """Run this environment's pip in `work`; modules in `python_path` come before the environment's."""
    environment = dict(os.environ)
    if python_path:
        paths = [*map(str, python_path), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [
        sys.executable,
        "-m",
        "pip",
        arguments[0],
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]
    command += arguments[1:]
    done = subprocess.run(  # noqa: S603 - no shell, and only our own arguments
        command, cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise UpstreamError(
            f"`{' '.join(command)}` failed with exit code {done.returncode}; no OpenFold was installed.\n"
            f"{tail}\n"
            "If the package index cannot be reached, name yours (`pip config set global.index-url URL`)."
        )
