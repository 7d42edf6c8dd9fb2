"""Time and memory to embed a sequence: openfoldpp beside fair-esm, transformers and esm-cpp, same weights.

    python benchmarks/plm.py [--model esm2_t33_650M_UR50D] [--residues 300] [--rounds 5] [--weights FILE]
                             [--quantised FILE ...] [--memory] [--json FILE]

One process, rounds A B C A B C, medians. Without ``--weights`` the weights are random, in the sizes of the
real ones; all sides get the same, and a full-precision side whose embedding differs by more than 1e-4 of the
largest value ends the run. Next to each time stands which part of the machine's own sgemm rate it reaches.
``--quantised`` adds files that ``openfoldpp quantize`` made. esm-cpp is measured where it is installed (``pip
install --no-deps esm-cpp``), in 8 bits too: its own rounding, without calibration.

``--memory`` measures memory in place of time: each side in a process of its own, which loads its file and
embeds the sequence. Linux alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import machine
import torch
from memory import resident_bytes

from openfoldpp import plm
from openfoldpp.plm.esm import SIZES

_LETTERS = "LAGVSERTIDPKQNFYMHWC"
#: Sides that must agree: the first is what the others are compared with.
EXACT = ("fair-esm", "transformers", "esm-cpp", "openfoldpp")

#: Takes a sequence, returns its embedding.
Run = Callable[[str], torch.Tensor]


class Files(NamedTuple):
    """The same weights as each side reads them."""

    fair_esm: Path
    transformers: Path
    esm_cpp_8: Path

    @classmethod
    def of(cls, folder: Path, weights: Path) -> Files:
        """Return the paths: fair-esm's own file, and the others in a folder."""
        return cls(weights, folder / "transformers", folder / "esm_cpp_8.gguf")


def fair_esm_model(name: str):
    """Make fair-esm's ESM-2 of the real size with its own random initialisation."""
    from esm.model.esm2 import ESM2

    layers, channels, heads = SIZES[name]
    torch.manual_seed(0)
    return ESM2(layers, channels, heads).eval()


def write(model, name: str, path: Path) -> None:
    """Write a model as fair-esm's own files are."""
    layers, channels, heads = SIZES[name]
    settings = Namespace(
        encoder_layers=layers, encoder_embed_dim=channels, encoder_attention_heads=heads, token_dropout=True
    )
    state = {
        ("encoder." if key.startswith("lm_head") else "encoder.sentence_encoder.") + key: value
        for key, value in model.state_dict().items()
        if not key.startswith("contact_head")
    }
    torch.save({"cfg": {"model": settings}, "model": state}, path)


def read(name: str, path: Path):
    """Read fair-esm's model from a file of its own, as ``esm.pretrained`` does."""
    import esm

    with torch.serialization.safe_globals([Namespace]), warnings.catch_warnings():
        # The weights that predict contacts are in another file.
        warnings.filterwarnings("ignore", "Regression weights not found")
        data = torch.load(path, map_location="cpu")
        return esm.pretrained.load_model_and_alphabet_core(name, data)[0].eval()


def transformers_model(model, name: str):
    """Make transformers' EsmForMaskedLM with the weights of fair-esm's."""
    from transformers import EsmConfig, EsmForMaskedLM

    layers, channels, heads = SIZES[name]
    config = EsmConfig(
        vocab_size=33,
        pad_token_id=1,
        mask_token_id=32,
        hidden_size=channels,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * channels,
        position_embedding_type="rotary",
        token_dropout=True,
        layer_norm_eps=1e-5,
    )
    other = EsmForMaskedLM(config).eval()
    names = {
        "attention.self.query": "self_attn.q_proj",
        "attention.self.key": "self_attn.k_proj",
        "attention.self.value": "self_attn.v_proj",
        "attention.output.dense": "self_attn.out_proj",
        "attention.LayerNorm": "self_attn_layer_norm",
        "intermediate.dense": "fc1",
        "output.dense": "fc2",
        "LayerNorm": "final_layer_norm",
    }
    given = model.state_dict()
    state = {"esm.embeddings.word_embeddings.weight": given["embed_tokens.weight"]}
    state |= {"lm_head.bias": given["lm_head.bias"], "lm_head.decoder.weight": given["lm_head.weight"]}
    for kind in ("weight", "bias"):
        state[f"esm.encoder.emb_layer_norm_after.{kind}"] = given[f"emb_layer_norm_after.{kind}"]
        for part in ("dense", "layer_norm"):
            state[f"lm_head.{part}.{kind}"] = given[f"lm_head.{part}.{kind}"]
        for layer in range(layers):
            for theirs, ours in names.items():
                state[f"esm.encoder.layer.{layer}.{theirs}.{kind}"] = given[f"layers.{layer}.{ours}.{kind}"]
    left = other.load_state_dict(state, strict=False)
    assert not left.unexpected_keys, left
    expected = ("inv_freq", "position", "contact", "lm_head.decoder.bias")
    assert all(any(part in key for part in expected) for key in left.missing_keys), left
    return other


