"""Pairs of backbone fragments, and how well a distance between windows ranks their RMSD.

Most of an Fv's windows look like those of any other Fv at the same place. Over pairs from anywhere, a
distance that merely knew the place of a window would rank RMSDs well; within one place it would be worth
nothing. So there are three kinds of pairs, always of two Fvs: from anywhere, at the same place, and at the
same place of a CDR; and agreement is also measured within each place by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from openfoldpp.errors import InputError
from openfoldpp.geometry.superposition import fragment_rmsd
from openfoldpp.training.fragments import Windows

#: Pairs of any two windows; of windows at the same place; of those, windows of a CDR.
KINDS = ("anywhere", "same place", "same CDR place")

# Places that fewer Fvs have are left out: a rank correlation among so few says little.
_FEWEST = 20
# Above every IMGT number: keeps the numbers of heavy chains, and of each CDR, apart.
_HEAVY = 1000


class Pairs:
    """Draws pairs of windows of two different Fvs.

    Parameters
    ----------
    windows : Windows
        Of at least two Fvs.

    Raises
    ------
    InputError
        They are of one Fv.
    """

    def __init__(self, windows: Windows):
        if len(np.unique(windows.fv)) < 2:
            raise InputError("pairs of fragments are of two Fvs: give more than one")
        self.windows = windows
        every, cdr = np.arange(len(windows)), np.flatnonzero(windows.cdr)
        places = windows.place.astype(np.int64) + _HEAVY * windows.is_heavy
        # At one place the windows of some Fvs may be a CDR's and those of others, whose CDR is short, not.
        self._cdr_places = places + 2 * _HEAVY * windows.cdr.astype(np.int64)
        self._groups = {
            "same place": _Groups(every, places),
            "same CDR place": _Groups(cdr, self._cdr_places[cdr]),
        }

    def draw(self, kind: str, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw pairs, each window as likely as any other.

        Parameters
        ----------
        kind : str
            One of :data:`KINDS`.
        count : int
            How many pairs.
        rng : numpy.random.Generator
            The source of chance.

        Returns
        -------
        (numpy.ndarray, numpy.ndarray)
            Numbers of the first and of the second windows, int64 ``[count]``.
        """
        first, second = np.empty(0, np.int64), np.empty(0, np.int64)
        while len(first) < count:
            missing = count - len(first)
            if kind == "anywhere":
                a, b = rng.integers(len(self.windows), size=(2, missing))
            else:
                a, b = self._groups[kind].draw(missing, rng)
            other = self.windows.fv[a] != self.windows.fv[b]
            first, second = np.append(first, a[other]), np.append(second, b[other])
        return first, second

    def within_places(
        self, count: int, rng: np.random.Generator
    ) -> list[tuple[tuple[int, bool], np.ndarray, np.ndarray]]:
        """Draw pairs at each place of a CDR, and of the framework, apart.

        Parameters
        ----------
        count : int
            Pairs at all places together, less those that are of one Fv.
        rng : numpy.random.Generator
            The source of chance.

        Returns
        -------
        list of ((int, bool), numpy.ndarray, numpy.ndarray)
            CDR (0: framework) and whether it is of a heavy chain; numbers of the first and the second
            windows.
        """
        places = {key: np.flatnonzero(self._cdr_places == key) for key in np.unique(self._cdr_places)}
        places = {
            key: members
            for key, members in places.items()
            if len(np.unique(self.windows.fv[members])) >= _FEWEST
        }
        found = []
        for key, members in places.items():
            a, b = members[rng.integers(len(members), size=(2, max(1, count // len(places))))]
            other = self.windows.fv[a] != self.windows.fv[b]
            cdr, is_heavy = divmod(int(key) // _HEAVY, 2)
            found.append(((cdr, bool(is_heavy)), a[other], b[other]))
        return found

    def rmsd(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the RMSD of each pair's fragments, the `first` window's and the `second`'s, angstrom."""
        return fragment_rmsd(self.windows.fragments[first], self.windows.fragments[second])


class _Groups:
    """Members sorted by a key, so that a second one with the key of a first is drawn at once."""

    def __init__(self, members: np.ndarray, keys: np.ndarray):
        order = np.argsort(keys, kind="stable")
        self._members = members[order]
        _, starts, inverse, counts = np.unique(
            keys[order], return_index=True, return_inverse=True, return_counts=True
        )
        self._start, self._count = starts[inverse], counts[inverse]

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        a = rng.integers(len(self._members), size=count)
        b = self._start[a] + (rng.random(count) * self._count[a]).astype(np.int64)
        return self._members[a], self._members[b]


def agreement(
    windows: Windows,
    distances: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]],
    *,
    count: int = 30_000,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Spearman correlation of distances between windows with the RMSD of their fragments.

    Parameters
    ----------
    windows : Windows
        Of Fvs that were not learned from.
    distances : mapping of str to callable
        By name: takes the numbers of the first and of the second windows, returns their distances.
    count : int
        Pairs of each kind; and, of the pairs within places, at most four times as many in all.
    seed : int
        Of the pairs; all distances are measured on the same ones.

    Returns
    -------
    dict of str to dict of str to float
        By name of the distance: one figure for each of :data:`KINDS`, over all its pairs; and the mean over
        places of the correlation within a place: ``"within a place"``, of them those of a CDR, ``"within a
        CDR place"``, and of the heavy chain's third, ``"within a CDR-H3 place"``.
    """
    pairs, rng = Pairs(windows), np.random.default_rng(seed)
    found: dict[str, dict[str, float]] = {name: {} for name in distances}
    for kind in KINDS:
        first, second = pairs.draw(kind, count, rng)
        rmsd = pairs.rmsd(first, second)
        for name, distance in distances.items():
            found[name][kind] = spearman(distance(first, second), rmsd)
    places = pairs.within_places(4 * count, rng)
    rmsds = [pairs.rmsd(first, second) for _, first, second in places]
    chosen = {
        "within a place": [True for _ in places],
        "within a CDR place": [cdr > 0 for (cdr, _), _, _ in places],
        "within a CDR-H3 place": [(cdr, heavy) == (3, True) for (cdr, heavy), _, _ in places],
    }
    for name, distance in distances.items():
        values = np.array(
            [
                spearman(distance(first, second), rmsd)
                for (_, first, second), rmsd in zip(places, rmsds, strict=True)
            ]
        )
        for label, mask in chosen.items():
            found[name][label] = float(values[mask].mean()) if any(mask) else float("nan")
    return found


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return the rank correlation of `a` and `b`; equal values share a rank; 0 if one is constant."""
    a, b = (_ranks(np.asarray(values)) for values in (a, b))
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / norm) if norm > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]
