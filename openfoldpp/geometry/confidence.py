"""Confidence as OpenFold's heads write it: logits over equal bins, their expectations, and the way back.

pLDDT has 50 bins over 0 to 100 (AlphaFold 2 supplement, algorithm 29); aligned errors have 64 bins of
half an angstrom (1.9.7), the last one open: its centre, 31.75, stands for all larger errors. An
expectation lies between the first and the last centre, so nothing outside can be written as logits.
"""

from __future__ import annotations

import numpy as np

from openfoldpp import _native

#: Logit of a bin that has no part in the value: exp(-100) adds nothing to a float32 sum, and it is finite.
NO_PROBABILITY: float = -100.0
#: Width of a bin of aligned error, angstrom: upstream's 62 steps between 0 and 31.
PAE_BIN_WIDTH: float = 0.5
#: Parts of the interface's and of the whole prediction's TM-score in the confidence of a multimer
#: (AlphaFold-Multimer, Evans et al. 2021).
IPTM_WEIGHT, PTM_WEIGHT = 0.8, 0.2
#: First and last inner edge of upstream's distogram bins, angstrom.
DISTOGRAM_EDGES: tuple[float, float] = (2.3125, 21.6875)
#: Standard deviation, angstrom, of a distance that is read off a structure. About the error of a good
#: prediction, and wider than a bin (0.3125), so that the logits are a curve and not one bin.
DISTANCE_DEVIATION: float = 0.5


def plddt_bin_centers(bins: int = 50) -> np.ndarray:
    """Centres of the pLDDT bins, float64 ``[bins]``: 1, 3, ..., 99 for 50 bins."""
    return (np.arange(bins) + 0.5) * (100.0 / bins)


def pae_bin_centers(bins: int = 64) -> np.ndarray:
    """Centres of the aligned-error bins in angstrom, float64 ``[bins]``: 0.25, 0.75, ..., 31.75 for 64."""
    return (np.arange(bins) + 0.5) * PAE_BIN_WIDTH


def distogram_bin_centers(bins: int = 64) -> np.ndarray:
    """Centres of the distogram bins in angstrom, float64 ``[bins]``; the first and last are open bins."""
    first, last = DISTOGRAM_EDGES
    width = (last - first) / (bins - 2)
    return first + (np.arange(bins) - 0.5) * width


def encode_in_bins(values: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Logits whose softmax has the given expectation, on the two bins whose centres enclose it.

    Parameters
    ----------
    values : numpy.ndarray
        Any shape ``[*]``. Values outside the centres are clipped to the nearest.
    centers : numpy.ndarray
        ``[bins]``, rising.

    Returns
    -------
    numpy.ndarray
        float32 ``[*, bins]``; all other bins have :data:`NO_PROBABILITY`.

    Raises
    ------
    ValueError
        A value is not finite, or the centres do not rise.
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("values: some are not finite, expected numbers")
    logits = _native.coords.encode_in_bins(values.ravel(), centers, NO_PROBABILITY)
    return logits.reshape(*values.shape, len(centers))


def bin_expectation(logits: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Softmax over the last axis, and the mean of the bins' centres under it.

    Parameters
    ----------
    logits : numpy.ndarray
        ``[*, bins]``, read as float32.
    centers : numpy.ndarray
        ``[bins]``, rising.

    Returns
    -------
    expectation : numpy.ndarray
        float32 ``[*]``, in the unit of the centres.
    probabilities : numpy.ndarray
        float32 ``[*, bins]``.

    Raises
    ------
    ValueError
        The last axis is not as long as the centres, or the centres do not rise.
    """
    logits = np.asarray(logits)
    expectation, probabilities = _native.coords.bin_expectation(logits.reshape(-1, logits.shape[-1]), centers)
    return expectation.reshape(logits.shape[:-1]), probabilities.reshape(logits.shape)


def expected_lddt(logits: np.ndarray) -> np.ndarray:
    """pLDDT, 0 to 100, of each residue: float32 ``[N_res]`` from logits ``[N_res, bins]``."""
    return bin_expectation(logits, plddt_bin_centers(np.shape(logits)[-1]))[0]


def expected_pae(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predicted aligned error and its distribution.

    Parameters
    ----------
    logits : numpy.ndarray
        ``[N_res, N_res, bins]``; rows are the residues on whose frame structures are aligned.

    Returns
    -------
    pae : numpy.ndarray
        float32 ``[N_res, N_res]``, angstrom.
    probabilities : numpy.ndarray
        float32 ``[N_res, N_res, bins]``.
    """
    return bin_expectation(logits, pae_bin_centers(np.shape(logits)[-1]))


def predicted_tm_score(logits: np.ndarray) -> float:
    """Predicted TM-score of a whole prediction (AlphaFold 2 supplement, 1.9.7), 0 to 1.

    Parameters
    ----------
    logits : numpy.ndarray
        ``[N_res, N_res, bins]``, aligned-error logits.

    Returns
    -------
    float
        The best over alignment frames; below 19 residues the length counts as 19, as upstream has it.

    Raises
    ------
    ValueError
        The first two axes differ in length.
    """
    return _native.coords.predicted_tm_score(logits, pae_bin_centers(np.shape(logits)[-1]))


def interface_tm_score(probabilities: np.ndarray, chain_index: np.ndarray) -> float:
    """Predicted TM-score of the interfaces between chains (ipTM of AlphaFold-Multimer), 0 to 1.

    Parameters
    ----------
    probabilities : numpy.ndarray
        ``[N_res, N_res, bins]``, of aligned errors, from :func:`expected_pae`.
    chain_index : numpy.ndarray
        int ``[N_res]``: only pairs of residues of different chains count.

    Returns
    -------
    float
        The best over alignment frames, the pTM of Evans et al. 2021 restricted to pairs across chains; the
        length is that of all chains, and counts as 19 below that. 0 where there is one chain, as upstream
        has it.
    """
    length = max(len(chain_index), 19)
    d0 = 1.24 * np.cbrt(length - 15) - 1.8
    tm_of_bin = 1 / (1 + (pae_bin_centers(probabilities.shape[-1]) / d0) ** 2)
    across = chain_index[:, None] != chain_index
    terms = np.where(across, probabilities @ tm_of_bin.astype(probabilities.dtype), 0)
    return float((terms.sum(axis=1) / np.maximum(across.sum(axis=1), 1)).max())


def distogram_logits(points: np.ndarray, known: np.ndarray, bins: int = 64) -> np.ndarray:
    """Distances read off a structure as distogram logits.

    A normal density about each distance, of :data:`DISTANCE_DEVIATION`, taken at the bins' centres. Over the
    last centre all but the last bin vanish quickly, as the distance is not clipped.

    Parameters
    ----------
    points : numpy.ndarray
        ``[N_res, 3]``, angstrom, from :func:`openfoldpp.geometry.atoms.pseudo_beta`.
    known : numpy.ndarray
        bool ``[N_res]``.
    bins : int, optional
        Number of bins.

    Returns
    -------
    numpy.ndarray
        float32 ``[N_res, N_res, bins]``, symmetric; the nearest bin has 0, the others less. All 0, which
        says nothing, where a point is unknown.

    Raises
    ------
    ValueError
        Shapes do not fit.
    """
    return _native.coords.distance_logits(points, known, distogram_bin_centers(bins), DISTANCE_DEVIATION)
