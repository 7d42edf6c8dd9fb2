"""``--path motifs``: what goes with it, what comes out, and what is said of it."""

from types import SimpleNamespace

import numpy as np
import pytest

from openfoldpp.adapters import motif_adapter
from openfoldpp.adapters.motif_options import PathChoice, chosen_motifs, chosen_path
from openfoldpp.adapters.motif_path import PathFeatures, uncovered
from openfoldpp.errors import InputError, UnsupportedTargetError
from openfoldpp.inference.options import parse
from openfoldpp.motifs import default_library, retriever
from openfoldpp.motifs.hits import MotifHit
from openfoldpp.types import Chain, Target
from openfoldpp.upstream import schema

PATH = ["--path", "motifs", "--motif_library", "lib"]
HEAVY, LIGHT = "EVQLVESGGGLVQPGGSLRLS", "DIQMTQSPSSLSAS"
TARGET = Target("t", (Chain("H", HEAVY), Chain("L", LIGHT)))


@pytest.fixture
def options(plugin_folder, monkeypatch):
    """Options of a run with the plugin, as upstream's command or as ``openfoldpp predict``."""
    source = "from openfoldpp.adapters.motif_adapter import plugin"
    monkeypatch.syspath_prepend(plugin_folder("motif_plugin", source, "motif_plugin:plugin"))

    def make(*arguments, targets=True):
        given, _ = parse([*arguments, "--plugins", "motif_plugin", "x"], program="run", targets=targets)
        given.config_preset = given.config_preset or "model_1_ptm"
        return given

    return make


def helix(offset, length, score):
    """A hit whose CA lie on a helix, so that those of one stretch fit each other."""
    place = offset + np.arange(length)
    ca = np.stack([2.3 * np.cos(1.745 * place), 2.3 * np.sin(1.745 * place), 1.5 * place], 1)
    coords = np.repeat(ca[:, None], 4, 1).astype(np.float32)
    return MotifHit(offset, length, "1abc_A", "5", "A" * length, score, 0.5, 0.7, coords, 0, 0)


@pytest.fixture
def plugin(monkeypatch):
    """A plugin whose every search finds the same hits."""
    made = motif_adapter.MotifPlugin()
    made.hits, made.asked = [], []

    def search(sequences, *, top):
        made.asked.append((sequences, top))
        return [made.hits]

    monkeypatch.setattr(
        retriever, "load", lambda *given, **options: SimpleNamespace(search=search, library=None)
    )
    return made


def test_without_the_flag_nothing_is_on_this_path(options):
    assert chosen_path(options("--motif_library", "lib", "--motif_templates")) is None
    assert chosen_path(options()) is None


def test_the_flags_are_taken(options):
    given = options(*PATH)
    assert chosen_path(given) == PathChoice("lib", None, None, "lib", is_shipped=False)
    assert chosen_motifs(given) is None
    more = options(*PATH, "--motif_max_identity", "0.9", "--motif_max_hits", "7")
    assert chosen_path(more) == PathChoice("lib", 0.9, 7, "lib", is_shipped=False)


