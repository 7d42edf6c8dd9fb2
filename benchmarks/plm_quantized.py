"""How close quantised AntiBERTy is to full precision: cosines, beside those of plain rounding to nearest.

    python benchmarks/plm_quantized.py [--fv FOLDER] [--generated 50] [--seed 99] [--smoothing 0.3 0.5 0.7]
                                       [--json FILE]

Quantises to 8 and to 4 bits with the shipped calibration set. Measured on antibodies generated with another
seed (this needs the package olga) and, with ``--fv``, on every chain of a folder's FASTA files. A sequence's
cosine is the mean over its residues. ``--smoothing`` tries other strengths of SmoothQuant than openfoldpp's.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import machine
import torch

from openfoldpp import plm
from openfoldpp.plm.extract_fasta import read_records
from openfoldpp.plm.quantization import layerwise, load_quantised, quantise, save
from openfoldpp.plm.quantization.report import compare, describe
from openfoldpp.plm.quantization.sequences import sequence_set
from openfoldpp.training.antibody_sequences import generate


def sequences_to_measure(generated: int, seed: int, fv: Path | None) -> dict[str, list[str]]:
    """Return generated antibodies and, of a folder given, every chain of its FASTA files."""
    found = {"generated": [domain.sequence for domain in generate(generated, seed)]}
    if fv:
        found["crystals"] = [record.sequence for record in read_records([fv]).records]
    return found


def ways(smoothing: list[float]) -> Iterator[tuple[int, str, float | None]]:
    """Yield bits, method, and for GPTQ the strength of SmoothQuant."""
    for bits in layerwise.BITS:
        for strength in smoothing:
            yield bits, "gptq", strength
        yield bits, "nearest", None


def main() -> None:
    """Parse the command line, quantise, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fv", type=Path, help="folder of FASTA files")
    parser.add_argument("--generated", type=int, default=50)
    parser.add_argument("--seed", type=int, default=99)
    parser.add_argument("--smoothing", type=float, nargs="+", default=[layerwise.SMOOTHING])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = plm.load("antiberty")
    shipped = sequence_set(model.alphabet)
    tokens = [torch.tensor(model.alphabet.encode(sequence)) for sequence in shipped.calibration]
    measured = sequences_to_measure(options.generated, options.seed, options.fv)
    expected = {name: model.embed(sequences) for name, sequences in measured.items()}
    counts = ", ".join(f"{len(sequences)} {name}" for name, sequences in measured.items())
    print(f"AntiBERTy, calibrated with {shipped.name}; measured on {counts}; {machine.cpu_name()}\n")
    print(
        f"{'':<18}{'MB':>7}{'seconds':>9}" + "".join(f"{name + ' mean':>17}{'worst':>9}" for name in measured)
    )
    found = []
    for bits, method, strength in ways(options.smoothing):
        start = time.perf_counter()
        smoothing = layerwise.SMOOTHING if strength is None else strength
        tensors = quantise(model.encoder, tokens, bits, method=method, smoothing=smoothing)
        seconds = time.perf_counter() - start
        with TemporaryDirectory() as folder:
            path = Path(folder) / "antiberty.safetensors"
            save(path, tensors, describe(model, bits, method, shipped.name))
            size = path.stat().st_size
            quantised = load_quantised(path, model.name)
        cosines = {name: compare(quantised, measured[name], expected[name]) for name in measured}
        row = "".join(f"{c.mean:>17.5f}{c.worst:>9.5f}" for c in cosines.values())
        label = f"{bits} bits, {method}" + ("" if strength is None else f" {strength:g}")
        print(f"{label:<18}{size / 1e6:>7.1f}{seconds:>9.1f}{row}", flush=True)
        found.append(
            {
                "bits": bits,
                "method": method,
                "smoothing": strength,
                "file_bytes": size,
                "quantise_s": seconds,
                "way": quantised.way,
            }
            | {name: asdict(c) for name, c in cosines.items()}
        )
    if options.json:
        report = {"machine": machine.describe(), "results": found}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
