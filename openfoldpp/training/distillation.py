"""What distilling an encoder takes: the student, what it is compared by, and rounded weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openfoldpp.errors import ConfigError
from openfoldpp.plm import plm_lite
from openfoldpp.plm.transformer import Encoder
from openfoldpp.training.plm_lite_data import Batch

# Residues whose mutual distances the head learns from in a step.
_HEAD_RESIDUES = 256
# What the student takes from the teacher and leaves as it is.
_FROZEN = ("tokens.", "positions.", "norm_embedding.", "frequencies")


def make_student(
    teacher: Encoder, keep_every: int, width: int | None, seed: int
) -> tuple[Encoder, list[int]]:
    """Make a student out of every n-th block of a teacher.

    Parameters
    ----------
    teacher : Encoder
        Its embedding is the student's, frozen.
    keep_every : int
        Every how many-th block is kept, counted back from the last, whose output is what the student is for.
    width : int or None
        Channels of the student's blocks. None, or the teacher's: they start as the teacher's. Fewer: they
        start at random, between a linear layer from the embedding and one to the teacher's channels.
    seed : int
        What the random start follows from.

    Returns
    -------
    (Encoder, list of int)
        The student, and the teacher's block that each of the student's stands for.

    Raises
    ------
    ConfigError
        No block would be kept, or the width does not fit the heads.
    """
    architecture = teacher.architecture
    layers, channels = architecture.layers, architecture.channels
    if not 1 <= keep_every <= layers:
        raise ConfigError(f"--keep-every {keep_every}: the teacher has {layers} blocks; give 1 to {layers}")
    kept = list(range((layers - 1) % keep_every, layers, keep_every))
    width, head_width = width or channels, channels // architecture.heads
    if width % head_width or not 0 < width <= channels:
        raise ConfigError(
            f"--width {width}: expected a multiple of {head_width}, a head's width, up to {channels}"
        )
    sizes = replace(
        architecture,
        layers=len(kept),
        channels=width,
        heads=width // head_width,
        hidden=architecture.hidden * width // channels,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = plm_lite.make_encoder({"architecture": sizes.to_dict(), "channels": channels})
    given = {key: value for key, value in teacher.state_dict().items() if not key.startswith("blocks.")}
    if width == channels:
        for ours, theirs in enumerate(kept):
            block = teacher.blocks[theirs].state_dict()
            given |= {f"blocks.{ours}.{name}": value for name, value in block.items()}
        student.load_state_dict(given)
    else:
        given = {key: value for key, value in given.items() if key.startswith(_FROZEN)}
        student.load_state_dict(given, strict=False)
    for name, parameter in student.named_parameters():
        parameter.requires_grad_(not name.startswith(_FROZEN))
    return student.train(), kept


def make_head(embeddings: Tensor) -> nn.Linear:
    """Return a head that starts as the first 64 principal components of `embeddings`, ``[N_res, C_plm]``."""
    head = nn.Linear(embeddings.shape[1], plm_lite.HEAD_CHANNELS, device=embeddings.device)
    mean = embeddings.double().mean(0)
    # Eigenvectors of the covariance, the largest last.
    components = (
        torch.linalg.eigh((embeddings.double() - mean).T.cov())[1].flip(1).T[: plm_lite.HEAD_CHANNELS]
    )
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.weight[: len(components)] = components.float()
        head.bias[: len(components)] = -(components @ mean).float()
    return head


def layer_outputs(encoder: Encoder, batch: Batch, blocks: Sequence[int]) -> list[Tensor]:
    """Run an encoder and return the states of residues after some of its blocks.

    Parameters
    ----------
    encoder : Encoder
        Teacher or student.
    batch : Batch
        Of sequences.
    blocks : sequence of int
        Numbers of blocks, ascending; the last block's output is the encoder's, with its last norm.

    Returns
    -------
    list of torch.Tensor of shape (N_res, C_plm), float32
    """
    caught: list[Tensor] = []
    widen = getattr(encoder, "widen", nn.Identity())
    handles = [
        encoder.blocks[block].register_forward_hook(lambda _module, _given, output: caught.append(output))
        for block in list(blocks)[:-1]
    ]
    try:
        last = encoder(batch.tokens, batch.lengths)
    finally:
        for handle in handles:
            handle.remove()
    return [*(widen(state)[batch.residues].float() for state in caught), last[batch.residues].float()]


def distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the squared error of `ours`, in variances of `theirs`, plus the mean cosine distance, ``[]``."""
    spread = (theirs - theirs.mean(0)).square().mean()
    return F.mse_loss(ours, theirs) / spread + 1 - F.cosine_similarity(ours, theirs, dim=-1).mean()


def head_loss(head: nn.Linear, ours: Tensor, theirs: Tensor, seed: Sequence[int]) -> Tensor:
    """Compare distances between residues in 64 channels with the teacher's, ``[]``.

    Parameters
    ----------
    head : torch.nn.Linear
        The head.
    ours, theirs : torch.Tensor of shape (N_res, C_plm)
        The student's last layer and the teacher's.
    seed : sequence of int
        Which residues are taken follows from it.

    Returns
    -------
    torch.Tensor
        The mean squared difference of distances, over the mean squared distance.
    """
    rng = np.random.default_rng([*seed, _HEAD_RESIDUES])
    some = torch.from_numpy(rng.permutation(len(ours))[:_HEAD_RESIDUES])
    # Not on the diagonal, where a distance has no gradient.
    mine, wanted = F.pdist(head(ours[some]).float()), F.pdist(theirs[some])
    return F.mse_loss(mine, wanted) / wanted.square().mean()


@contextmanager
def rounded(linears: Sequence[nn.Linear]) -> Iterator[None]:
    """Give `linears` the weights that a file would hold, and their own again after the block.

    A gradient that is taken in the block, at the rounded weights, is left for the exact ones.
    """
    own = [linear.weight.data for linear in linears]
    for linear in linears:
        linear.weight.data = plm_lite.stored(linear.weight)
    try:
        yield
    finally:
        for linear, weight in zip(linears, own, strict=True):
            linear.weight.data = weight