@pytest.mark.parametrize(
    ("arguments", "targets", "said"),
    [
        ([*PATH, "--openfold_checkpoint_path", "w.pt"], True, "and --openfold_checkpoint_path: OpenFold"),
        ([*PATH, "--jax_param_path", "w.npz"], True, "and --jax_param_path"),
        ([*PATH, "--motif_weights", "w"], True, "and --motif_weights"),
        ([*PATH, "--motif_templates"], True, "and --motif_templates"),
        ([*PATH, "--relax"], True, "CA atoms alone, which cannot be relaxed: leave --relax out"),
        (PATH, False, "CA atoms alone, which cannot be relaxed: give --skip_relaxation"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_it_is_refused(options, plugin, arguments, targets, said):
    given = options(*arguments, targets=targets)
    with pytest.raises(InputError, match=said):
        plugin.openfoldpp_configure(None, given)
    with pytest.raises(InputError, match=said):  # also where OpenFold is not there to be configured
        plugin.openfoldpp_make_features(TARGET, given)
    assert plugin.asked == []


@pytest.mark.parametrize("preset", ["model_1", "model_1_ptm"])
def test_the_output_has_ca_atoms_and_the_confidence_of_the_hits(options, plugin, preset):
    # 1 to 3 of the heavy chain and 11 to 14 of the light one are not covered.
    plugin.hits = [helix(3, 18, 0.9), helix(21, 10, 0.4)]
    given = options(*PATH, "--config_preset", preset)
    features = plugin.openfoldpp_make_features(TARGET, given)
    assert isinstance(features, PathFeatures)
    assert plugin.asked == [([f"{HEAVY}:{LIGHT}"], None)]
    output = plugin.openfoldpp_predict(None, features, TARGET)
    schema.check(output, schema.load(features.version, preset))
    ca = output["final_atom_mask"][:, 1]
    assert ca.all()
    assert output["final_atom_mask"].sum() == ca.sum() == 35
    found = output["final_atom_positions"][3:21, 1]
    steps = np.linalg.norm(found[1:] - found[:-1], axis=1)
    np.testing.assert_allclose(
        steps, np.linalg.norm([2.3 * (np.cos(1.745) - 1), 2.3 * np.sin(1.745), 1.5]), atol=0.01
    )
    # Nothing is related to the target: the scores, 0.9 and 0.4, say nothing of the whole.
    np.testing.assert_allclose(output["plddt"][3:31], 15, atol=1e-3)
    assert (output["plddt"][[0, 1, 2, 31, 34]] == 1).all()
    said = output.provenance["final_atom_positions"]
    assert "CA atoms alone are predicted, from 2 motifs of lib" in said
    assert "no motif covers residues 1-3 of H, 11-14 of L" in said
    assert "2 pieces that no motif joins" in said
    assert (
        "no chain of the library is related to residues 4-21 of H, 1-10 of L: there the model is a guess"
        in said
    )
    assert "the mean score of the motifs, which is no estimate of lDDT" in output.provenance["plddt"]
    assert output.source == "motifs of lib"
    assert output.chain_ids == ("A", "B")
    assert features.notes[0] in said


def test_hardly_any_confidence_is_the_lowest_there_is(options, plugin):
    plugin.hits = [helix(0, 21, 0.007), helix(21, 14, 0.005)]
    features = plugin.openfoldpp_make_features(TARGET, options(*PATH))
    assert (plugin.openfoldpp_predict(None, features, TARGET)["plddt"] == 1).all()


def test_no_hits_are_an_error_that_names_the_flags(options, plugin):
    for arguments, said in (
        ([], "no motif for it in lib. Name a library with related structures by --motif_library DIR"),
        (["--motif_max_identity", "0.5"], "50% or more is identical were left out: give a higher --motif_"),
        ([], "leave --path motifs out: --openfold_checkpoint_path FILE or --jax_param_path FILE"),
    ):  # fmt: skip
        with pytest.raises(UnsupportedTargetError) as error:
            plugin.openfoldpp_make_features(TARGET, options(*PATH, *arguments))
        assert said in str(error.value)
    with pytest.raises(
        UnsupportedTargetError, match="its longest chain has 9 residues, and motifs need 10 in a row"
    ):
        plugin.openfoldpp_make_features(Target("t", (Chain("A", "ACDEFGHIK"),)), options(*PATH))


def test_by_default_the_library_is_openfoldpps_own(options, monkeypatch, tmp_path):
    monkeypatch.setattr(default_library, "path", lambda: tmp_path)
    choice = chosen_path(options("--path", "motifs"))
    name = "openfoldpp's own library of antibodies"
    assert choice == PathChoice(str(tmp_path), None, None, name, is_shipped=True)


def test_other_features_are_left_to_other_plugins(plugin):
    assert plugin.openfoldpp_predict(None, {"aatype": None}, TARGET) is None


def test_stretches_are_named_by_chain():
    covered = np.ones(35, bool)
    assert uncovered(covered, TARGET) == ""
    covered[[4, 10, 11, 20, 21, 34]] = False
    assert uncovered(covered, TARGET) == "residues 5 and 11-12 and 21 of H, 1 and 14 of L"
    long = Target("t", (Chain("A", "A" * 100),))
    named = uncovered(np.arange(100) % 2 == 0, long)
    assert named.startswith("residues 2 and 4 and ")
    assert named.endswith(" and 40 of A, and 30 more stretches")
