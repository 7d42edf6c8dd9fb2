"""Backbone fragments of antibody Fvs: windows of ten residues, and how far apart their backbones are.

The Fvs are generated (:mod:`openfoldpp.training.antibody_sequences`) and modelled by FlashABB; or they are
crystal structures. A window is known by its *place*, the IMGT number at which it begins, because windows of
two Fvs at the same place are mostly alike: what is learned has to be judged among them too.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openfoldpp.errors import InputError
from openfoldpp.files import atomic_write
from openfoldpp.motifs.sequence_identity import near
from openfoldpp.plm.cheap_head import K
from openfoldpp.training.antibody_sequences import VariableDomain, generate

#: N, CA and C of each residue.
BACKBONE = ("N", "CA", "C")
#: Chains that share this part of their residues, or more, are near: none such is tested on.
IDENTITY = 0.9
#: Fvs in a file of models: a killed run repeats at most these.
SHARD = 50

# A window belongs to the CDR that has at least half of its residues.
_MOST = K // 2
# IMGT numbers of the regions' first residues: FR1, CDR1, FR2, CDR2, FR3, CDR3, FR4; one past the end.
_REGIONS = (1, 27, 39, 56, 66, 105, 118, 129)


@dataclass(frozen=True)
class Chain:
    """One variable domain with its backbone.

    Attributes
    ----------
    sequence : str
        One-letter codes.
    is_heavy : bool
        Whether it is of a heavy chain.
    cdrs : tuple of (int, int)
        CDR1, CDR2 and CDR3 by IMGT, as ``[start, end)``.
    backbone : numpy.ndarray of shape (N_res, A, 3), float32
        N, CA, C and, where it was asked for, O, angstrom.
    """

    sequence: str
    is_heavy: bool
    cdrs: tuple[tuple[int, int], ...]
    backbone: np.ndarray

    @property
    def imgt(self) -> np.ndarray:
        """IMGT number of each residue without insertion letters, int16 ``[N_res]``.

        Frameworks are counted from the CDR beside them, CDRs from both ends. The number is exact but for
        framework residues beyond a position that the domain leaves empty (10, 73, 81, 82): they are shifted,
        alike in domains of a kind.
        """
        numbers = np.empty(len(self.sequence), np.int16)
        for region, (start, end) in enumerate(_spans(self)):
            first, after, count = _REGIONS[region], _REGIONS[region + 1], end - start
            forward, backward = first + np.arange(count), after - count + np.arange(count)
            if region in (0, 4):
                numbers[start:end] = backward
            elif region in (2, 6):
                numbers[start:end] = forward
            else:
                half = (count + 1) // 2
                # Insertions have the numbers of the two positions in the middle.
                middle = first + (after - first - 1) // 2
                numbers[start : start + half] = np.minimum(forward[:half], middle)
                numbers[start + half : end] = np.maximum(backward[half:], middle + 1)
        return numbers


@dataclass(frozen=True)
class Windows:
    """Every window of :data:`K` residues of some Fvs; windows of different chains do not mix.

    Attributes
    ----------
    fragments : numpy.ndarray of shape (N, 3 K, 3), float32
        N, CA and C of the residues, angstrom, centred.
    letters : numpy.ndarray of shape (N, K), uint8
        ASCII codes of the residues.
    fv : numpy.ndarray of shape (N,), int32
        Number of the Fv.
    is_heavy : numpy.ndarray of shape (N,), bool
        Whether the window is of a heavy chain.
    place : numpy.ndarray of shape (N,), int16
        IMGT number of the first residue.
    cdr : numpy.ndarray of shape (N,), int8
        1, 2 or 3: the CDR that at least half of the residues belong to; 0: none.
    """

    fragments: np.ndarray
    letters: np.ndarray
    fv: np.ndarray
    is_heavy: np.ndarray
    place: np.ndarray
    cdr: np.ndarray

    def __len__(self) -> int:
        return len(self.fv)


def draw(count: int, seed: int) -> list[tuple[VariableDomain, VariableDomain]]:
    """Generate pairs of a heavy and a light variable domain, of a human or a mouse, drawn independently else.

    Parameters
    ----------
    count : int
        How many. Those of a smaller count are the first of these.
    seed : int
        Other numbers give other pairs.

    Returns
    -------
    list of (VariableDomain, VariableDomain)

    Raises
    ------
    MissingDependencyError
        OLGA is not installed.
    """
    heavy = generate(count, [seed, 0], chain_types="Hh")
    human, mouse = (generate(count, [seed, 1], chain_types=kinds) for kinds in ("KL", "kl"))
    return [(one, mouse[i] if one.chain_type.islower() else human[i]) for i, one in enumerate(heavy)]


def draw_apart(
    count: int, seed: int, others: Sequence[tuple[VariableDomain, VariableDomain]]
) -> list[tuple[VariableDomain, VariableDomain]]:
    """Generate pairs of which neither chain is 90 % identical to one of others, such as those trained on.

    Parameters
    ----------
    count : int
        How many.
    seed : int
        See :func:`draw`.
    others : sequence of (VariableDomain, VariableDomain)
        Heavy chains are compared with their heavy chains, light ones with their light ones; see
        :func:`openfoldpp.motifs.sequence_identity.near`.

    Returns
    -------
    list of (VariableDomain, VariableDomain)

    Raises
    ------
    MissingDependencyError
        OLGA is not installed.
    """
    found: list[tuple[VariableDomain, VariableDomain]] = []
    drawn = 0
    while len(found) < count:
        pairs = draw(drawn + count, seed)[drawn:]
        drawn += count
        apart = np.ones(len(pairs), bool)
        for side in (0, 1):
            references = [pair[side].sequence for pair in others]
            apart &= ~near([pair[side].sequence for pair in pairs], references, IDENTITY)
        found += [pair for pair, kept in zip(pairs, apart, strict=True) if kept]
    return found[:count]


def model_fvs(
    pairs: Sequence[tuple[VariableDomain, VariableDomain]],
    folder: Path,
    name: str,
    *,
    atoms: int = len(BACKBONE),
    progress: Callable[[int], None] | None = None,
) -> list[tuple[Chain, Chain]]:
    """Model Fvs with FlashABB; what a former run has modelled is read.

    Parameters
    ----------
    pairs : sequence of (VariableDomain, VariableDomain)
        Heavy and light chains.
    folder : pathlib.Path
        For the models, :data:`SHARD` Fvs a file.
    name : str
        The files are ``NAME_NUMBER.npz``.
    atoms : int
        Atoms of each residue: N, CA, C and, as the fourth, O.
    progress : callable, optional
        Told how many Fvs there are, after each file.

    Returns
    -------
    list of (Chain, Chain)
        In the order of the pairs.

    Raises
    ------
    MissingDependencyError
        flash-abb is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for first in range(0, len(pairs), SHARD):
        some = pairs[first : first + SHARD]
        backbones = _models(folder / f"{name}_{first // SHARD:03d}.npz", some, atoms)
        for (heavy, light), backbone in zip(some, backbones, strict=True):
            cut = len(heavy.sequence)
            found.append(
                (
                    Chain(heavy.sequence, True, heavy.cdrs, backbone[:cut]),
                    Chain(light.sequence, False, light.cdrs, backbone[cut:]),
                )
            )
        if progress:
            progress(len(found))
    return found


