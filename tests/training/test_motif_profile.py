"""The recipe of the profile: it learns, and goes on to the same bits; the shipped network beats a guess."""

import json

import numpy as np
import pytest
import torch

from openfoldpp.errors import ConfigError
from openfoldpp.motifs import profile
from openfoldpp.motifs.profile import GEOMETRY
from openfoldpp.plm import plm_lite
from openfoldpp.training import motif_profile as recipe
from openfoldpp.training.fragments import draw, model_fvs
from openfoldpp.training.motif_profile import Example, Settings, error, examples, learn, measure

SETTINGS = Settings(steps=6, stretches=4, channels=8, blocks=1)


@pytest.fixture(scope="module")
def found():
    """Chains whose geometry follows from two channels of their embeddings, among noise."""
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(2, GEOMETRY, generator=generator)
    chains = []
    for number in range(24):
        length = 110 if number % 2 else 122
        embedding = torch.randn(length, 6, generator=generator)
        geometry = 6 + embedding[:, :2] @ mixed
        geometry[-5:] = torch.nan
        chains.append(Example(embedding.half(), geometry, None if number % 2 else (97, 111)))
    return chains


def run(found, out, settings=SETTINGS, **options):
    return learn(settings, found, out, "model", **{"say": lambda _: None} | options)


def same_bits(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_it_learns_the_geometry_from_the_embeddings(found, tmp_path):
    settings = Settings(steps=150, stretches=8, channels=16, blocks=1, dropout=0.0)
    network = run(found, tmp_path, settings)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "rate" in line]
    assert len(losses) == 150
    figures = measure(network, found[-6:])
    assert set(figures) == {"loss", "distance_error", "h3_loss", "h3_distance_error"}
    spread = float(torch.stack([one.geometry[:, :-2] for one in found[::2]]).sub(6).abs().nanmean())
    assert figures["distance_error"] < 0.7 * spread
    # The widths are those of the errors: no other one for all fits better.
    assert figures["loss"] < np.log(figures["distance_error"]) + 1.2


def test_a_stopped_run_goes_on_to_the_same_bits(found, tmp_path):
    whole = run(found, tmp_path / "whole")

    class Stop(Exception):  # noqa: N818
        pass

    def stop(line):
        raise Stop

    with pytest.raises(Stop):
        run(found, tmp_path / "parts", checkpoint_every=3, say=stop)
    assert same_bits(whole, run(found, tmp_path / "parts"))
    with pytest.raises(ConfigError, match="plm 'model', not 'other'"):
        learn(SETTINGS, found, tmp_path / "parts", "other")


def test_the_seed_decides_and_torch_s_own_chance_is_left_alone(found, tmp_path):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = run(found, tmp_path / "first")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert same_bits(first, run(found, tmp_path / "again"))
    assert not same_bits(first, run(found, tmp_path / "other", Settings(**vars(SETTINGS) | {"seed": 3})))


def test_a_wide_error_costs_less_where_it_was_expected():
    geometry, wanted = torch.zeros(1, GEOMETRY), torch.full((1, GEOMETRY), 2.0)
    wanted[0, 3] = torch.nan
    costs = [float(error(geometry, torch.full((1, GEOMETRY), w), wanted)) for w in (0.0, np.log(2), 3.0)]
    assert costs[1] == pytest.approx(1 + np.log(2))
    assert costs[1] < min(costs[0], costs[2])


def test_places_beside_the_context_are_not_learned_from(found):
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(60):
        embedding, mask, wanted = recipe._stretch(found, [one for one in found if one.h3], rng)
        there = ~wanted.isnan().all(-1)
        assert there.any()
        assert (mask[there] == 1).all()
        assert (embedding[mask == 0] == 0).all()
        first, last = int(there.nonzero()[0]), int(mask.nonzero()[0])
        assert first - last in (0, 12)
        ends += first == last
    assert 0 < ends < 60


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # OLGA's
def test_the_shipped_network_expects_better_than_the_mean_chain(tmp_path):
    lite = plm_lite.load()
    found = examples([chain for fv in model_fvs(draw(8, 77), tmp_path, "fvs") for chain in fv], lite)
    figures = measure(profile.load(lite.fingerprint), found)
    h3 = torch.cat([one.geometry[one.h3[0] - 5 : one.h3[1]] for one in found if one.h3])[:, :-2]
    assert figures["h3_distance_error"] < 0.8 * float((h3 - h3.nanmean(0)).abs().nanmean())
    assert figures["distance_error"] < 0.5
