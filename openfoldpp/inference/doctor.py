"""What stands in the way of a run, and what would be used: the findings of ``openfoldpp doctor``.

A run is ``run_pretrained_openfold.py FASTA_DIR --plugins openfoldpp`` in this environment, with the options
that the doctor was given. A finding is a problem exactly where such a run would fail; everything that
depends on further flags (databases, relaxation, a device) is a note.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from openfoldpp.config import PREFIX, Settings
from openfoldpp.errors import ConfigError, OpenFoldNotFoundError, OpenFoldPPError, UpstreamError
from openfoldpp.inference import doctor_checks as checks
from openfoldpp.inference.findings import NOTE, OK, PROBLEM, Diagnosis, Finding, Question, Section, one_line
from openfoldpp.upstream import Installation, activate, compat, importable
from openfoldpp.upstream.locate import HOME_VARIABLE, installed

_INSTALL = "openfoldpp install-openfold, or --openfold_home DIR with a checkout of OpenFold 2"


def examine(question: Question) -> Diagnosis:
    """Look at everything that a run depends on; OpenFold is activated in this process.

    Parameters
    ----------
    question : Question
        What was given on the command line.

    Returns
    -------
    Diagnosis
        Whatever is wrong is a finding; nothing is raised for it.
    """
    question = question.settled()
    installation, found = _locate(question)
    # Importing OpenFold takes longest, so it goes on beside the rest.
    importing = importable.start_import(installation) if installation else None
    try:
        sections = [
            _section("Settings", _settings),
            _section("Kernels", checks.kernels),
            _section("Plugins", checks.plugins),
            _section("Weights", checks.weights, installation, question),
            _section("Memory", checks.memory, installation, question),
            _section("Relaxation", checks.relaxation),
            _section("Programs", checks.programs),
            _section("Versions", _versions),
        ]
        found += _imported(importing)
    finally:
        if importing is not None and importing.poll() is None:
            importing.kill()
            importing.communicate()
    if installation is not None:
        sections.insert(-1, _section("Compatibility", _compatibility))
    return Diagnosis(metadata.version("openfoldpp"), (Section("OpenFold", tuple(found)), *sections))


def _section(title: str, check: Callable[..., Iterator[Finding]], *arguments: Any) -> Section:
    """Run one check; what it raises is a finding too, so that the other sections are still shown."""
    findings = []
    try:
        findings.extend(check(*arguments))
    except OpenFoldPPError as error:
        findings.append(Finding(title.lower(), PROBLEM, one_line(error), "as the message says"))
    except Exception as error:
        text = f"this check failed: {type(error).__name__}: {one_line(error)}"
        findings.append(Finding(title.lower(), PROBLEM, text, "report it with the output of --json"))
    return Section(title, tuple(findings))


def _locate(question: Question) -> tuple[Installation | None, list[Finding]]:
    home, variable = question.home, os.environ.get(HOME_VARIABLE)
    try:
        installation = activate(home)
    except OpenFoldNotFoundError:
        text = (
            f"none was found: --openfold_home is not given, {HOME_VARIABLE} is not set, and the package "
            "openfold is not installed in this Python. Without one, only the structure of an antibody Fv can "
            "be written (openfoldpp predict VH:VL --out FILE)"
        )
        return None, [Finding("OpenFold", PROBLEM, text, _INSTALL)]
    except UpstreamError as error:
        if home is not None:
            cure = f"correct --openfold_home, or leave it out; {_INSTALL}"
        elif variable:
            cure = f"export {HOME_VARIABLE}=DIR with a whole checkout, or: unset {HOME_VARIABLE}"
        else:
            cure = "openfoldpp install-openfold --force, or --openfold_home DIR"
        return None, [Finding("OpenFold", PROBLEM, one_line(error), cure), *_not_chosen(home, variable)]
    script = str(installation.script) if installation.script else None
    facts = {
        "version": installation.version,
        "root": str(installation.root),
        "kind": installation.kind,
        "script": script,
    }
    used = Finding("used", OK, installation.reason, facts=facts)
    return installation, [used, _script(installation, question), *_not_chosen(home, variable)]


def _script(installation: Installation, question: Question) -> Finding:
    if not installation.version.startswith("2."):
        text = "this release is run without one; openfoldpp does its steps itself"
        return Finding("script", OK, text)
    if installation.script:
        return Finding("script", OK, f"with weights, {installation.script} is run")
    text = (
        f"OpenFold {installation.version} is installed in {installation.root} as a package, without "
        "run_pretrained_openfold.py and scripts/utils.py, which a run with weights needs"
    )
    cure = f"--openfold_home DIR, with a clone of OpenFold {installation.version}"
    return Finding("script", PROBLEM if question.names_weights else NOTE, text, cure)


def _not_chosen(home: Path | None, variable: str | None) -> list[Finding]:
    """List the places that were not used, because another is named before them."""
    if home is None and not variable:
        return []
    first = "--openfold_home" if home is not None else HOME_VARIABLE
    found = []
    if home is not None and variable:
        text = f"{HOME_VARIABLE} = {variable}: {first} comes first"
        found.append(Finding("not used", NOTE, text, facts={"root": variable}))
    try:
        other = installed()
    except UpstreamError as error:
        found.append(Finding("not used", NOTE, one_line(error)))
    else:
        if other is not None and other.root != Path(home or variable).expanduser().resolve():
            text = f"OpenFold {other.version} installed in {other.root}: {first} comes first"
            found.append(Finding("not used", NOTE, text, facts={"root": str(other.root)}))
    return found


def _imported(importing: Any) -> list[Finding]:
    if importing is None:
        return []
    try:
        importable.finish_import(importing)
    except UpstreamError as error:
        text, _, cure = str(error).rpartition(": pip install ")
        if text:
            return [Finding("import", PROBLEM, text, f"pip install {cure}")]
        return [Finding("import", PROBLEM, str(error), "install OpenFold's packages again, or openfoldpp's")]
    return [Finding("import", OK, "it can be imported")]


def _compatibility() -> Iterator[Finding]:
    records = compat.applied()
    if not records:
        yield Finding("records", OK, "this release needs no help here")
    for applied in records:
        facts = {"reason": applied.reason, "supplies": applied.record.supplies}
        text = f"{applied.reason}. Supplied: {applied.record.supplies}"
        yield Finding(applied.record.name, OK, text, facts=facts)


def _settings() -> Iterator[Finding]:
    given = {name: value for name, value in sorted(os.environ.items()) if name.startswith(PREFIX) and value}
    try:
        Settings.from_environment()
    except ConfigError as error:
        for line in str(error).splitlines()[1:]:
            name = re.match(r"\s*(\w+)", line)[1]
            text = line.strip().removeprefix(name).lstrip(" =")
            yield Finding(name, PROBLEM, text, f"unset {name}, or give it a value that it takes")
        return
    for name, value in given.items():
        yield Finding(name, OK, value)
    if not given:
        yield Finding("environment", OK, f"no {PREFIX}* variable is set: defaults hold")


def _versions() -> Iterator[Finding]:
    yield Finding("Python", OK, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in ("torch", "numpy", "biotite"):
        try:
            yield Finding(package, OK, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Finding(package, PROBLEM, "is not installed", f"pip install {package}")
