import pytest
import torch

from openfoldpp.plm.quantization import int8, nf4


@pytest.fixture
def weight():
    return torch.randn(24, 150, generator=torch.Generator().manual_seed(0))


def test_int8_is_off_by_half_a_step_at_most(weight):
    scales = int8.scales_of(weight)
    codes = int8.encode(weight, scales)
    assert codes.dtype == torch.int8
    assert codes.abs().amax(1).eq(127).all()
    assert ((int8.decode(codes, scales) - weight).abs() <= 0.5001 * scales[:, None]).all()


def test_int8_of_a_channel_of_zeros_is_zero():
    scales = int8.scales_of(torch.zeros(2, 8))
    assert (int8.decode(int8.encode(torch.zeros(2, 8), scales), scales) == 0).all()


def test_nf4_takes_the_nearest_of_the_sixteen_levels(weight):
    scales = nf4.scales_of(weight)
    decoded = nf4.decode(nf4.encode(weight, scales), scales, 150)
    wide = scales.float().repeat_interleave(64, 1)[:, :150]
    distances = (nf4.LEVELS * wide[..., None] - weight[..., None]).abs()
    torch.testing.assert_close((decoded - weight).abs(), distances.amin(-1))


def test_nf4_keeps_what_is_on_its_grid(weight):
    # 150 inputs: the last block of each row is a part of one.
    scales = nf4.scales_of(weight)
    codes = nf4.encode(weight, scales)
    decoded = nf4.decode(codes, scales, 150)
    assert torch.equal(nf4.encode(decoded, scales), codes)
    assert (codes.dtype, codes.shape, scales.dtype, scales.shape) == (
        torch.uint8,
        (24, 96),
        torch.float16,
        (24, 3),
    )


def test_nf4_of_a_block_of_zeros_is_zero():
    weight = torch.cat([torch.zeros(3, 64), torch.ones(3, 64)], 1)
    scales = nf4.scales_of(weight)
    assert torch.equal(nf4.decode(nf4.encode(weight, scales), scales, 128), weight)


def test_nf4_scales_heed_what_an_error_counts(weight):
    importance = torch.rand(150, generator=torch.Generator().manual_seed(1)) ** 4
    scales = nf4.scales_of(weight, importance)

    def error(scales):
        decoded = nf4.decode(nf4.encode(weight, scales), scales, 150)
        return float(((decoded - weight).square() * importance).sum())

    assert error(scales) < 0.9 * error(nf4.scales_of(weight))
