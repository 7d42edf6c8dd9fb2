"""Files of quantised models: safetensors, with all in their header that loading needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from openfoldpp.errors import WeightsError
from openfoldpp.files import atomic_write
from openfoldpp.plm.alphabet import Alphabet
from openfoldpp.plm.transformer import Architecture

FORMAT = "openfoldpp quantised 1"
_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.int8: "I8", torch.uint8: "U8"}


@dataclass(frozen=True)
class Description:
    """What a file of a quantised model says of itself.

    Attributes
    ----------
    model : str
        Name of the model.
    bits : int
        8 or 4.
    method : str
        ``gptq`` or ``nearest``.
    architecture : Architecture
        Of the encoder.
    alphabet : Alphabet
        Its tokens.
    max_residues : int or None
        The longest sequence that it takes at once.
    source : str
        Fingerprint of the model it was made of: the SHA-256 of the weights, layer and dtype.
    calibration : str
        What it was calibrated with.
    """

    model: str
    bits: int
    method: str
    architecture: Architecture
    alphabet: Alphabet
    max_residues: int | None
    source: str
    calibration: str

    def to_json(self) -> str:
        """Return the fields as a JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Description:
        """Read the `text` of :meth:`to_json`; ValueError, TypeError or KeyError where it is none."""
        fields = json.loads(text)
        fields["architecture"] = Architecture(**fields["architecture"])
        alphabet = fields["alphabet"]
        fields["alphabet"] = Alphabet(**(alphabet | {"tokens": tuple(alphabet["tokens"])}))
        return cls(**fields)


def save(path: Path, tensors: Mapping[str, Tensor], description: Description) -> None:
    """Write a quantised model; the file is complete or absent.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    tensors : mapping of str to torch.Tensor
        From :func:`openfoldpp.plm.quantization.quantise`.
    description : Description
        Goes into the header.
    """
    # By hand: safetensors' own functions write to a path, or copy everything in memory. The format: the
    # length of the header, the header as JSON, the tensors; wide dtypes first keep each aligned.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0]))
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "description": description.to_json()}}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path, size=lambda: 8 + len(text) + end) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, tensor in ordered:
            file.write(tensor.contiguous().numpy().data)


def is_quantised(path: Path) -> bool:
    """Tell whether a file is one that :func:`save` wrote, by its header.

    Parameters
    ----------
    path : pathlib.Path
        Any file.

    Returns
    -------
    bool
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        # The length of the header, 8 bytes, and the header, JSON: the metadata come first.
        return FORMAT.encode() in file.read(4096)


def describe(path: Path) -> Description:
    """Read a file's header.

    Parameters
    ----------
    path : pathlib.Path
        A file that :func:`save` wrote.

    Returns
    -------
    Description

    Raises
    ------
    WeightsError
        The file is damaged, or no quantised model of ours.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
        if header.get("format") != FORMAT:
            raise WeightsError(
                f"weights {path}: no file of openfoldpp quantize; name the model's own with --plm"
            )
        return Description.from_json(header["description"])
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> WeightsError:
    """Return what to raise when reading the file at `path` ended in an `error`."""
    reason = " ".join(str(error).split())[:160]
    return WeightsError(
        f"weights {path}: damaged ({type(error).__name__}: {reason}); make it again with openfoldpp quantize"
    )
