"""Linear layers of other libraries, 8 bits and 4, beside openfoldpp's: time of one, and AntiBERTy with them.

    python benchmarks/plm_libraries.py [--fv FOLDER] [--generated 50] [--seed 99] [--rounds 10] [--json FILE]

Measured are torchao, optimum-quanto and bitsandbytes where they are installed, and torch's own dynamic
quantisation. Each replaces the linear layers of AntiBERTy's blocks; cosines are plm_quantized.py's.
The time is that of one layer of ESM-2 650M, 302 x 1280 x 3840, rounds A B C A B C, medians.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import machine
import torch
from plm_quantized import sequences_to_measure
from torch import Tensor, nn

from openfoldpp import plm
from openfoldpp.plm.quantization import int8, load_quantised, quantise, save
from openfoldpp.plm.quantization.layerwise import smoothing_divisors
from openfoldpp.plm.quantization.linear import Int8Linear
from openfoldpp.plm.quantization.report import compare, describe
from openfoldpp.plm.quantization.sequences import sequence_set

TOKENS, INPUTS, OUTPUTS = 302, 1280, 3840


class Library(NamedTuple):
    """A way to quantise.

    Attributes
    ----------
    package : str
        As its distribution is called.
    label : str
        What it does.
    replace : callable
        Takes a module and what runs it on calibration data; replaces the module's linear layers in place.
    """

    package: str
    label: str
    replace: Callable[[nn.Module, Callable[[], object]], None]


def _torch_dynamic(module: nn.Module, _calibrate: Callable[[], object]) -> None:
    from torch.ao.quantization import quantize_dynamic

    quantize_dynamic(module, {nn.Linear}, torch.qint8, inplace=True)


def _torchao(config: str) -> Callable[[nn.Module, Callable[[], object]], None]:
    def replace(module: nn.Module, _calibrate: Callable[[], object]) -> None:
        from torchao import quantization

        quantization.quantize_(module, getattr(quantization, config)())

    return replace


def _quanto(*, inputs: bool) -> Callable[[nn.Module, Callable[[], object]], None]:
    def replace(module: nn.Module, calibrate: Callable[[], object]) -> None:
        from optimum.quanto import Calibration, freeze, qint8, quantize

        quantize(module, weights=qint8, activations=qint8 if inputs else None)
        if inputs:
            with Calibration():
                calibrate()
        freeze(module)

    return replace


def _bitsandbytes(bits: int) -> Callable[[nn.Module, Callable[[], object]], None]:
    def replace(module: nn.Module, _calibrate: Callable[[], object]) -> None:
        from bitsandbytes.nn import Linear4bit, Linear8bitLt

        for name, linear in list(module.named_modules()):
            if isinstance(linear, nn.Linear):
                sizes = linear.in_features, linear.out_features
                if bits == 8:
                    new = Linear8bitLt(*sizes, has_fp16_weights=False)
                else:
                    new = Linear4bit(*sizes, quant_type="nf4", compute_dtype=torch.float32)
                new.load_state_dict(linear.state_dict())
                module.set_submodule(name, new.requires_grad_(False).to("cpu").eval())

    return replace


LIBRARIES = (
    Library("torch", "dynamic", _torch_dynamic),
    Library("torchao", "weights", _torchao("Int8WeightOnlyConfig")),
    Library("torchao", "weights, inputs", _torchao("Int8DynamicActivationInt8WeightConfig")),
    Library("optimum-quanto", "weights", _quanto(inputs=False)),
    Library("optimum-quanto", "weights, inputs", _quanto(inputs=True)),
    Library("bitsandbytes", "weights, inputs", _bitsandbytes(8)),
    Library("bitsandbytes", "NF4", _bitsandbytes(4)),
)


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def version(package: str) -> str | None:
    """Return the version of a distribution, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def own_layer(linear: nn.Linear, x: Tensor) -> Int8Linear:
    """Return openfoldpp's 8-bit layer, with SmoothQuant's divisors for the inputs `x`."""
    divisors = smoothing_divisors(x.abs().amax(0), linear.weight)
    weight = linear.weight * divisors
    scales = int8.scales_of(weight)
    return Int8Linear(int8.encode(weight, scales), scales, linear.bias, divisors)


