"""``openfoldpp train``: every flag reaches its recipe, and what cannot be done is one message."""

import contextlib
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from openfoldpp.cli.train import app
from openfoldpp.motifs import default_library, library
from openfoldpp.plm import cheap_head, plm_lite
from openfoldpp.teachers import flashabb
from openfoldpp.training import cheap_head as cheap_head_recipe
from openfoldpp.training import compositor as compositor_recipe
from openfoldpp.training import plm_lite as plm_lite_recipe

FLAGS = {
    "--out": "runs/a_b",
    "--teacher": "esm2_t6_8M_UR50D",
    "--teacher-weights": "t_w.pt",
    "--keep-every": 3,
    "--width": 32,
    "--sequences": "s_s.fasta",
    "--steps": 7,
    "--batch-tokens": 50,
    "--learning-rate": 0.25,
    "--round-from": 0.5,
    "--seed": 4,
    "--dtype": "bfloat16",
    "--start-from": "c_c.pt",
    "--device": "meta",
    "--workers": 5,
    "--checkpoint-every": 6,
}


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def called(monkeypatch, tmp_path):
    """What the recipe of plm_lite is called with, in place of running it."""
    seen = SimpleNamespace()

    def train(settings, out, **options):
        seen.settings, seen.out, seen.options = settings, out, options
        (tmp_path / "made").write_bytes(bytes(2_500_000))
        return tmp_path / "made"

    monkeypatch.setattr(plm_lite_recipe, "train", train)
    return seen


@pytest.mark.parametrize("dash", ["-", "_"])
def test_every_flag_of_plm_lite_reaches_the_recipe(dash, called, tmp_path):
    flags = FLAGS if dash == "-" else [name.replace("-", "_").replace("__", "--", 1) for name in FLAGS]
    done = run("plm-lite", *itertools.chain(*zip(flags, FLAGS.values(), strict=True)))
    assert done.exit_code == 0, done.output
    assert done.output == f"{tmp_path / 'made'}: 2.5 MB\n"
    assert called.settings == plm_lite_recipe.Settings(
        teacher="esm2_t6_8M_UR50D",
        weights="t_w.pt",
        keep_every=3,
        width=32,
        sequences="s_s.fasta",
        steps=7,
        batch_tokens=50,
        learning_rate=0.25,
        round_from=0.5,
        seed=4,
        dtype="bfloat16",
        start_from="c_c.pt",
    )
    assert str(called.out) == "runs/a_b"
    options = {name: called.options[name] for name in ("device", "workers", "checkpoint_every")}
    assert options == {"device": "meta", "workers": 5, "checkpoint_every": 6}


