"""Helpers of OpenFold 2 that still look for parts of the model where version 1 had them.

2.0.0 moved the template parts into ``model.template_embedder``, and the pair part of an Evoformer block from
``block.core`` to ``block.pair_stack`` (its outer product mean to the block itself), and made a tuple of the
points of the invariant point attention. What only ``--long_sequence_inference`` and ``--trace_model`` call
was not changed with them.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from openfoldpp.upstream.compat.recompile import attribute, recompiled
from openfoldpp.upstream.compat.record import TWO, Mend, Record, reads
from openfoldpp.upstream.locate import Installation

_MOVED = (
    (
        re.compile(r"^model\.(template_(?:single_embedder|pair_embedder|pair_stack|pointwise_att))$"),
        r"model.template_embedder.\1",
    ),
    (re.compile(r"\.core\.outer_product_mean$"), ".outer_product_mean"),
    (re.compile(r"\.core$"), ".pair_stack"),
    (re.compile(r"^o_pt\.device$"), "o_pt[0].device"),
)


class _ToToday(ast.NodeTransformer):
    """Lead each chain of attributes to where the part is in version 2."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        former = ast.unparse(node)
        for pattern, replacement in _MOVED:
            now = pattern.sub(replacement, former)
            if now != former:
                moved = ast.parse(now, mode="eval").body
                moved.ctx = node.ctx
                return moved
        return self.generic_visit(node)


def _offloading_probe(installation: Installation) -> str | None:
    if not reads(installation, "model/template.py", "model.template_pair_embedder("):
        return None
    return "offloading looks for parts of the model where version 1 had them"


def _templates(module: Any) -> dict[str, Any]:
    names = ("embed_templates_offload", "embed_templates_average")
    return {f"{name}.__code__": recompiled(attribute(module, name), _ToToday()) for name in names}


def _points(module: Any) -> dict[str, Any]:
    function = module.InvariantPointAttention.forward
    return {"InvariantPointAttention.forward.__code__": recompiled(function, _ToToday())}


def _tracing_probe(installation: Installation) -> str | None:
    if not reads(installation, "utils/trace_utils.py", "model.template_pair_stack"):
        return None
    return "tracing looks for parts of the model where version 1 had them"


def _tracing(module: Any) -> dict[str, Any]:
    return {"trace_model_.__code__": recompiled(module.trace_model_, _ToToday())}


RECORDS = (
    Record(
        name="offloading",
        versions=TWO,
        probe=_offloading_probe,
        mends=(
            Mend("openfold.model.template", names=_templates),
            Mend("openfold.model.structure_module", names=_points),
        ),
        breaks="`--long_sequence_inference` stops: 'AlphaFold' has no attribute 'template_pair_embedder'",
        supplies="the same functions, which find the parts of the model where they are",
        upstream_issue="#489, #574",
        drop_when="OpenFold has mended it",
    ),
    Record(
        name="tracing",
        versions=TWO,
        probe=_tracing_probe,
        mends=(Mend("openfold.utils.trace_utils", names=_tracing),),
        breaks="`--trace_model` stops: 'AlphaFold' has no attribute 'template_pair_stack'",
        supplies="the same function, which finds the parts of the model where they are",
        upstream_issue="#574",
        drop_when="OpenFold has mended it",
    ),
)
