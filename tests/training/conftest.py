"""A small random teacher in a file of fair-esm's layout."""

from argparse import Namespace

import pytest
import torch

from openfoldpp.plm import esm as ours

TEACHER = "esm2_t6_8M_UR50D"


@pytest.fixture
def small_teacher(tmp_path, monkeypatch):
    """Name and file of an ESM-2 with 5 layers of 4 heads, 64 channels in all."""
    import esm

    monkeypatch.setitem(ours.SIZES, TEACHER, (5, 64, 4))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = esm.model.esm2.ESM2(5, 64, 4)
    prefix = "encoder.sentence_encoder."
    state = {prefix + key: value for key, value in model.state_dict().items() if "_head" not in key}
    settings = Namespace(
        encoder_layers=5, encoder_embed_dim=64, encoder_attention_heads=4, token_dropout=True
    )
    path = tmp_path / f"{TEACHER}.pt"
    torch.save({"cfg": {"model": settings}, "model": state}, path)
    return TEACHER, path
