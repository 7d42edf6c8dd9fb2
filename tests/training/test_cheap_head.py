"""The recipe of CheapHead: it learns, and goes on to the same bits; the shipped weights beat none."""

import json

import numpy as np
import pytest
import torch

from openfoldpp.errors import ConfigError
from openfoldpp.plm import cheap_head, plm_lite
from openfoldpp.training.cheap_head import (
    Examples,
    Settings,
    error,
    euclidean,
    learn,
    learning_rate,
    pooled_projections,
    vectors,
)
from openfoldpp.training.fragment_pairs import agreement
from openfoldpp.training.fragments import Windows, draw, model_fvs, windows

SETTINGS = Settings(steps=30, pairs=256)


@pytest.fixture(scope="module")
def examples():
    """Fragments bent by two amounts, and windows that have these amounts among 62 channels of noise."""
    rng = np.random.default_rng(0)
    count, fvs = 400, 20
    amounts = rng.normal(size=(count, 2))
    shapes = rng.normal(scale=3, size=(1, 30, 3)) + np.einsum(
        "nk,kad->nad", amounts, rng.normal(size=(2, 30, 3))
    )
    found = Windows(
        fragments=(shapes - shapes.mean(1, keepdims=True)).astype(np.float32),
        letters=np.full((count, 10), 65, np.uint8),
        fv=np.arange(count, dtype=np.int32) % fvs,
        is_heavy=np.ones(count, bool),
        place=(np.arange(count) // 200).astype(np.int16),
        cdr=np.full(count, 3, np.int8),
    )
    pooled = np.concatenate([amounts, 2 * rng.normal(size=(count, 62))], 1)
    return Examples(found, torch.from_numpy(pooled).float())


def run(examples, out, settings=SETTINGS):
    return learn(examples, examples, settings, out, "projection", say=lambda _: None)


def same_bits(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_it_learns_distances_from_rmsds(examples, tmp_path):
    head = run(examples, tmp_path, Settings(steps=150, pairs=512))
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    assert len(losses) == 150
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    found = agreement(
        examples.windows,
        {
            "head": euclidean(vectors(head, examples.pooled)),
            "raw": euclidean(examples.pooled.numpy()),
        },
        count=2000,
    )
    assert found["head"]["anywhere"] > 0.9
    assert found["raw"]["anywhere"] < 0.5


def test_a_stopped_run_goes_on_to_the_same_bits(examples, tmp_path):
    whole = run(examples, tmp_path / "whole")

    class Stop(Exception):  # noqa: N818
        pass

    def stop(line):
        raise Stop

    with pytest.raises(Stop):
        learn(examples, examples, SETTINGS, tmp_path / "parts", "projection", 10, stop)
    rest = run(examples, tmp_path / "parts")
    assert same_bits(whole, rest)
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, 31))


def test_the_seed_decides(examples, tmp_path):
    first, again, other = (
        run(examples, tmp_path / name, Settings(steps=5, pairs=256, seed=seed))
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert same_bits(first, again)
    assert not same_bits(first, other)


def test_a_checkpoint_of_another_run_is_refused(examples, tmp_path):
    run(examples, tmp_path)
    with pytest.raises(ConfigError, match="steps 30, not 31"):
        run(examples, tmp_path, Settings(steps=31, pairs=256))
    with pytest.raises(ConfigError, match="projection 'projection', not 'other'"):
        learn(examples, examples, SETTINGS, tmp_path, "other")


def test_the_rate_rises_and_falls_along_a_cosine():
    settings = Settings(steps=1000, learning_rate=1.0)
    rates = [learning_rate(step, settings) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert np.argmax(rates) == 99
    assert rates[500] == pytest.approx(0.51)
    assert rates[-1] == pytest.approx(0.02, abs=1e-4)


def test_an_error_at_the_same_place_counts_more_between_like_fragments():
    rmsd = torch.tensor([0.5, 4.0, 0.5, 4.0])
    apart, apart_unlike, like, unlike = (
        error(rmsd + 0.4 * torch.eye(4)[which], rmsd, anywhere=2) for which in range(4)
    )
    assert apart == pytest.approx(apart_unlike.item())
    assert apart > 0
    assert like > 4 * unlike > 0
    assert error(rmsd, rmsd, anywhere=2) == 0


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # OLGA's
def test_the_shipped_head_ranks_backbones_better_than_the_projection(tmp_path):
    lite = plm_lite.load()
    fvs = model_fvs(draw(8, 77), tmp_path, "fvs")
    pooled = pooled_projections(fvs, lite)
    head = cheap_head.load(lite.fingerprint)
    found = agreement(
        windows(fvs), {"head": euclidean(vectors(head, pooled)), "raw": euclidean(pooled.numpy())}, count=2000
    )
    for kind in ("anywhere", "same place", "same CDR place"):
        assert found["head"][kind] > found["raw"][kind] + 0.2, kind
    # As angstrom: the distances are not only in the right order.
    distances = euclidean(vectors(head, pooled))
    assert 0.5 < np.median(distances(np.arange(200), np.arange(400, 600))) < 6
