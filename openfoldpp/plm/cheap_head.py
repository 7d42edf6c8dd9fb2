"""CheapHead: windows of ten residues as vectors whose distance predicts how far apart their backbones are.

A residue has 64 channels from the head of plm_lite; a window is the mean of its residues; CheapHead moves
that mean so that the Euclidean distance between two windows estimates the RMSD of their backbones (N, CA, C),
in angstrom. The vectors are not normalised: their length is part of the distance. FAISS's L2 index ranks by
them as they are (it returns squared distances, angstrom squared), and a threshold in angstrom has a meaning;
inner product does not rank them. How the head was trained is in :mod:`openfoldpp.training.cheap_head`, what
it reaches in ``docs/reports/cheap_head.md``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from openfoldpp.errors import InputError, WeightsError
from openfoldpp.files import atomic_write
from openfoldpp.plm.weights import load_state, read_safetensors

#: Residues in a window, a shingle.
K = 10
#: Channels of a residue and of a window.
CHANNELS = 64
FORMAT = "openfoldpp cheap_head 1"
_HIDDEN = 256
_SHIPPED = Path(__file__).parents[1] / "weights" / "cheap_head.safetensors"


class CheapHead(nn.Module):
    """Two layers beside a skip connection: ``z + contract(relu(expand(z)))``, 64 -> 256 -> 64.

    ``z`` is the window's mean, channel by channel scaled and shifted: the projection's channels differ in
    spread by its principal components, and what spreads most is not what tells structures apart.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.scale = nn.Parameter(torch.ones(CHANNELS))
        self.expand = nn.Linear(CHANNELS, _HIDDEN)
        self.contract = nn.Linear(_HIDDEN, CHANNELS)

    def forward(self, pooled: Tensor) -> Tensor:
        """Turn the means of windows into vectors.

        Parameters
        ----------
        pooled : torch.Tensor of shape (..., 64)
            Of :func:`pool_windows`.

        Returns
        -------
        torch.Tensor of shape (..., 64)
            Euclidean distances between them estimate RMSDs, angstrom.
        """
        z = (pooled - self.mean) * self.scale
        return z + self.contract(self.expand(z).relu())

    def shingles(self, projection: Tensor) -> Tensor:
        """Turn a chain into the vectors of its windows at stride 1.

        Parameters
        ----------
        projection : torch.Tensor of shape (N_res, 64)
            What ``project`` of plm_lite returns for one chain.

        Returns
        -------
        torch.Tensor of shape (N_res - 9, 64)
            Row i is the window of residues i to i + 9.

        Raises
        ------
        InputError
            The chain is shorter than a window, or has another number of channels.
        """
        with torch.inference_mode():
            return self(pool_windows(projection.to(self.scale)))


def pool_windows(residues: Tensor) -> Tensor:
    """Average windows of :data:`K` residues at stride 1.

    Parameters
    ----------
    residues : torch.Tensor of shape (N_res, 64)
        Of one chain: a window across two chains is no fragment.

    Returns
    -------
    torch.Tensor of shape (N_res - 9, 64)

    Raises
    ------
    InputError
        The chain is shorter than a window, or has another number of channels.
    """
    if residues.ndim != 2 or residues.shape[0] < K or residues.shape[1] != CHANNELS:
        raise InputError(
            f"windows of {K} residues: got an array of shape {list(residues.shape)}, expected "
            f"[N_res, {CHANNELS}] with N_res at least {K}, the projection of one chain"
        )
    return residues.unfold(0, K, 1).mean(-1)


def load(projection: str, *, weights: Path | None = None, device: str = "cpu") -> CheapHead:
    """Load CheapHead.

    Parameters
    ----------
    projection : str
        ``fingerprint`` of the plm_lite whose projection the head is given.
    weights : pathlib.Path, optional
        A file that ``openfoldpp train cheap-head`` made; by default the one that comes with openfoldpp.
    device : str
        A torch device.

    Returns
    -------
    CheapHead
        In float32, not trainable.

    Raises
    ------
    WeightsError
        The file is missing, damaged, of another kind, or was trained on another projection.

    Examples
    --------
    >>> from openfoldpp import plm
    >>> from openfoldpp.plm import cheap_head
    >>> lite = plm.load("plm_lite")  # doctest: +SKIP
    >>> head = cheap_head.load(lite.fingerprint)  # doctest: +SKIP
    >>> [embedding] = lite.embed(["EVQLVESGGGLVQPGGSLRLSCAAS"])  # doctest: +SKIP
    >>> head.shingles(lite.project(embedding)).shape  # doctest: +SKIP
    torch.Size([16, 64])
    """
    path = weights or _SHIPPED
    metadata, state = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"weights {path}: not a file of `openfoldpp train cheap-head` (its format is "
            f"{metadata.get('format', 'not given')!r}, expected {FORMAT!r})"
        )
    if metadata.get("projection") != projection:
        raise WeightsError(
            f"weights {path}: trained on the projection of plm_lite {metadata.get('projection')}, given that "
            f"of {projection}. Load plm_lite without a layer, dtype or weights of its own, or run "
            "`openfoldpp train cheap-head` with the weights in use."
        )
    with torch.device("meta"):
        head = CheapHead()
    load_state(head, state, path=path, dtype=torch.float32)
    return head.to(device).eval().requires_grad_(False)


def write(path: Path, head: CheapHead, projection: str) -> None:
    """Write a head to a file, complete or not at all.

    Parameters
    ----------
    path : pathlib.Path
        The file, ``.safetensors``.
    head : CheapHead
        Stored in float32, 132 kB.
    projection : str
        ``fingerprint`` of the plm_lite that it was trained on.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in head.state_dict().items()}
    data = save(tensors, {"format": FORMAT, "projection": projection})
    with atomic_write(path, size=lambda: len(data)) as file:
        file.write(data)