def layer_times(libraries: list[Library], rounds: int) -> dict[str, float]:
    """Return the median seconds of one linear layer, by label."""
    torch.manual_seed(0)
    linear, x = nn.Linear(INPUTS, OUTPUTS).eval(), torch.randn(TOKENS, INPUTS)
    layers: dict[str, nn.Module] = {"float32": linear, "openfoldpp 8 bits": own_layer(linear, x)}
    for library in libraries:
        module = nn.Sequential(copy.deepcopy(linear))
        library.replace(module, lambda module=module: module(x))
        layers[f"{library.package} {library.label}"] = module
    seconds: dict[str, list[float]] = {name: [] for name in layers}
    for _ in range(rounds + 2):
        for name, layer in layers.items():
            start = time.perf_counter()
            layer(x)
            seconds[name].append(time.perf_counter() - start)
    # The first two rounds warm up.
    return {name: statistics.median(times[2:]) for name, times in seconds.items()}


def antiberty_cosines(libraries: list[Library], measured: dict[str, list[str]]) -> Iterator[tuple[str, dict]]:
    """Yield for each library the cosines to full precision on each set of sequences."""
    model = plm.load("antiberty")
    calibration = sequence_set(model.alphabet).calibration
    expected = {name: model.embed(sequences) for name, sequences in measured.items()}

    def cosines(quantised) -> dict:
        return {name: asdict(compare(quantised, measured[name], expected[name])) for name in measured}

    tokens = [torch.tensor(model.alphabet.encode(sequence)) for sequence in calibration]
    for bits in (8, 4):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "antiberty.safetensors"
            save(
                path,
                quantise(model.encoder, tokens, bits),
                describe(model, bits, "gptq", sequence_set(model.alphabet).name),
            )
            yield f"openfoldpp {bits} bits", cosines(load_quantised(path, model.name))
    full = model.encoder
    for library in libraries:
        model.encoder = copy.deepcopy(full)
        library.replace(model.encoder.blocks, lambda: model.embed(calibration))
        yield f"{library.package} {library.label}", cosines(model)


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fv", type=Path, help="folder of FASTA files")
    parser.add_argument("--generated", type=int, default=50)
    parser.add_argument("--seed", type=int, default=99)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    versions = {library.package: version(library.package) for library in LIBRARIES}
    libraries = [library for library in LIBRARIES if versions[library.package]]
    print(", ".join(f"{name} {found or 'not installed'}" for name, found in versions.items()))
    print(f"{torch.get_num_threads()} threads, {machine.cpu_name()}\n")
    with torch.no_grad(), _quietly():
        seconds = layer_times(libraries, options.rounds)
        print(f"{f'{TOKENS} x {INPUTS} x {OUTPUTS}':<33}{'ms':>8}{'beside float32':>16}")
        for name, time_of_one in seconds.items():
            print(f"{name:<33}{1e3 * time_of_one:>8.2f}{seconds['float32'] / time_of_one:>15.2f}x")
        measured = sequences_to_measure(options.generated, options.seed, options.fv)
        sets = "".join(f"{name + ' mean':>17}{'worst':>9}" for name in measured)
        print(f"\n{'AntiBERTy':<33}{sets}")
        found = {}
        for name, cosines in antiberty_cosines(libraries, measured):
            found[name] = cosines
            row = "".join(f"{c['mean']:>17.5f}{c['worst']:>9.5f}" for c in cosines.values())
            print(f"{name:<33}{row}", flush=True)
    if options.json:
        report = {"machine": machine.describe(), "versions": versions, "seconds": seconds, "cosines": found}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
