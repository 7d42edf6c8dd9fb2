"""Backbones by name: those that come with the package, and those that other packages add.

A package adds one through the entry-point group ``openfoldpp.plm``: the name, and a callable that takes the
name and the keywords ``weights``, ``layer``, ``dtype`` and ``device``, and returns an
:class:`~openfoldpp.plm.embedder.Embedder`.
"""

from __future__ import annotations

import difflib
import textwrap
from importlib import metadata
from pathlib import Path

import torch

from openfoldpp.errors import InputError, WeightsError
from openfoldpp.plm.embedder import Embedder

ENTRY_POINT_GROUP = "openfoldpp.plm"


def names() -> list[str]:
    """Return the name of every backbone that is installed."""
    return sorted({point.name for point in metadata.entry_points(group=ENTRY_POINT_GROUP)})


def load(
    name: str,
    weights: str | Path | None = None,
    layer: int | None = None,
    dtype: str | None = None,
    *,
    device: str = "cpu",
) -> Embedder:
    """Load a language model.

    Parameters
    ----------
    name : str
        One of :func:`names`, for example ``"antiberty"``, ``"esm1b"`` or ``"esm2_t33_650M_UR50D"``.
    weights : path-like, optional
        Its weights: a file of its own format, or one that ``openfoldpp quantize`` made; for ``precomputed`` a
        folder. By default those that come with its package or are in its cache.
    layer : int, optional
        Whose output is the embedding; by default the last. 0 is the model's input.
    dtype : str, optional
        In which it computes: ``float32`` (default), ``bfloat16`` or ``float16``.
    device : str
        A torch device.

    Returns
    -------
    Embedder

    Raises
    ------
    InputError
        There is no such model, layer, dtype or device, or two packages have a model of this name.
    WeightsError
        The weights are missing, damaged, or another model's.
    MissingDependencyError
        The package with its weights is not installed.

    Examples
    --------
    >>> from openfoldpp import plm
    >>> [embedding] = plm.load("antiberty").embed(["EVQLVESGGGLVQPGGSLRLSCAAS"])  # doctest: +SKIP
    >>> embedding.shape  # doctest: +SKIP
    torch.Size([25, 512])
    """
    found = [point for point in metadata.entry_points(group=ENTRY_POINT_GROUP) if point.name == name]
    if not found:
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else "is its package installed?"
        raise InputError(f"language model {name!r} is unknown; {hint} Known: {', '.join(names())}")
    if len(found) > 1:
        packages = " and ".join(sorted(f"{point.dist.name} ({point.value})" for point in found))
        raise InputError(
            f"language model {name!r} is in several packages: {packages}; uninstall all but one of them"
        )
    _check_device(device)
    path = Path(weights).expanduser() if weights is not None else None
    if path is not None and not path.exists():
        raise WeightsError(f"{name}: weights {path}: there is no such file or folder; correct the path")
    from openfoldpp.plm.quantization import is_quantised, load_quantised

    if path is not None and is_quantised(path):
        return load_quantised(path, name, layer=layer, dtype=dtype, device=device)
    return found[0].load()(name, weights=path, layer=layer, dtype=dtype, device=device)


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:  # what torch raises depends on its build
        raise InputError(
            f"device {device!r} cannot be used ({textwrap.shorten(str(error), 160)}); give cpu or another "
            "one with --device (of openfoldpp embed) or --model_device (of a prediction)"
        ) from error
