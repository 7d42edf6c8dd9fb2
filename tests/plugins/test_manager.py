import pytest

from openfoldpp.errors import OpenFoldPPError, PluginError, UnsupportedTargetError
from openfoldpp.plugins.hookspecs import hookimpl
from openfoldpp.plugins.manager import PluginHost
from openfoldpp.types import Chain, ProgressEvent, Target

TARGET = Target("1ABC_A", (Chain("1ABC_A", "ACDE"),))


def host_of(**plugins):
    """Host with plugins registered in the order given."""
    host = PluginHost()
    for name, plugin in plugins.items():
        host.register(plugin, name)
    return host


class Answers:
    """Answers ``predict`` with a value, or raises it."""

    def __init__(self, value):
        self.value = value
        self.asked = 0

    @hookimpl
    def openfoldpp_predict(self, model):
        self.asked += 1
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


def call_predict(host):
    return host.call("predict", model=None, batch={}, target=TARGET)


def test_load_registers_the_named_plugins_and_calls_them():
    host = PluginHost.load("openfoldpp.recycling,openfoldpp.recycling")
    (plugin,) = host.active
    assert (plugin.name, plugin.distribution) == ("openfoldpp.recycling", "openfoldpp")


def test_the_plugin_named_last_is_asked_first_and_the_first_result_wins():
    silent, answering, unasked = Answers(None), Answers({"x": 1}), Answers({"x": 2})
    host = host_of(unasked=unasked, answering=answering, silent=silent)
    assert call_predict(host) == {"x": 1}
    assert (silent.asked, answering.asked, unasked.asked) == (1, 1, 0)
    assert call_predict(host_of(silent=Answers(None))) is None
    assert call_predict(PluginHost()) is None


def test_pluggys_order_and_wrappers_hold():
    order = []

    class Plain:
        def __init__(self, name):
            self.name = name

        @hookimpl
        def openfoldpp_progress(self, event):
            order.append(self.name)

    class First:
        @hookimpl(tryfirst=True)
        def openfoldpp_progress(self, event):
            order.append("first")

    class Around:
        @hookimpl(wrapper=True)
        def openfoldpp_progress(self, event):
            order.append("before")
            result = yield
            order.append("after")
            return result

    class OldAround:
        @hookimpl(hookwrapper=True, tryfirst=True)
        def openfoldpp_progress(self, event):
            order.append("old before")
            outcome = yield
            assert outcome.get_result() == []
            order.append("old after")

    host = host_of(around=Around(), old=OldAround(), first=First(), a=Plain("a"), b=Plain("b"))
    host.call("progress", event=ProgressEvent("load", 0.0))
    assert order == ["old before", "before", "first", "b", "a", "after", "old after"]


def test_an_error_names_plugin_hook_and_target_and_keeps_the_cause():
    cause = KeyError("aatype")
    host = host_of(innocent=Answers(None), guilty=Answers(cause), bystander=Answers(None))
    with pytest.raises(
        PluginError,
        match=r"plugin 'guilty', hook openfoldpp_predict, target '1ABC_A': KeyError: 'aatype'",
    ) as caught:
        call_predict(host)
    assert caught.value.__cause__ is cause
    assert caught.value.plugin == "guilty"


def test_the_target_of_an_event_is_named_too():
    class Deaf:
        @hookimpl
        def openfoldpp_progress(self):
            raise OSError("closed")

    with pytest.raises(PluginError, match="'deaf', hook openfoldpp_progress, target '1ABC_A': OSError"):
        host_of(deaf=Deaf()).call("progress", event=ProgressEvent("load", 0.5, TARGET))
    with pytest.raises(PluginError, match="hook openfoldpp_progress: OSError"):
        host_of(deaf=Deaf()).call("progress", event=ProgressEvent("load", 0.5))


