"""Which release and preset an output is of, told by its contents or by the name of its file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openfoldpp.upstream.schema import (
    Leaf,
    Schema,
    available,
    describe,
    differences,
    load,
    presets,
    versions,
)


@dataclass(frozen=True)
class Match:
    """The schema that an output comes nearest to.

    Attributes
    ----------
    schema : Schema
        Of all that are equally near, the newest release's, and ``model_1``'s before other presets'.
    problems : tuple of str
        How the output departs from it, as :func:`openfoldpp.upstream.schema.differences` says; empty where
        it fits.
    same : tuple of (str, str)
        Version and preset of the others asked about that the output fits, or departs from, alike.
    """

    schema: Schema
    problems: tuple[str, ...]
    same: tuple[tuple[str, str], ...]


def closest(output: Mapping[str, Any], version: str | None = None, preset: str | None = None) -> Match:
    """Find the schema with the fewest differences from an output.

    Parameters
    ----------
    output : mapping
        An output dictionary, as loaded from ``NAME_output_dict.pkl``.
    version, preset : str, optional
        Ask only about this release, or this preset.

    Returns
    -------
    Match

    Raises
    ------
    SchemaError
        There is no such release or preset, or something in the output is no array.
    """
    asked = [pair for pair in available() if version in (None, pair[0]) and preset in (None, pair[1])]
    if not asked:
        load(version or versions()[-1], preset or presets(version)[0])  # raises, with what there is
    order = {release: -number for number, release in enumerate(versions())}
    schemas = sorted(
        (load(*pair) for pair in asked),
        key=lambda s: (order[s.version], not re.match(r"model_1(_|$)", s.preset), s.preset),
    )
    problems = [differences(output, schema) for schema in schemas]
    best = min(range(len(schemas)), key=lambda i: len(problems[i]))  # the first of equals
    same = tuple(
        (schema.version, schema.preset)
        for i, schema in enumerate(schemas)
        if i != best and problems[i] == problems[best]
    )
    return Match(schemas[best], tuple(problems[best]), same)


def preset_in_name(name: str) -> str | None:
    """Read the preset off the name of an output's file.

    Parameters
    ----------
    name : str
        ``TAG_PRESET_output_dict.pkl``, or with a postfix ``TAG_PRESET_POSTFIX_output_dict.pkl``.

    Returns
    -------
    str or None
        None where the name has no known preset, or, the tag or the postfix being like one, two.
    """
    known = sorted({preset for _, preset in available()}, key=len, reverse=True)
    found = re.findall(rf"(?<=_)(?:{'|'.join(map(re.escape, known))})(?=_)", name)
    return found[0] if len(found) == 1 else None


def symbolic(output: Mapping[str, Any], schema: Schema) -> tuple[dict[str, Leaf], dict[str, int]]:
    """Describe an output with a schema's symbols, so that outputs of other sizes can be compared.

    Parameters
    ----------
    output : mapping
        An output dictionary.
    schema : Schema
        The one that it comes nearest to.

    Returns
    -------
    leaves : dict of str to Leaf
        As :func:`openfoldpp.upstream.schema.describe`, with a symbol where the schema has one; a number where
        a symbol would stand for another size than before.
    sizes : dict of str to int
        What each symbol stands for.
    """
    sizes: dict[str, int] = {}
    leaves = {}
    for path, leaf in describe(output).items():
        expected = schema.leaves.get(path, leaf).dims
        if len(expected) == len(leaf.dims):
            dims = tuple(
                symbol if isinstance(symbol, str) and sizes.setdefault(symbol, size) == size else size
                for symbol, size in zip(expected, leaf.dims, strict=True)
            )
            leaf = Leaf(leaf.dtype, dims)
        leaves[path] = leaf
    return leaves, sizes