def test_the_defaults_of_plm_lite_are_the_recipes(called):
    assert run("plm-lite", "--out", "a").exit_code == 0
    assert called.settings == plm_lite_recipe.Settings()
    assert (called.options["device"], called.options["workers"]) == ("cpu", 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--teacher", "antibert"), "did you mean antiberty"),
        (("--sequences", "none.fasta"), "--sequences none.fasta: cannot be read"),
        (("--keep-every", "9"), "--keep-every 9: the teacher has 8 blocks"),
        (("--out", "file/run"), "file/run: Not a directory"),
    ],
)
def test_what_cannot_be_done_is_one_message(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    done = run("plm-lite", "--out", "run", *arguments)
    assert done.exit_code == 1
    assert "openfoldpp train plm-lite: " in done.output
    assert said in done.output
    assert isinstance(done.exception, SystemExit)


@pytest.fixture
def small_sets(monkeypatch):
    """Small sets of Fvs, whose models are random walks."""
    monkeypatch.setattr(cheap_head_recipe, "APART_FROM", 8)
    monkeypatch.setattr(cheap_head_recipe, "VALIDATION", 4)

    def predict(heavy, light):
        rng = np.random.default_rng(len(heavy))
        return SimpleNamespace(coords=rng.normal(size=(len(heavy + light), 14, 3)).cumsum(0))

    monkeypatch.setattr(flashabb, "load", lambda: SimpleNamespace(predict=predict))


# OLGA leaves its files open.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("weights_flag", ["--plm-weights", "--plm_weights"])
def test_a_small_run_of_cheap_head(weights_flag, small_sets, tmp_path, monkeypatch):
    pytest.importorskip("olga")
    out, weights = tmp_path / "run", tmp_path / "lite.safetensors"
    lite = plm_lite.load()
    plm_lite.write(weights, lite.encoder, lite.head, lite.settings | {"note": "of this test"})
    flags = ("cheap-head", "--out", out, weights_flag, weights, "--fvs", 6, "--steps", 4, "--pairs", 64)
    flags += ("--learning-rate", 0.01, "--checkpoint-every", 3)
    done = run(*flags, "--seed", 2)
    assert done.exit_code == 0, done.output
    assert done.output.endswith(f"{out / 'cheap_head.safetensors'}: 133 kB\n")
    said = [line for line in done.output.splitlines() if line.startswith("step")]
    assert [line.split(":")[0] for line in said] == ["step 3 of 4", "step 4 of 4"]
    head = cheap_head.load(plm_lite.load(weights=weights).fingerprint, weights=out / "cheap_head.safetensors")
    settings = torch.load(out / "checkpoint.pt", weights_only=True)["settings"]
    given = {"fvs": 6, "steps": 4, "pairs": 64, "seed": 2, "learning_rate": 0.01}
    assert settings == given | {"projection": plm_lite.load(weights=weights).fingerprint}
    with np.load(out / "models" / "train_000.npz") as models:
        assert len(models["fvs"]) == 6

    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    other = run(*flags, "--seed", 3)
    assert other.exit_code == 1
    assert "openfoldpp train cheap-head: " in other.output
    assert "seed 2, not 3: give its settings, or another --out" in other.output
    assert {path: path.read_bytes() for path in before} == before

    monkeypatch.setattr(flashabb, "load", lambda: pytest.fail("modelled again"))
    monkeypatch.setattr(cheap_head_recipe, "pooled_projections", lambda *_: pytest.fail("embedded again"))
    (out / "cheap_head.safetensors").unlink()
    assert run(*flags, "--seed", 2).exit_code == 0
    again = cheap_head.load(
        plm_lite.load(weights=weights).fingerprint, weights=out / "cheap_head.safetensors"
    )
    assert torch.equal(again.contract.weight, head.contract.weight)


COMPOSITOR = {
    "--out": "runs/c_c",
    "--library": "l_l",
    "--fvs": 11,
    "--epochs": 3,
    "--rounded-epochs": 2,
    "--batch": 5,
    "--learning-rate": 0.25,
    "--seed": 4,
}


@pytest.fixture
def composed(monkeypatch, tmp_path):
    """What the recipe of the compositor is called with, in place of running it."""
    seen = SimpleNamespace(reached=(0.93, 0.95))

    def train(settings, library, out, **options):
        seen.settings, seen.library, seen.out, seen.options = settings, library, out, options
        (tmp_path / "made").write_bytes(bytes(123_000))
        return tmp_path / "made", {}

    def smoke_test(out, *, say):
        seen.out = out
        return seen.reached

    class Opened:
        @classmethod
        def open(cls, path, **options):
            return contextlib.nullcontext(path)

    monkeypatch.setattr(compositor_recipe, "train", train)
    monkeypatch.setattr(compositor_recipe, "smoke_test", smoke_test)
    monkeypatch.setattr(library, "Library", Opened)
    return seen


def test_every_flag_of_the_compositor_reaches_the_recipe(composed, tmp_path):
    done = run("compositor", *itertools.chain(*COMPOSITOR.items()))
    assert done.exit_code == 0, done.output
    assert done.output == f"{tmp_path / 'made'}: 123 kB\n"
    assert (str(composed.out), str(composed.library)) == ("runs/c_c", "l_l")
    assert composed.settings == compositor_recipe.Settings(
        fvs=11, epochs=3, rounded_epochs=2, batch=5, learning_rate=0.25, seed=4
    )
    flags = " ".join(f"{flag} {value}" for flag, value in COMPOSITOR.items() if flag != "--out")
    assert composed.options["made_by"] == f"openfoldpp train compositor {flags}"


def test_without_flags_the_compositor_takes_the_recipes_defaults(composed):
    assert run("compositor", "--out", "x").exit_code == 0
    assert composed.settings == compositor_recipe.Settings()
    assert composed.library == default_library.path()


@pytest.mark.parametrize(
    ("before", "reached", "code"), [(0.93, 0.95, 0), (0.8, 0.9, 1), (0.2, 0.3, 1), (0.96, 0.95, 1)]
)
def test_the_smoke_test_of_the_compositor_fails_below_its_score(composed, before, reached, code):
    composed.reached = before, reached
    done = run("compositor", "--smoke-test", "--out", "x")
    assert done.exit_code == code
    said = f"TM-score {reached:.4f}, {before:.4f} before it learned; expected above that and 0.9\n"
    assert done.output == said
