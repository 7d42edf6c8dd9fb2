"""One row in place of the MSA: a language model's embedding, through upstream's features into its model.

Upstream's data pipeline pads the MSA to 512 rows and the extra MSA to thousands, masks them, and computes
with them. Here the configuration asks for one row of each. The one of the extra MSA is masked, as the padding
is: its stack also updates the pair representation by the bias of the outer product mean, which an empty MSA
would not.

The embedding goes the way of any other feature. A hook before the model's forward puts it in the place of
``msa_feat``, and the layer that embeds ``msa_feat`` gives way to a projector, on that instance alone:
upstream's ``InputEmbedder.forward`` adds ``linear_tf_m(target_feat)`` and makes the pair representation as
ever. Parameters, ``state_dict`` and classes stay.

Jumper et al. 2021, supplementary algorithm 3 (InputEmbedder).
"""

from __future__ import annotations

from typing import Any, TypeVar

from torch import Tensor
from torch.nn import Module

from openfoldpp.errors import InputError
from openfoldpp.upstream.acceleration.layers import named, replaced
from openfoldpp.upstream.acceleration.releases import edited

#: Name of the feature: ``[N_res, C_plm]`` before, ``[N_res, C_plm, N_recycles]`` after the feature pipeline.
FEATURE = "plm_embedding"

_MSA, _MASK = "msa_feat", "msa_mask"
_EMBEDDER = ("openfold.model.embedders", "InputEmbedder")

AnyModule = TypeVar("AnyModule", bound=Module)


def configure_single_row(config: Any, *, templates: bool) -> None:
    """Ask upstream's data pipeline for one row of the MSA, and to carry the embedding.

    Parameters
    ----------
    config : ml_collections.ConfigDict
        Of a preset for one chain, of any release; edited in place. Doing so twice changes nothing.
    templates : bool
        Whether there may be templates. Without, their features are left out, and with them the part of the
        model that embeds them; upstream would pad to four templates, mask them, and compute with them.
    """
    common, predict = config.data.common, config.data.predict
    # Padding by max_templates less than the one row would be none.
    common.reduce_msa_clusters_by_max_templates = False
    predict.max_msa_clusters = 1
    predict.max_extra_msa = 1
    if not templates:
        with config.unlocked():
            # Upstream's value is a reference, shared with that which says whether the model has the part.
            del common.use_templates
            common.use_templates = False
    if FEATURE not in common.feat:
        with config.unlocked():
            # The second dimension, as that of aatype, is the number of residues; upstream has a name for it.
            common.feat[FEATURE] = [common.feat["aatype"][0], None]
        common.unsupervised_features = [*common.unsupervised_features, FEATURE]


def attach(model: AnyModule, projector: Module) -> AnyModule:
    """Let a model take its MSA representation from the embedding, through a projector.

    All parameters of the model stop asking for gradients: these reach the projector alone. A second call
    replaces the projector of the first.

    Parameters
    ----------
    model : torch.nn.Module
        Upstream's ``AlphaFold`` for one chain.
    projector : torch.nn.Module
        Takes ``[*, 1, N_res, C_plm]`` to ``[*, 1, N_res, C_m]``. It is moved to the model's device, and stays
        outside of the model's parameters and ``state_dict``.

    Returns
    -------
    torch.nn.Module
        The same model.

    Raises
    ------
    InputError
        It does not embed an MSA as the releases do: a preset for several chains or of SoloSeq, an OpenFold
        that has been edited, or a part that another package has replaced.
    """
    undo(model)
    embedder = getattr(model, "input_embedder", None)
    _require_upstreams(embedder)
    asked = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asked:
        parameter.requires_grad_(False)
    projector.to(next(embedder.parameters()).device)
    handle = model.register_forward_pre_hook(_EmbeddingForMSA(), with_kwargs=True)
    embedder.linear_msa_m.forward = _Projected(projector, handle, asked)
    return model


def undo(model: AnyModule) -> AnyModule:
    """Take back what :func:`attach` did: every attribute, hook and ``requires_grad`` is what it was.

    Parameters
    ----------
    model : torch.nn.Module
        Attached to or not.

    Returns
    -------
    torch.nn.Module
        The same model.
    """
    layer = getattr(getattr(model, "input_embedder", None), "linear_msa_m", None)
    projected = vars(layer).get("forward") if isinstance(layer, Module) else None
    if isinstance(projected, _Projected):
        del layer.forward
        projected.handle.remove()
        for parameter in projected.asked:
            parameter.requires_grad_(True)
    return model


class _Projected:
    """What takes the place of ``linear_msa_m.forward``."""

    def __init__(self, projector: Module, handle: Any, asked: list):
        self.projector = projector
        self.handle = handle
        self.asked = asked

    def __call__(self, embedding: Tensor) -> Tensor:
        return self.projector(embedding)


class _EmbeddingForMSA:
    """Gives the model the embedding as the one row of ``msa_feat``."""

    def __call__(self, model: Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        if args:
            return (_with_embedding(args[0]), *args[1:]), kwargs
        return args, kwargs | {"batch": _with_embedding(kwargs["batch"])}


def _with_embedding(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    embedding = batch.get(FEATURE)
    if embedding is None:
        raise InputError(
            "the features have no embedding of the language model: another plugin has made them. Name "
            "openfoldpp.plm last in --plugins, or leave out --plm"
        )
    rows = batch[_MASK].shape[-3]
    if rows != 1:
        raise InputError(
            f"the language model gives one row in place of the MSA, and data.predict.max_msa_clusters is "
            f"{rows}: leave this setting out of --experiment_config_json"
        )
    others = {name: value for name, value in batch.items() if name != FEATURE}
    # [*, N_res, C_plm, recycles] -> [*, 1, N_res, C_plm, recycles]; the language model is not trained.
    return others | {_MSA: embedding.detach().unsqueeze(-4)}


def _require_upstreams(embedder: Any) -> None:
    if not isinstance(embedder, Module) or named(type(embedder)) != _EMBEDDER:
        kind = type(embedder).__name__
        raise InputError(
            f"the model's input_embedder is a {kind}: a language model's single row takes the place of the "
            "MSA in the InputEmbedder of presets for one chain, such as model_1_ptm"
        )
    layer = embedder.linear_msa_m
    if (module := edited(_EMBEDDER[0])) is not None:
        reason = f"{module} is not the file of a release (take a checkout of one, such as v2.2.0)"
    elif (name := replaced(type(embedder)) or replaced(type(layer))) is not None:
        reason = f"another package has replaced its {name}"
    elif "forward" in vars(embedder) or "forward" in vars(layer):
        reason = "another package has replaced its forward"
    else:
        return
    raise InputError(f"the single row of a language model cannot be put into the InputEmbedder: {reason}")
