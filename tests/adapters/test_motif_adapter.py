"""The plugin of motifs: what its flags mean, what is refused, and which stretches are searched."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from ml_collections import ConfigDict

from openfoldpp.adapters import motif_adapter, motif_options
from openfoldpp.adapters.motif_options import MAX_HITS, chosen_motifs, reads_templates
from openfoldpp.errors import InputError, WeightsError
from openfoldpp.inference.options import parse
from openfoldpp.motifs import retriever
from openfoldpp.motifs.hits import MotifHit
from openfoldpp.motifs.projections import MotifProjections
from openfoldpp.types import Chain, Target

WEIGHTS = ["--openfold_checkpoint_path", "weights.pt"]
LIBRARY = ["--motif_library", "lib"]
HEAVY, LIGHT = "EVQLVESGGGLVQPGGSLRLS", "DIQMTQSPSSLSAS"


@pytest.fixture
def options(plugin_folder, monkeypatch):
    """Options of a run with the plugin."""
    source = "from openfoldpp.adapters.motif_adapter import plugin"
    monkeypatch.syspath_prepend(plugin_folder("motif_plugin", source, "motif_plugin:plugin"))

    def make(*arguments, weights=WEIGHTS, preset="model_1_ptm"):
        given, _ = parse(["fasta", *weights, *arguments, "--plugins", "motif_plugin"], program="run")
        given.config_preset = preset
        return given

    return make


def hit(offset, length, score=0.9):
    coords = np.random.default_rng(offset).normal(size=(length, 4, 3)).astype(np.float32)
    return MotifHit(offset, length, "1abc_A", "5", "A" * length, score, 0.5, 0.7, coords, 0, 0)


class Fixed:
    """A retriever that has seen every query, and finds a motif at the start of each chain."""

    def __init__(self, hits=None):
        self.queries, self.hits = [], hits

    def search(self, sequences, *, top):
        self.queries.append((list(sequences), top))
        if self.hits is not None:
            return [self.hits]
        starts = np.cumsum([0, *map(len, sequences[0].split(":"))])[:-1]
        return [[hit(int(start), 10) for start in starts][:top]]


@pytest.fixture
def opened(monkeypatch):
    """A plugin for which every library is a fixed one; and which were opened."""
    plugin = motif_adapter.MotifPlugin()
    plugin.loaded, plugin.fixed = [], Fixed()

    def load(library, *, max_identity):
        plugin.loaded.append((library, max_identity))
        return plugin.fixed

    monkeypatch.setattr(retriever, "load", load)
    return plugin


def features(n_res, recycles=2):
    return {"aatype": torch.zeros(n_res, recycles, dtype=torch.int64)}


def test_nothing_happens_without_the_flags(options, opened):
    for given in (options(), options(weights=[]), options(preset="model_1_multimer_v3")):
        assert chosen_motifs(given) is None
        assert not reads_templates(given)
        target, batch = Target("t", (Chain("A", HEAVY),)), features(21)
        opened.openfoldpp_configure(ConfigDict(), given)
        opened.openfoldpp_make_features(target, given)
        assert opened.openfoldpp_prepare_model(None, given) is None
        assert opened.openfoldpp_transform_features(batch, target, None, given) is None
        assert list(batch) == ["aatype"]
    assert opened.loaded == []
    assert not reads_templates(Namespace(template_mmcif_dir=None))
    assert reads_templates(Namespace(template_mmcif_dir="folder"))


def test_the_flags_are_taken(options):
    choice = chosen_motifs(options(*LIBRARY, "--motif_templates"))
    assert choice == motif_options.Choice("lib", None, True, None, MAX_HITS)
    more = ["--motif_weights", "w", "--motif_max_identity", "0.9", "--motif_max_hits", "7"]
    given = options(*LIBRARY, *more)
    assert chosen_motifs(given) == motif_options.Choice("lib", "w", False, 0.9, 7)
    assert not reads_templates(given)
    assert reads_templates(options(*LIBRARY, "--motif_templates"))


@pytest.mark.parametrize(
    ("arguments", "changes", "said"),
    [
        (LIBRARY, {}, "--motif_library lib has no effect without --motif_weights FILE"),
        (["--motif_max_hits", "3"], {}, "--motif_max_hits 3 has no effect without"),
        (["--motif_templates"], {}, r"--motif_templates needs a library: .* --motif_library DIR"),
        (["--motif_weights", "w"], {}, "--motif_weights w needs a library"),
        (
            [*LIBRARY, "--motif_templates"],
            {"weights": []},
            "is for OpenFold's model, and no weights are given",
        ),
        (
            [*LIBRARY, "--motif_templates"],
            {"preset": "model_1_multimer_v3"},
            "motifs are pieces of one chain",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(options, opened, arguments, changes, said):
    given = options(*arguments, **changes)
    with pytest.raises(InputError, match=said):
        opened.openfoldpp_configure(None, given)
    with pytest.raises(InputError, match=said):  # also where no model is configured
        opened.openfoldpp_make_features(Target("t", (Chain("A", HEAVY),)), given)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("identity", "0"),
        ("identity", "1.1"),
        ("identity", "nan"),
        ("identity", "x"),
        ("hits", "0"),
        ("hits", "-1"),
    ],
)
def test_numbers_out_of_range_are_refused(options, capsys, flag, value):
    with pytest.raises(SystemExit):
        options(*LIBRARY, "--motif_templates", f"--motif_max_{flag}={value}")
    assert f"argument --motif_max_{flag}: {value!r} is" in capsys.readouterr().err


def test_every_chain_is_searched_alone_and_short_ones_are_left_out():
    chains = ("ACDEFGHIK", HEAVY, "GAGAG", LIGHT, "A")
    target = Target("t", tuple(Chain(str(i), sequence) for i, sequence in enumerate(chains)))
    fixed = Fixed()
    found = motif_adapter.search(fixed, target, 9)
    assert fixed.queries == [([f"{HEAVY}:{LIGHT}"], 9)]
    assert [one.offset for one in found] == [9, 9 + 21 + 5]
    assert motif_adapter.search(fixed, Target("t", (Chain("A", "ACD"),)), 9) == []
    assert len(fixed.queries) == 1


def test_a_library_is_opened_once_and_another_in_its_place(options, opened):
    target = Target("t", (Chain("A", HEAVY),))
    given = options(*LIBRARY, "--motif_weights", "w", "--motif_max_hits", "5")
    for _ in range(2):
        opened.openfoldpp_transform_features(features(21), target, None, given)
    assert opened.loaded == [("lib", None)]
    assert opened.fixed.queries == [([HEAVY], 5)] * 2
    given.motif_max_identity = 0.5
    opened.openfoldpp_transform_features(features(21), target, None, given)
    assert opened.loaded == [("lib", None), ("lib", 0.5)]


def test_features_are_added_for_every_recycle(options, opened):
    target = Target("t", (Chain("H", HEAVY), Chain("L", LIGHT)))
    batch = features(35, recycles=3)
    said = opened.openfoldpp_transform_features(
        batch, target, None, options(*LIBRARY, "--motif_weights", "w")
    )
    assert said == "motifs: 2 of lib cover 20 of 35 residues"
    assert batch["motif_single"].shape == (35, 256, 3)
    assert batch["motif_pair"].shape == (35, 35, 53, 3)
    assert batch["motif_single"].dtype == batch["motif_pair"].dtype == torch.float32
    covered = batch["motif_single"].any(dim=1)
    assert covered[:10].all()
    assert covered[21:31].all()
    assert covered.sum() == 20 * 3
    assert not batch["motif_pair"][:21, 21:].any()


def test_no_hits_leave_the_features_as_they_are(options, opened):
    opened.fixed.hits = []
    batch = features(21)
    given = options(*LIBRARY, "--motif_weights", "w", "--motif_templates")
    said = opened.openfoldpp_transform_features(batch, Target("t", (Chain("A", HEAVY),)), None, given)
    assert said == "motifs: none found in lib"
    assert list(batch) == ["aatype"]


def test_weights_of_another_preset_are_refused_before_the_library_is_opened(options, opened, tmp_path):
    made = MotifProjections(c_m=256, c_z=128, preset="model_2_ptm")
    torch.nn.init.ones_(made.pair)
    made.save(tmp_path / "m.safetensors")
    given = options(*LIBRARY, "--motif_weights", str(tmp_path / "m.safetensors"))
    config = ConfigDict({"globals": {"c_m": 256, "c_z": 128}})
    with pytest.raises(WeightsError, match=r"trained for preset model_2_ptm .* the model is model_1_ptm"):
        opened.openfoldpp_configure(config, given)
    assert opened.loaded == []
    given.config_preset = "model_2_ptm"
    opened.openfoldpp_configure(config, given)
    assert opened.loaded == [("lib", None)]
