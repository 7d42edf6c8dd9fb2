"""What GraphCompositor learns from: graphs of the motifs of generated Fvs, and where their CA belong."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from openfoldpp.files import atomic_write
from openfoldpp.motifs.assembly import lay_out
from openfoldpp.motifs.coarse_graph import arrays_of, graph_of
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.retriever import Retriever
from openfoldpp.training.fragments import IDENTITY, Chain

# Fvs that are searched for at once: what a killed run repeats at most.
_AT_ONCE = 20
_CA = 1


class Sample(NamedTuple):
    """One Fv.

    Attributes
    ----------
    graph : dict of str to torch.Tensor
        See :class:`openfoldpp.motifs.coarse_graph.CoarseGraph`.
    truth : torch.Tensor of shape (N_res, 3)
        CA of its model, angstrom.
    """

    graph: dict[str, Tensor]
    truth: Tensor


def prepare(
    fvs: Sequence[tuple[Chain, Chain]], library: Library, folder: Path, say: Callable[[str], None] = print
) -> list[Path]:
    """Search for Fvs and write a file for each; those of a former run with this library are kept.

    Every second Fv is searched for without the library's chains that share 90 % of their residues with it, so
    that the network sees near relatives and distant ones.

    Parameters
    ----------
    fvs : sequence of (Chain, Chain)
        Not in the library.
    library : Library
        Searched.
    folder : pathlib.Path
        For the files.
    say : callable
        Gets a line of text now and then.

    Returns
    -------
    list of pathlib.Path
        In the order of the Fvs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    apart, near = Retriever(library, max_identity=IDENTITY), Retriever(library)
    paths = [folder / f"{number:05d}.npz" for number in range(len(fvs))]
    of_library = json.dumps(
        [[part.files["vectors.npy"].sha256 for part in manifest.parts] for manifest in library.manifests]
    )
    for first in range(0, len(fvs), _AT_ONCE):
        numbers = [
            number
            for number in range(first, min(first + _AT_ONCE, len(fvs)))
            if _stored(paths[number]) != (_sequence(fvs[number]), of_library)
        ]
        for retriever, parity in ((apart, 0), (near, 1)):
            some = [number for number in numbers if number % 2 == parity]
            sequences = [_sequence(fvs[number]) for number in some]
            for number, sequence, hits in zip(some, sequences, retriever.search(sequences), strict=True):
                layout = lay_out(sequence, hits, library, max_identity=retriever.max_identity)
                vectors = retriever.embedder.embed(list(layout.chains))
                truth = np.concatenate([chain.backbone[:, _CA] for chain in fvs[number]])
                with atomic_write(paths[number]) as file:
                    np.savez(
                        file,
                        sequence=np.array(sequence),
                        library=np.array(of_library),
                        truth=truth.astype(np.float32),
                        **arrays_of(graph_of(layout, vectors)),
                    )
        if numbers:
            say(f"searched for {min(first + _AT_ONCE, len(fvs))} of {len(fvs)} Fvs")
    return paths


def read(path: Path) -> Sample:
    """Read a sample that :func:`prepare` wrote to a `path`."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: torch.from_numpy(stored[name]) for name in stored.files if name not in _TOLD}
    return Sample(arrays, arrays.pop("truth"))


_TOLD = ("sequence", "library")


def _stored(path: Path) -> tuple[str, str] | None:
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        return str(stored["sequence"]), str(stored["library"])


def _sequence(fv: tuple[Chain, Chain]) -> str:
    return ":".join(chain.sequence for chain in fv)
