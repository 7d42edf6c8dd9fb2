"""How good coarse models are: TM-score, RMSD, and how far their confidence is from the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from openfoldpp.geometry.lddt import lddt_ca
from openfoldpp.geometry.superposition import ca_rmsd, tm_score
from openfoldpp.motifs.graph_compositor import GraphCompositor
from openfoldpp.training.compositor_samples import Sample

_BINS = 10


@dataclass(frozen=True)
class Figures:
    """Of several models.

    Attributes
    ----------
    tm, median_tm, rmsd : float
        TM-score, mean and median, over all residues, those that nothing covers counted as 0; mean RMSD of CA
        of those that are covered, angstrom.
    ece : float
        Expected calibration error (Guo et al. 2017, arXiv 1706.04599): how far the confidence is from the
        lDDT of CA, over ten bins of the confidence.
    bins : list of dict
        Of each bin: where it begins, residues, mean confidence, mean lDDT.
    """

    tm: float
    median_tm: float
    rmsd: float
    ece: float
    bins: list[dict[str, float]]


def measure(model: GraphCompositor, samples: Sequence[Sample]) -> Figures:
    """Compose samples and compare them with the truth.

    Parameters
    ----------
    model : GraphCompositor
        In any mode.
    samples : sequence of Sample
        One or more.

    Returns
    -------
    Figures
    """
    made = []
    for sample in samples:
        with torch.no_grad():
            composed = model(sample.graph)
        covered = sample.graph["mask"].any(0).numpy()
        made.append(
            (composed.ca.numpy(), composed.confidence.sigmoid().numpy(), covered, sample.truth.numpy())
        )
    return figures(made)


def figures(models: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> Figures:
    """Compare models with the truth.

    Parameters
    ----------
    models : sequence of (numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray)
        Of each: CA ``[N_res, 3]``, confidence ``[N_res]``, 0 to 1, which residues are covered, bool
        ``[N_res]``, and true CA ``[N_res, 3]``, angstrom.

    Returns
    -------
    Figures
    """
    tm, rmsd, confidence, right = [], [], [], []
    for ca, trusted, covered, truth in models:
        tm.append(tm_of_part(ca, truth, covered))
        rmsd.append(ca_rmsd(ca[covered], truth[covered]))
        confidence.append(trusted[covered])
        lddt = lddt_ca(
            *(torch.from_numpy(np.asarray(x, np.float32)) for x in (ca, truth)), torch.from_numpy(covered)
        )
        right.append(lddt.numpy()[covered])
    error, bins = reliability(np.concatenate(confidence), np.concatenate(right))
    return Figures(float(np.mean(tm)), float(np.median(tm)), float(np.mean(rmsd)), error, bins)


def tm_of_part(ca: np.ndarray, truth: np.ndarray, covered: np.ndarray) -> float:
    """Return the TM-score over all residues of a model of some of them.

    Parameters
    ----------
    ca, truth : numpy.ndarray of shape (N_res, 3)
        Angstrom.
    covered : numpy.ndarray of shape (N_res,), bool
        Which residues the model has: the others count as 0, with the scale of the whole.

    Returns
    -------
    float
    """
    if covered.all():
        return tm_score(ca, truth)
    # Residues that are off by a thousand angstrom add nothing; each another way, so that they never fit.
    lost = np.flatnonzero(~covered)
    far = np.array(ca, np.float64)
    far[lost] = truth[lost] + 1e3 * (1 + np.arange(len(lost)))[:, None] * [1.0, 0, 0]
    return tm_score(far, truth)


def reliability(confidence: np.ndarray, right: np.ndarray) -> tuple[float, list[dict[str, float]]]:
    """Say how far the confidence is from what it stands for.

    Parameters
    ----------
    confidence, right : numpy.ndarray of shape (N,)
        0 to 1.

    Returns
    -------
    float
        Expected calibration error.
    list of dict
        Of each bin that is not empty.
    """
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    table = [
        {
            "from": int(i) / _BINS,
            "residues": int((bins == i).sum()),
            "confidence": float(confidence[bins == i].mean()),
            "lddt": float(right[bins == i].mean()),
        }
        for i in np.unique(bins)
    ]
    error = sum(row["residues"] * abs(row["confidence"] - row["lddt"]) for row in table) / len(right)
    return float(error), table
