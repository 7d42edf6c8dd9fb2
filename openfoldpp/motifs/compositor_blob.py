"""The compositor's weights as bytes, which its kernels load; ``docs/compositor.md`` has the format."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass

import numpy as np

from openfoldpp.errors import InputError, WeightsError

_MAGIC = b"OFPPCOMP"
_VERSION = 1
# Magic, version, checksum; then what the checksum covers: sizes, eps, number of weights.
_START = struct.Struct("<8sII")
_SIZES = struct.Struct("<10ifI")
_HEADER_BYTES = _START.size + _SIZES.size
# As in csrc/cpu/compositor_blob.cpp: far above any use, and no product of sizes overflows there.
_MAX_SIZE = 4096
_MAX_BLOCKS = 64


@dataclass(frozen=True)
class CompositorSizes:
    """Sizes of a compositor, in the order in which its file has them.

    Attributes
    ----------
    channels : int
        Of a node, and of its embedding.
    blocks : int
        Of attention and transition; may be 0.
    heads, head_channels : int
        Of the attention.
    hidden : int
        Channels inside a transition.
    rank : int
        Of the outer product.
    pair_channels : int
        Of the output.
    max_offset : int
        Offsets between nodes are told apart up to this; may be 0.
    window_j, window_k : int or None
        How far a query's first and second key may be from it, in nodes; None: any.
    eps : float
        Of the layer norms.

    Raises
    ------
    InputError
        Where a size is out of bounds.
    """

    channels: int = 64
    blocks: int = 2
    heads: int = 2
    head_channels: int = 32
    hidden: int = 128
    rank: int = 16
    pair_channels: int = 64
    max_offset: int = 32
    window_j: int | None = None
    window_k: int | None = 16
    eps: float = 1e-5

    def __post_init__(self):
        for name in ("channels", "heads", "head_channels", "hidden", "rank", "pair_channels"):
            self._require(name, 1, _MAX_SIZE)
        self._require("blocks", 0, _MAX_BLOCKS)
        self._require("max_offset", 0, _MAX_SIZE)
        for name in ("window_j", "window_k"):
            if getattr(self, name) is not None:
                self._require(name, 0, 2**31 - 1)
        if not 0 < np.float32(self.eps) < 1:
            raise InputError(f"eps is {self.eps}; expected a number between 0 and 1 in float32")

    def _require(self, name: str, least: int, most: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or not least <= value <= most:
            raise InputError(f"{name} is {value!r}; expected a whole number from {least} to {most}")

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all weights by their names in ``state_dict``, in the file's order."""
        c, wide, offsets = self.channels, self.heads * self.head_channels, 2 * self.max_offset + 1
        shapes: dict[str, tuple[int, ...]] = _norm("norm", c)
        for block in range(self.blocks):
            inside = {
                "offset_bias": (self.heads, offsets),
                **_norm("attention_norm", c),
                "qkv.weight": (5 * wide, c),
                **_linear("output", c, wide),
                **_norm("transition_norm", c),
                **_linear("expand", self.hidden, c),
                **_linear("contract", c, self.hidden),
            }
            shapes |= {f"blocks.{block}.{name}": shape for name, shape in inside.items()}
        return {
            "outer": (self.pair_channels, self.rank, self.rank),
            "offsets": (offsets, self.pair_channels),
            **shapes,
            **_norm("pair_norm", c),
            **_linear("left", self.rank, c),
            **_linear("right", self.rank, c),
        }


def _norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def pack(sizes: CompositorSizes, weights: Mapping[str, np.ndarray]) -> bytes:
    """Write sizes and weights as bytes.

    Parameters
    ----------
    sizes : CompositorSizes
        Say which weights there are.
    weights : mapping of str to numpy.ndarray
        By the names and with the shapes of :meth:`CompositorSizes.tensors`; converted to float32.

    Returns
    -------
    bytes
        The same bytes for the same weights.

    Raises
    ------
    WeightsError
        Where a weight is missing, unknown, of another shape, or not finite in float32.
    """
    shapes = sizes.tensors()
    if weights.keys() != shapes.keys():
        differing = sorted(weights.keys() ^ shapes.keys())
        raise WeightsError(f"compositor: missing or unknown weights: {', '.join(differing)}")
    parts = []
    for name, shape in shapes.items():
        with np.errstate(over="ignore"):  # what is too large for float32 is infinite, and refused below
            array = np.asarray(weights[name]).astype("<f4")
        if array.shape != shape:
            raise WeightsError(f"compositor: {name} has shape {list(array.shape)}, expected {list(shape)}")
        if not np.isfinite(array).all():
            raise WeightsError(f"compositor: {name} holds values that are not finite in float32")
        parts.append(array.tobytes())
    payload = b"".join(parts)
    numbers = [-1 if value is None else value for value in astuple(sizes)]
    covered = _SIZES.pack(*numbers, len(payload) // 4) + payload
    return _START.pack(_MAGIC, _VERSION, zlib.crc32(covered)) + covered


def unpack(blob: bytes) -> tuple[CompositorSizes, dict[str, np.ndarray]]:
    """Read what :func:`pack` wrote.

    Parameters
    ----------
    blob : bytes
        The whole file.

    Returns
    -------
    sizes : CompositorSizes
        As they were packed; ``eps`` rounded to float32.
    weights : dict of str to numpy.ndarray
        float32, read-only views of ``blob``.

    Raises
    ------
    WeightsError
        Where the bytes are truncated, altered, of another version, or no compositor at all.
    InputError
        Where ``blob`` is not bytes.
    """
    if not isinstance(blob, bytes | bytearray | memoryview):
        raise InputError(f"blob is a {type(blob).__name__}; expected the bytes of a compositor's file")
    if len(blob) < _HEADER_BYTES:
        raise WeightsError(f"compositor: {len(blob)} bytes, expected at least {_HEADER_BYTES}: truncated")
    magic, version, checksum = _START.unpack_from(blob)
    if magic != _MAGIC:
        raise WeightsError(f"compositor: not a compositor's weights: they begin with {bytes(magic)!r}")
    if version != _VERSION:
        raise WeightsError(f"compositor: the weights' format is version {version}, expected {_VERSION}")
    *whole, eps, count = _SIZES.unpack_from(blob, _START.size)
    expected = _HEADER_BYTES + 4 * count
    if len(blob) != expected:
        raise WeightsError(f"compositor: {len(blob)} bytes, expected {expected}: truncated or altered")
    if zlib.crc32(memoryview(blob)[_START.size :]) != checksum:
        raise WeightsError("compositor: the checksum is wrong: the weights were altered")
    windows = [None if window == -1 else window for window in whole[-2:]]
    try:
        sizes = CompositorSizes(*whole[:-2], *windows, eps)
    except InputError as error:
        raise WeightsError(f"compositor: {error}") from None
    shapes = sizes.tensors()
    if sum(map(math.prod, shapes.values())) != count:
        raise WeightsError(f"compositor: {count} weights do not fit {sizes}")
    values = np.frombuffer(blob, "<f4", offset=_HEADER_BYTES)
    if not np.isfinite(values).all():
        raise WeightsError("compositor: there are weights that are not finite")
    weights, begin = {}, 0
    for name, shape in shapes.items():
        end = begin + math.prod(shape)
        weights[name] = values[begin:end].reshape(shape)
        begin = end
    return sizes, weights
