"""AntiBERTy, the antibody language model, from the weights in its package.

Ruffolo et al. 2021 (arXiv 2112.07782). The weights come inside the package ``antiberty`` 0.1.3, under the MIT
licence. The package itself is not imported: it needs transformers below 5.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from openfoldpp.errors import MissingDependencyError, WeightsError
from openfoldpp.plm.alphabet import ANTIBERTY
from openfoldpp.plm.embedder import LanguageModel
from openfoldpp.plm.transformer import Architecture, Encoder
from openfoldpp.plm.weights import dtype_of, fingerprint, load_state, read_torch_file

NAME = "antiberty"
PACKAGE = "antiberty"
_FILE = "antiberty/trained_models/AntiBERTy_md_smooth/pytorch_model.bin"
# 512 learned positions, of which the begin and the end token take two.
MAX_RESIDUES = 510
ARCHITECTURE = Architecture(
    layers=8,
    channels=512,
    heads=8,
    hidden=2048,
    vocabulary=len(ANTIBERTY.tokens),
    positions=MAX_RESIDUES + 2,
    norm_first=False,
    norm_embedding=True,
    scale_embedding=False,
    eps=1e-12,
)


def load(
    name: str = NAME,
    *,
    weights: Path | None = None,
    layer: int | None = None,
    dtype: str | None = None,
    device: str = "cpu",
) -> LanguageModel:
    """Load AntiBERTy.

    Parameters
    ----------
    name : str
        ``"antiberty"``.
    weights : pathlib.Path, optional
        A ``pytorch_model.bin``; by default that of the installed package.
    layer : int, optional
        Whose output is the embedding; by default the last, the eighth.
    dtype : str, optional
        In which it computes: ``float32`` (default), ``bfloat16`` or ``float16``.
    device : str
        A torch device.

    Returns
    -------
    LanguageModel

    Raises
    ------
    MissingDependencyError
        No file is given, and the package is not installed or is a release without weights.
    WeightsError
        The file is damaged, or another model's.
    """
    path = weights or _packaged_file()
    identity = fingerprint(path, dtype)
    with torch.device("meta"):
        encoder = Encoder(ARCHITECTURE)
    load_state(encoder, encoder_state(read_torch_file(path), path), path=path, dtype=dtype_of(dtype))

    return LanguageModel(
        name,
        encoder.to(device),
        ANTIBERTY,
        max_residues=MAX_RESIDUES,
        layer=layer,
        fingerprint=identity,
    )


def encoder_state(given, path: Path) -> dict[str, Tensor]:
    """Return the encoder's weights by our names.

    Parameters
    ----------
    given : mapping of str to torch.Tensor
        A state dictionary of the package's model. Pooling and heads are left out.
    path : pathlib.Path
        For messages.

    Returns
    -------
    dict of str to torch.Tensor
        The embedding of token type 0, the only one in use, is added to that of the positions.

    Raises
    ------
    WeightsError
        It is not a state dictionary of AntiBERTy's.
    """
    names = {
        "attention.output.dense": "attention.output",
        "attention.output.LayerNorm": "norm_attention",
        "intermediate.dense": "expand",
        "output.dense": "contract",
        "output.LayerNorm": "norm_transition",
    }
    embeddings = "bert.embeddings."
    try:
        types = given[f"{embeddings}token_type_embeddings.weight"]
        state = {
            "tokens.weight": given[f"{embeddings}word_embeddings.weight"],
            "positions.weight": given[f"{embeddings}position_embeddings.weight"] + types[0],
            "norm_embedding.weight": given[f"{embeddings}LayerNorm.weight"],
            "norm_embedding.bias": given[f"{embeddings}LayerNorm.bias"],
        }
        for name, tensor in given.items():
            found = re.fullmatch(r"bert\.encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", name)
            if found and found[2] in names:
                state[f"blocks.{found[1]}.{names[found[2]]}.{found[3]}"] = tensor
            elif found and found[2] == "attention.self.query":
                block = f"bert.encoder.layer.{found[1]}.attention.self."
                parts = [given[f"{block}{part}.{found[3]}"] for part in ("query", "key", "value")]
                state[f"blocks.{found[1]}.attention.qkv.{found[3]}"] = torch.cat(parts)
    except KeyError as error:
        raise WeightsError(f"weights {path}: {error} is missing; expected AntiBERTy's file") from error
    return state


def _packaged_file() -> Path:
    try:
        path = Path(metadata.distribution(PACKAGE).locate_file(_FILE))
        if path.is_file():
            return path
        problem = f"release {metadata.version(PACKAGE)} has no weights in it"
    except metadata.PackageNotFoundError:
        problem = "it is not installed"
    raise MissingDependencyError(
        f"antiberty: its weights come in the package {PACKAGE} 0.1.3, and {problem}; "
        "install it with: pip install 'openfoldpp[antiberty]'"
    )
