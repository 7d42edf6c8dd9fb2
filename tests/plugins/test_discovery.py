import pytest

from openfoldpp.errors import PluginError
from openfoldpp.plugins.discovery import installed, load, select

GREETER = '''
    """Greets."""
    from openfoldpp.plugins import hookimpl

    @hookimpl
    def openfoldpp_progress(event):
        pass

    class Loud:
        """Greets loudly.

        And more.
        """
        @hookimpl
        def openfoldpp_predict(self, model):
            pass
        @hookimpl
        def openfoldpp_add_options(self, parser):
            pass

    loud = Loud()
'''


def named(name):
    return next(plugin for plugin in installed() if plugin.name == name)


def test_an_entry_point_may_be_a_module_or_an_object(install):
    install("greeter-kit", "greeter", GREETER, greeter="greeter", greeter__loud="greeter:loud")
    quiet, loud = named("greeter"), named("greeter.loud")
    assert (quiet.distribution, quiet.version, quiet.module) == ("greeter-kit", "1.5", "greeter")
    assert (quiet.summary, quiet.hooks, quiet.error) == ("Greets.", ("progress",), None)
    assert (loud.summary, loud.hooks, loud.error) == ("Greets loudly.", ("add_options", "predict"), None)


def test_installed_lists_what_cannot_be_used_with_the_reason(install):
    install("broken-kit", "broken", "import nowhere_at_all", broken="broken")
    install("idle-kit", "idle", "'''Idle.'''", idle="idle")
    assert "ModuleNotFoundError: No module named 'nowhere_at_all'" in named("broken").error
    assert "implements no hook" in named("idle").error


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("greeter.loud", ["greeter.loud"]),
        ("greeter", ["greeter", "greeter.loud"]),
        ("openfoldpp.recycling, greeter.loud", ["openfoldpp.recycling", "greeter.loud"]),
        ("greeter.loud,greeter,greeter.loud", ["greeter.loud", "greeter"]),
    ],
)
def test_a_name_selects_a_plugin_or_a_bundle_each_once(install, spec, names):
    install("greeter-kit", "greeter", GREETER, greeter="greeter", greeter__loud="greeter:loud")
    assert [point.name for point in select(spec)] == names


def test_the_bundle_openfoldpp_is_every_builtin():
    builtin = [plugin.name for plugin in installed() if plugin.name.startswith("openfoldpp.")]
    assert "openfoldpp.recycling" in builtin
    assert [point.name for point in select("openfoldpp")] == builtin


def test_an_unknown_name_lists_what_is_installed_and_the_nearest(install):
    install("greeter-kit", "greeter", GREETER, greeter="greeter", greeter__loud="greeter:loud")
    with pytest.raises(PluginError, match=r"'greter' is not installed; .*greeter, greeter\.loud") as caught:
        select("openfoldpp,greter")
    assert "Did you mean 'greeter'?" in str(caught.value)


@pytest.mark.parametrize("spec", ["", "openfoldpp,,", " , openfoldpp"])
def test_a_blank_name_is_an_error(spec):
    with pytest.raises(PluginError, match="blank name"):
        select(spec)


def test_one_name_from_two_distributions_names_both(install):
    install("first-kit", "first", GREETER, greeter="first")
    install("second-kit", "second", GREETER, greeter="second")
    with pytest.raises(
        PluginError, match=r"'greeter' is given by .*first-kit 1\.5|second-kit 1\.5"
    ) as caught:
        select("greeter")
    assert "first-kit 1.5 (first)" in str(caught.value)
    assert "second-kit 1.5 (second)" in str(caught.value)
    assert named("greeter").error == str(caught.value)
    assert [point.name for point in select("openfoldpp.recycling")] == ["openfoldpp.recycling"]


def test_a_failing_import_names_plugin_distribution_and_cause(install):
    install("broken-kit", "broken", "raise ValueError('no luck')", broken="broken")
    with pytest.raises(PluginError, match=r"'broken' of broken-kit 1\.5 .* ValueError: no luck") as caught:
        load(select("broken")[0])
    assert isinstance(caught.value.__cause__, ValueError)
