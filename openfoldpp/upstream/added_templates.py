"""Templates that nobody searched for, put into the places that upstream's own templates leave free."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openfoldpp.errors import InputError
from openfoldpp.upstream import schema
from openfoldpp.upstream.configuration import model_config


def require_templates(config: Any, preset: str, version: str) -> None:
    """Make sure that a model reads templates.

    Parameters
    ----------
    config : ml_collections.ConfigDict
        The model's configuration.
    preset : str
        Its name.
    version : str
        The OpenFold release.

    Raises
    ------
    InputError
        It does not; the message names the presets that do.
    """
    if config.model.template.enabled:
        return
    names = [
        name
        for name in schema.presets(version)
        if "multimer" not in name and model_config(name).model.template.enabled
    ]
    raise InputError(
        f"--motif_templates with --config_preset {preset}: its model reads no templates; those of "
        f"{', '.join(names)} do, each with its own weights"
    )


def free_places(features: Mapping[str, Tensor], config: Any) -> int:
    """Return how many templates a model can take beside those that its `features` have.

    Parameters
    ----------
    features : mapping of str to torch.Tensor
        After upstream's feature pipeline.
    config : ml_collections.ConfigDict
        The model's configuration.

    Returns
    -------
    int
        0 or more.
    """
    return max(config.data.predict.max_templates - _taken(features), 0)


def put_templates(features: MutableMapping[str, Tensor], raw: Mapping[str, np.ndarray], config: Any) -> None:
    """Add templates behind those that the features have.

    Parameters
    ----------
    features : mutable mapping of str to torch.Tensor
        After upstream's feature pipeline, with the recycling dimension last. Names, shapes and dtypes are
        afterwards those that the pipeline makes of the same templates.
    raw : mapping of str to numpy.ndarray
        Raw features of T templates, as upstream's featurizer makes them; at least one.
    config : ml_collections.ConfigDict
        The model's configuration, of a preset for one chain.

    Raises
    ------
    InputError
        The configuration leaves templates out, or there are more than places for them.
    """
    common, places = config.data.common, config.data.predict.max_templates
    if not common.use_templates:
        raise InputError(
            "data.common.use_templates is off, and templates are given: leave this setting out of "
            "--experiment_config_json"
        )
    taken, recycles = _taken(features), features["aatype"].shape[-1]
    count = len(raw["template_aatype"])
    if not 0 < count <= places - taken:
        raise InputError(f"{count} templates are given, and there are places for 1 to {places - taken}")
    wanted = set(common.feat)
    for name, value in _processed(features["aatype"][..., 0], raw, common).items():
        if name not in wanted:
            continue
        value = value.to(features["aatype"].device)
        rows = [value, value.new_zeros(places - taken - count, *value.shape[1:])]
        if taken:
            rows.insert(0, features[name][:taken, ..., 0])
        joined = torch.cat(rows).unsqueeze(-1)
        features[name] = joined.expand(*joined.shape[:-1], recycles)


def _taken(features: Mapping[str, Tensor]) -> int:
    if "template_mask" not in features:
        return 0
    return int(features["template_mask"][..., 0].sum())


def _processed(aatype: Tensor, raw: Mapping[str, np.ndarray], common: Any) -> dict[str, Tensor]:
    """Do what upstream's ``nonensembled_transform_fns`` does with templates."""
    from openfold.data import data_transforms

    values = {name: torch.tensor(raw[name]) for name in common.template_features if name in raw}
    steps = [
        data_transforms.fix_templates_aatype,
        data_transforms.make_template_mask,
        data_transforms.make_pseudo_beta("template_"),
    ]
    if common.use_template_torsion_angles:
        steps.append(data_transforms.atom37_to_torsion_angles("template_"))
    values["aatype"] = aatype.cpu()
    for step in steps:
        values = step(values)
    del values["aatype"]
    return values
