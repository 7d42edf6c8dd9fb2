"""The module simplicial_attn, and the C functions that it exports."""

import array
import ctypes
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import simplicial_attn
import torch

from openfoldpp.motifs import Compositor, CompositorSizes
from openfoldpp.ops import simplicial_attention

HEADER = Path(__file__).parents[1] / "csrc/include/openfoldpp/simplicial_c.h"
SIZES = CompositorSizes(channels=12, heads=3, head_channels=5, pair_channels=10)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def compositor():
    """A module whose weights have been loaded."""
    torch.manual_seed(0)
    module = Compositor(SIZES).eval().requires_grad_(False)
    torch.nn.init.normal_(module.offsets)
    simplicial_attn.load_compositor(module.pack())
    return module


def run_python(program, **environment):
    """Run a program in a process of its own, where nothing is loaded."""
    return subprocess.run(
        [sys.executable, "-P", "-c", f"import numpy as np, simplicial_attn\n{program}"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(("length", "channels"), [(1, 1), (7, 16), (33, 20)])
def test_run_simplicial_is_the_op_for_one_head(length, channels):
    qkv = draw(5, length, channels)
    expected = simplicial_attention(*torch.from_numpy(qkv)[:, None]).squeeze(0)
    out = simplicial_attn.run_simplicial(qkv)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(
        simplicial_attn.run_simplicial(qkv.transpose(0, 2, 1).copy().transpose(0, 2, 1)), out
    )


def test_run_simplicial_takes_any_buffer():
    qkv = draw(5, 3, 4)
    values = memoryview(array.array("f", qkv.ravel())).cast("B").cast("f", (5, 3, 4))
    np.testing.assert_array_equal(simplicial_attn.run_simplicial(values), simplicial_attn.run_simplicial(qkv))


@pytest.mark.parametrize("shape", [(4, 3, 2), (5, 3), (1, 5, 3, 2), (5, 3, 0), (0,)])
def test_run_simplicial_refuses_wrong_shapes(shape):
    with pytest.raises(
        ValueError, match=rf"qkv has shape \[{', '.join(map(str, shape))}\], expected \[5, L, d\]"
    ):
        simplicial_attn.run_simplicial(np.zeros(shape, np.float32))


@pytest.mark.parametrize("values", [np.zeros((5, 3, 2)), np.zeros((5, 3, 2), ">f4"), [[[0.0]]] * 5, None])
def test_run_simplicial_refuses_other_kinds_of_values(values):
    with pytest.raises(TypeError, match=r"qkv is .*, expected .*float32"):
        simplicial_attn.run_simplicial(values)


def test_run_simplicial_of_nothing():
    assert simplicial_attn.run_simplicial(np.zeros((5, 0, 4), np.float32)).shape == (0, 4)


@pytest.mark.parametrize("length", [0, 1, 20])
def test_run_compositor_is_the_module(compositor, length):
    embedding = draw(length, 12)
    pair = simplicial_attn.run_compositor(embedding)
    np.testing.assert_array_equal(pair, compositor(torch.from_numpy(embedding)))


def test_load_compositor_takes_any_bytes(compositor):
    blob = compositor.pack()
    embedding = draw(5, 12)
    for given in (bytearray(blob), memoryview(blob), np.frombuffer(blob, np.float32)):
        simplicial_attn.load_compositor(given)
        np.testing.assert_array_equal(
            simplicial_attn.run_compositor(embedding), compositor(torch.from_numpy(embedding))
        )
    with pytest.raises(ValueError, match="not contiguous"):
        simplicial_attn.load_compositor(np.frombuffer(blob, np.float32)[::2])
    with pytest.raises(TypeError):
        simplicial_attn.load_compositor("compositor.bin")


def test_a_refused_blob_leaves_the_loaded_one(compositor):
    embedding = draw(5, 12)
    expected = simplicial_attn.run_compositor(embedding)
    blob = compositor.pack()
    for wrong, message in [(blob[:-1], "truncated"), (blob[:-1] + b"?", "checksum"), (b"", "truncated")]:
        with pytest.raises(ValueError, match=message):
            simplicial_attn.load_compositor(wrong)
    np.testing.assert_array_equal(simplicial_attn.run_compositor(embedding), expected)


@pytest.mark.usefixtures("compositor")
@pytest.mark.parametrize("shape", [(5, 11), (12,), (1, 5, 12)])
def test_run_compositor_refuses_wrong_shapes(shape):
    with pytest.raises(
        ValueError, match=rf"embedding has shape \[{', '.join(map(str, shape))}\], expected \[L, 12\]"
    ):
        simplicial_attn.run_compositor(np.zeros(shape, np.float32))


def test_run_compositor_needs_one_that_is_loaded():
    done = run_python("simplicial_attn.run_compositor(np.zeros((1, 64), np.float32))")
    assert "RuntimeError: no compositor is loaded: call load_compositor first" in done.stderr


def test_one_of_other_sizes_may_be_loaded_meanwhile():
    blobs = [
        Compositor(CompositorSizes(channels=8, blocks=0, rank=2, pair_channels=count)).pack()
        for count in (1, 64)
    ]
    simplicial_attn.load_compositor(blobs[0])
    embedding, done = draw(24, 8), threading.Event()

    def load():
        while not done.is_set():
            for blob in reversed(blobs):
                simplicial_attn.load_compositor(blob)

    loading = threading.Thread(target=load)
    loading.start()
    try:
        shapes = {simplicial_attn.run_compositor(embedding).shape for _ in range(3000)}
    finally:
        done.set()
        loading.join()
    assert shapes == {(24, 24, 1), (24, 24, 64)}


def test_the_settings_of_the_environment_hold():
    run = "print(simplicial_attn.run_simplicial(np.ones((5, 40, 16), np.float32)).sum())"
    assert run_python(run, OPENFOLDPP_NUM_THREADS="3", OPENFOLDPP_SIMD="scalar").stdout == "640.0\n"
    done = run_python(run, OPENFOLDPP_NUM_THREADS="many")
    assert "ValueError: OPENFOLDPP_NUM_THREADS=many, expected a number from 1 on" in done.stderr
    done = run_python(run, OPENFOLDPP_SIMD="sse9")
    assert "ValueError: OPENFOLDPP_SIMD=sse9" in done.stderr


def test_the_c_functions_can_be_called(compositor):
    library = ctypes.CDLL(simplicial_attn.__file__)
    library.simplicial_last_error.restype = ctypes.c_char_p

    def pointer(values):
        return values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    qkv, out = draw(5, 7, 16), np.empty((7, 16), np.float32)
    assert library.run_simplicial(pointer(qkv), pointer(out), 7, 16, None) == 0
    np.testing.assert_array_equal(out, simplicial_attn.run_simplicial(qkv))
    blob = compositor.pack()
    assert library.load_compositor(blob, ctypes.c_size_t(len(blob))) == 0
    embedding, pair = draw(6, 12), np.empty((6, 6, 10), np.float32)
    assert library.run_compositor(pointer(embedding), pointer(pair), 6) == 0
    np.testing.assert_array_equal(pair, simplicial_attn.run_compositor(embedding))
    assert library.load_compositor(blob, ctypes.c_size_t(10)) == 1
    assert b"truncated" in library.simplicial_last_error()


@pytest.mark.parametrize("language", [["c", "-std=c99"], ["c++", "-std=c++11"]])
def test_the_header_is_c(language):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("not installed: cc")
    command = [compiler, "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-x", *language, HEADER]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