def test_an_error_on_purpose_stays_itself_and_says_which_plugin():
    refusal = UnsupportedTargetError("not an antibody")
    host = host_of(other=Answers(None), picky=Answers(refusal))
    with pytest.raises(UnsupportedTargetError, match="not an antibody") as caught:
        call_predict(host)
    assert caught.value is refusal
    assert str(refusal) == "not an antibody"
    assert caught.value.plugin == "picky"
    assert caught.value.__notes__ == ["plugin 'picky', hook openfoldpp_predict, target '1ABC_A'"]
    assert OpenFoldPPError("anywhere else").plugin is None


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(3)])
def test_the_users_stop_passes_through(stop):
    with pytest.raises(type(stop)) as caught:
        call_predict(host_of(plugin=Answers(stop)))
    assert caught.value is stop


class Around:
    """A wrapper that may fail before or after, or turn a failure into an answer."""

    def __init__(self, before=None, after=None, rescue=None):
        self.before, self.after, self.rescue = before, after, rescue

    @hookimpl(wrapper=True)
    def openfoldpp_predict(self):
        if self.before:
            raise self.before
        try:
            result = yield
        except ValueError:
            if self.rescue is None:
                raise
            return self.rescue
        if self.after:
            raise self.after
        return result


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_wrapper_that_raises_is_named(when):
    with pytest.raises(PluginError, match=r"plugin 'around', .*TypeError: mine"):
        call_predict(host_of(inner=Answers({}), around=Around(**{when: TypeError("mine")})))


def test_a_wrapper_is_not_blamed_for_what_it_wraps_and_may_rescue_it():
    with pytest.raises(PluginError, match="plugin 'inner', "):
        call_predict(host_of(inner=Answers(ValueError("bad")), around=Around()))
    assert call_predict(host_of(inner=Answers(ValueError("bad")), around=Around(rescue={"y": 1}))) == {"y": 1}


def test_a_wrapper_that_yields_twice_is_named():
    class Twice:
        @hookimpl(wrapper=True)
        def openfoldpp_predict(self):
            yield
            yield

    with pytest.raises(PluginError, match=r"plugin 'twice', hook openfoldpp_predict.* second yield"):
        call_predict(host_of(inner=Answers({}), twice=Twice()))


def test_plugins_that_do_not_fit_stop_the_load_all_at_once(install):
    install(
        "bad-kit",
        "bad",
        """
        from openfoldpp.plugins import hookimpl

        @hookimpl
        def openfoldpp_configure(config, flags):
            pass

        def openfoldpp_progress(event):
            pass
        """,
        bad="bad",
    )
    install(
        "worse-kit",
        "worse",
        """
        from openfoldpp.plugins import hookimpl

        @hookimpl
        def openfoldpp_finish(output):
            pass
        """,
        worse="worse",
    )
    with pytest.raises(PluginError) as caught:
        PluginHost.load("bad,worse,openfoldpp.recycling")
    flags, unmarked, finish = str(caught.value).splitlines()
    assert flags.startswith("plugin 'bad' of bad-kit 1.5: openfoldpp_configure has the parameter 'flags'")
    assert flags.endswith("the hook is openfoldpp_configure(config: ConfigDict, options: Namespace) -> None")
    assert unmarked.startswith("plugin 'bad' of bad-kit 1.5: openfoldpp_progress is not marked")
    assert finish.startswith("plugin 'worse' of worse-kit 1.5: openfoldpp_finish is not a hook")


def test_a_part_of_the_run_is_checked_when_it_is_registered():
    class Reporter:
        @hookimpl
        def openfoldpp_progress(self, evnt):
            pass

    with pytest.raises(PluginError, match=r"plugin 'reporter': .*'evnt'"):
        PluginHost().register(Reporter(), "reporter")
    with pytest.raises(PluginError, match="'one' is already registered"):
        host_of(one=Answers(None)).register(Answers(None), "one")


def test_a_call_must_be_the_hooks():
    host = PluginHost()
    with pytest.raises(TypeError, match="no hook 'finish'; the hooks are add_options, configure"):
        host.call("finish")
    with pytest.raises(TypeError, match=r"it is openfoldpp_configure\(config"):
        host.call("configure", config=None)
