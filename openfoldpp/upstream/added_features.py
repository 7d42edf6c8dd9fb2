"""Features of residues and pairs, added to upstream's MSA and pair representations in every recycle.

Module hooks do it: one before the model's forward takes the features out of the batch, one after its input
embedder adds their projections to what that has made, before anything reads it. Upstream calls the embedder
anew in each recycle. Parameters, ``state_dict``, classes and methods stay.

Jumper et al. 2021, supplementary algorithm 2: after line 5, InputEmbedder.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from openfoldpp.errors import InputError
from openfoldpp.upstream.acceleration.layers import named

#: Names of the features: ``[N_res, C, N_recycles]`` and ``[N_res, N_res, C, N_recycles]`` in the batch.
SINGLE, PAIR = "motif_single", "motif_pair"

_EMBEDDERS = {
    ("openfold.model.embedders", "InputEmbedder"),
    ("openfold.model.embedders", "PreembeddingEmbedder"),
}
# Rows of the pair representation that are projected at once: a second one would double the memory.
_ROWS = 64

AnyModule = TypeVar("AnyModule", bound=Module)


class Projections(Protocol):
    """What takes features to the channels of the representations."""

    def project_single(self, features: Tensor) -> Tensor:
        """Take single `features` ``[*, N_res, C]`` to ``[*, N_res, C_m]``."""
        ...

    def project_pair(self, features: Tensor) -> Tensor:
        """Take pair `features` ``[*, N_res, N_res, C]`` to ``[*, N_res, N_res, C_z]``."""
        ...


def attach(model: AnyModule, projections: Projections) -> AnyModule:
    """Let a model add the features in its batch, through projections, to ``m`` and ``z`` in every recycle.

    To ``m`` they are added in its first row, which is the target's own: the one that recycling adds to, and
    that the single representation is made of. All parameters of the model stop asking for gradients: these
    reach the projections alone. A batch without the features is predicted as ever. A second call replaces
    the projections of the first.

    Parameters
    ----------
    model : torch.nn.Module
        Upstream's ``AlphaFold`` for one chain, SoloSeq's too.
    projections : torch.nn.Module
        A :class:`Projections`. It is moved to the model's device, and stays outside of the model's
        parameters and ``state_dict``.

    Returns
    -------
    torch.nn.Module
        The same model.

    Raises
    ------
    InputError
        The model has another input embedder: that of a preset for several chains, for example.
    """
    undo(model)
    embedder = getattr(model, "input_embedder", None)
    if not isinstance(embedder, Module) or named(type(embedder)) not in _EMBEDDERS:
        raise InputError(
            f"the model's input_embedder is a {type(embedder).__name__}: motif features are added to what "
            "the InputEmbedder of presets for one chain makes, such as model_1_ptm"
        )
    asked = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asked:
        parameter.requires_grad_(False)
    projections.to(next(embedder.parameters()).device)
    addition = _Addition(projections, asked)
    addition.handles = [
        model.register_forward_pre_hook(addition.take, with_kwargs=True),
        embedder.register_forward_hook(addition.add),
        model.register_forward_hook(addition.forget, always_call=True),
    ]
    return model


def undo(model: AnyModule) -> AnyModule:
    """Take back what :func:`attach` did: every hook and ``requires_grad`` is what it was.

    Parameters
    ----------
    model : torch.nn.Module
        Attached to or not.

    Returns
    -------
    torch.nn.Module
        The same model.
    """
    for hook in list(model._forward_pre_hooks.values()):
        addition = getattr(hook, "__self__", None)
        if isinstance(addition, _Addition):
            for handle in addition.handles:
                handle.remove()
            for parameter in addition.asked:
                parameter.requires_grad_(True)
    return model


class _Addition:
    """The hooks, and the features of the run that the model is in."""

    def __init__(self, projections: Projections, asked: Iterable[Tensor]):
        self.projections = projections
        self.asked = list(asked)
        self.handles: list[Any] = []
        self.features: tuple[Tensor, Tensor] | None = None
        self.recycle = 0

    def take(self, model: Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Take the features out of the batch, which upstream does not know."""
        batch = dict(args[0] if args else kwargs["batch"])
        features = batch.pop(SINGLE, None), batch.pop(PAIR, None)
        if (features[0] is None) != (features[1] is None):
            raise InputError(f"the batch has one of {SINGLE} and {PAIR}: give both, or neither")
        self.features = None if features[0] is None else features
        self.recycle = 0
        return ((batch, *args[1:]), kwargs) if args else (args, kwargs | {"batch": batch})

    def add(self, embedder: Module, args: tuple, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Add what belongs to this recycle."""
        m, z = output
        if self.features is None:
            return m, z
        # The features are not trained.
        single, pair = (feature[..., self.recycle].detach().to(m) for feature in self.features)
        self.recycle += 1
        added = self.projections.project_single(single)
        if torch.is_grad_enabled():
            m = torch.cat([m[..., :1, :, :] + added.unsqueeze(-3), m[..., 1:, :, :]], dim=-3)
            return m, z + self.projections.project_pair(pair)
        m[..., 0, :, :] += added
        for start in range(0, z.shape[-3], _ROWS):
            rows = slice(start, start + _ROWS)
            z[..., rows, :, :] += self.projections.project_pair(pair[..., rows, :, :])
        return m, z

    def forget(self, model: Module, args: tuple, output: Any) -> None:
        """Let go of the features, after an error too."""
        self.features = None
