"""Relaxation on today's OpenMM, and the table of ideal bonds and angles."""

import dataclasses
import hashlib
import importlib
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from openfoldpp.upstream.compat.importing import MendingFinder

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def peptide(active):
    from openfold.np import protein

    text = (DATA / "peptide.pdb").read_text(encoding="utf-8")
    return protein.from_pdb_string(text)


def test_relaxation_runs_on_todays_openmm(peptide):
    from openfold.np import protein
    from openfold.np.relax.relax import AmberRelaxation

    rng = np.random.default_rng(3)
    shaken = peptide.atom_positions + rng.normal(scale=0.1, size=peptide.atom_positions.shape)
    strained = dataclasses.replace(peptide, atom_positions=shaken * peptide.atom_mask[..., None])
    relaxer = AmberRelaxation(
        max_iterations=0,
        tolerance=2.39,
        stiffness=10.0,
        exclude_residues=[],
        max_outer_iterations=3,
        use_gpu=False,
    )
    pdb, figures, violations = relaxer.process(prot=strained)
    assert figures["attempts"] == 1
    assert figures["final_energy"] < min(0, figures["initial_energy"] - 100)  # kcal/mol
    assert violations.sum() == 0
    relaxed = protein.from_pdb_string(pdb)
    heavy = peptide.atom_mask * relaxed.atom_mask
    np.testing.assert_array_equal(heavy, peptide.atom_mask)
    moved = np.linalg.norm(relaxed.atom_positions - strained.atom_positions, axis=-1)[peptide.atom_mask > 0]
    assert 0.01 < np.sqrt((moved**2).mean()) < 1


def test_the_tolerance_becomes_a_force(imported, reason, records):
    from openmm import unit

    assert "OpenMM 8" in reason("openmm tolerance")
    seen = []

    def take(pdb_str, *, tolerance):
        seen.append(tolerance)

    with imported("openfold.np.relax.amber_minimize") as module:
        (mend,) = records["openmm tolerance"].mends
        module._openmm_minimize = take
        mend.names(module)["_openmm_minimize"]("pdb", tolerance=2.39 * unit.kilocalories_per_mole)
        force = unit.kilojoules_per_mole / unit.nanometer
        mend.names(module)["_openmm_minimize"]("pdb", tolerance=10 * force)
    assert [tolerance.value_in_unit(force) for tolerance in seen] == pytest.approx([2.39 * 4.184, 10])


@pytest.fixture
def bare_openfold(tmp_path, active):
    """An openfold with nothing but its residue constants, and without the table of ideal bonds."""
    for name in ("__init__.py", "np/__init__.py", "resources/__init__.py"):
        (tmp_path / "openfold" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "openfold" / name).touch()
    name = "np/residue_constants.py"
    shutil.copy(active.package / name, tmp_path / "openfold" / name)
    return dataclasses.replace(active, root=tmp_path)


def test_stereo_chemical_props(bare_openfold, active, package_of, records):
    record = records["stereo_chemical_props.txt"]
    assert "is absent from" in record.probe(bare_openfold)
    has_table = (active.package / "resources" / "stereo_chemical_props.txt").is_file()
    assert (record.probe(active) is None) == has_table
    with package_of(bare_openfold.root):
        hooks = sys.meta_path[:]
        sys.meta_path[:] = [hook for hook in hooks if not isinstance(hook, MendingFinder)]
        finder = MendingFinder(record.mends)
        try:
            bare = importlib.import_module("openfold.np.residue_constants")
            with (
                pytest.raises(FileNotFoundError),
                warnings.catch_warnings(action="ignore", category=DeprecationWarning),
            ):
                bare.load_stereo_chemical_props()
            finder.install()  # openfold is imported already: the names are replaced at once
            bonds, _, angles = bare.load_stereo_chemical_props()
        finally:
            finder.remove()
            sys.meta_path[:] = hooks
    assert bonds["TRP"][0] == ("CA", "CB", 1.535, 0.022)
    assert angles["GLY"][0] == ("N", "CA", "C", 113.1 / 180 * np.pi, 2.5 / 180 * np.pi)
    figures = [entry for table in (bonds, angles) for entry in table.items()]
    lines = [f"{residue} {' '.join(map(str, values))}" for residue, rows in figures for values in rows]
    assert len(lines) == 153 + 174
    # What the same function makes of the file that comes with AlphaFold 2, value by value and in order.
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert digest == "10fc80d66eecd796e5bd914fb7e9587064543fbc32bd440968e28358fde7718f"


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="read_text does not warn")
def test_read_text_does_not_warn(imported, reason):
    why = reason("importlib.resources.read_text")
    if why is None:
        pytest.skip("this OpenFold lacks the table, and the record that supplies it reads it itself")
    assert "deprecated" in why
    with imported("openfold.np.residue_constants") as module, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plain = module.load_stereo_chemical_props()
    assert "read_text is deprecated" in str(caught[0].message)
    with imported("openfold.np.residue_constants", "importlib.resources.read_text") as module:
        assert module.load_stereo_chemical_props() == plain
