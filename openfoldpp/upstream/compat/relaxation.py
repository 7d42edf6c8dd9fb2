"""What relaxation needs: OpenMM's unit of tolerance, and the table of ideal bonds and angles."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.resources
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from openfoldpp.upstream.compat.overlay import Overlay
from openfoldpp.upstream.compat.record import ALL_RELEASES, Mend, Record, reads
from openfoldpp.upstream.locate import Installation
from openfoldpp.upstream.patches import STEREO_CHEMICAL_PROPS, stereo_chemical_props

_FIRST_WITH_REPORTER = (8, 1)


def _tolerance_probe(installation: Installation) -> str | None:
    if not reads(installation, "np/relax/amber_minimize.py", "tolerance = tolerance * ENERGY"):
        return None
    return "relaxation gives its tolerance as an energy; OpenMM 8 takes a force and refuses the unit"


def _force_tolerance(module: ModuleType) -> dict[str, Any]:
    minimize = module._openmm_minimize
    unit = module.unit

    @functools.wraps(minimize)
    def _openmm_minimize(*args: Any, tolerance: Any, **kwargs: Any) -> Any:
        # OpenMM always compared the number with the root mean square force in kJ/mol/nm; up to version 7
        # its Python layer called that number an energy in kJ/mol.
        if unit.is_quantity(tolerance) and tolerance.unit.is_compatible(unit.kilojoules_per_mole):
            number = tolerance.value_in_unit(unit.kilojoules_per_mole)
            tolerance = number * unit.kilojoules_per_mole / unit.nanometer
        return minimize(*args, tolerance=tolerance, **kwargs)

    return {"_openmm_minimize": _openmm_minimize}


def _reporter_probe(installation: Installation) -> str | None:
    if importlib.util.find_spec("openmm") is None:
        return None
    version = importlib.metadata.version("openmm")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _FIRST_WITH_REPORTER:
        return None
    return f"OpenMM {version} hears of Ctrl-C and SIGTERM only when a whole minimisation is over"


def _interruptible(module: ModuleType) -> dict[str, Any]:
    app = module.openmm_app

    class Heard(module.openmm.MinimizationReporter):
        def report(self, iteration, positions, gradient, statistics):
            return False  # goes on; that Python is called at all lets it raise what a signal asked for

    class Simulation(app.Simulation):
        def minimizeEnergy(self, *args: Any, **kwargs: Any) -> None:  # noqa: N802 - OpenMM's name
            kwargs.setdefault("reporter", Heard())
            super().minimizeEnergy(*args, **kwargs)

    return {"openmm_app": Overlay(app, Simulation=Simulation)}


def _table_probe(installation: Installation) -> str | None:
    if _table(installation.package).is_file():
        return None
    return f"openfold/resources/{STEREO_CHEMICAL_PROPS} is absent from {installation.package}"


def _table(package: Path) -> Path:
    return package / "resources" / STEREO_CHEMICAL_PROPS


def _read_text(package: str, resource: str, *args: Any, **kwargs: Any) -> str:
    return importlib.resources.files(package).joinpath(resource).read_text(*args, **kwargs)


def _read_text_with_table(package: str, resource: str, *args: Any, **kwargs: Any) -> str:
    if (package, resource) == ("openfold.resources", STEREO_CHEMICAL_PROPS):
        return stereo_chemical_props()
    return _read_text(package, resource, *args, **kwargs)


def _supplied_table(module: ModuleType) -> dict[str, Any]:
    return {"resources": Overlay(module.resources, read_text=_read_text_with_table)}


def _read_text_probe(installation: Installation) -> str | None:
    if sys.version_info >= (3, 13) or not _table(installation.package).is_file():
        return None  # without the file, the record above replaces read_text as well
    return "importlib.resources.read_text is deprecated in Python 3.11 and 3.12, and warns"


def _plain_read_text(module: ModuleType) -> dict[str, Any]:
    return {"resources": Overlay(module.resources, read_text=_read_text)}


RECORDS = (
    Record(
        name="openmm tolerance",
        versions=("0.0.1", "2.0.0", "2.1.0"),
        probe=_tolerance_probe,
        mends=(Mend("openfold.np.relax.amber_minimize", names=_force_tolerance),),
        breaks="OpenMM 8 takes the tolerance as a force, not as an energy: relaxation fails",
        supplies="the same number in kJ/mol/nm, as OpenFold 2.2.0 gives it",
        upstream_issue="#533",
        drop_when="0.0.1, 2.0.0 and 2.1.0 are no longer supported (2.2.0 mended it)",
    ),
    Record(
        name="openmm interruption",
        versions=ALL_RELEASES,
        probe=_reporter_probe,
        mends=(Mend("openfold.np.relax.amber_minimize", names=_interruptible),),
        breaks="Ctrl-C and SIGTERM wait for the end of a minimisation, minutes for a large structure",
        supplies="a reporter, at each of whose calls Python hears of signals; the numbers stay the same",
        upstream_issue=None,
        drop_when="OpenMM's minimiser heeds signals itself",
    ),
    Record(
        name=STEREO_CHEMICAL_PROPS,
        versions=ALL_RELEASES,
        probe=_table_probe,
        mends=(Mend("openfold.np.residue_constants", names=_supplied_table),),
        breaks="the table is in no release and is downloaded by a script: without it relaxation fails",
        supplies="Engh and Huber's bond lengths and angles, from openfoldpp's own patches",
        upstream_issue="#79",
        drop_when="OpenFold's releases carry the file",
    ),
    Record(
        name="importlib.resources.read_text",
        versions=ALL_RELEASES,
        probe=_read_text_probe,
        mends=(Mend("openfold.np.residue_constants", names=_plain_read_text),),
        breaks="Python 3.11 and 3.12 deprecate `importlib.resources.read_text`: relaxation warns",
        supplies="the same text through importlib.resources.files",
        upstream_issue=None,
        drop_when="Python 3.13, which took the deprecation back, is the oldest supported",
    ),
)
