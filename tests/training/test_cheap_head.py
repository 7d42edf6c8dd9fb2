"""The recipe of CheapHead: it learns, and goes on to the same bits; the shipped weights beat none."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from openfoldpp.errors import ConfigError
from openfoldpp.motifs.sequence_identity import identical
from openfoldpp.plm import cheap_head, plm_lite
from openfoldpp.teachers import flashabb
from openfoldpp.training import cheap_head as recipe
from openfoldpp.training import fragments
from openfoldpp.training.cheap_head import (
    Examples,
    Settings,
    error,
    euclidean,
    fvs,
    learn,
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
    count, number = 400, 20
    amounts = rng.normal(size=(count, 2))
    shapes = rng.normal(scale=3, size=(1, 30, 3)) + np.einsum(
        "nk,kad->nad", amounts, rng.normal(size=(2, 30, 3))
    )
    found = Windows(
        fragments=(shapes - shapes.mean(1, keepdims=True)).astype(np.float32),
        letters=np.full((count, 10), 65, np.uint8),
        fv=np.arange(count, dtype=np.int32) % number,
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
    modelled = model_fvs(draw(8, 77), tmp_path, "fvs")
    pooled = pooled_projections(modelled, lite)
    head = cheap_head.load(lite.fingerprint)
    found = agreement(
        windows(modelled),
        {"head": euclidean(vectors(head, pooled)), "raw": euclidean(pooled.numpy())},
        count=2000,
    )
    for kind in ("anywhere", "same place", "same CDR place"):
        assert found["head"][kind] > found["raw"][kind] + 0.2, kind
    # As angstrom: the distances are not only in the right order.
    distances = euclidean(vectors(head, pooled))
    assert 0.5 < np.median(distances(np.arange(200), np.arange(400, 600))) < 6


@pytest.fixture
def random_models(monkeypatch):
    """Fvs by the handful, with random walks for models."""
    for name, count in (("APART_FROM", 12), ("VALIDATION", 4), ("HELD_OUT", 5)):
        monkeypatch.setattr(recipe, name, count)
    rng = np.random.default_rng(0)
    monkeypatch.setattr(
        flashabb,
        "load",
        lambda: SimpleNamespace(
            predict=lambda *chains: SimpleNamespace(
                coords=rng.normal(size=(len("".join(chains)), 14, 3)).cumsum(0)
            )
        ),
    )


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # OLGA's
def test_what_is_measured_on_is_apart_from_what_is_learned_from(random_models, tmp_path, monkeypatch):
    pytest.importorskip("olga")
    apart_from = []
    draw_apart = fragments.draw_apart

    def keep(count, seed, others):
        apart_from.append({domain.sequence for pair in others for domain in pair})
        return draw_apart(count, seed, others)

    monkeypatch.setattr(fragments, "draw_apart", keep)
    settings = Settings(fvs=7, seed=1)
    sets = {
        name: fvs(name, settings, tmp_path, say=lambda _: None)
        for name in ("train", "validation", "held_out")
    }
    assert {name: len(found) for name, found in sets.items()} == {"train": 7, "validation": 4, "held_out": 5}
    sequences = {name: {one.sequence for fv in found for one in fv} for name, found in sets.items()}
    assert sequences["train"] < apart_from[0]
    assert len(apart_from[0]) == 24
    assert apart_from[-1] == apart_from[0] | sequences["validation"]
    for fv in sets["held_out"]:
        for side in (0, 1):
            for other in sets["train"] + sets["validation"]:
                assert identical(fv[side].sequence, other[side].sequence) < 0.9
    seven = fvs("held_out", Settings(fvs=5, seed=1), tmp_path / "fewer", say=lambda _: None)
    assert [fv[0].sequence for fv in seven] == [fv[0].sequence for fv in sets["held_out"]]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # OLGA's
def test_examples_are_means_of_projections_and_are_kept_for_a_projection(
    random_models, tmp_path, monkeypatch
):
    pytest.importorskip("olga")
    lite, settings = plm_lite.load(), Settings(fvs=2)
    found = recipe.examples("train", lite, settings, tmp_path, lambda _: None)
    assert len(found.pooled) == len(found.windows)
    letters = "".join(map(chr, found.windows.letters[0]))
    heavy = next(fv[0].sequence for fv in fvs("train", settings, tmp_path, say=lambda _: None))
    assert heavy.startswith(letters)
    expected = lite.project(lite.embed([heavy])[0])[:10].mean(0)
    torch.testing.assert_close(found.pooled[0], expected, rtol=1e-4, atol=1e-5)

    monkeypatch.setattr(recipe, "pooled_projections", lambda found, _: torch.zeros(len(windows(found)), 64))
    again = recipe.examples("train", lite, settings, tmp_path, lambda _: None)
    assert torch.equal(again.pooled, found.pooled)
    other = SimpleNamespace(name="other", fingerprint="other")
    assert not recipe.examples("train", other, settings, tmp_path, lambda _: None).pooled.any()
