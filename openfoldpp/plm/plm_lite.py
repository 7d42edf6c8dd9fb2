"""plm_lite: every second block of AntiBERTy, trained to stand in for all of them, in 4 bits.

It reads antibody variable domains. How it was trained is in :mod:`openfoldpp.training.plm_lite`, what it
reaches in ``docs/reports/plm_lite.md``. Files that ``openfoldpp train plm-lite`` makes of other teachers
load here too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from openfoldpp.errors import WeightsError
from openfoldpp.files import atomic_write
from openfoldpp.plm.alphabet import ANTIBERTY, ESM
from openfoldpp.plm.embedder import LanguageModel
from openfoldpp.plm.quantization import nf4
from openfoldpp.plm.transformer import Architecture, Encoder, make_table
from openfoldpp.plm.weights import dtype_of, fingerprint, load_state, read_safetensors

NAME = "plm_lite"
FORMAT = "openfoldpp plm_lite 1"
#: Channels of the head.
HEAD_CHANNELS = 64
ALPHABETS = {"antiberty": ANTIBERTY, "esm": ESM}
_CODES, _SCALES = ".nf4", ".scales"
# The level nearest to each of 2 x 127 + 1 steps from -1 to 1, in parts of a block's largest weight: looking a
# value up takes an eighth of the time of searching its level, and training does so at every step.
_STEPS = 127
_NEAREST = nf4.LEVELS[(torch.linspace(-1, 1, 2 * _STEPS + 1)[:, None] - nf4.LEVELS).abs().argmin(1)]
_SHIPPED = Path(__file__).parents[1] / "weights" / "plm_lite.safetensors"


class NarrowEncoder(Encoder):
    """An encoder whose blocks are narrower than its embedding and its output, between two linear layers.

    Parameters
    ----------
    architecture : Architecture
        Of the blocks; its `channels` are theirs.
    channels : int
        Of the embedding and the output, ``C_plm``.
    """

    def __init__(self, architecture: Architecture, channels: int):
        super().__init__(architecture)
        self.tokens = make_table(architecture.vocabulary, channels)
        if architecture.positions:
            self.positions = make_table(architecture.positions, channels)
        if architecture.norm_embedding:
            self.norm_embedding = nn.LayerNorm(channels, eps=architecture.eps)
        self.narrow = nn.Linear(channels, architecture.channels, bias=False)
        self.widen = nn.Linear(architecture.channels, channels)

    def forward(self, tokens: Tensor, lengths: Sequence[int], layer: int | None = None) -> Tensor:
        """Embed token numbers as :class:`Encoder` does; any layer's output is widened to ``C_plm``."""
        return self.widen(super().forward(tokens, lengths, layer))

    def embedding(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return what the first block sees, ``[N_tokens, C]``."""
        return self.narrow(super().embedding(tokens, lengths))


class LiteModel(LanguageModel):
    """A distilled language model: an embedder, and a head that makes its embedding short.

    Parameters
    ----------
    name : str
        As :func:`openfoldpp.plm.load` takes it.
    encoder : Encoder
        With its weights.
    head : torch.nn.Linear
        From ``C_plm`` to 64 channels.
    settings : mapping
        Of the file: ``alphabet``, ``max_residues``, ``channels``.
    layer : int, optional
        Whose output is the embedding; by default the last.
    fingerprint : callable
        See :class:`LanguageModel`.
    """

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        head: nn.Linear,
        settings: Mapping[str, Any],
        *,
        layer: int | None = None,
        fingerprint: Callable[[int], str],
    ):
        super().__init__(
            name,
            encoder,
            ALPHABETS[settings["alphabet"]],
            max_residues=settings["max_residues"],
            layer=layer,
            fingerprint=fingerprint,
        )
        self.channels = settings["channels"]
        self.settings = dict(settings)
        self.head = head.eval().requires_grad_(False)

    def project(self, embedding: Tensor) -> Tensor:
        """Shorten an embedding, so that distances between residues stay those of the teacher's embedding.

        Parameters
        ----------
        embedding : torch.Tensor of shape (..., N_res, C_plm)
            What :meth:`embed` returns.

        Returns
        -------
        torch.Tensor of shape (..., N_res, 64)
            float32, where the embedding is.
        """
        weight, bias = self.head.weight, self.head.bias
        with torch.inference_mode():
            return nn.functional.linear(
                embedding.float(), weight.to(embedding.device), bias.to(embedding.device)
            )


def load(
    name: str = NAME,
    *,
    weights: Path | None = None,
    layer: int | None = None,
    dtype: str | None = None,
    device: str = "cpu",
) -> LiteModel:
    """Load plm_lite, or another model that ``openfoldpp train plm-lite`` made.

    Parameters
    ----------
    name : str
        ``"plm_lite"``.
    weights : pathlib.Path, optional
        A file of that command; by default the one that comes with openfoldpp.
    layer : int, optional
        Whose output is the embedding; by default the last.
    dtype : str, optional
        In which it computes: ``float32`` (default), ``bfloat16`` or ``float16``. The weights are stored in
        4 bits and unpacked once.
    device : str
        A torch device.

    Returns
    -------
    LiteModel

    Raises
    ------
    WeightsError
        The file is damaged, or another model's.
    """
    path = weights or _SHIPPED
    identity = fingerprint(path, dtype)
    state, settings = read(path)
    with torch.device("meta"):
        encoder = make_encoder(settings)
        head = nn.Linear(settings["channels"], HEAD_CHANNELS)
    for module, prefix, kind in ((encoder, "encoder.", dtype_of(dtype)), (head, "head.", torch.float32)):
        part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        load_state(module, part, path=path, dtype=kind)

    return LiteModel(name, encoder.to(device), head, settings, layer=layer, fingerprint=identity)


def make_encoder(settings: Mapping[str, Any]) -> Encoder:
    """Return an encoder with weights not set, by ``architecture`` and ``channels`` of the `settings`."""
    architecture = Architecture(**settings["architecture"])
    if architecture.channels == settings["channels"]:
        return Encoder(architecture)
    return NarrowEncoder(architecture, settings["channels"])


def write(path: Path, encoder: Encoder, head: nn.Linear, settings: Mapping[str, Any]) -> None:
    """Write a model to a file, complete or not at all.

    Parameters
    ----------
    path : pathlib.Path
        The file, ``.safetensors``.
    encoder : Encoder
        Its linear layers are stored in 4 bits, the rest in float16.
    head : torch.nn.Linear
        Stored in float16.
    settings : mapping
        What :func:`load` needs: ``architecture`` (by name), ``channels``, ``alphabet``, ``max_residues``; and
        what else is to be known of the model.
    """
    modules = {"encoder": encoder, "head": head}
    state = {
        f"{part}.{key}": value.cpu()
        for part, one in modules.items()
        for key, value in one.state_dict().items()
    }
    linears = {
        f"encoder.{name}.weight" for name, one in encoder.named_modules() if isinstance(one, nn.Linear)
    }
    parameters = {f"{part}.{name}" for part, one in modules.items() for name, _ in one.named_parameters()}
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if key in linears:
            rounded = stored(value)
            tensors[f"{key}{_SCALES}"] = nf4.scales_of(rounded)
            tensors[f"{key}{_CODES}"] = nf4.encode(rounded, tensors[f"{key}{_SCALES}"])
        else:
            # Rotary frequencies, a buffer, keep their precision.
            kind = torch.float16 if key in parameters else value.dtype
            tensors[key] = value.detach().to(kind).contiguous()
    # One entry: safetensors writes several in any order, and the same model shall be the same file.
    data = save(tensors, {FORMAT: json.dumps(dict(settings))})
    with atomic_write(path, size=lambda: len(data)) as file:
        file.write(data)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of :func:`write`.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    (dict of str to torch.Tensor, dict)
        Weights, unpacked to float32, by ``encoder.NAME`` and ``head.NAME``; the settings.

    Raises
    ------
    WeightsError
        There is no such file, it is damaged, or of another kind.
    """
    metadata, state = read_safetensors(path)
    if FORMAT not in metadata:
        raise WeightsError(
            f"weights {path}: not a file of `openfoldpp train plm-lite` (its description has "
            f"{', '.join(metadata) or 'nothing'}, expected {FORMAT!r})"
        )
    try:
        settings = json.loads(metadata[FORMAT])
        _ = ALPHABETS[settings["alphabet"]], settings["max_residues"]
        with torch.device("meta"):
            encoder = make_encoder(settings)
    except (ValueError, TypeError, LookupError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise WeightsError(
            f"weights {path}: its description is damaged ({reason}); make or download it again"
        ) from error
    shapes = {f"encoder.{key}": value.shape for key, value in encoder.state_dict().items()}
    found = {key: value.float() for key, value in state.items() if not key.endswith((_CODES, _SCALES))}
    for key in (key.removesuffix(_CODES) for key in state if key.endswith(_CODES)):
        codes, scales, shape = state[f"{key}{_CODES}"], state.get(f"{key}{_SCALES}"), shapes.get(key)
        blocks = (shape[0], -(-shape[1] // nf4.BLOCK)) if shape and len(shape) == 2 else (0, 0)
        if scales is None or scales.shape != blocks or codes.shape != (blocks[0], blocks[1] * nf4.BLOCK // 2):
            raise WeightsError(
                f"weights {path}: {key} is not that of the model described; make the file again"
            )
        found[key] = nf4.decode(codes, scales, shape[1])
    return found, settings


def stored(weight: Tensor) -> Tensor:
    """Return a weight as a file holds it.

    Parameters
    ----------
    weight : torch.Tensor of shape (out, in)
        Of a linear layer.

    Returns
    -------
    torch.Tensor of shape (out, in)
        float32, on the NF4 grid: rounding it again changes nothing.
    """
    weight = weight.detach().float()
    scales = nf4.scales_of(weight).float().repeat_interleave(nf4.BLOCK, 1)[:, : weight.shape[1]]
    # A block of zeros has scale 0.
    steps = (weight * (_STEPS / scales.clamp_min(1e-7))).round_().add_(_STEPS).int().clamp_(0, 2 * _STEPS)
    return _NEAREST.to(weight.device).index_select(0, steps.view(-1)).view_as(weight) * scales
