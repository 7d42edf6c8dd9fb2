import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openfoldpp.inference.memory_estimate import (
    GIB,
    SMALLEST_CHUNK,
    Depth,
    estimate_peak_bytes,
    longest_chain,
    stage_bytes,
)
from openfoldpp.upstream import activate

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def config():
    from openfoldpp.upstream.configuration import model_config

    activate()
    return model_config("model_1_ptm")


def test_the_depth_is_what_upstream_pads_to(config):
    assert Depth.of(config) == Depth(n_seq=516, n_extra=5120, n_templ=4)  # 512 clusters and 4 templates
    assert Depth.of(config, templates=False) == Depth(512, 5120, 0)
    config.model.template.enabled = False
    assert Depth.of(config) == Depth(512, 5120, 0)


def test_it_grows_with_each_thing_that_needs_memory(config):
    least = estimate_peak_bytes(config, 200, depth=Depth(1, 1, 0), largest_chunk=SMALLEST_CHUNK)
    assert least < estimate_peak_bytes(config, 300, depth=Depth(1, 1, 0), largest_chunk=SMALLEST_CHUNK)
    assert least < estimate_peak_bytes(config, 200, depth=Depth(512, 1, 0), largest_chunk=SMALLEST_CHUNK)
    assert least < estimate_peak_bytes(config, 200, depth=Depth(1, 5120, 0), largest_chunk=SMALLEST_CHUNK)
    assert least < estimate_peak_bytes(config, 200, depth=Depth(1, 1, 40), largest_chunk=SMALLEST_CHUNK)
    assert least < estimate_peak_bytes(config, 200, depth=Depth(1, 1, 0))


def test_a_gpu_is_asked_for_the_smallest_chunk_because_the_tuner_goes_down_to_it(config):
    on_gpu = stage_bytes(config, 400, device="cuda:0")
    assert on_gpu == stage_bytes(config, 400, largest_chunk=SMALLEST_CHUNK)
    assert on_gpu["evoformer"] < stage_bytes(config, 400)["evoformer"] / 4


def test_the_attention_over_columns_holds_its_logits_twice(config):
    rows = Depth.of(config).n_seq
    logits = 4 * config.model.evoformer_stack.no_heads_msa * rows * rows * 64
    assert stage_bytes(config, 64)["evoformer"] > 2 * logits


def test_without_the_tuner_its_limit_has_no_effect(config):
    before = stage_bytes(config, 256, largest_chunk=SMALLEST_CHUNK)
    config.model.evoformer_stack.tune_chunk_size = False
    config.model.extra_msa.extra_msa_stack.tune_chunk_size = False
    config.model.template.template_pair_stack.tune_chunk_size = False
    assert stage_bytes(config, 256) == before


def test_the_longest_chain_is_the_last_that_fits(config):
    longest = longest_chain(config, 16 * GIB)
    assert estimate_peak_bytes(config, longest, largest_chunk=SMALLEST_CHUNK) <= 16 * GIB
    assert estimate_peak_bytes(config, longest + 1, largest_chunk=SMALLEST_CHUNK) > 16 * GIB
    assert longest_chain(config, GIB) == 0


def test_it_takes_no_time(config):
    start = time.perf_counter()
    for _ in range(10):
        estimate_peak_bytes(config, 20_000)
    assert (time.perf_counter() - start) / 10 < 0.01


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the measurement reads /proc/self/status")
@pytest.mark.parametrize("flags", [[], ["--untuned"]], ids=["tuned", "untuned"])
def test_the_measured_peak_is_at_most_the_estimate_and_near_it(flags, tmp_path):
    # Few rows, so that this takes seconds; benchmarks/memory.py has full alignments and other presets.
    command = [
        sys.executable,
        REPOSITORY / "benchmarks/memory.py",
        "--preset",
        "model_1_ptm",
        "--residues",
        "192",
    ]
    file = tmp_path / "memory.json"
    subprocess.run([*command, "--rows", "16", "64", "--json", file, *flags], check=True, capture_output=True)
    (result,) = json.loads(file.read_text())
    assert 1 <= result["estimate_bytes"] / result["peak_bytes"] <= 1.4
