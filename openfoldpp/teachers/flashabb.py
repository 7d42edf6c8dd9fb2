"""FlashABB: the structure of an antibody Fv, a heavy and a light variable domain, from its sequences.

Ellmen et al. 2026, "Modelling antibody structures at the speed of language"
(doi:10.64898/2026.06.03.729879). The weights come inside the package, under the BSD 3-clause licence.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import metadata, resources
from typing import Any

import numpy as np

from openfoldpp.errors import InputError, MissingDependencyError
from openfoldpp.geometry import residues

PACKAGE = "flash-abb"
#: The letters that FlashABB is used with. It draws an X as a glycine, which is no prediction of it.
AMINO_ACIDS = residues.LETTERS[: residues.UNKNOWN]


def source() -> str:
    """Name and version of the predictor, for example ``"flash-abb 0.0.5"``.

    Raises
    ------
    MissingDependencyError
        If the package is not installed.
    """
    try:
        return f"{PACKAGE} {metadata.version(PACKAGE)}"
    except metadata.PackageNotFoundError as error:
        raise _missing(error) from error


@dataclass(frozen=True)
class FlashABBPrediction:
    """What FlashABB predicts of one Fv; residues of the heavy chain first.

    Attributes
    ----------
    coords : numpy.ndarray of shape (N_res, 14, 3), float32
        Atom14 coordinates, angstrom. Atoms that a residue type lacks are meaningless; see the mask.
    mask : numpy.ndarray of shape (N_res, 14), float32
        1 for the atoms that the residue type has.
    plddt_logits : numpy.ndarray of shape (N_res, 50), float32
        Of 50 equal bins of CA lDDT from 0 to 100.
    """

    coords: np.ndarray
    mask: np.ndarray
    plddt_logits: np.ndarray


class FlashABB:
    """The network with the weights that are part of the installed package.

    Dropout-LayerNorm correction is on, as the package has it. There is no sampling: a seed has no
    effect, and the same sequences give the same result.

    Parameters
    ----------
    device : str, default "cpu"
        A torch device.

    Raises
    ------
    MissingDependencyError
        If the package flash-abb is not installed.
    """

    def __init__(self, device: str = "cpu"):
        import torch

        try:
            import yaml
            from flash_abb.model import dlc
            from flash_abb.model import flash_abb as network
        except ModuleNotFoundError as error:
            raise _missing(error) from error

        weights = resources.files("flash_abb") / "weights"
        parameters = yaml.safe_load((weights / "params.yaml").read_text(encoding="utf-8"))["model"]
        # The package's own loader unpickles anything; these are plain tensors and need no such trust.
        with resources.as_file(weights / "flabb_weights.pt") as path:
            state = torch.load(path, map_location="cpu", weights_only=True)
        model = network.FlashABB(parameters)
        model.load_state_dict(state)
        self._structure_module = model.to(device).eval().model
        dlc.install(self._structure_module, mode_flag={"value": "on"})
        self._featurize = network.featurize
        self._atom14_mask = network.residue_constants.restype_atom14_mask
        self.device = torch.device(device)

    def predict(self, heavy: str, light: str) -> FlashABBPrediction:
        """Predict one Fv.

        Parameters
        ----------
        heavy, light : str
            Variable domains, one-letter codes of the 20 amino acids.

        Returns
        -------
        FlashABBPrediction
            ``N_res`` is ``len(heavy) + len(light)``.

        Raises
        ------
        InputError
            If a chain is empty or has other letters.
        """
        import torch

        for name, chain in (("heavy", heavy), ("light", light)):
            other = sorted(set(chain) - set(AMINO_ACIDS))
            if other or not chain:
                found = f"letters {''.join(other)!r}" if other else "no residues"
                raise InputError(f"{name} chain has {found}; expected one or more of {AMINO_ACIDS}")
        features: dict[str, Any] = self._featurize([f"{heavy}|{light}"], self.device)
        with torch.no_grad():
            output = self._structure_module(
                {"single": features["single"]}, features["aatype"], features["res_idx"], features["mask"]
            )
        return FlashABBPrediction(
            # One structure for each of the 8 blocks; the last is the prediction.
            coords=output["positions"][-1, 0].float().cpu().numpy(),
            mask=self._atom14_mask[features["aatype"][0].cpu().numpy()],
            plddt_logits=output["plddt"][0].float().cpu().numpy(),
        )


@functools.lru_cache(maxsize=1)
def load(device: str = "cpu") -> FlashABB:
    """Load FlashABB, or return the one that this process has loaded on the device.

    Parameters
    ----------
    device : str, default "cpu"
        A torch device.

    Returns
    -------
    FlashABB
        One instance, shared.

    Raises
    ------
    MissingDependencyError
        If the package flash-abb is not installed.
    """
    return FlashABB(device)


def _missing(error: Exception) -> MissingDependencyError:
    return MissingDependencyError(
        f"predicting an antibody Fv needs the package {PACKAGE} ({error}); "
        "install it with: pip install 'openfoldpp[fv]'"
    )
