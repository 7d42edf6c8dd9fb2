"""What today's torch asks of its callers: where a file's tensors go, and a renamed function."""

from __future__ import annotations

import ast
import importlib.metadata
from functools import partial
from types import MappingProxyType, ModuleType
from typing import Any

from openfoldpp.upstream.compat.overlay import Overlay
from openfoldpp.upstream.compat.recompile import attribute, functions_reading, recompiled
from openfoldpp.upstream.compat.record import ALL_RELEASES, TWO, Mend, Record, reads
from openfoldpp.upstream.locate import Installation


def _load_probe(installation: Installation) -> str | None:
    if not reads(installation, "utils/script_utils.py", "torch.load(ckpt_path)"):
        return None
    return (
        "checkpoints are read with torch.load without map_location, so one saved on a GPU fails on a machine "
        "without, and before torch 2.6 without weights_only"
    )


def _embedding_probe(installation: Installation) -> str | None:
    if not reads(installation, "data/data_pipeline.py", "torch.load(path)"):
        return None
    return (
        "SoloSeq embeddings are read with torch.load without map_location, so one saved on a GPU fails on a "
        "machine without, and before torch 2.6 without weights_only"
    )


def _load(module: ModuleType) -> dict[str, Any]:
    torch = module.torch

    def load(file: Any, **kwargs: Any) -> Any:
        return torch.load(file, **{"map_location": "cpu", "weights_only": True, **kwargs})

    return {"torch": Overlay(torch, load=load)}


def _autocast_probe(installation: Installation) -> str | None:
    if not reads(installation, "utils/precision_utils.py", "torch.get_autocast_gpu_dtype()"):
        return None
    version = importlib.metadata.version("torch")
    return f"the model calls get_autocast_gpu_dtype and cuda.amp.autocast, which torch {version} deprecates"


class _ToAmp(ast.NodeTransformer):
    """Write ``torch.amp.autocast("cuda", ...)`` and ``torch.get_autocast_dtype("cuda")``."""

    _NEW = MappingProxyType(
        {
            "torch.cuda.amp.autocast": "torch.amp.autocast",
            "torch.get_autocast_gpu_dtype": "torch.get_autocast_dtype",
        }
    )

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        new = self._NEW.get(ast.unparse(node.func))
        if new is not None:
            node.func = ast.parse(new, mode="eval").body
            node.args.insert(0, ast.Constant("cuda"))
        return node


def _autocast(name: str, module: ModuleType) -> dict[str, Any]:
    return {
        f"{dotted}.__code__": recompiled(attribute(module, dotted), _ToAmp())
        for dotted in functions_reading(module, name)
    }


# Where each module calls which of the two.
_AUTOCAST = {
    "openfold.utils.precision_utils": "get_autocast_gpu_dtype",
    "openfold.model.heads": "autocast",
    "openfold.model.outer_product_mean": "autocast",
    "openfold.model.primitives": "autocast",
    "openfold.model.structure_module": "autocast",
    "openfold.model.triangular_multiplicative_update": "autocast",
}

_GPU_FILE = "a file saved on a GPU cannot be read on a machine without one"

RECORDS = (
    Record(
        name="torch.load",
        versions=ALL_RELEASES,
        probe=_load_probe,
        mends=(Mend("openfold.utils.script_utils", names=_load),),
        breaks=f"checkpoints are read without `map_location`: {_GPU_FILE}",
        supplies="`map_location='cpu'` (the model is moved to its device afterwards) and `weights_only=True`",
        upstream_issue=None,
        drop_when="OpenFold passes both itself",
    ),
    Record(
        name="torch.load of an embedding",
        versions=TWO,
        probe=_embedding_probe,
        mends=(Mend("openfold.data.data_pipeline", names=_load),),
        breaks=f"SoloSeq's embeddings are read without `map_location`: {_GPU_FILE}",
        supplies="`map_location='cpu'` (features are moved to the device afterwards) and `weights_only=True`",
        upstream_issue=None,
        drop_when="OpenFold passes both itself",
    ),
    Record(
        name="torch.cuda.amp",
        versions=ALL_RELEASES,
        probe=_autocast_probe,
        mends=tuple(Mend(module, names=partial(_autocast, name)) for module, name in _AUTOCAST.items()),
        breaks="torch deprecated `torch.get_autocast_gpu_dtype` and `torch.cuda.amp.autocast`: runs warn",
        supplies="the same calls by today's names: `torch.get_autocast_dtype`, `torch.amp.autocast`",
        upstream_issue=None,
        drop_when="OpenFold uses today's names",
    ),
)
