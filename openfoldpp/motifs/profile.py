"""The backbone that a language model's embeddings lead one to expect, and how well a fragment agrees with it.

CheapHead's vectors are means of ten residues, so that one index serves; the order of the residues, and what
stands before and after them, is lost. This network sees both. For each residue it gives what decides the
shape of the chain's next stretch: its CA's distances to the CA of two to nine residues on, and the dihedral
angle of four CA, each with a width. A candidate whose own distances agree is more likely right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from openfoldpp.errors import WeightsError
from openfoldpp.files import atomic_write
from openfoldpp.plm.cheap_head import K
from openfoldpp.plm.weights import load_state, read_safetensors

FORMAT = "openfoldpp motif_profile 1"
#: Residues from one CA to the other.
SEPARATIONS = tuple(range(2, K))
#: Distances, then sine and cosine of the dihedral of four CA.
GEOMETRY = len(SEPARATIONS) + 2
#: Angstrom: what sine and cosine are multiplied with, so that their errors weigh about as much as distances'.
ANGLE_SCALE = 3.0
#: Columns of :func:`agreement`.
AGREEMENT = 12

# Before the first layer and after the last: distances within ten residues are 4 to 30 angstrom.
_MEAN, _SPREAD = 6.0, 5.0
# The logarithm of a width, angstrom, is kept between these.
_NARROWEST, _WIDEST = -4.0, 3.0
_KERNEL = 7
_SHIPPED = Path(__file__).parents[1] / "weights" / "motif_profile.safetensors"


@dataclass(frozen=True)
class Profile:
    """What is expected of one chain; a row is of the stretch that begins with that residue.

    Attributes
    ----------
    geometry : numpy.ndarray of shape (N_res, GEOMETRY), float32
        Medians, angstrom, see :func:`local_geometry`.
    log_width : numpy.ndarray of shape (N_res, GEOMETRY), float32
        Natural logarithm of the mean absolute error that is expected, angstrom.
    """

    geometry: np.ndarray
    log_width: np.ndarray


class ProfileNetwork(nn.Module):
    """Blocks of convolutions along the chain, each beside a skip connection.

    Parameters
    ----------
    channels_in : int
        Of the language model's embeddings.
    channels, blocks : int
        Of the network.
    dropout : float
        Share of the channels that training leaves out.
    """

    def __init__(self, channels_in: int, channels: int = 96, blocks: int = 4, dropout: float = 0.1):
        super().__init__()
        self.enter = nn.Linear(channels_in, channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(blocks))
        self.expand = nn.ModuleList(
            nn.Conv1d(channels, 2 * channels, _KERNEL, padding=_KERNEL // 2) for _ in range(blocks)
        )
        self.contract = nn.ModuleList(nn.Linear(2 * channels, channels) for _ in range(blocks))
        self.norm = nn.LayerNorm(channels)
        self.leave = nn.Linear(channels, 2 * GEOMETRY)
        self.dropout = nn.Dropout(dropout)

    def forward(self, embeddings: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is expected of chains.

        Parameters
        ----------
        embeddings : torch.Tensor of shape (B, N_res, C_plm)
            Of the language model.
        mask : torch.Tensor of shape (B, N_res)
            1 where there is a residue, else 0.

        Returns
        -------
        geometry, log_width : torch.Tensor of shape (B, N_res, GEOMETRY)
            See :class:`Profile`.
        """
        mask = mask[..., None]
        x = self.enter(self.dropout(embeddings)) * mask
        for norm, expand, contract in zip(self.norms, self.expand, self.contract, strict=True):
            hidden = expand((norm(x) * mask).transpose(1, 2)).transpose(1, 2)
            x = x + contract(self.dropout(nn.functional.gelu(hidden))) * mask
        geometry, log_width = self.leave(self.norm(x)).chunk(2, -1)
        return geometry * _SPREAD + _MEAN, log_width.clamp(_NARROWEST, _WIDEST)

    @torch.inference_mode()
    def profile(self, embedding: Tensor) -> Profile:
        """Return what is expected of one chain.

        Parameters
        ----------
        embedding : torch.Tensor of shape (N_res, C_plm)
            Of the language model.

        Returns
        -------
        Profile
        """
        geometry, log_width = self(embedding.float()[None], torch.ones(1, len(embedding)))
        return Profile(geometry[0].numpy(), log_width[0].numpy())


