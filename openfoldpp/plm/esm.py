"""ESM-1b and ESM-2, from the weights files that fair-esm uses.

ESM-1b: Rives et al. 2021 (doi:10.1073/pnas.2016239118). ESM-2: Lin et al. 2023 (doi:10.1126/science.ade2574).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openfoldpp.errors import WeightsError
from openfoldpp.plm.alphabet import ESM
from openfoldpp.plm.embedder import LanguageModel
from openfoldpp.plm.transformer import Architecture, Encoder
from openfoldpp.plm.weights import dtype_of, fingerprint, load_state, read_torch_file

_ESM1B_FILE = "esm1b_t33_650M_UR50S"
# ESM-1b has 1,024 learned positions; the begin and the end token take one each.
ESM1B_MAX_RESIDUES = 1022
# fair-esm's positions start behind those of its padding token, number 1.
_FIRST_POSITION = 2

#: Layers, channels and heads of each model.
SIZES = {
    "esm1b": (33, 1280, 20),
    "esm2_t6_8M_UR50D": (6, 320, 20),
    "esm2_t12_35M_UR50D": (12, 480, 20),
    "esm2_t30_150M_UR50D": (30, 640, 20),
    "esm2_t33_650M_UR50D": (33, 1280, 20),
    "esm2_t36_3B_UR50D": (36, 2560, 40),
    "esm2_t48_15B_UR50D": (48, 5120, 40),
}
NAMES = tuple(SIZES)


def load(
    name: str,
    *,
    weights: Path | None = None,
    layer: int | None = None,
    dtype: str | None = None,
    device: str = "cpu",
) -> LanguageModel:
    """Load a model of fair-esm's.

    Parameters
    ----------
    name : str
        One of :data:`NAMES`.
    weights : pathlib.Path, optional
        Its ``.pt`` file; by default the one in fair-esm's own cache, torch hub's.
    layer : int, optional
        Whose output is the embedding; by default the last.
    dtype : str, optional
        In which it computes: ``float32`` (default), ``bfloat16`` or ``float16``.
    device : str
        A torch device.

    Returns
    -------
    LanguageModel

    Raises
    ------
    WeightsError
        The file is missing, damaged, or another model's.
    """
    path = weights or _cached_file(name)
    identity = fingerprint(path, dtype)
    data = read_torch_file(path)
    if not isinstance(data.get("model"), Mapping):
        raise WeightsError(
            f"weights {path}: has no 'model', as fair-esm's files have; expected that of {name}"
        )
    state = encoder_state(data["model"], path)
    architecture = architecture_of(name)
    _check_size(name, state, path)
    with torch.device("meta"):
        encoder = Encoder(architecture)
    load_state(encoder, state, path=path, dtype=dtype_of(dtype))

    return LanguageModel(
        name,
        encoder.to(device),
        ESM,
        max_residues=ESM1B_MAX_RESIDUES if name == "esm1b" else None,
        layer=layer,
        fingerprint=identity,
    )


def architecture_of(name: str) -> Architecture:
    """Return the architecture of a model by its name in :data:`NAMES`."""
    layers, channels, heads = SIZES[name]
    first = name == "esm1b"
    return Architecture(
        layers=layers,
        channels=channels,
        heads=heads,
        hidden=4 * channels,
        vocabulary=len(ESM.tokens),
        positions=ESM1B_MAX_RESIDUES + 2 if first else 0,
        norm_embedding=first,
    )


def encoder_state(given: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the encoder's weights by our names.

    Parameters
    ----------
    given : mapping of str to torch.Tensor
        ``"model"`` of a file of fair-esm's. The heads (tokens, contacts) are left out.
    path : pathlib.Path
        For messages.

    Returns
    -------
    dict of str to torch.Tensor

    Raises
    ------
    WeightsError
        A projection of an attention is missing, or the layers' rotary frequencies differ.
    """
    names = {
        "self_attn.out_proj": "attention.output",
        "self_attn_layer_norm": "norm_attention",
        "fc1": "expand",
        "fc2": "contract",
        "final_layer_norm": "norm_transition",
    }
    top = {
        "embed_tokens": "tokens",
        "embed_positions": "positions",
        "emb_layer_norm_before": "norm_embedding",
        "emb_layer_norm_after": "norm_last",
    }
    state: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    frequencies: list[Tensor] = []
    for name, tensor in given.items():
        short = re.sub(r"^(encoder\.)?(sentence_encoder\.)?", "", name)
        module, _, kind = short.rpartition(".")
        if found := re.fullmatch(r"layers\.(\d+)\.self_attn\.([qkv])_proj", module):
            parts.setdefault(f"blocks.{found[1]}.attention.qkv.{kind}", {})[found[2]] = tensor
        elif re.fullmatch(r"layers\.\d+\.self_attn\.rot_emb", module):
            frequencies.append(tensor.float())
        elif found := re.fullmatch(r"layers\.(\d+)\.(.+)", module):
            if found[2] in names:
                state[f"blocks.{found[1]}.{names[found[2]]}.{kind}"] = tensor
        elif module in top:
            state[f"{top[module]}.{kind}"] = tensor
    for name, pieces in parts.items():
        if set(pieces) != set("qkv"):
            raise WeightsError(f"weights {path}: {name} lacks a part; it has {', '.join(sorted(pieces))}")
        state[name] = torch.cat([pieces[part] for part in "qkv"])
    if frequencies:
        if not all(torch.equal(frequencies[0], other) for other in frequencies):
            raise WeightsError(f"weights {path}: rotary frequencies differ between layers; expected one set")
        state["frequencies"] = frequencies[0]
    if "positions.weight" in state:
        state["positions.weight"] = state["positions.weight"][_FIRST_POSITION:]
    return state


def _check_size(name: str, state: Mapping[str, Tensor], path: Path) -> None:
    """Name the model that a file belongs to where it is another's."""
    tokens = state.get("tokens.weight")
    if tokens is None:
        raise WeightsError(f"weights {path}: has no token embedding; expected fair-esm's file of {name}")
    layers = 1 + max((int(key.split(".")[1]) for key in state if key.startswith("blocks.")), default=-1)
    found = (layers, tokens.shape[1], "positions.weight" in state)
    expected = (*SIZES[name][:2], name == "esm1b")
    if found != expected:
        others = [other for other in NAMES if (*SIZES[other][:2], other == "esm1b") == found]
        whose = f"the file of {others[0]}" if others else f"a model of {layers} layers, {found[1]} channels"
        raise WeightsError(f"weights {path}: {whose}, expected {name}; give its name with --plm, or its file")


def _cached_file(name: str) -> Path:
    file = f"{_ESM1B_FILE if name == 'esm1b' else name}.pt"
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        raise WeightsError(
            f"{name}: its weights file {file} is not in fair-esm's cache ({path.parent}). Download it from "
            f"https://dl.fbaipublicfiles.com/fair-esm/models/{file} and put it there, or name it: "
            "--plm_weights FILE (openfoldpp.plm.load(..., weights=FILE))"
        )
    return path
