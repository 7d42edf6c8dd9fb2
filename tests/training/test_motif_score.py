"""The recipe of the score: how right it is told, and a score that was learned ranks better than distance."""

import json

import numpy as np
import pytest

from openfoldpp.motifs import scoring
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.retriever import Retriever
from openfoldpp.training import motif_library, motif_score
from openfoldpp.training.fragments import draw, fragments, model_fvs
from openfoldpp.training.motif_score import Settings, reliability, train

SETTINGS = Settings(fvs=8, steps=60, windows=8, hidden=4, seed=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A library of a few Fvs, and the folder of a score that was learned on it."""
    out = tmp_path_factory.mktemp("score")
    made = motif_library.make(
        motif_library.Settings(fvs=12, stretches=0, seed=3), out / "library", say=lambda _: None
    )
    with Library.open(made) as library:
        train(SETTINGS, library, out / "run", say=lambda _: None)
        yield library, out / "run"


def test_reliability_compares_scores_with_how_often_they_are_right():
    scores = np.array([[0.95, 0.15], [0.95, 0.15], [0.15, 0.95], [0.95, 0.5]])
    rmsd = np.array([[1.0, 2.0], [1.5, 2.0], [9.0, 1.0], [2.0, 0.0]])
    there = np.array([[True, True]] * 3 + [[True, False]])
    found = reliability(scores, rmsd, there)
    assert found["windows"] == 4
    assert found["top_right"] == 0.75
    assert found["top_score"] == pytest.approx(0.95)
    assert found["ece_top"] == pytest.approx(0.2)
    assert found["all_right"] == pytest.approx(3 / 7)
    assert found["ece_all"] == pytest.approx((4 * 0.2 + 3 * 0.15) / 7)
    assert [row["candidates"] for row in found["bins_all"]] == [3, 4]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # OLGA's
def test_a_score_is_learned_written_and_ranks_better_than_the_distance(run):
    library, out = run
    figures = json.loads((out / "motif_score.json").read_text())
    assert figures["learned_fvs"] + figures["held_out_fvs"] == figures["settings"]["fvs"] == 8
    assert 0.5 < figures["as it is"]["top_right"] <= 1
    pairs = draw(4, 99)
    fvs = model_fvs(pairs, out / "models", "others")
    right = {}
    for name, score in (
        ("learned", scoring.load(out / "motif_score.safetensors")),
        ("distance", motif_score._untrained(SETTINGS)),
    ):
        retriever = Retriever(library, score=score)
        blocks = retriever.blocks([chain.sequence for fv in fvs for chain in fv])
        rmsd = []
        for chain, one in zip((chain for fv in fvs for chain in fv), blocks, strict=True):
            _, shingles, _ = retriever.finalists(one)
            rmsd.append(motif_score._rmsd(library, fragments(chain.backbone), np.maximum(shingles[:, 0], 0)))
        right[name] = (np.concatenate(rmsd) <= scoring.NEAR).mean()
    assert right["learned"] > right["distance"]
