"""The whole plugin contract, on one page. See README.md beside this file for a first plugin."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

import pluggy

from openfoldpp.types import Output, OutputPaths, ProgressEvent, Target

if TYPE_CHECKING:
    from ml_collections import ConfigDict

PROJECT_NAME = "openfoldpp"
ENTRY_POINT_GROUP = "openfoldpp.plugins"

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)


@hookspec
def openfoldpp_add_options(parser: ArgumentParser) -> None:
    """Add the plugin's own flags, before arguments are parsed; prefix them with the plugin's name."""


@hookspec
def openfoldpp_configure(config: ConfigDict, options: Namespace) -> None:
    """Edit the model's configuration, after upstream's ``model_config`` made it for the preset."""


@hookspec(firstresult=True)
def openfoldpp_make_features(target: Target, options: Namespace) -> dict[str, Any] | None:
    """Make the target's features instead of alignments and templates; the first result that is not None wins.

    The dictionary has the keys, shapes and dtypes of upstream's data pipeline, at least those of
    ``make_sequence_features``. As :class:`openfoldpp.types.Features` it also says what made them, for the
    provenance, and what the user should know. Without a checkpoint, this is also where a predictor refuses a
    target.
    """


@hookspec
def openfoldpp_transform_features(
    features: dict[str, Any], target: Target, config: ConfigDict, options: Namespace
) -> str | None:
    """Add or alter the model's features, after upstream's feature pipeline has made them of the raw ones.

    They are tensors with upstream's recycling dimension last, and not yet on the model's device. A new key
    must not contain ``template_`` unless it is a template's: upstream tests for the substring. The text that
    is returned, if any, is told to the user and goes into the provenance. Not called without a checkpoint.
    """


@hookspec
def openfoldpp_prepare_model(model: Any, options: Namespace) -> str | None:
    """Change upstream's model once its weights are loaded: replace a method of a part, attach a module.

    Called once for each weights file, before its first target. The text that is returned, if any, is told to
    the user: what was chosen, and why. Random numbers that are drawn here do not change the prediction's.
    """


@hookspec(firstresult=True)
def openfoldpp_predict(model: Any, batch: dict[str, Any], target: Target) -> Output | dict | None:
    """Predict the target instead of running the model; the first result that is not None wins.

    ``model`` is upstream's model with its weights loaded, or None where no checkpoint was given; then
    ``batch`` holds the raw features as :func:`openfoldpp_make_features` returned them.
    """


@hookspec
def openfoldpp_write_outputs(output: Output, target: Target, paths: OutputPaths) -> None:
    """Write extra files beside OpenFold's own, for example at ``paths.file("notes.txt")``."""


@hookspec
def openfoldpp_progress(event: ProgressEvent) -> None:
    """Hear of each step of the run: phase, fraction of the whole, target."""
