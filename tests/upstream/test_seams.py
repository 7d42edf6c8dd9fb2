"""Seams: verified before they are placed, replaced wherever bound, restored by identity."""

import dataclasses
import sys
import types

import pytest

from openfoldpp.errors import MissingDependencyError, SeamError
from openfoldpp.upstream import activate, seams


@pytest.fixture(scope="module")
def version():
    return activate().version


@pytest.fixture
def script_utils(version):
    from openfold.utils import script_utils

    return script_utils


def openfold_attributes():
    """Every attribute of every openfold module, by identity."""
    return {
        (name, attribute): id(value)
        for name, module in list(sys.modules.items())
        if name == "openfold" or name.startswith("openfold.")
        for attribute, value in vars(module).items()
    }


def test_the_shipped_seam_fits_this_release(version, script_utils):
    assert seams.fingerprint(script_utils.update_timings) == seams.TIMINGS.expected[version]


def test_handler_is_called_and_upstream_writes_nothing(version, script_utils, tmp_path):
    heard = {}
    with seams.installed({seams.TIMINGS: heard.update}, version):
        script_utils.update_timings({"inference": 2.5}, str(tmp_path / "timings.json"))
    assert heard == {"inference": 2.5}
    assert list(tmp_path.iterdir()) == []


def test_leaving_restores_every_attribute_by_identity(version, script_utils):
    before = openfold_attributes()
    with seams.installed({seams.TIMINGS: print}, version):
        assert openfold_attributes() != before
    assert openfold_attributes() == before


def test_leaving_by_an_exception_restores_too(version, script_utils):
    original = script_utils.update_timings
    with pytest.raises(KeyError), seams.installed({seams.TIMINGS: print}, version):
        raise KeyError
    assert script_utils.update_timings is original


def test_a_name_bound_elsewhere_is_replaced_there_too(version, script_utils, monkeypatch):
    script = types.ModuleType("openfold.bound_early")
    script.update_timings = script_utils.update_timings
    monkeypatch.setitem(sys.modules, "openfold.bound_early", script)
    heard = {}
    with seams.installed({seams.TIMINGS: heard.update}, version):
        script.update_timings({"relaxation": 1.0})
    assert heard == {"relaxation": 1.0}
    assert script.update_timings is script_utils.update_timings


def test_applying_twice_equals_once(version, script_utils):
    first, second = [], []
    original = script_utils.update_timings
    with seams.installed({seams.TIMINGS: first.append}, version):
        once = script_utils.update_timings
        with seams.installed({seams.TIMINGS: second.append}, version):
            assert script_utils.update_timings is once
            script_utils.update_timings({"inference": 1.0})
        assert script_utils.update_timings is once
    assert (first, second) == ([{"inference": 1.0}], [])
    assert script_utils.update_timings is original


def test_an_edited_function_is_refused_by_name_and_release(version, script_utils, monkeypatch):
    def update_timings(timing_dict, output_file=None):
        return None

    monkeypatch.setattr(script_utils, "update_timings", update_timings)
    refused = pytest.raises(SeamError, match=rf"'timings'.*not the one of OpenFold {version}")
    with refused, seams.installed({seams.TIMINGS: print}, version):
        pass
    assert script_utils.update_timings is update_timings


def test_nothing_changes_where_one_of_several_does_not_fit(version, script_utils):
    absent = dataclasses.replace(seams.TIMINGS, name="absent", target="openfold.utils.script_utils:no_such")
    original = script_utils.update_timings
    refused = pytest.raises(SeamError, match=r"has no openfold\.utils\.script_utils:no_such")
    with refused, seams.installed({seams.TIMINGS: print, absent: print}, version):
        pass
    assert script_utils.update_timings is original


def test_a_package_that_is_not_installed_is_named_and_not_called_a_missing_function(
    version, tmp_path, monkeypatch
):
    (tmp_path / "imports_what_is_absent.py").write_text("import openmm.no_such_part")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "openmm", None)
    seam = dataclasses.replace(seams.TIMINGS, target="imports_what_is_absent:run")
    expected = dataclasses.replace(seam, expected={version: seams.TIMINGS.expected["0.0.1"]})
    refused = pytest.raises(
        MissingDependencyError, match=rf"OpenFold {version} imports 'openmm.*: pip install"
    )
    with refused, seams.installed({expected: print}, version):
        pass


def test_a_release_that_the_seam_does_not_know_is_refused(script_utils):
    refused = pytest.raises(SeamError, match=r"written for OpenFold 0\.0\.1; this is 9\.9")
    with refused, seams.installed({seams.TIMINGS: print}, "9.9"):
        pass
