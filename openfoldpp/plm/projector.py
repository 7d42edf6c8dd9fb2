"""From a language model's embedding to the one row of OpenFold's MSA representation."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openfoldpp.errors import WeightsError
from openfoldpp.files import atomic_write
from openfoldpp.plm.embedder import Embedder
from openfoldpp.plm.weights import read_safetensors

_FORMAT = "openfoldpp token projector 1"
_WEIGHT = "weight"


class TokenProjector(nn.Module):
    """A linear map without bias, ``C_plm`` to ``C_m``, for one language model and one preset.

    What it gives takes the place of the embedded MSA: ``m = projector(e) + linear_tf_m(target_feat)``, one
    row (Jumper et al. 2021, supplementary algorithm 3, line 6). A new one is zero, so that training starts
    from the sequence alone; a file of zeros is refused, as nobody trained it.

    Parameters
    ----------
    plm : str
        Name of the language model, as :func:`openfoldpp.plm.load` takes it.
    layer : int or None
        Whose output it reads; None for a model that has no layers to choose from.
    c_plm, c_m : int
        Channels of the embedding and of the MSA representation.
    preset : str
        OpenFold's configuration preset that it was trained with.
    fingerprint : str
        Of the embedder that it was trained on; empty where that is not known.
    """

    def __init__(
        self, plm: str, *, layer: int | None, c_plm: int, c_m: int, preset: str, fingerprint: str = ""
    ):
        super().__init__()
        self.plm = plm
        self.layer = layer
        self.preset = preset
        self.fingerprint = fingerprint
        self.weight = nn.Parameter(torch.zeros(c_m, c_plm))

    @property
    def c_plm(self) -> int:
        """Channels of the embedding."""
        return self.weight.shape[1]

    @property
    def c_m(self) -> int:
        """Channels of the MSA representation."""
        return self.weight.shape[0]

    def forward(self, embedding: Tensor) -> Tensor:
        """Project embeddings.

        Parameters
        ----------
        embedding : torch.Tensor of shape (*, N_res, C_plm)
            Of the language model.

        Returns
        -------
        torch.Tensor of shape (*, N_res, C_m)
            In the embedding's dtype.
        """
        return F.linear(embedding, self.weight.to(embedding.dtype))

    def require(self, embedder: Embedder, *, c_m: int, preset: str) -> str | None:
        """Make sure that this is the projector of an embedder and of a model.

        Parameters
        ----------
        embedder : Embedder
            The language model in use.
        c_m : int
            Channels of the model's MSA representation.
        preset : str
            The model's configuration preset.

        Returns
        -------
        str or None
            What the user should know: that it was trained on embeddings of the same model with other weights
            or in another dtype, quantised ones for example; or that model or layer are not known.

        Raises
        ------
        WeightsError
            It was trained for another language model, layer or preset, or its shape does not fit.
        """
        self.require_preset(preset, c_m=c_m)
        # Of embeddings that were made before, it may not be known.
        model, layer = getattr(embedder, "model", embedder.name), getattr(embedder, "layer", None)
        found = (model or self.plm, self.layer if layer is None else layer, embedder.channels)
        if found != (self.plm, self.layer, self.c_plm):
            raise WeightsError(
                f"the projector was trained for {_words(self.plm, self.layer, self.c_plm)}, and the language "
                f"model in use is {_words(*found)}: give --plm {self.plm} and its layer, embeddings of that, "
                "or another --projector_weights"
            )
        unknown = ["model"] * (model is None) + ["layer"] * (layer is None and self.layer is not None)
        if unknown:
            return (
                f"the projector takes embeddings of {_words(self.plm, self.layer, self.c_plm)}; these do not "
                f"say their {' and '.join(unknown)}"
            )
        if self.fingerprint and not embedder.fingerprint.endswith(self.fingerprint):
            return (
                f"the projector was trained on embeddings of {self.plm} with other weights or in another "
                f"dtype ({self.fingerprint[:12]}..., now {embedder.fingerprint[:12]}...)"
            )
        return None

    def require_preset(self, preset: str, *, c_m: int) -> None:
        """Raise :class:`WeightsError` unless this was trained for a `preset` with `c_m` channels."""
        if (self.preset, self.c_m) != (preset, c_m):
            raise WeightsError(
                f"the projector was trained for preset {self.preset} with {self.c_m} channels, and the model "
                f"is {preset} with {c_m}: give --config_preset {self.preset} with its weights, or another "
                "--projector_weights"
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
            "plm": self.plm,
            "layer": "" if self.layer is None else str(self.layer),
            "c_plm": str(self.c_plm),
            "c_m": str(self.c_m),
            "preset": self.preset,
            "fingerprint": self.fingerprint,
        }
        weight = self.weight.detach().float().cpu().contiguous()
        content = safetensors.torch.save({_WEIGHT: weight}, metadata=told)
        with atomic_write(path, size=lambda: len(content)) as file:
            file.write(content)

    @classmethod
    def load(cls, path: str | Path) -> TokenProjector:
        """Read a projector that :meth:`save` has written.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        TokenProjector
            In evaluation mode; its weight asks for no gradient.

        Raises
        ------
        WeightsError
            There is no such file, it is damaged or something else, or it was never trained.
        """
        path = Path(path).expanduser()
        told, tensors = read_safetensors(path, "--projector_weights")
        if told.get("format") != _FORMAT:
            raise WeightsError(
                f"--projector_weights {path}: is no token projector (its format is {told.get('format')!r}, "
                f"expected {_FORMAT!r}); give the file that TokenProjector.save wrote"
            )
        try:
            layer = int(told["layer"]) if told["layer"] else None
            shape = int(told["c_m"]), int(told["c_plm"])
            projector = cls(
                told["plm"], layer=layer, c_plm=shape[1], c_m=shape[0], preset=told["preset"],
                fingerprint=told["fingerprint"],
            )  # fmt: skip
        except (KeyError, ValueError) as error:
            raise WeightsError(
                f"--projector_weights {path}: what it says of itself is incomplete ({error}); write it again "
                "with TokenProjector.save"
            ) from error
        weight = tensors.get(_WEIGHT)
        if set(tensors) != {_WEIGHT} or tuple(weight.shape) != shape:
            found = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items()) or "nothing"
            raise WeightsError(f"--projector_weights {path}: holds {found}, expected {_WEIGHT} {list(shape)}")
        if not torch.isfinite(weight).all():
            raise WeightsError(f"--projector_weights {path}: holds NaN or infinity; train it again")
        if not weight.any():
            raise WeightsError(
                f"--projector_weights {path}: all its weights are zero, so it was never trained, and the "
                "language model would have no effect; train it first"
            )
        projector.weight = nn.Parameter(weight.float(), requires_grad=False)
        return projector.eval()


def _words(plm: str, layer: int | None, channels: int) -> str:
    return f"{plm}{'' if layer is None else f', layer {layer}'}, {channels} channels"
