"""Tensors indexed by a list of slices, which torch reads as the tuple of them, and says it will not for ever.

torch 2.13 (``treatSequenceAsTuple`` in ``torch/csrc/autograd/python_variable_indexing.cpp``) takes
``x[[a, b]]`` for ``x[a, b]`` where the list holds a slice, a tensor, a sequence, None or an ellipsis, and
warns that a later release will take it for ``x[torch.tensor([a, b])]``: an error, or another result. The
few functions that do so are compiled anew with ``tuple(...)`` around those lists.
"""

from __future__ import annotations

import ast
import importlib.metadata
from functools import partial
from types import ModuleType
from typing import Any

from openfoldpp.upstream.compat.recompile import attribute, recompiled
from openfoldpp.upstream.compat.record import ALL_RELEASES, Mend, Record, reads
from openfoldpp.upstream.locate import Installation

# For each module: the functions, and the lists by which they index.
LISTS: dict[str, dict[str, frozenset[str]]] = {
    "openfold.utils.tensor_utils": {"batched_gather": frozenset({"ranges"})},
    "openfold.model.triangular_multiplicative_update": {
        "TriangleMultiplicativeUpdate._inference_forward": frozenset(
            {
                "s",
                "first_half_slicer",
                "quadrant_3_slicer",
                "z_cache_slicer",
                "z_chunk_slicer",
                "z_slicer",
            }
        )
    },
    "openfold.model.template": {"embed_templates_average": frozenset({"s"})},
    # `curry1` hides the function behind a closure that functools.wraps has marked.
    "openfold.data.data_transforms": {"random_crop_to_size.__wrapped__": frozenset({"slices"})},
}


def _probe(installation: Installation) -> str | None:
    if not reads(installation, "utils/tensor_utils.py", "data[ranges]"):
        return None
    version = importlib.metadata.version("torch")
    return (
        f"tensors are indexed by lists of slices, which torch {version} reads as tuples; later ones may not"
    )


class _ToTuples(ast.NodeTransformer):
    def __init__(self, lists: frozenset[str]):
        self._lists = lists

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.slice, ast.Name) and node.slice.id in self._lists:
            call = ast.Call(func=ast.Name("tuple", ast.Load()), args=[node.slice], keywords=[])
            node.slice = ast.copy_location(call, node.slice)
        return node


def _codes(functions: dict[str, frozenset[str]], module: ModuleType) -> dict[str, Any]:
    return {
        f"{dotted}.__code__": recompiled(attribute(module, dotted), _ToTuples(lists))
        for dotted, lists in functions.items()
    }


RECORDS = (
    Record(
        name="indexing by lists",
        versions=ALL_RELEASES,
        probe=_probe,
        mends=tuple(Mend(module, names=partial(_codes, lists)) for module, lists in LISTS.items()),
        breaks="torch warns, hundreds of times in a run, that `x[[slice, ...]]` will mean something else",
        supplies="the same functions, indexing by tuples",
        upstream_issue=None,
        drop_when="OpenFold indexes by tuples",
    ),
)
