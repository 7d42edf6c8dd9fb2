"""The plugin of the native kernels: where it puts them, and what it says."""

from argparse import Namespace

import pytest

from openfoldpp.plugins.manager import PluginHost


@pytest.fixture
def block(monkeypatch):
    """A small part of upstream's model, with the settings that upstream's model keeps."""
    from openfoldpp.ops import dispatch
    from openfoldpp.upstream import activate

    activate()
    from openfold.model.pair_transition import PairTransition

    monkeypatch.setenv("OPENFOLDPP_NUM_THREADS", "2")
    dispatch.settings.cache_clear()
    block = PairTransition(c_z=8, n=2).eval()
    block.globals = {"use_lma": False, "use_flash": False}
    yield block
    monkeypatch.undo()
    dispatch.settings.cache_clear()


def prepare(model, **options):
    host = PluginHost.load("openfoldpp.kernels")
    (said,) = host.call("prepare_model", model=model, options=Namespace(**options))
    return said


def test_puts_the_kernels_in_place_and_says_which(block):
    from openfoldpp.ops.dispatch import simd_level

    assert prepare(block) == f"native kernels: {simd_level()}, 2 threads"
    assert "forward" in vars(block)


def test_is_part_of_the_bundle():
    assert "openfoldpp.kernels" in [plugin.name for plugin in PluginHost.load("openfoldpp").active]


@pytest.mark.parametrize("attention", ["use_lma", "use_flash", "use_deepspeed_evo_attention"])
def test_says_that_a_chosen_attention_is_not_needed(attention, block):
    block.globals[attention] = True
    assert prepare(block).endswith(f"; in place of the attention of {attention}")


def test_says_what_tracing_keeps_out(block):
    assert "leave the flag out" in prepare(block, trace_model=True)
    assert "leave the flag out" not in prepare(block, trace_model=False)


def test_leaves_the_torch_backend_to_upstream(block, monkeypatch):
    from openfoldpp.ops import dispatch

    monkeypatch.setenv("OPENFOLDPP_BACKEND", "torch")
    dispatch.settings.cache_clear()
    assert prepare(block) == "native kernels: not used, as OPENFOLDPP_BACKEND=torch"
    assert "forward" not in vars(block)


def test_leaves_another_device_to_upstream(block):
    said = prepare(block.to("meta"))
    assert said == "native kernels: not used, as the model is on meta; they serve the CPU"
    assert "forward" not in vars(block)


def test_leaves_an_openfold_that_was_edited_to_itself_and_goes_on(block, monkeypatch):
    import torch

    from openfoldpp.upstream.acceleration import releases

    monkeypatch.setitem(releases._SHA256, "openfold.model.primitives", ("0" * 64,))
    releases._as_published.cache_clear()
    try:
        said = prepare(block)
    finally:
        releases._as_published.cache_clear()
    assert said.startswith("native kernels: not used: ")
    assert "openfold.model.primitives is not the file of a release (take a checkout of one" in said
    assert "forward" not in vars(block)
    assert block(torch.ones(2, 2, 8)).shape == (2, 2, 8)
