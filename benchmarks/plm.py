"""Seconds to embed a sequence: openfoldpp beside fair-esm and transformers, on the same weights.

    python benchmarks/plm.py [--model esm2_t33_650M_UR50D] [--residues 300] [--rounds 5] [--weights FILE]
                             [--json FILE]

One process, rounds A B C A B C, medians. Without ``--weights`` the weights are random, in the sizes of the
real ones; all sides get the same, and a side whose embedding differs by more than 1e-4 of the largest value
ends the run. Next to each time stands which part of the machine's own sgemm rate it reaches. ``--quantised
FILE`` adds files that ``openfoldpp quantize`` made.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import machine
import torch

from openfoldpp import plm
from openfoldpp.plm.esm import SIZES

_LETTERS = "LAGVSERTIDPKQNFYMHWC"


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
        f"encoder.sentence_encoder.{key}": value
        for key, value in model.state_dict().items()
        if not key.startswith(("contact_head", "lm_head"))
    }
    torch.save({"cfg": {"model": settings}, "model": state}, path)


def transformers_model(model, name: str):
    """Make transformers' EsmModel with the weights of fair-esm's."""
    from transformers import EsmConfig, EsmModel

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
    other = EsmModel(config, add_pooling_layer=False).eval()
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
    state = {"embeddings.word_embeddings.weight": given["embed_tokens.weight"]}
    for kind in ("weight", "bias"):
        state[f"encoder.emb_layer_norm_after.{kind}"] = given[f"emb_layer_norm_after.{kind}"]
        for layer in range(layers):
            for theirs, ours in names.items():
                state[f"encoder.layer.{layer}.{theirs}.{kind}"] = given[f"layers.{layer}.{ours}.{kind}"]
    left = other.load_state_dict(state, strict=False)
    assert not left.unexpected_keys, left
    assert all("inv_freq" in key or "position" in key or "contact" in key for key in left.missing_keys), left
    return other


def sides(options: argparse.Namespace, folder: Path) -> dict[str, Callable[[str], torch.Tensor]]:
    """Return what is measured: each takes a sequence and returns its embedding."""
    import esm

    name = options.model
    if options.weights:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference, _ = esm.pretrained.load_model_and_alphabet_local(str(options.weights))
            reference = reference.eval()
        file = options.weights
    else:
        reference, file = fair_esm_model(name), folder / f"{name}.pt"
        write(reference, name, file)
    layers = SIZES[name][0]
    convert = esm.Alphabet.from_architecture("ESM-1b").get_batch_converter()
    theirs = transformers_model(reference, name)
    ours = plm.load(name, file)

    def by_fair_esm(sequence: str) -> torch.Tensor:
        tokens = convert([("", sequence)])[2]
        with torch.no_grad():
            return reference(tokens, repr_layers=[layers])["representations"][layers][0, 1:-1]

    def by_transformers(sequence: str) -> torch.Tensor:
        tokens = convert([("", sequence)])[2]
        with torch.no_grad():
            return theirs(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0, 1:-1]

    found = {
        "fair-esm": by_fair_esm,
        "transformers": by_transformers,
        "openfoldpp": lambda sequence: ours.embed([sequence])[0],
    }
    for path in options.quantised:
        model = plm.load(name, path)
        found[f"openfoldpp {path.name}"] = lambda sequence, model=model: model.embed([sequence])[0]
    return found


def gflop(name: str, residues: int) -> float:
    """Operations of the matrix products, 1e9: the linear layers and both products of attention."""
    layers, channels, _ = SIZES[name]
    tokens = residues + 2
    return layers * (24 * tokens * channels**2 + 4 * tokens**2 * channels) / 1e9


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="esm2_t33_650M_UR50D", choices=[n for n in SIZES if n != "esm1b"])
    parser.add_argument("--residues", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", type=Path, help="fair-esm's own file")
    parser.add_argument("--quantised", type=Path, nargs="*", default=[], metavar="FILE")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(1)
    letters = torch.randint(len(_LETTERS), (options.residues,), generator=generator)
    sequence = "".join(_LETTERS[i] for i in letters)
    with TemporaryDirectory() as folder:
        measured = sides(options, Path(folder))
    embeddings = {side: run(sequence) for side, run in measured.items()}
    expected = embeddings["fair-esm"]
    for side in ("transformers", "openfoldpp"):
        error = float((embeddings[side] - expected).abs().max() / expected.abs().max())
        assert error < 1e-4, f"{side} differs from fair-esm by {error:.1e} of the largest value"
    seconds: dict[str, list[float]] = {side: [] for side in measured}
    for _ in range(options.rounds):
        for side, run in measured.items():
            start = time.perf_counter()
            run(sequence)
            seconds[side].append(time.perf_counter() - start)
    limits = machine.limits()
    work = gflop(options.model, options.residues)
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    print(f"{options.model}, {options.residues} residues, {work:.0f} GFLOP; {options.rounds} rounds")
    rate, threads = limits["sgemm_gflops"], torch.get_num_threads()
    print(f"sgemm {rate:.0f} GFLOP/s, {threads} threads, {machine.cpu_name()}\n")
    for side, median in medians.items():
        part = 100 * work / median / rate
        ratio = medians["fair-esm"] / median
        cosine = float(torch.cosine_similarity(embeddings[side], expected, dim=-1).mean())
        print(f"{side:<34}{median:7.2f} s{ratio:7.2f}x fair-esm{part:6.0f} % of sgemm   cosine {cosine:.5f}")
    if options.json:
        report = {
            "machine": machine.describe() | limits,
            "gflop": work,
            "medians": medians,
            "seconds": seconds,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
