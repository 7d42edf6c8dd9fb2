import pytest

from openfoldpp.plugins.checks import hook_of, implementations, problems, signature
from openfoldpp.plugins.hookspecs import hookimpl


class Good:
    """Implements two hooks, one under another name and one as a static method."""

    @hookimpl(specname="openfoldpp_progress")
    def listen(self, event):
        pass

    @staticmethod
    @hookimpl
    def openfoldpp_configure(options):
        pass

    @property
    def trap(self):
        raise AssertionError("looking at a plugin ran its property")


def test_a_plugin_that_fits_has_no_problem():
    plugin = Good()
    assert problems(plugin) == []
    assert {hook_of(name, f) for name, f in implementations(plugin).items()} == {"progress", "configure"}


class WrongName:
    @hookimpl
    def openfoldpp_configur(self, config):
        pass


class NoPrefix:
    @hookimpl
    def configure(self, config):
        pass


class Unmarked:
    def openfoldpp_configure(self, config):
        pass


class UnknownParameter:
    @hookimpl
    def openfoldpp_configure(self, cfg):
        pass


class Default:
    @hookimpl
    def openfoldpp_configure(self, config, options=None):
        pass


class CatchAll:
    @hookimpl
    def openfoldpp_configure(self, **kwargs):
        pass


class NotAWrapper:
    @hookimpl(wrapper=True)
    def openfoldpp_configure(self, config):
        pass


class Nothing:
    pass


RIGHT = "openfoldpp_configure(config: ConfigDict, options: Namespace) -> None"


@pytest.mark.parametrize(
    ("plugin", "says"),
    [
        (WrongName(), ("openfoldpp_configur is not a hook", "openfoldpp_configure,")),
        (NoPrefix(), ("configure is not a hook", "openfoldpp_configure,")),
        (Unmarked(), ("openfoldpp_configure is not marked", "@hookimpl")),
        (UnknownParameter(), ("'cfg'", RIGHT)),
        (Default(), ("default for 'options'", RIGHT)),
        (CatchAll(), ("'**kwargs'", RIGHT)),
        (NotAWrapper(), ("wrapper", "yield", RIGHT)),
        (Nothing(), ("implements no hook", "openfoldpp_progress")),
        (Good, ("the class Good", "instance")),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else "",
)
def test_a_problem_is_said_with_the_cure(plugin, says):
    (problem,) = problems(plugin)
    for words in says:
        assert words in problem


def test_an_optional_hook_of_another_version_is_no_problem():
    class Newer:
        @hookimpl(optionalhook=True)
        def openfoldpp_of_tomorrow(self, anything):
            pass

    assert problems(Newer()) == []


def test_signature_is_written_as_in_the_specification():
    assert signature("configure") == RIGHT