def _models(
    path: Path, pairs: Sequence[tuple[VariableDomain, VariableDomain]], atoms: int
) -> list[np.ndarray]:
    """Return the backbones of Fvs, from the file if it begins with these very sequences and has the atoms."""
    names = [f"{heavy.sequence}|{light.sequence}" for heavy, light in pairs]
    ends = np.cumsum([len(name) - 1 for name in names])
    backbone = None
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            if stored["fvs"][: len(names)].tolist() == names and stored["backbone"].shape[1] >= atoms:
                backbone = stored["backbone"][: ends[-1], :atoms]
    if backbone is None:
        from openfoldpp.teachers import flashabb

        predictor = flashabb.load()
        models = [predictor.predict(heavy.sequence, light.sequence) for heavy, light in pairs]
        # FlashABB's atom14 order begins with N, CA, C and O for every residue type.
        backbone = np.concatenate([model.coords[:, :atoms] for model in models]).astype(np.float32)
        with atomic_write(path) as file:
            np.savez(file, fvs=np.array(names), backbone=backbone)
    return np.split(backbone, ends[:-1])


def crystal_fvs(folder: Path) -> list[tuple[Chain, Chain]]:
    """Read crystal structures of Fvs.

    Parameters
    ----------
    folder : pathlib.Path
        Has ``chains.json`` (by name and chain H or L: ``sequence``, ``cdr1``, ``cdr2``, ``cdr3``) and
        ``NAME.pdb`` with chains H and L, without a gap.

    Returns
    -------
    list of (Chain, Chain)
        In the order of ``chains.json``.

    Raises
    ------
    InputError
        A structure's residues are not those of its sequence, or one lacks a backbone atom.
    """
    from biotite.structure.io import pdb

    found = []
    for name, entry in json.loads((folder / "chains.json").read_text(encoding="utf-8")).items():
        atoms = pdb.PDBFile.read(folder / f"{name}.pdb").get_structure(model=1)
        pair = []
        for label in "HL":
            chain = entry["chains"][label]
            parts = [atoms[(atoms.chain_id == label) & (atoms.atom_name == atom)] for atom in BACKBONE]
            for atom, part in zip(BACKBONE, parts, strict=True):
                if len(part) != len(chain["sequence"]):
                    raise InputError(
                        f"{folder / name}.pdb: chain {label} has {len(part)} atoms {atom} for "
                        f"{len(chain['sequence'])} residues; give structures without a gap"
                    )
            cdrs = tuple(tuple(chain[f"cdr{number}"]) for number in (1, 2, 3))
            backbone = np.stack([part.coord for part in parts], axis=1).astype(np.float32)
            pair.append(Chain(chain["sequence"], label == "H", cdrs, backbone))
        found.append(tuple(pair))
    return found


