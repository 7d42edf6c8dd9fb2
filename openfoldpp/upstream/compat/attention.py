"""``attn_core_inplace_cuda``: the compiled softmax that OpenFold's attention imports without asking."""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import AbstractContextManager
from functools import cache
from types import ModuleType
from typing import Any

from openfoldpp.upstream.compat.overlay import module_supplied
from openfoldpp.upstream.compat.record import ALL_RELEASES, Mend, Record
from openfoldpp.upstream.locate import Installation

EXTENSION = "attn_core_inplace_cuda"

# What the extension raises where it was built without CUDA, before it touches a tensor.
_BUILT_WITHOUT_CUDA = "not implemented on CPU"


def _probe(installation: Installation) -> str | None:
    if importlib.util.find_spec(EXTENSION) is None:
        return f"{EXTENSION} is not installed, and openfold imports it unconditionally"
    return f"{EXTENSION} as upstream builds it serves CUDA tensors alone; a CPU tensor raises or crashes"


@cache
def _compiled() -> ModuleType | None:
    if importlib.util.find_spec(EXTENSION) is None:
        return None
    import torch  # noqa: F401 - the extension links against its libraries and cannot be loaded before

    return importlib.import_module(EXTENSION)


def _either(function: str, compiled: ModuleType | None) -> Any:
    """Return `function`: the compiled one for CUDA tensors where it was built for them, else ours."""
    from openfoldpp.ops import attn_core_inplace

    ours = getattr(attn_core_inplace, function)

    def dispatch(tensor: Any, *args: Any) -> None:
        if compiled is not None and tensor.device.type == "cuda":
            try:
                getattr(compiled, function)(tensor, *args)
                return
            except RuntimeError as error:
                if _BUILT_WITHOUT_CUDA not in str(error):
                    raise
        ours(tensor, *args)

    return dispatch


def _contents() -> dict[str, Any]:
    compiled = _compiled()
    return {function: _either(function, compiled) for function in ("forward_", "backward_")}


def _supplied() -> AbstractContextManager:
    return module_supplied(EXTENSION, **_contents())


def _names(module: ModuleType) -> dict[str, Any]:
    # For a process that imported openfold before openfoldpp.
    seen = ModuleType(EXTENSION)
    seen.__dict__.update(_contents())
    return {EXTENSION: seen}


RECORDS = (
    Record(
        name=EXTENSION,
        versions=ALL_RELEASES,
        probe=_probe,
        mends=tuple(
            Mend(module, during=_supplied, names=_names)
            for module in ("openfold.utils.kernel.attention_core", "openfold.model.structure_module")
        ),
        breaks="the compiled extension has to be built, and serves CUDA alone: no prediction on a CPU",
        supplies="openfoldpp's softmax and its gradient; CUDA tensors go to the extension where it was built",
        upstream_issue="#131, #213, #257, #259, #293, #340, #445, #451",
        drop_when="OpenFold imports the extension only for CUDA tensors",
    ),
)
