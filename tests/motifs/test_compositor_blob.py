"""The compositor's weights as bytes: what both readers, in Python and in C++, refuse."""

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest

from openfoldpp import _native
from openfoldpp.errors import InputError, WeightsError
from openfoldpp.motifs import Compositor, CompositorSizes
from openfoldpp.motifs.compositor_blob import pack, unpack

SIZES = CompositorSizes(
    channels=12,
    heads=3,
    head_channels=5,
    hidden=7,
    rank=3,
    pair_channels=10,
    max_offset=2,
    window_j=4,
    window_k=None,
)


def draw_weights():
    generator = np.random.default_rng(0)
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in SIZES.tensors().items()}


@pytest.fixture(scope="module")
def blob():
    return pack(SIZES, draw_weights())


def both_refuse(blob, message):
    with pytest.raises(WeightsError, match=message):
        unpack(blob)
    with pytest.raises(ValueError, match=message):
        _native.Compositor(blob)


def with_number(blob, at, form, value):
    """Change a number, and make the checksum fit."""
    changed = bytearray(blob)
    struct.pack_into(form, changed, at, value)
    struct.pack_into("<I", changed, 12, zlib.crc32(changed[16:]))
    return bytes(changed)


@pytest.mark.parametrize("sizes", [CompositorSizes(), SIZES, replace(SIZES, blocks=0)])
def test_names_order_and_shapes_are_those_of_the_module(sizes):
    state = Compositor(sizes).state_dict()
    assert list(sizes.tensors().items()) == [(name, tuple(tensor.shape)) for name, tensor in state.items()]


def test_what_was_packed_comes_back(blob):
    sizes, weights = unpack(blob)
    assert replace(sizes, eps=SIZES.eps) == SIZES
    assert sizes.eps == np.float32(SIZES.eps)
    for name, expected in draw_weights().items():
        np.testing.assert_array_equal(weights[name], expected)
    assert pack(sizes, weights) == blob


def test_the_header_is_as_documented(blob):
    magic, version, checksum, *sizes, eps, count = struct.unpack_from("<8sII10ifI", blob)
    assert (magic, version, checksum) == (b"OFPPCOMP", 1, zlib.crc32(blob[16:]))
    assert sizes == [12, 2, 3, 5, 7, 3, 10, 2, 4, -1]
    assert eps == np.float32(1e-5)
    assert len(blob) == 64 + 4 * count


def test_a_truncated_blob_is_refused(blob):
    for length in [*range(0, 80, 9), len(blob) - 4, len(blob) - 1]:
        both_refuse(blob[:length], "truncated")
    both_refuse(blob + b"\0", "truncated or altered")


def test_an_altered_blob_is_refused(blob):
    for at in [*range(80), *range(80, len(blob), 797), len(blob) - 1]:
        both_refuse(blob[:at] + bytes([blob[at] ^ 0x04]) + blob[at + 1 :], "compositor: ")


@pytest.mark.parametrize(
    ("at", "form", "value", "message"),
    [
        (0, "<8s", b"PK\3\4....", "not a compositor's weights"),
        (8, "<I", 2, "version 2, expected 1"),
        (16, "<i", 0, "channels is 0"),
        (16, "<i", 13, "do not fit"),
        (16, "<i", 11, "do not fit"),
        (20, "<i", 65, "blocks is 65"),
        (28, "<i", -(2**31), "head_channels is -2147483648"),
        (44, "<i", -1, "max_offset is -1"),
        (48, "<i", -2, "window_j is -2"),
        (56, "<f", 0.0, "eps is 0"),
        (56, "<f", float("nan"), "eps is"),
        (60, "<I", 2**32 - 1, "truncated or altered"),
        (64, "<f", float("inf"), "not finite"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused_though_its_checksum_is_right(blob, at, form, value, message):
    both_refuse(with_number(blob, at, form, value), message)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"extra": np.zeros(1)}, "missing or unknown weights: extra"),
        ({"norm.bias": np.zeros(11)}, r"norm.bias has shape \[11\], expected \[12\]"),
        ({"norm.bias": np.full(12, np.nan)}, "norm.bias holds values that are not finite"),
        ({"norm.bias": np.full(12, 1e39)}, "norm.bias holds values that are not finite in float32"),
    ],
)
def test_weights_that_do_not_fit_are_not_packed(changed, message):
    with pytest.raises(WeightsError, match=message):
        pack(SIZES, draw_weights() | changed)


def test_a_missing_weight_is_named():
    weights = draw_weights()
    del weights["blocks.1.qkv.weight"]
    with pytest.raises(WeightsError, match=r"missing or unknown weights: blocks\.1\.qkv\.weight"):
        pack(SIZES, weights)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("channels", 0),
        ("rank", 2.5),
        ("blocks", 65),
        ("max_offset", -1),
        ("window_j", -1),
        ("eps", 0.0),
        ("eps", 1e-50),
    ],
)
def test_sizes_out_of_bounds_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name} is {value}"):
        CompositorSizes(**{name: value})


def test_a_path_is_not_a_blob():
    with pytest.raises(InputError, match="blob is a str; expected the bytes"):
        unpack("compositor.bin")
