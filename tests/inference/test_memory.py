import time

import numpy as np
import pytest
import torch

from openfoldpp.errors import ConfigError, InsufficientMemoryError, is_out_of_memory
from openfoldpp.inference.free_memory import available_bytes, held_bytes
from openfoldpp.inference.memory import (
    budget_bytes,
    limit_chunk_size,
    out_of_memory_error,
    plan_memory,
)
from openfoldpp.inference.memory_estimate import GIB, TUNED_CHUNK, Depth, estimate_peak_bytes
from openfoldpp.upstream import activate
from openfoldpp.upstream.acceleration import accelerate

LIMIT = "OPENFOLDPP_MEMORY_LIMIT_GIB"


@pytest.fixture
def config():
    from openfoldpp.upstream.configuration import model_config

    activate()
    return model_config("model_1_ptm")


def test_what_fits_is_left_as_it_is(config, monkeypatch):
    monkeypatch.setenv(LIMIT, "64")
    plan = plan_memory(config, 300)
    assert plan.largest_chunk == TUNED_CHUNK
    assert plan.note is None
    assert plan.peak_bytes == estimate_peak_bytes(config, 300) <= plan.budget_bytes == 64 * GIB


@pytest.mark.parametrize("n_res", [450, 550, 650, 750])
def test_where_upstreams_chunk_does_not_fit_the_largest_that_does_is_taken(n_res, config, monkeypatch):
    monkeypatch.setenv(LIMIT, "8")
    plan = plan_memory(config, n_res)
    assert 4 < plan.largest_chunk < TUNED_CHUNK
    assert plan.peak_bytes <= 8 * GIB
    assert estimate_peak_bytes(config, n_res, largest_chunk=2 * plan.largest_chunk) > 8 * GIB
    assert f"chunk size is kept to {plan.largest_chunk}" in plan.note
    assert "8.0 GiB" in plan.note


def test_20000_residues_are_refused_at_once(config, monkeypatch):
    monkeypatch.setenv(LIMIT, "64")
    start = time.perf_counter()
    with pytest.raises(InsufficientMemoryError) as caught:
        plan_memory(config, 20_000, what="target 'huge'")
    assert time.perf_counter() - start < 0.5
    text = str(caught.value)
    assert text.startswith("target 'huge' with 20,000 residues needs about 1,")  # more than a tebibyte
    assert "GiB of memory on cpu (an estimate), and there are 64.0 GiB" in text
    assert "split into domains" in text
    assert f"set {LIMIT} to the GiB" in text
    assert "--experiment_config_json" not in text  # would not make it fit


def test_fewer_rows_are_proposed_only_where_they_would_fit(config, monkeypatch):
    few, many = Depth(128, 512, 4), Depth(4096, 40960, 4)
    need = estimate_peak_bytes(config, 500, depth=few, largest_chunk=4)
    monkeypatch.setenv(LIMIT, f"{need / GIB + 0.5}")
    with pytest.raises(
        InsufficientMemoryError, match=r"experiment_config_json .* \{\"data\.predict\.max_msa"
    ):
        plan_memory(config, 500, depth=many)
    monkeypatch.setenv(LIMIT, f"{need / GIB - 0.1}")
    with pytest.raises(InsufficientMemoryError) as caught:
        plan_memory(config, 500, depth=many)
    assert "experiment_config_json" not in str(caught.value)


def test_the_setting_takes_the_place_of_what_is_free(monkeypatch):
    monkeypatch.delenv(LIMIT, raising=False)
    assert budget_bytes() == pytest.approx(available_bytes() + held_bytes(), rel=0.2)
    monkeypatch.setenv(LIMIT, "1.5")
    assert budget_bytes() == 1.5 * GIB
    for text in ("0", "-1", "lots", "nan", "inf"):
        monkeypatch.setenv(LIMIT, text)
        with pytest.raises(ConfigError, match=f"{LIMIT}={text}: expected a number of GiB"):
            budget_bytes()


def test_upstreams_tuner_keeps_to_the_limit(config):
    from openfold.model.evoformer import EvoformerStack

    config.model.evoformer_stack.no_blocks = 1
    stack = EvoformerStack(**config.model.evoformer_stack).eval()
    tried = []

    def tune(limit):
        assert limit_chunk_size(stack, limit)
        tried.clear()
        return stack.chunk_size_tuner.tune_chunk_size(
            representative_fn=lambda x, chunk_size: tried.append(chunk_size),
            args=(torch.ones(2),),
            min_chunk_size=4,
        )

    assert tune(32) == max(tried) == 32 + 4  # upstream adds 4 to the last
    assert tune(4) == 4
    assert tune(512) == 512 + 4
    assert not limit_chunk_size(accelerate(stack), 32)  # nothing of the kernels' is chunked


def raised(function):
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: torch.empty(1 << 58, dtype=torch.uint8),
        lambda: np.empty(1 << 58, dtype=np.uint8),
        lambda: bytearray(1 << 60),
    ],
    ids=["torch", "numpy", "python"],
)
def test_memory_that_ran_out_is_told_from_other_errors(allocate):
    error = raised(allocate)
    assert is_out_of_memory(error)
    wrapped = RuntimeError("a plugin failed")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped)
    clear = out_of_memory_error(error, 700, device="cpu", what="target 'x'")
    assert str(clear).startswith("target 'x' with 700 residues ran out of memory on cpu (")
    assert type(error).__name__ in str(clear)
    assert "\n" not in str(clear)


def test_cuda_out_of_memory_is_one():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not match"), ValueError("out of memory"), KeyError("x")]
)
def test_other_errors_are_not(error):
    assert not is_out_of_memory(error)
