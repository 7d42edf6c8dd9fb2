"""An empty template folder, and embeddings of long sequences."""

import importlib
import inspect
import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from openfoldpp.errors import InputError
from openfoldpp.upstream.compat.importing import MendingFinder

TEMPLATES = "openfold.data.templates"
EMBEDDINGS = "scripts.precompute_embeddings"
DATA = "openfold.data.data_pipeline"


def featurizer(module, folder, name=None):
    kind = getattr(module, "HhsearchHitFeaturizer", None) or module.TemplateHitFeaturizer
    kind = getattr(module, name) if name else kind
    return kind(str(folder), max_template_date="2026-01-01", max_hits=4, kalign_binary_path="kalign")


@pytest.fixture
def needed(active):
    """Other records that importing openfold.data.templates takes."""
    return ["numpy.object"] if active.version == "0.0.1" else []


def hit():
    """A hit of a search, as upstream's parser of .hhr files makes it."""
    return SimpleNamespace(
        index=1, name="1AY7_B Barstar", aligned_cols=12, sum_probs=13.2, query="NGEQ" * 3,
        hit_sequence="ACDEFGHIKLMN", indices_query=list(range(12)), indices_hit=list(range(12)),
    )  # fmt: skip


def test_an_empty_template_folder_means_no_templates(tmp_path, imported, reason, needed):
    assert "refused" in reason("empty template folder")
    with imported(TEMPLATES, *needed) as module, pytest.raises(ValueError, match="Could not find CIFs"):
        featurizer(module, tmp_path)
    with imported(TEMPLATES, *needed, "empty template folder") as module:
        made = featurizer(module, tmp_path)
        assert made._mmcif_dir == str(tmp_path)
        assert list(tmp_path.iterdir()) == []
        features = get_templates(made, []).features
        full = tmp_path / "full"
        full.mkdir()
        (full / "1abc.cif").touch()
        for name, value in get_templates(featurizer(module, full), []).features.items():
            np.testing.assert_array_equal(features[name], value)
            assert not np.any(value), name
        with pytest.raises(ValueError, match="max_template_date must be set"):
            type(made)(str(tmp_path), max_template_date="x", max_hits=4, kalign_binary_path="kalign")


def get_templates(made, hits):
    """Call upstream's method; 0.0.1 takes further arguments of the query."""
    given = {"query_sequence": "NGEQ" * 5, "hits": hits, "query_pdb_code": None, "query_release_date": None}
    parameters = inspect.signature(made.get_templates).parameters
    return made.get_templates(**{name: value for name, value in given.items() if name in parameters})


def test_a_hit_without_its_file_is_an_error(tmp_path, imported, reason, needed):
    reason("empty template folder")
    with imported(TEMPLATES, *needed, "empty template folder") as module:
        made = featurizer(module, tmp_path)
        with pytest.raises(FileNotFoundError, match=r"1ay7\.cif"):
            get_templates(made, [hit()])


def test_what_else_is_no_template_folder(tmp_path, imported, reason, needed):
    reason("empty template folder")
    with imported(TEMPLATES, *needed, "empty template folder") as module:
        with pytest.raises(ValueError, match="Could not find CIFs"):
            featurizer(module, tmp_path / "absent")
        if hasattr(module, "CustomHitFeaturizer"):  # it takes every file of the folder for a template
            with pytest.raises(ValueError, match="Could not find CIFs"):
                featurizer(module, tmp_path, "CustomHitFeaturizer")
        (tmp_path / "1abc.cif").touch()
        assert featurizer(module, tmp_path)._mmcif_dir == str(tmp_path)


# Embeddings


@pytest.fixture
def local_esm(tmp_path):
    """A folder that torch.hub loads ESM-1b from: the real architecture, 33 layers, narrow, random weights."""
    pytest.importorskip("esm", reason="fair-esm is not installed (pip install fair-esm)")
    folder = tmp_path / "esm1b"
    folder.mkdir()
    (folder / "hubconf.py").write_text(
        "from argparse import Namespace\n"
        "import torch\n"
        "from esm import Alphabet\n"
        "from esm.model.esm1 import ProteinBertModel\n"
        "def esm1b_t33_650M_UR50S():\n"
        "    torch.manual_seed(3)\n"
        "    alphabet = Alphabet.from_architecture('roberta_large')\n"
        "    args = Namespace(arch='roberta_large', layers=33, embed_dim=8, ffn_embed_dim=8,\n"
        "        attention_heads=1, max_positions=1024, emb_layer_norm_before=True, token_dropout=True,\n"
        "        logit_bias=True, final_bias=True)\n"
        "    return ProteinBertModel(args, alphabet).eval(), alphabet\n"
    )
    return folder


