"""The plugin of language models: what its flags mean, what is refused, and what it keeps in memory."""

import warnings

import numpy as np
import pytest
import torch

from openfoldpp.adapters import plm_bridge
from openfoldpp.adapters.plm_options import chosen
from openfoldpp.errors import InputError, WeightsError
from openfoldpp.inference.options import parse
from openfoldpp.plm import LongSequenceWarning
from openfoldpp.plm.alphabet import ESM
from openfoldpp.plm.projector import TokenProjector
from openfoldpp.plm.quantization import Description, load_quantised, quantise, save
from openfoldpp.plm.quantization.linear import why_no_bytes
from openfoldpp.plm.transformer import Architecture, Encoder
from openfoldpp.types import Chain, Target

SOLO, PTM, MULTIMER = "seq_model_esm1b_ptm", "model_1_ptm", "model_1_multimer_v3"
WEIGHTS = ["--openfold_checkpoint_path", "weights.pt"]
SEARCH = ["--uniref90_database_path", "uniref90.fasta"]


def options(*arguments, weights=WEIGHTS):
    """Options of a run with the plugin."""
    given, _ = parse(["fasta", *weights, *arguments, "--plugins", "openfoldpp.plm"], program="run")
    given.config_preset = given.config_preset or PTM
    return given


class Fixed:
    """An embedder whose numbers are those of the letters, and the place in their own sequence."""

    name = "fixed"
    layer = None
    channels = 2
    max_residues = 30
    fingerprint = "1"

    def __init__(self):
        self.seen = []

    def embed(self, sequences):
        self.seen.append(list(sequences))
        if any(len(sequence) > 30 for sequence in sequences):
            warnings.warn("a sequence is long", LongSequenceWarning, stacklevel=2)
            warnings.warn("something else", DeprecationWarning, stacklevel=2)
        return [
            torch.tensor([[ord(letter), place] for place, letter in enumerate(sequence)], dtype=torch.float32)
            for sequence in sequences
        ]

    def embed_each(self, sequences):
        return enumerate(self.embed(sequences))


@pytest.fixture
def projector_file(tmp_path):
    projector = TokenProjector("fixed", layer=None, c_plm=2, c_m=256, preset=PTM)
    torch.nn.init.ones_(projector.weight)
    projector.save(tmp_path / "p.safetensors")
    return tmp_path / "p.safetensors"


@pytest.fixture
def fixed(monkeypatch):
    """The plugin, for which every name is this embedder; and how often it was loaded."""
    from openfoldpp import plm

    loaded = []

    def load(name, weights=None, layer=None, dtype=None, *, device="cpu"):
        loaded.append((name, weights, layer, dtype, device))
        return Fixed()

    monkeypatch.setattr(plm, "load", load)
    monkeypatch.delenv("OPENFOLDPP_CACHE_DIR", raising=False)
    plugin = plm_bridge.PLMPlugin()
    plugin._channels = 256
    plugin.loaded = loaded
    return plugin


def test_nothing_is_chosen_by_itself_but_for_soloseq():
    assert chosen(options()) is None
    assert chosen(options("--config_preset", MULTIMER)) is None
    assert chosen(options("--config_preset", SOLO, weights=[])) is None
    choice = chosen(options("--config_preset", SOLO, "--model_device", "cuda:1"))
    assert (choice.name, choice.weights, choice.projector, choice.device) == ("esm1b", None, None, "cuda:1")


