"""What distilling an encoder takes: teacher, student, optimisers, what is compared, and rounded weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openfoldpp.errors import ConfigError, MissingDependencyError, WeightsError
from openfoldpp.plm import plm_lite, registry
from openfoldpp.plm.embedder import LanguageModel
from openfoldpp.plm.quantization.loading import QuantisedModel
from openfoldpp.plm.transformer import Encoder
from openfoldpp.training.plm_lite_data import Batch

# Residues whose mutual distances the head learns from in a step.
_HEAD_RESIDUES = 256
# What the student takes from the teacher and leaves as it is.
_FROZEN = ("tokens.", "positions.", "norm_embedding.", "frequencies")


def load_teacher(name: str, weights: str | None, device: str) -> LanguageModel:
    """Load a language model whose blocks a student can learn from.

    Parameters
    ----------
    name : str
        As :func:`openfoldpp.plm.load` takes it.
    weights : str or None
        Its own weights; None: those of its package or cache.
    device : str
        A torch device.

    Returns
    -------
    LanguageModel

    Raises
    ------
    ConfigError
        It is quantised, or no encoder of ESM's or AntiBERTy's kind.
    WeightsError
        Its weights are missing, damaged or another model's.
    """
    try:
        teacher = registry.load(name, weights=weights, device=device)
    except WeightsError as error:
        # The flag of every other command.
        raise WeightsError(str(error).replace("--plm_weights", "--teacher-weights")) from error
    if isinstance(teacher, QuantisedModel):
        raise ConfigError(
            f"--teacher-weights {weights}: a quantised copy, and a student learns from full-precision "
            f"weights; name the file that it was made of, or leave the flag out for that of {name}'s package "
            "or cache"
        )
    if (
        not isinstance(teacher, LanguageModel)
        or type(teacher.encoder) is not Encoder
        or teacher.alphabet not in plm_lite.ALPHABETS.values()
    ):
        raise ConfigError(
            f"--teacher {name}: its blocks cannot be learned from; expected a model of ESM's or AntiBERTy's "
            "kind: antiberty, esm1b, esm2_t33_650M_UR50D..."
        )
    return teacher


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


def make_optimisers(student: Encoder, head: nn.Linear) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Return the optimisers.

    Parameters
    ----------
    student : Encoder
        Muon (Jordan et al. 2024) moves its matrices that are not frozen, in fewer steps than AdamW needs.
    head : torch.nn.Linear
        AdamW moves it, and the student's vectors.

    Returns
    -------
    (torch.optim.Optimizer, torch.optim.Optimizer)
        Both take the same learning rate.

    Raises
    ------
    MissingDependencyError
        This torch has no Muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise MissingDependencyError(
            f"training plm-lite needs torch 2.9 or later, this is {torch.__version__}: pip install -U torch"
        )
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    # Its updates have the size of AdamW's, so that both take one learning rate.
    muon = torch.optim.Muon(
        [p for p in trained if p.ndim == 2], lr=0.0, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
    )
    others = [*(p for p in trained if p.ndim != 2), *head.parameters()]
    return muon, torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0, fused=True)


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
