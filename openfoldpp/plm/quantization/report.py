"""A model quantised and measured: what ``openfoldpp quantize`` does."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from openfoldpp.errors import InputError
from openfoldpp.files import write_text
from openfoldpp.plm.embedder import Embedder, LanguageModel
from openfoldpp.plm.quantization.files import Description, is_quantised, save
from openfoldpp.plm.quantization.layerwise import quantise
from openfoldpp.plm.quantization.loading import load_quantised
from openfoldpp.plm.quantization.sequences import SequenceSet, sequence_set
from openfoldpp.plm.registry import load
from openfoldpp.plm.transformer import Encoder

_ROUNDS = 5
# A longer sequence is calibrated with by its first residues: memory grows with the length.
_LONGEST = 1022


@dataclass(frozen=True)
class Cosines:
    """Cosines between a quantised model's embeddings and the full-precision ones.

    Attributes
    ----------
    mean, worst : float
        Over the sequences.
    sequences : tuple of float
        Each sequence's mean over its residues.
    """

    mean: float
    worst: float
    sequences: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """What quantising a model gave.

    Attributes
    ----------
    model : str
        Its name.
    bits : int
        8 or 4.
    calibration : str
        The name of the set.
    cosines, nearest : Cosines
        On sequences that are not in the calibration set: this file's, and those of plain rounding to nearest.
    file_bytes, full_bytes : int
        Of the file, and of the weights in float32.
    speed : float
        Time in float32 over the time of this file, for the longest sequence; medians of alternating rounds.
    computed : str
        How linear layers were computed, and why.
    threads : int
        Of torch, when the speed was measured.
    """

    model: str
    bits: int
    calibration: str
    cosines: Cosines
    nearest: Cosines
    file_bytes: int
    full_bytes: int
    speed: float
    computed: str
    threads: int


def quantise_to_file(
    name: str,
    bits: int,
    out: Path,
    *,
    weights: Path | None = None,
    calibration: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Quantise a model, write it, and measure what was written.

    Parameters
    ----------
    name : str
        As :func:`openfoldpp.plm.load` takes it.
    bits : {8, 4}
        Of a weight.
    out : pathlib.Path
        The file. The report goes beside it, with the suffix ``.json``.
    weights : pathlib.Path, optional
        The model's full-precision weights.
    calibration : pathlib.Path, optional
        A FASTA file; by default the set that comes with openfoldpp.
    progress : callable, optional
        Called with a line for the user.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        The model cannot be quantised, the calibration set cannot be read, or a file that is not of a former
        run would be overwritten.
    WeightsError
        See :func:`openfoldpp.plm.load`.
    """
    if out.suffix == ".json":
        raise InputError(f"--out {out}: the report takes this name; end it in .safetensors")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}; make it first")
    _require_own(out)
    model = load(name, weights)
    if type(getattr(model, "encoder", None)) is not Encoder or type(model) is not LanguageModel:
        raise InputError(
            f"{name} cannot be quantised: only full-precision models of ESM's and AntiBERTy's kind can"
        )
    sequences = sequence_set(model.alphabet, calibration)
    progress(f"{name}: calibrating with {len(sequences.calibration)} sequences of {sequences.name}")
    expected = model.embed(sequences.held_out)
    description = describe(model, bits, "gptq", sequences.name)
    _write(out, model, description, sequences, progress)
    quantised = load_quantised(out, name)
    cosines = compare(quantised, sequences.held_out, expected)
    speed = speed_ratio(model, quantised, max(sequences.held_out, key=len))
    computed = f"{quantised.way.name}: {quantised.way.reason}"
    del quantised
    with TemporaryDirectory(dir=out.parent) as folder:
        plain = Path(folder) / "nearest.safetensors"
        _write(plain, model, describe(model, bits, "nearest", sequences.name), sequences, lambda _: None)
        nearest = compare(load_quantised(plain, name), sequences.held_out, expected)
    report = Report(
        model=name,
        bits=bits,
        calibration=sequences.name,
        cosines=cosines,
        nearest=nearest,
        file_bytes=out.stat().st_size,
        full_bytes=sum(tensor.nbytes for tensor in model.encoder.state_dict().values()),
        speed=speed,
        computed=computed,
        threads=torch.get_num_threads(),
    )
    write_text(out.with_suffix(".json"), json.dumps(asdict(report), indent=2) + "\n")
    return report


