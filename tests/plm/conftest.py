"""Weights files of fair-esm's layout with random weights, and fair-esm's own model that reads them."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch

from openfoldpp.plm import esm as ours

#: A small model under the name of a real one would be refused, so the real sizes are replaced in the test.
SMALL = {"esm1b": (3, 40, 4), "esm2_t6_8M_UR50D": (3, 40, 4)}


def _randomised(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_embedding = "embed_" in name and "norm" not in name
            scale = 0.2 if parameter.ndim == 1 else 1.0 if is_embedding else parameter.shape[1] ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            if "layer_norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return model.eval()


def reference(name: str, size: tuple[int, int, int], seed: int = 0) -> torch.nn.Module:
    """Make fair-esm's own model of a size (layers, channels, heads), all its weights random."""
    import esm

    layers, channels, heads = size
    if name != "esm1b":
        return _randomised(esm.model.esm2.ESM2(layers, channels, heads), seed)
    settings = Namespace(
        arch="roberta_large",
        layers=layers,
        embed_dim=channels,
        ffn_embed_dim=4 * channels,
        attention_heads=heads,
        max_positions=1024,
        emb_layer_norm_before=True,
        token_dropout=True,
    )
    alphabet = esm.Alphabet.from_architecture("ESM-1b")
    return _randomised(esm.ProteinBertModel(settings, alphabet), seed)


def write_as_fair_esm(model: torch.nn.Module, name: str, path: Path) -> Path:
    """Write a model as fair-esm's files have it: its settings and prefixed names."""
    if name == "esm1b":
        settings = {f"encoder_{key}": value for key, value in vars(model.args).items() if key != "arch"}
        settings = {"args": Namespace(arch="roberta_large", **settings)}
        prefix = "encoder.sentence_encoder."
    else:
        settings = {
            "cfg": {
                "model": Namespace(
                    encoder_layers=model.num_layers,
                    encoder_embed_dim=model.embed_dim,
                    encoder_attention_heads=model.attention_heads,
                    token_dropout=True,
                )
            }
        }
        prefix = "encoder.sentence_encoder."
    state = {
        ("encoder." if key.startswith("lm_head") else prefix) + key: value
        for key, value in model.state_dict().items()
        if not key.startswith("contact_head")
    }
    torch.save({**settings, "model": state}, path)
    return path


@pytest.fixture(params=sorted(SMALL))
def small_esm(request, tmp_path, monkeypatch):
    """Name, fair-esm's own small model, and its file."""
    name = request.param
    monkeypatch.setitem(ours.SIZES, name, SMALL[name])
    model = reference(name, SMALL[name])
    return name, model, write_as_fair_esm(model, name, tmp_path / f"{name}.pt")


@pytest.fixture
def esm_file(tmp_path):
    """Makes fair-esm's own model of a size, and its file."""

    def make(name: str, size: tuple[int, int, int], seed: int = 0) -> tuple[torch.nn.Module, Path]:
        model = reference(name, size, seed)
        return model, write_as_fair_esm(model, name, tmp_path / f"{name}-{seed}.pt")

    return make