def windows(fvs: Sequence[tuple[Chain, Chain]]) -> Windows:
    """Cut Fvs into windows at stride 1; chains in order, each from its first residue on.

    Parameters
    ----------
    fvs : sequence of (Chain, Chain)
        See :func:`model_fvs` and :func:`crystal_fvs`.

    Returns
    -------
    Windows
    """
    found: dict[str, list[np.ndarray]] = {
        name: [] for name in ("fragments", "letters", "fv", "is_heavy", "place", "cdr")
    }
    for number, chain in ((number, chain) for number, fv in enumerate(fvs) for chain in fv):
        count = len(chain.sequence) - K + 1
        inside = np.zeros((3, len(chain.sequence)))
        for row, (start, end) in zip(inside, chain.cdrs, strict=True):
            row[start:end] = 1
        share = np.lib.stride_tricks.sliding_window_view(inside, K, axis=1).sum(-1)
        letters = np.frombuffer(chain.sequence.encode(), np.uint8)
        found["fragments"].append(fragments(chain.backbone))
        found["letters"].append(np.lib.stride_tricks.sliding_window_view(letters, K))
        found["fv"].append(np.full(count, number, np.int32))
        found["is_heavy"].append(np.full(count, chain.is_heavy))
        found["place"].append(chain.imgt[:count])
        found["cdr"].append(np.where(share.max(0) >= _MOST, share.argmax(0) + 1, 0).astype(np.int8))
    return Windows(**{name: np.concatenate(parts) for name, parts in found.items()})


def fragments(backbone: np.ndarray) -> np.ndarray:
    """Cut a chain into the fragments of its windows.

    Parameters
    ----------
    backbone : numpy.ndarray of shape (N_res, A, 3)
        A atoms of each residue.

    Returns
    -------
    numpy.ndarray of shape (N_res - 9, A K, 3), float32
        Centred.
    """
    cut = np.lib.stride_tricks.sliding_window_view(backbone, K, axis=0)  # [N, A, 3, K]
    atoms = cut.transpose(0, 3, 1, 2).reshape(len(cut), -1, 3)
    return (atoms - atoms.mean(1, keepdims=True)).astype(np.float32)


def _spans(chain: Chain) -> Iterator[tuple[int, int]]:
    """FR1, CDR1, FR2, CDR2, FR3, CDR3 and FR4 as ``[start, end)``."""
    bounds = [0, *(bound for cdr in chain.cdrs for bound in cdr), len(chain.sequence)]
    yield from itertools.pairwise(bounds)