def write_all(name: str, folder: Path, weights: Path | None) -> Files:
    """Write the weights for each side; random ones where no file of fair-esm's is given."""
    files = Files.of(folder, weights or folder / f"{name}.pt")
    if weights:
        reference = read(name, weights)
    else:
        reference = fair_esm_model(name)
        write(reference, name, files.fair_esm)
    transformers_model(reference, name).save_pretrained(files.transformers)
    if find_spec("esm_cpp"):
        import esm_cpp

        model = esm_cpp.Model.load(str(files.transformers / "model.safetensors"))
        model.quantize_weights()
        model.save_to_gguf(str(files.esm_cpp_8))
    return files


def _tokens(sequence: str) -> torch.Tensor:
    import esm

    return esm.Alphabet.from_architecture("ESM-1b").get_batch_converter()([("", sequence)])[2]


def _fair_esm(name: str, path: Path) -> Run:
    model, layers = read(name, path), SIZES[name][0]

    def run(sequence: str) -> torch.Tensor:
        with torch.no_grad():
            return model(_tokens(sequence), repr_layers=[layers])["representations"][layers][0, 1:-1]

    return run


def _transformers(folder: Path) -> Run:
    from transformers import EsmModel

    model = EsmModel.from_pretrained(folder, add_pooling_layer=False).eval()

    def run(sequence: str) -> torch.Tensor:
        tokens = _tokens(sequence)
        with torch.no_grad():
            return model(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0, 1:-1]

    return run


def _esm_cpp(path: Path) -> Run:
    # It reads the number of its threads when the first model is loaded.
    os.environ["ESM_NUM_THREADS"] = str(torch.get_num_threads())
    import esm_cpp

    model, tokenizer = esm_cpp.Model.load(str(path)), esm_cpp.Tokenizer()

    def run(sequence: str) -> torch.Tensor:
        _, layers = model.forward_with_hidden_states(tokenizer.encode(sequence))
        return torch.from_numpy(layers[-1])[1:-1]

    return run


def _openfoldpp(name: str, path: Path) -> Run:
    model = plm.load(name, path)
    return lambda sequence: model.embed([sequence])[0]


def sides(name: str, files: Files, quantised: list[Path]) -> dict[str, Callable[[], Run]]:
    """Return what is measured, by its name: each, called, loads a model."""
    found: dict[str, Callable[[], Run]] = {
        "fair-esm": lambda: _fair_esm(name, files.fair_esm),
        "transformers": lambda: _transformers(files.transformers),
        "openfoldpp": lambda: _openfoldpp(name, files.fair_esm),
    }
    if find_spec("esm_cpp"):
        found["esm-cpp"] = lambda: _esm_cpp(files.transformers / "model.safetensors")
        found["esm-cpp, 8 bits"] = lambda: _esm_cpp(files.esm_cpp_8)
    for path in quantised:
        found[f"openfoldpp {path.name}"] = lambda path=path: _openfoldpp(name, path)
    return found


def gflop(name: str, residues: int) -> float:
    """Operations of the matrix products, 1e9: the linear layers and both products of attention."""
    layers, channels, _ = SIZES[name]
    tokens = residues + 2
    return layers * (24 * tokens * channels**2 + 4 * tokens**2 * channels) / 1e9