def test_the_flags_are_taken(projector_file):
    choice = chosen(
        options(
            "--plm", "antiberty", "--plm_weights", "w.bin", "--plm_layer", "3", "--plm_dtype", "bfloat16",
            "--projector_weights", str(projector_file),
        )
    )  # fmt: skip
    assert (choice.name, choice.weights, choice.layer, choice.dtype) == ("antiberty", "w.bin", 3, "bfloat16")
    choice = chosen(options("--config_preset", SOLO, "--plm", "precomputed", "--plm_weights", "folder"))
    assert (choice.name, choice.weights) == ("precomputed", "folder")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plm_layer", "3"], "--plm_layer 3 has no effect without --plm"),
        (["--projector_weights", "p"], "--projector_weights p has no effect without --plm"),
        (["--plm", "esm1b"], r"an untrained one would predict nonsense.*seq_model_esm1b_ptm"),
        (["--plm", "esm1b", "--projector_weights", "p", *SEARCH], "so no database is searched"),
        (["--plm", "esm1b", "--projector_weights", "p", "--use_precomputed_alignments", "a"], "mmCIF"),
        (["--plm", "esm1b", "--projector_weights", "p", "--use_single_seq_mode"], "leave one of them out"),
        (["--plm", "precomputed", "--projector_weights", "p"], "name it with --plm_weights DIR"),
        (["--config_preset", MULTIMER, "--plm", "esm1b", "--projector_weights", "p"], "pair chains"),
        (["--config_preset", SOLO, "--plm", "antiberty"], "read the embedding of ESM-1b and no other"),
        (["--config_preset", SOLO, "--projector_weights", "p"], "have a projection of their own"),
        (["--config_preset", SOLO, "--plm_layer", "12"], "read layer 33"),
        (["--config_preset", SOLO, "--plm", "esm1b", *SEARCH], "OpenFold's own script searches templates"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        chosen(options(*arguments))


@pytest.mark.parametrize("flags", [["--plm", "esm1b"], ["--plm_dtype", "float16"]])
def test_without_openfolds_weights_a_flag_is_refused_rather_than_ignored(flags):
    with pytest.raises(InputError, match="is for OpenFold's model, and no weights are given"):
        chosen(options(*flags, weights=[]))


def test_soloseq_with_databases_is_left_to_openfolds_script(fixed):
    given = options("--config_preset", SOLO, *SEARCH)
    assert fixed.openfoldpp_make_features(Target("a", (Chain("a", "ACD"),)), given) is None
    assert fixed.openfoldpp_prepare_model(None, given) is None
    assert fixed.loaded == []


def test_embeddings_among_the_alignments_are_used(fixed, tmp_path):
    target = Target("a", (Chain("a", "ACD"),))
    (tmp_path / "a").mkdir()
    (tmp_path / "a/a.pt").touch()
    given = ["--config_preset", SOLO, "--use_precomputed_alignments", str(tmp_path)]
    assert fixed.openfoldpp_make_features(target, options(*given)) is None
    assert fixed.loaded == []
    for flag in ("--plm esm1b", "--plm_weights w", "--plm_layer 33", "--plm_dtype float16"):
        said = rf"{flag} is given, and .* has an embedding \(.pt\) of a: leave out one of the two"
        with pytest.raises(InputError, match=said):
            fixed.openfoldpp_make_features(target, options(*given, *flag.split()))


def test_every_chain_is_embedded_alone_and_the_model_is_loaded_once(fixed, projector_file):
    given = options("--plm", "fixed", "--projector_weights", str(projector_file), "--plm_dtype", "float32")
    # Upstream's features of several chains take 22 residues or more.
    one, two = "ACDEF" * 4, "GAGAG"
    first = fixed.openfoldpp_make_features(Target("a", (Chain("a", one), Chain("b", two))), given)
    np.testing.assert_array_equal(first["plm_embedding"][:, 1], [*range(20), *range(5)])
    np.testing.assert_array_equal(first["plm_embedding"][:, 0], [ord(letter) for letter in one + two])
    assert first["msa"].shape == (1, 25)
    assert first.notes == ()
    assert first.source == (
        f"single row in place of the MSA by the language model fixed (1), projected by {projector_file}"
    )
    second = fixed.openfoldpp_make_features(Target("b", (Chain("b", "GGA"),)), given)
    assert second["plm_embedding"].dtype == np.float32
    assert second["plm_embedding"].shape == (3, 2)
    assert fixed.loaded == [("fixed", None, None, "float32", "cpu")]
    assert fixed._loaded[1].seen == [[one, two], ["GGA"]]


def test_a_long_sequence_is_a_note_and_other_warnings_stay_warnings(
    fixed, projector_file, monkeypatch, tmp_path
):
    monkeypatch.setenv("OPENFOLDPP_CACHE_DIR", str(tmp_path / "kept"))
    given = options("--plm", "fixed", "--projector_weights", str(projector_file))
    target = Target("a", (Chain("a", "A" * 31),))
    with pytest.warns(DeprecationWarning, match="something else"):
        features = fixed.openfoldpp_make_features(target, given)
    kept = fixed.openfoldpp_make_features(target, given)
    assert len(fixed._loaded[1].seen) == 1
    for found in (features, kept):
        [note] = found.notes
        assert note.startswith("a sequence is longer than the 30 residues that fixed takes at once")
        assert found.source.endswith(f"; {note}")


def test_a_damaged_embedding_is_a_matter_of_its_target(fixed, projector_file, monkeypatch):
    def embed(self, sequences):
        raise WeightsError("a.pt: cut short")

    monkeypatch.setattr(Fixed, "embed", embed)
    given = options("--plm", "fixed", "--projector_weights", str(projector_file))
    with pytest.raises(InputError, match=r"target 'a': a\.pt: cut short"):
        fixed.openfoldpp_make_features(Target("a", (Chain("a", "ACD"),)), given)


def test_a_projector_of_another_model_is_refused_before_anything_is_embedded(fixed, tmp_path):
    projector = TokenProjector("esm1b", layer=33, c_plm=1280, c_m=256, preset=PTM)
    torch.nn.init.ones_(projector.weight)
    projector.save(tmp_path / "p.safetensors")
    given = options("--plm", "fixed", "--projector_weights", str(tmp_path / "p.safetensors"))
    with pytest.raises(WeightsError, match="the projector was trained for esm1b, layer 33"):
        fixed.openfoldpp_make_features(Target("a", (Chain("a", "ACD"),)), given)
    assert fixed._loaded[1].seen == []


def test_the_flags_and_the_device_reach_the_model(fixed, tmp_path):
    given = ["--plm_weights", "w.pt", "--plm_layer", "33", "--plm_dtype", "bfloat16"]
    fixed._embedder(chosen(options("--config_preset", SOLO, *given, "--model_device", "cuda:1")))
    assert fixed.loaded == [("esm1b", "w.pt", 33, "bfloat16", "cuda:1")]


def test_the_projectors_layer_is_taken_unless_another_is_named(fixed, tmp_path):
    projector = TokenProjector("esm1b", layer=5, c_plm=2, c_m=256, preset=PTM)
    torch.nn.init.ones_(projector.weight)
    projector.save(tmp_path / "p.safetensors")
    for more, layer in (([], 5), (["--plm_layer", "7"], 7)):
        given = options("--plm", "esm1b", "--projector_weights", str(tmp_path / "p.safetensors"), *more)
        fixed._embedder(chosen(given))
        assert fixed.loaded[-1][2] == layer


def test_soloseq_takes_embeddings_of_its_own_width_alone(fixed):
    fixed._channels = 1280
    with pytest.raises(WeightsError, match=r"have 2 channels, and the weights of .* read the 1280 of ESM-1b"):
        fixed.openfoldpp_make_features(
            Target("a", (Chain("a", "ACD"),)),
            options("--config_preset", SOLO, "--plm", "precomputed", "--plm_weights", "folder"),
        )


@pytest.mark.parametrize(
    ("model", "layer", "refused", "noted"),
    [
        ("esm1b", 33, None, None),
        ("esm2_t33_650M_UR50D", 33, "these are embeddings of esm2_t33_650M_UR50D, layer 33, and", None),
        ("esm1b", 12, "these are embeddings of esm1b, layer 12, and .* read layer 33 of ESM-1b", None),
        (None, 12, "these are embeddings of a model, layer 12, and", None),
        (None, 33, None, "do not say their model: taken for those of esm1b, layer 33"),
        ("esm1b", None, None, "do not say their layer: "),
        (None, None, None, "do not say their model and layer: "),
    ],
)
def test_soloseq_takes_embeddings_of_its_own_model_and_layer_alone(
    fixed, monkeypatch, model, layer, refused, noted
):
    fixed._channels = 2
    monkeypatch.setattr(Fixed, "model", model, raising=False)
    monkeypatch.setattr(Fixed, "layer", layer)
    given = options("--config_preset", SOLO, "--plm", "precomputed", "--plm_weights", "folder")
    target = Target("a", (Chain("a", "ACD"),))
    if refused is not None:
        with pytest.raises(WeightsError, match=refused):
            fixed.openfoldpp_make_features(target, given)
        return
    features = fixed.openfoldpp_make_features(target, given)
    assert features["seq_embedding"].shape == (3, 2)
    assert [noted in note for note in features.notes] == ([True] if noted else [])


@pytest.mark.parametrize(("free", "kept"), [(1 << 40, True), (4000, True), (3000, False), (None, True)])
def test_a_model_that_takes_much_of_the_free_memory_is_released(
    fixed, projector_file, monkeypatch, free, kept
):
    monkeypatch.setattr(plm_bridge, "_free_bytes", lambda device: free)
    monkeypatch.setattr(Fixed, "encoder", torch.nn.Linear(250, 1, bias=False), raising=False)  # 1,000 bytes
    given = options("--plm", "fixed", "--projector_weights", str(projector_file))
    fixed.openfoldpp_make_features(Target("a", (Chain("a", "ACD"),)), given)
    assert (fixed._loaded is not None) == kept


@pytest.mark.skipif(why_no_bytes() is not None, reason=str(why_no_bytes()))
def test_the_bytes_of_an_8_bit_model_are_counted(tmp_path):
    architecture = Architecture(layers=1, channels=64, heads=2, hidden=256, vocabulary=len(ESM.tokens))
    tensors = quantise(Encoder(architecture), [], 8, method="nearest")
    save(tmp_path / "8", tensors, Description("tiny", 8, "nearest", architecture, ESM, None, "tiny", ""))
    model = load_quantised(tmp_path / "8", "tiny")
    assert model.way.name == "bytes"
    counted = plm_bridge._weights_bytes(model)
    assert counted > sum(tensor.nbytes for name, tensor in tensors.items() if name.endswith("codes"))


def test_free_memory_is_read_from_the_system(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    7 kB\n")
    monkeypatch.setattr(plm_bridge, "_MEMINFO", tmp_path / "meminfo")
    assert plm_bridge._free_bytes("cpu") == 7 * 1024
    assert plm_bridge._free_bytes("mps") is None
    monkeypatch.setattr(plm_bridge, "_MEMINFO", tmp_path / "none")
    assert plm_bridge._free_bytes("cpu") is None


def test_embeddings_are_kept_only_where_a_folder_is_named(fixed, projector_file, monkeypatch, tmp_path):
    given = options("--plm", "fixed", "--projector_weights", str(projector_file))
    target = Target("a", (Chain("a", "ACD"),))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    fixed.openfoldpp_make_features(target, given)
    assert not (tmp_path / "home").exists()
    monkeypatch.setenv("OPENFOLDPP_CACHE_DIR", str(tmp_path / "kept"))
    expected = fixed.openfoldpp_make_features(target, given)["plm_embedding"]
    assert list((tmp_path / "kept").rglob("*.embedding"))
    seen = len(fixed._loaded[1].seen)
    again = fixed.openfoldpp_make_features(target, given)["plm_embedding"]
    np.testing.assert_array_equal(again, expected)
    assert len(fixed._loaded[1].seen) == seen