@pytest.fixture
def embed(local_esm, tmp_path):
    """``embed(module, sequences)``: what upstream's generator writes, as label -> [N_res, C_plm]."""

    def run(module, sequences, **options):
        generator = module.EmbeddingGenerator(use_local_esm=str(local_esm), nogpu=True, **options)
        fasta = tmp_path / "all.fasta"
        fasta.write_text("".join(f">{label}\n{sequence}\n" for label, sequence in sequences.items()))
        output = tmp_path / "embeddings"
        generator.run(str(fasta), str(output))
        return {
            label: torch.load(output / label / f"{label}.pt", weights_only=True)["representations"][33]
            for label in sequences
        }

    return run


def sequence(length):
    letters = np.random.default_rng(length).choice(list("ACDEFGHIKLMNPQRSTVWY"), length)
    return "".join(letters)


@pytest.mark.upstream
@pytest.mark.filterwarnings("ignore::UserWarning:esm", "ignore::FutureWarning:esm")
def test_long_sequences_are_cut_to_what_esm1b_takes(embed, imported, reason, caplog):
    assert "toks[:1022]" in reason("ESM-1b truncation")
    long = sequence(1100)
    with imported(EMBEDDINGS) as module, pytest.raises(ValueError, match=r"above maximum +sequence length"):
        embed(module, {"long": long})
    with imported(EMBEDDINGS, "ESM-1b truncation") as module:
        with caplog.at_level(logging.WARNING):
            found = embed(module, {"long": long, "short": long[:30], "full": long[:1022]})
        assert {label: len(rows) for label, rows in found.items()} == {
            "long": 1022,
            "short": 30,
            "full": 1022,
        }
        assert torch.equal(found["long"], found["full"])
        assert "long has 1100 residues; ESM-1b takes 1022" in caplog.text
        assert "full has" not in caplog.text
        with pytest.raises(ValueError, match=r"above maximum +sequence length"):
            embed(module, {"long": long}, truncate=False)


@pytest.mark.slow
@pytest.mark.upstream
@pytest.mark.filterwarnings("ignore::UserWarning:esm", "ignore::FutureWarning:esm")
def test_no_sequence_of_a_large_batch_is_lost(embed, imported, reason):
    reason("ESM-1b truncation")
    peptides = {f"p{index}": "ACD" for index in range(1024)}
    with imported(EMBEDDINGS) as module, pytest.raises(IndexError):
        embed(module, peptides)
    with imported(EMBEDDINGS, "ESM-1b truncation") as module:
        found = embed(module, peptides)
    assert len(found) == 1024
    assert all(rows.shape == (3, 8) for rows in found.values())


@pytest.mark.upstream
def test_another_scripts_folder_is_left_alone(tmp_path, monkeypatch, active, records):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").touch()
    (tmp_path / "scripts" / "precompute_embeddings.py").write_text("EmbeddingGenerator = None\n")
    for name in ("scripts", EMBEDDINGS):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    finder = MendingFinder(records["ESM-1b truncation"].mends, active.root)
    finder.install()
    try:
        assert importlib.import_module(EMBEDDINGS).EmbeddingGenerator is None
    finally:
        finder.remove()
        for name in ("scripts", EMBEDDINGS):
            sys.modules.pop(name, None)


@pytest.mark.upstream
def test_an_embedding_of_another_length_is_refused(tmp_path, imported, reason):
    assert "padded with zeros" in reason("embedding length")

    def features(module, residues, rows):
        fasta = tmp_path / "target.fasta"
        fasta.write_text(f">target\n{sequence(residues)}\n")
        (tmp_path / "target").mkdir(exist_ok=True)
        embedding = {"representations": {33: torch.ones(rows, 1280)}}
        torch.save(embedding, tmp_path / "target" / "target.pt")
        return module.DataPipeline(None).process_fasta(str(fasta), str(tmp_path / "target"), seqemb_mode=True)

    with imported(DATA) as module:
        from openfold.config import model_config
        from openfold.data.feature_pipeline import FeaturePipeline

        pipeline = FeaturePipeline(model_config("seq_model_esm1b_ptm").data)
        batch = pipeline.process_features(features(module, 1030, 1022), mode="predict")
        assert batch["seq_embedding"].shape[:2] == (1030, 1280)
        assert not batch["seq_embedding"][1022:].any()  # what the model would read, without a word
    with imported(DATA, "embedding length") as module:
        assert features(module, 30, 30)["seq_embedding"].shape == (30, 1280)
        with pytest.raises(InputError, match=r"1022 rows and the sequence 1030 .* predict a domain"):
            features(module, 1030, 1022)
        with pytest.raises(InputError, match=r"31 rows and the sequence 30 .* of this very sequence"):
            features(module, 30, 31)