def local_geometry(ca: np.ndarray) -> np.ndarray:
    """Measure what a :class:`Profile` expects.

    Parameters
    ----------
    ca : numpy.ndarray of shape (..., N_res, 3)
        CA atoms, angstrom.

    Returns
    -------
    numpy.ndarray of shape (..., N_res, GEOMETRY), float32
        Distances to the CA of two to nine residues on, angstrom; sine and cosine of the dihedral angle of
        this CA and the next three, times :data:`ANGLE_SCALE`. Not a number where the chain has ended.
    """
    ca = np.asarray(ca, np.float32)
    length = ca.shape[-2]
    found = np.full((*ca.shape[:-1], GEOMETRY), np.nan, np.float32)
    for column, apart in enumerate(SEPARATIONS):
        if length > apart:
            found[..., : length - apart, column] = np.linalg.norm(
                ca[..., apart:, :] - ca[..., :-apart, :], axis=-1
            )
    if length > 3:
        bonds = np.diff(ca, axis=-2)
        normals = np.cross(bonds[..., :-1, :], bonds[..., 1:, :])
        before, after, axis = normals[..., :-1, :], normals[..., 1:, :], bonds[..., 1:-1, :]
        cosine = (before * after).sum(-1)
        sine = (np.cross(before, after) * axis).sum(-1) / np.linalg.norm(axis, axis=-1)
        norm = np.maximum(np.hypot(sine, cosine), np.float32(1e-6))
        found[..., : length - 3, -2] = ANGLE_SCALE * sine / norm
        found[..., : length - 3, -1] = ANGLE_SCALE * cosine / norm
    return found


def agreement(profile: Profile, windows: np.ndarray, ca: np.ndarray) -> np.ndarray:
    """Say how well candidates agree with what is expected of a query's windows.

    Parameters
    ----------
    profile : Profile
        Of the query's chain.
    windows : numpy.ndarray of shape (W,), int64
        First residues of the windows.
    ca : numpy.ndarray of shape (W, M, 10, 3), float32
        CA atoms of each window's candidates, angstrom.

    Returns
    -------
    numpy.ndarray of shape (W, M, AGREEMENT), float32
        Mean errors: of distances, of dihedrals, both and dihedrals alone by the widths (negative logarithm
        of Laplace's density), root mean square of distances; the window's mean logarithm of a width and mean
        width; then how much more each of the first five is than the window's least.
    """
    windows = np.asarray(windows)
    at = _ROWS[:, None] + windows  # [columns, W]
    expected, log_width = profile.geometry[at, _COLUMNS[:, None]], profile.log_width[at, _COLUMNS[:, None]]
    # Columns first, so that every step is one of long rows.
    error = _window_geometry(ca)
    error -= expected[..., None]
    np.abs(error, out=error)
    density = error * np.exp(-log_width)[..., None]
    density += log_width[..., None]
    distance, angle = error[:_DISTANCES], error[_DISTANCES:]
    summed = density[_DISTANCES:].sum(0)
    first = [
        distance.mean(0),
        angle.mean(0),
        (density[:_DISTANCES].sum(0) + summed) / len(density),
        summed / len(angle),
        np.sqrt(np.square(distance).mean(0)),
    ]
    found = np.empty((*error.shape[1:], AGREEMENT), np.float32)
    for column, one in enumerate(first):
        found[..., column] = one
        found[..., column - 5] = one - one.min(1, keepdims=True)
    found[..., 5] = log_width.mean(0)[:, None]
    found[..., 6] = np.exp(log_width[:_DISTANCES]).mean(0)[:, None]
    return found


