"""From motif features to what is added to OpenFold's MSA and pair representations."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openfoldpp.errors import WeightsError
from openfoldpp.files import atomic_write
from openfoldpp.motifs.features import PAIR_CHANNELS, SINGLE_CHANNELS, VERSION
from openfoldpp.plm.weights import read_safetensors

_FORMAT = "openfoldpp motif projections 1"
_FLAG = "--motif_weights"


class MotifProjections(nn.Module):
    """Two linear maps without bias, for one preset: single features to ``C_m``, pair features to ``C_z``.

    New ones are zero, so that training starts from the model as it is; a file of zeros is refused, as nobody
    trained it. Without bias, features of zero add nothing, whatever the weights.

    Parameters
    ----------
    c_m, c_z : int
        Channels of the MSA and of the pair representation.
    preset : str
        OpenFold's configuration preset that it was trained with.
    """

    def __init__(self, *, c_m: int, c_z: int, preset: str):
        super().__init__()
        self.preset = preset
        self.single = nn.Parameter(torch.zeros(c_m, SINGLE_CHANNELS))
        self.pair = nn.Parameter(torch.zeros(c_z, PAIR_CHANNELS))

    @property
    def c_m(self) -> int:
        """Channels of the MSA representation."""
        return self.single.shape[0]

    @property
    def c_z(self) -> int:
        """Channels of the pair representation."""
        return self.pair.shape[0]

    def project_single(self, features: Tensor) -> Tensor:
        """Project single `features` ``[*, N_res, 256]`` to ``[*, N_res, C_m]``, in their dtype."""
        return F.linear(features, self.single.to(features.dtype))

    def project_pair(self, features: Tensor) -> Tensor:
        """Project pair `features` ``[*, PAIR_CHANNELS]`` to ``[*, C_z]``, in their dtype."""
        return F.linear(features, self.pair.to(features.dtype))

    def require_preset(self, preset: str, *, c_m: int, c_z: int) -> None:
        """Raise :class:`WeightsError` unless trained for a `preset` with `c_m` and `c_z` channels."""
        if (self.preset, self.c_m, self.c_z) != (preset, c_m, c_z):
            raise WeightsError(
                f"the motif weights were trained for preset {self.preset} with C_m {self.c_m} and C_z "
                f"{self.c_z}, and the model is {preset} with {c_m} and {c_z}: give --config_preset "
                f"{self.preset} with its weights, or another {_FLAG}"
            )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, complete or not at all.

        Parameters
        ----------
        path : path-like
            By convention it ends in ``.safetensors``.
        """
        told = {
            "format": _FORMAT,
            "feature_version": str(VERSION),
            "c_m": str(self.c_m),
            "c_z": str(self.c_z),
            "preset": self.preset,
        }
        state = self.state_dict()
        tensors = {name: value.detach().float().cpu().contiguous() for name, value in state.items()}
        content = safetensors.torch.save(tensors, metadata=told)
        with atomic_write(path, size=lambda: len(content)) as file:
            file.write(content)

    @classmethod
    def load(cls, path: str | Path) -> MotifProjections:
        """Read projections that :meth:`save` has written.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        MotifProjections
            In evaluation mode; its weights ask for no gradient.

        Raises
        ------
        WeightsError
            There is no such file, it is damaged or something else, was trained on features of another
            version, or was never trained.
        """
        path = Path(path).expanduser()
        told, tensors = read_safetensors(path, _FLAG)
        what = f"{_FLAG} {path}"
        if told.get("format") != _FORMAT:
            raise WeightsError(
                f"{what}: holds no motif projections (its format is {told.get('format')!r}, expected "
                f"{_FORMAT!r}); give the file that MotifProjections.save wrote"
            )
        try:
            version = int(told["feature_version"])
            projections = cls(c_m=int(told["c_m"]), c_z=int(told["c_z"]), preset=told["preset"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise WeightsError(
                f"{what}: what it says of itself is incomplete ({error}); write it again with "
                "MotifProjections.save"
            ) from error
        if version != VERSION:
            raise WeightsError(
                f"{what}: was trained on motif features of version {version}, and these are of version "
                f"{VERSION}: train it again, or use the openfoldpp that it was trained with"
            )
        expected = {name: tuple(value.shape) for name, value in projections.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in tensors.items()}
        if found != expected:
            raise WeightsError(f"{what}: holds {_words(found)}, expected {_words(expected)}")
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise WeightsError(f"{what}: holds NaN or infinity; train it again")
        if not any(tensor.any() for tensor in tensors.values()):
            raise WeightsError(
                f"{what}: all its weights are zero, so it was never trained, and motifs would have no "
                "effect; train it first, or give motifs as templates with --motif_templates"
            )
        projections.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return projections.requires_grad_(False).eval()


def _words(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items())) or "nothing"
