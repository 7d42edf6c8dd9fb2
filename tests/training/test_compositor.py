"""The recipe of GraphCompositor: samples, the loop, what goes on, and what is measured."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from openfoldpp.errors import ConfigError, InputError
from openfoldpp.geometry.superposition import tm_score
from openfoldpp.motifs import graph_weights
from openfoldpp.motifs.assembly import lay_out
from openfoldpp.motifs.coarse_graph import graph_of
from openfoldpp.motifs.embedder import installed_embedding, shingle_embedder
from openfoldpp.motifs.graph_compositor import GraphCompositor, tensors_of
from openfoldpp.motifs.hits import MotifHit
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.part_files import write_library
from openfoldpp.motifs.segments import Segment, SegmentInfo
from openfoldpp.training import compositor, compositor_samples
from openfoldpp.training.compositor_figures import figures, measure, reliability, tm_of_part
from openfoldpp.training.compositor_samples import Sample
from openfoldpp.training.fragments import Chain

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from openfoldpp.training.compositor_module import CompositorModule

SETTINGS = compositor.Settings(epochs=3, rounded_epochs=1, batch=3)
LENGTH = 60


def curve(rng, length=LENGTH):
    """N, CA, C and O of a smooth chain, float32 [length, 4, 3]."""
    steps = np.cumsum(rng.normal(size=(length, 3)) * 0.4, 0) + rng.normal(size=3)
    steps *= 3.8 / np.linalg.norm(steps, axis=1, keepdims=True)
    ca = np.cumsum(steps, 0)
    return (ca[:, None] + np.array([[-1.4, 0, 0], [0, 0, 0], [1.4, 0, 0], [2, 1, 0]])).astype(np.float32)


def made_sample(seed):
    """Hits of two sources: the one with the scores a little lower is right."""
    rng = np.random.default_rng(seed)
    sequence, truth = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), LENGTH)), curve(rng)
    wrong = truth + np.cumsum(rng.normal(size=(LENGTH, 1, 3)), 0) * 0.6
    hits = [
        MotifHit(start, 20, name, "1", sequence[start : start + 20], score, 0.3, 0.9,
                 atoms[start : start + 20].astype(np.float32), 0, start)
        for name, score, atoms in (("r_A", 0.5, truth), ("w_A", 0.9, wrong))
        for start in range(0, 41, 8)
    ]  # fmt: skip
    vectors = [rng.normal(size=(LENGTH - 9, 64)).astype(np.float32)]
    return Sample(
        tensors_of(graph_of(lay_out(sequence, hits), vectors)), torch.from_numpy(truth[:, 1].copy())
    )


@pytest.fixture(scope="module")
def samples():
    return [made_sample(seed) for seed in range(6)]


def test_it_learns_to_compose_and_ends_on_the_grid(samples, tmp_path):
    said = []
    settings = dataclasses.replace(SETTINGS, epochs=12, batch=2)
    model, found = compositor.learn(settings, samples, samples[:2], tmp_path, said.append)
    assert found["float32"]["tm"] > found["untrained"]["tm"] + 0.01
    assert found["int8"]["tm"] > found["untrained"]["tm"] + 0.01
    assert found["learned_fvs"] == 6
    assert found["held_out_fvs"] == 2
    assert sum("epoch" in line for line in said) == 13
    for name, parameter in model.named_parameters():
        if graph_weights.is_rounded(name):
            torch.testing.assert_close(graph_weights.rounded(parameter), parameter, rtol=1e-5, atol=1e-7)
    assert measure(model, samples[:2]).tm == found["int8"]["tm"]


def test_a_run_that_was_stopped_ends_with_the_same_weights(samples, tmp_path):
    def fitted(checkpoint, epochs=3, **options):
        torch.manual_seed(0)
        model = GraphCompositor()
        stopping = options.pop("say", lambda text: None)
        compositor.fit(model, SETTINGS, samples, epochs, checkpoint, say=stopping, **options)
        return model.state_dict()

    whole = fitted(tmp_path / "whole.ckpt")

    class StopError(Exception):
        pass

    def stop(text):
        if text.startswith("epoch 3"):
            raise StopError

    with pytest.raises(StopError):
        fitted(tmp_path / "parts.ckpt", say=stop)
    said = []
    parts = fitted(tmp_path / "parts.ckpt", say=said.append)
    assert [line[:7] for line in said] == ["epoch 3"]
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=0)
    with pytest.raises(ConfigError, match=r"learning_rate 0.005, not 0.1: give its settings"):
        compositor.fit(
            GraphCompositor(), dataclasses.replace(SETTINGS, learning_rate=0.1), samples, 3,
            tmp_path / "whole.ckpt",
        )  # fmt: skip


def test_rounded_it_sees_rounded_weights_and_inputs(samples):
    torch.manual_seed(1)
    model = GraphCompositor()
    for parameter in (model.pull.weight, model.weight.weight, model.trust.weight):
        torch.nn.init.normal_(parameter)
    graph = samples[0].graph
    plain, rounded = (
        CompositorModule(model, learning_rate=1.0, steps=9, is_rounded=which)(graph)
        for which in (False, True)
    )
    assert (plain.ca - rounded.ca).abs().max() > 1e-4
    torch.testing.assert_close(plain.ca, rounded.ca, atol=0.5, rtol=0)
    rounded.ca.sum().backward()
    assert model.embed.weight.grad.abs().max() > 0
    # Nothing of it stays behind.
    again = CompositorModule(model, learning_rate=1.0, steps=9)(graph)
    assert torch.equal(again.ca, plain.ca)


def test_samples_are_kept_until_the_library_is_another(tmp_path):
    rng = np.random.default_rng(0)
    letters = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), n)) for n in (50, 45)]
    atoms = [curve(rng, len(one)) for one in letters]
    fv = tuple(
        Chain(one, heavy, ((5, 9), (15, 20), (30, 36)), backbone)
        for one, heavy, backbone in zip(letters, (True, False), atoms, strict=True)
    )
    segments = [
        Segment(SegmentInfo(f"a_{chain}", f"1..{len(one)}", one), backbone)
        for chain, one, backbone in zip("HL", letters, atoms, strict=True)
    ]
    vectors = np.concatenate(shingle_embedder().embed(letters))
    write_library(tmp_path / "one", segments, vectors, installed_embedding())
    write_library(tmp_path / "two", segments[:1], vectors[:41], installed_embedding())
    said = []
    with Library.open(tmp_path / "one") as library:
        paths = compositor_samples.prepare([fv, fv], library, tmp_path / "samples", said.append)
        assert compositor_samples.prepare([fv, fv], library, tmp_path / "samples", said.append) == paths
    assert said == ["searched for 2 of 2 Fvs"]
    # The first is searched for without itself.
    apart, near = map(compositor_samples.read, paths)
    assert measure(GraphCompositor(), [apart]).tm < 0.6
    assert near.graph["mask"].any(0).all()
    np.testing.assert_allclose(near.truth, np.concatenate([a[:, 1] for a in atoms]), atol=1e-5)
    assert measure(GraphCompositor(), [near]).tm > 0.99
    with Library.open(tmp_path / "two") as library:
        compositor_samples.prepare([fv, fv], library, tmp_path / "samples", said.append)
    assert len(said) == 2
    assert measure(GraphCompositor(), [compositor_samples.read(paths[1])]).tm < 0.9


def test_residues_that_are_absent_count_as_nothing():
    truth = curve(np.random.default_rng(1), 100)[:, 1].astype(np.float64)
    covered = np.ones(100, bool)
    covered[80:] = False
    model = np.where(covered[:, None], truth, 0)
    assert tm_of_part(model, truth, covered) == pytest.approx(0.8, abs=1e-3)
    noisy = truth + np.random.default_rng(2).normal(size=truth.shape)
    assert tm_of_part(noisy, truth, np.ones(100, bool)) == tm_score(noisy, truth)


def test_reliability_by_hand():
    error, table = reliability(np.array([0.11, 0.19, 0.9, 1.0]), np.array([0.5, 0.7, 0.9, 0.8]))
    assert [row["from"] for row in table] == [0.1, 0.9]
    assert [row["residues"] for row in table] == [2, 2]
    assert table[0]["lddt"] == pytest.approx(0.6)
    assert error == pytest.approx((2 * 0.45 + 2 * 0.1) / 4)


def test_figures_are_of_what_is_covered():
    truth = curve(np.random.default_rng(1), 100)[:, 1].astype(np.float64)
    covered = np.ones(100, bool)
    covered[50:] = False
    found = figures([(truth, np.ones(100), np.ones(100, bool), truth), (truth, np.ones(100), covered, truth)])
    assert found.tm == pytest.approx(0.75, abs=1e-3)
    assert found.rmsd == pytest.approx(0, abs=1e-5)


def test_too_few_fvs_are_refused(tmp_path):
    with pytest.raises(InputError, match="--fvs 7: expected 8 or more"):
        compositor.train(dataclasses.replace(SETTINGS, fvs=7), None, tmp_path)


@pytest.mark.slow
def test_the_smoke_test_overfits_ten_fvs(tmp_path):
    from openfoldpp.cli.train import app

    done = CliRunner().invoke(app, ["compositor", "--smoke-test", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "before it learned; expected above that and 0.9" in done.output
    assert (tmp_path / "run" / "compositor.safetensors").is_file()