def _within() -> tuple[np.ndarray, np.ndarray]:
    """Return which rows and columns of :func:`local_geometry` ten residues have, distances first."""
    distances = [(row, column) for column, apart in enumerate(SEPARATIONS) for row in range(K - apart)]
    angles = [(row, column) for column in (GEOMETRY - 2, GEOMETRY - 1) for row in range(K - 3)]
    rows, columns = np.array(distances + angles).T
    return rows, columns


_ROWS, _COLUMNS = _within()
_DISTANCES = int(np.sum(len(SEPARATIONS) > _COLUMNS))


def _window_geometry(ca: np.ndarray) -> np.ndarray:
    """Return :func:`local_geometry` of ``[..., 10, 3]`` at :func:`_within`, float32 ``[columns, ...]``."""
    places = np.ascontiguousarray(np.moveaxis(np.asarray(ca, np.float32), (-2, -1), (0, 1)))
    found = np.empty((len(_ROWS), *places.shape[2:]), np.float32)
    end = 0
    for apart in SEPARATIONS:
        start, end = end, end + K - apart
        steps = places[apart:] - places[:-apart]
        steps *= steps
        np.sqrt(steps[:, 0] + steps[:, 1] + steps[:, 2], out=found[start:end])
    bonds = places[1:] - places[:-1]
    normals = _cross(bonds[:-1], bonds[1:])
    before, after, axis = normals[:-1], normals[1:], bonds[1:-1]
    cosine, sine = _dot(before, after), _dot(_cross(before, after), axis) / np.sqrt(_dot(axis, axis))
    scale = np.float32(ANGLE_SCALE) / np.maximum(np.sqrt(sine * sine + cosine * cosine), np.float32(1e-6))
    middle = end + K - 3
    np.multiply(sine, scale, out=found[end:middle])
    np.multiply(cosine, scale, out=found[middle:])
    return found


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    found = np.empty_like(a)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        np.subtract(a[:, j] * b[:, k], a[:, k] * b[:, j], out=found[:, i])
    return found


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]


@cache
def load(plm: str, path: Path | None = None) -> ProfileNetwork:
    """Load the network, once in a process.

    Parameters
    ----------
    plm : str
        ``fingerprint`` of the language model whose embeddings it is given.
    path : pathlib.Path, optional
        A file that ``openfoldpp train motif-profile`` made; by default the one that comes with openfoldpp.

    Returns
    -------
    ProfileNetwork
        In float32, not trainable.

    Raises
    ------
    WeightsError
        The file is missing, damaged, of another kind, or was trained on another model's embeddings.
    """
    path = path or _SHIPPED
    metadata, state = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"weights {path}: not a file of `openfoldpp train motif-profile` (its format is "
            f"{metadata.get('format', 'not given')!r}, expected {FORMAT!r})"
        )
    if metadata.get("plm") != plm:
        raise WeightsError(
            f"weights {path}: trained on the embeddings of {metadata.get('plm')}, given those of {plm}; "
            "run `openfoldpp train motif-profile` with the model in use"
        )
    channels, channels_in = state["enter.weight"].shape if "enter.weight" in state else (1, 1)
    blocks = sum(name.startswith("expand.") and name.endswith(".weight") for name in state)
    with torch.device("meta"):
        network = ProfileNetwork(channels_in, channels, blocks)
    load_state(network, state, path=path, dtype=torch.float32)
    return network.eval().requires_grad_(False)


def write(path: Path, network: ProfileNetwork, plm: str) -> None:
    """Write a network to a file (safetensors, float16), complete or not at all.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    network : ProfileNetwork
        To be written.
    plm : str
        ``fingerprint`` of the language model that it was trained on.
    """
    state = {name: value.detach().cpu().half().contiguous() for name, value in network.state_dict().items()}
    data = save(state, {"format": FORMAT, "plm": plm})
    with atomic_write(path, size=lambda: len(data)) as file:
        file.write(data)