def times(loaders: dict[str, Callable[[], Run]], sequence: str, rounds: int) -> tuple[dict, dict]:
    """Return each side's seconds in every round, and its cosine to the first side."""
    runs = {side: load() for side, load in loaders.items()}
    embeddings = {side: run(sequence) for side, run in runs.items()}
    expected = embeddings[EXACT[0]]
    for side in runs.keys() & EXACT:
        error = float((embeddings[side] - expected).abs().max() / expected.abs().max())
        assert error < 1e-4, f"{side} differs from fair-esm by {error:.1e} of the largest value"
    seconds: dict[str, list[float]] = {side: [] for side in runs}
    for _ in range(rounds):
        for side, run in runs.items():
            start = time.perf_counter()
            run(sequence)
            seconds[side].append(time.perf_counter() - start)
    cosines = {
        side: float(torch.cosine_similarity(embedding, expected, dim=-1).mean())
        for side, embedding in embeddings.items()
    }
    return seconds, cosines


def memory_alone(loader: Callable[[], Run], sequence: str) -> dict[str, int]:
    """Load a model and embed; return this process's bytes before, at the most, and after."""
    found = {"before": resident_bytes("VmHWM")}
    run = loader()
    run(sequence)
    return found | {"peak": resident_bytes("VmHWM"), "after": resident_bytes("VmRSS")}


def memory_of(side: str, folder: Path, options: argparse.Namespace) -> dict[str, int]:
    """Measure a side's memory in a process of its own."""
    command = [sys.executable, __file__, "--model", options.model, "--residues", str(options.residues)]
    command += ["--weights", str(options.weights or folder / f"{options.model}.pt")]
    command += ["--quantised", *map(str, options.quantised), "--alone", side, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side}: {(done.stderr.splitlines() or ['no output'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="esm2_t33_650M_UR50D", choices=[n for n in SIZES if n != "esm1b"])
    parser.add_argument("--residues", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", type=Path, help="fair-esm's own file")
    parser.add_argument("--quantised", type=Path, nargs="*", default=[], metavar="FILE")
    parser.add_argument("--memory", action="store_true", help="memory in place of time")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(1)
    letters = torch.randint(len(_LETTERS), (options.residues,), generator=generator)
    sequence = "".join(_LETTERS[i] for i in letters)
    if options.alone:
        side, folder = options.alone[0], Path(options.alone[1])
        loader = sides(options.model, Files.of(folder, options.weights), options.quantised)[side]
        print(json.dumps(memory_alone(loader, sequence)))
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = write_all(options.model, folder, options.weights)
        loaders = sides(options.model, files, options.quantised)
        if options.memory:
            report = {side: memory_of(side, folder, options) for side in loaders}
            _print_memory(options, report)
        else:
            seconds, cosines = times(loaders, sequence, options.rounds)
            report = _print_times(options, seconds, cosines)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine.describe()} | report, indent=2) + "\n")


def _print_times(options: argparse.Namespace, seconds: dict, cosines: dict) -> dict:
    limits = machine.limits()
    work = gflop(options.model, options.residues)
    medians = {side: statistics.median(rounds) for side, rounds in seconds.items()}
    print(f"{options.model}, {options.residues} residues, {work:.0f} GFLOP; {options.rounds} rounds")
    rate, threads = limits["sgemm_gflops"], torch.get_num_threads()
    print(f"sgemm {rate:.0f} GFLOP/s, {threads} threads, {machine.cpu_name()}\n")
    for side, median in medians.items():
        part = 100 * work / median / rate
        ratio = medians["fair-esm"] / median
        print(
            f"{side:<34}{median:7.2f} s{ratio:7.2f}x fair-esm{part:6.0f} % of sgemm   "
            f"cosine {cosines[side]:.5f}"
        )
    return {"limits": limits, "gflop": work, "medians": medians, "seconds": seconds, "cosines": cosines}


def _print_memory(options: argparse.Namespace, report: dict) -> None:
    print(f"{options.model}, {options.residues} residues; GB (1e9 bytes), each side in its own process\n")
    print(f"{'':<34}{'before loading':>15}{'peak':>7}{'after':>7}{'peak beside openfoldpp, float32':>33}")
    for side, found in report.items():
        ratio = found["peak"] / report["openfoldpp"]["peak"]
        print(
            f"{side:<34}{found['before'] / 1e9:>15.2f}{found['peak'] / 1e9:>7.2f}{found['after'] / 1e9:>7.2f}"
            f"{ratio:>32.2f}x"
        )


if __name__ == "__main__":
    main()