def compare(model: Embedder, sequences: Sequence[str], expected: Sequence[Tensor]) -> Cosines:
    """Compare embeddings with the full-precision ones.

    Parameters
    ----------
    model : Embedder
        The quantised one.
    sequences : sequence of str
        Capital letters.
    expected : sequence of torch.Tensor
        The full-precision embeddings, ``[N_res, C_plm]``.

    Returns
    -------
    Cosines
    """
    found = tuple(
        float(torch.cosine_similarity(a, b, dim=-1).mean())
        for a, b in zip(model.embed(sequences), expected, strict=True)
    )
    return Cosines(statistics.mean(found), min(found), found)


def speed_ratio(full: Embedder, quantised: Embedder, sequence: str) -> float:
    """Return how much faster than `full` a `quantised` model embeds a `sequence`, in alternating rounds."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS + 1):
        for model, times in zip((full, quantised), seconds, strict=True):
            start = time.perf_counter()
            model.embed([sequence])
            times.append(time.perf_counter() - start)
    # The first round warms up.
    return statistics.median(seconds[0][1:]) / statistics.median(seconds[1][1:])


def table(report: Report) -> str:
    """Return a `report` as lines for the user."""
    others = f"cosine to float32, {len(report.cosines.sequences)} other sequences"
    rows = [
        f"{report.model}, {report.bits} bits, {report.file_bytes / 1e6:,.1f} MB "
        f"(float32: {report.full_bytes / 1e6:,.1f} MB); calibrated with {report.calibration}",
        f"speed: {report.speed:.2f}x float32, {report.threads} threads ({report.computed})",
        "",
        f"{others:<40}{'mean':>9}{'worst':>9}",
    ]
    for label, cosines in (("this file", report.cosines), ("plain rounding to nearest", report.nearest)):
        rows.append(f"{label:<40}{cosines.mean:>9.5f}{cosines.worst:>9.5f}")
    return "\n".join(rows)


def _require_own(out: Path) -> None:
    """Raise :class:`InputError` if `out` or its report is a file that quantising did not write."""
    for path, own in ((out, is_quantised), (out.with_suffix(".json"), _is_report)):
        if path.exists() and not own(path):
            raise InputError(
                f"--out {out}: {path} is there and is not of openfoldpp quantize; give another name, or move "
                "it away"
            )


def _is_report(path: Path) -> bool:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.keys() == {field.name for field in fields(Report)}


def describe(model: LanguageModel, bits: int, method: str, calibration: str) -> Description:
    """Return what the header of a file says.

    Parameters
    ----------
    model : LanguageModel
        In full precision.
    bits : int
        8 or 4.
    method : str
        ``"gptq"`` or ``"nearest"``.
    calibration : str
        Name of the calibration set.

    Returns
    -------
    Description
    """
    return Description(
        model=model.name,
        bits=bits,
        method=method,
        architecture=model.encoder.architecture,
        alphabet=model.alphabet,
        max_residues=model.max_residues,
        source=model.fingerprint,
        calibration=calibration if method == "gptq" else "",
    )


def _write(
    path: Path,
    model: LanguageModel,
    description: Description,
    sequences: SequenceSet,
    progress: Callable[[str], None],
) -> None:
    longest = min(_LONGEST, model.max_residues or _LONGEST)
    tokens = [torch.tensor(model.alphabet.encode(sequence[:longest])) for sequence in sequences.calibration]
    layers = model.encoder.architecture.layers
    tensors = quantise(
        model.encoder,
        tokens,
        description.bits,
        method=description.method,
        progress=lambda done: progress(f"block {done} of {layers}"),
    )
    save(path, tensors, description)
