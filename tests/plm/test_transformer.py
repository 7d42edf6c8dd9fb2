"""Attention on sequences laid end to end: each way of computing it against each sequence alone."""

import pytest
import torch
from torch.nn import functional as F

from openfoldpp.plm import transformer


@pytest.mark.parametrize("attend", [transformer._attend_by_length, transformer._attend_padded])
def test_each_sequence_attends_to_itself_alone(attend):
    lengths = [3, 3, 9, 1, 8, 3]
    torch.manual_seed(0)
    q, k, v = (torch.randn(sum(lengths), 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    expected = [
        F.scaled_dot_product_attention(*(t.transpose(0, 1) for t in piece)).transpose(0, 1)
        for piece in zip(*(t.split(lengths) for t in (q, k, v)), strict=True)
    ]
    found = attend(q, k, v, lengths)
    torch.testing.assert_close(found, torch.cat(expected))
    weight = torch.randn_like(found)
    gradients = [torch.autograd.grad((one * weight).sum(), (q, k, v)) for one in (found, torch.cat(expected))]
    torch.testing.assert_close(*gradients)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_embeddings_are_those_of_the_cpu():
    sizes = transformer.Architecture(layers=3, channels=32, heads=2, hidden=64, vocabulary=20)
    torch.manual_seed(0)
    encoder, lengths = transformer.Encoder(sizes).eval(), [5, 17, 30]
    tokens = torch.randint(20, (sum(lengths),))
    with torch.inference_mode():
        expected = encoder(tokens, lengths)
        found = encoder.cuda()(tokens.cuda(), lengths).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
