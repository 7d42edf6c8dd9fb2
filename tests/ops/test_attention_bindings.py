"""What the native classes of attention refuse: a Python error, never a crash or a silent copy."""

import numpy as np
import pytest

from openfoldpp import _native


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("x", np.zeros((2, 5, 12)), TypeError, "incompatible function arguments"),
        ("x", np.zeros((5, 12), np.float32), ValueError, r"x has shape \[5, 12\], expected \[\*, \*, \*\]"),
        ("x", np.zeros((2, 5, 24), np.float32)[..., ::2], ValueError, "x has a last dimension of stride 8"),
        ("x", np.zeros((2, 5, 12), "f4")[:, ::-1, ::-1], ValueError, "x has a last dimension of stride -4"),
        ("x", np.zeros((2, 5, 11), np.float32), ValueError, "x channels is 11, expected 12"),
        ("x", np.zeros(481, "i1")[1:].view("f4").reshape(2, 5, 12), ValueError, "x is not aligned"),
        ("pair_bias", np.zeros((3, 5, 10), np.float32)[..., ::2], ValueError, "pair_bias is not contiguous"),
        ("pair_bias", np.zeros((2, 5, 5), np.float32), ValueError, r"pair_bias .* expected \[3, 5, 5\]"),
        ("mask", np.zeros((2, 4), np.float32), ValueError, "mask columns is 4, expected 5"),
        ("mask", np.zeros((2, 5)), TypeError, "incompatible function arguments"),
        ("residual", np.zeros((1, 5, 12), np.float32), ValueError, "residual rows is 1, expected 2"),
        ("out", np.zeros((2, 4, 12), np.float32), ValueError, "out columns is 4, expected 5"),
        (
            "out",
            np.broadcast_to(np.float32(0), (2, 5, 12)),
            ValueError,
            "out has a last dimension of stride 0",
        ),
        ("threads", 0, ValueError, "threads is 0"),
    ],
)
def test_bindings_refuse_what_they_cannot_take(name, value, error, message, draw_attention):
    arguments = {
        "x": np.zeros((2, 5, 12), np.float32),
        "pair_bias": None,
        "mask": None,
        "inf": 1e9,
        "residual": None,
        "out": np.zeros((2, 5, 12), np.float32),
        "threads": 1,
    }
    with pytest.raises(error, match=message):
        draw_attention(12, 3, 5).packed(**(arguments | {name: value}))


def test_bindings_refuse_a_read_only_out(draw_attention, draw_pair_bias):
    x, out = np.zeros((2, 5, 12), np.float32), np.zeros((2, 5, 12), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        draw_attention(12, 3, 5).packed(x, None, None, 1e9, None, out, 1)
    bias = np.zeros((3, 2, 5), np.float32)
    bias.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        draw_pair_bias(12, 3).packed(x, bias, 1)


def test_bindings_refuse_weights_that_do_not_fit(draw_attention, draw_pair_bias):
    arrays = draw_attention(12, 3, 5).arrays()
    for changes, message in [
        ({"heads": 4}, "heads is 4, expected a divisor of query's 15 outputs"),
        ({"heads": -1}, "heads is -1"),
        ({"key": arrays["key"][1:]}, r"key has shape \[14, 12\], expected \[15, 12\]"),
        ({"output": arrays["output"].T}, r"output has shape \[15, 12\]"),
        ({name: array[..., :0] for name, array in arrays.items()}, "expected"),
    ]:
        with pytest.raises(ValueError, match=message):
            _native.GatedAttention(**({"heads": 3, "eps": 1e-5} | arrays | changes))
    arrays = draw_pair_bias(12, 3).arrays()
    with pytest.raises(ValueError, match=r"norm_bias has shape \[11\], expected \[12\]"):
        _native.PairBias(**(arrays | {"norm_bias": arrays["norm_bias"][1:]}), eps=1e-5)
