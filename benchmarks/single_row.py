"""One row of a language model in OpenFold 0.0.1's model, against the rows that OpenFold pads one sequence to.

    python benchmarks/single_row.py [--residues 128] [--blocks 48] [--rounds 3] [--chunk CHUNK] [--json FILE]

``model_1_ptm`` with random weights, one pass (no recycling), the same sequence. ``default``: OpenFold's model
as it is, on its features of a sequence without alignments (512 rows and 5,120 extra ones, nearly all
padding), its tuner of chunk sizes on and done. ``best``: the same with the tuner off and the fastest chunk
size, found first on one block of each stack unless ``--chunk`` names it. ``one row``: the same weights with a
projected embedding of AntiBERTy. ``one row, kernels``: with the plugin's native kernels, as ``--plugins
openfoldpp`` runs it. ``embedding``: the language model's time, to be added to both.

Rounds A B C D A B C D in one process, medians. With ``--blocks N`` below 48 the Evoformer is measured with 1
and with N blocks, and the time of 48 is t(1) + 47 (t(N) - t(1)) / (N - 1): the blocks are alike. The printed
table says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import inputs
import kernel_tables
import machine
import torch

from openfoldpp import plm
from openfoldpp.upstream import acceleration, activate, single_row

PRESET = "model_1_ptm"
BLOCKS = 48
CHUNKS = (None, 2, 4, 8, 16)
STACKS = ("evoformer", "extra_msa_stack", "template_pair_stack")
SIDES = ("default", "best", "one row", "one row, kernels")


def configuration(blocks: int):
    """Return the preset's configuration with this many Evoformer blocks, without recycling."""
    from openfold.config import model_config

    config = model_config(PRESET)
    config.model.evoformer_stack.no_blocks = blocks
    config.data.common.max_recycling_iters = 0
    return config


def random_model(config):
    """Return upstream's model, every parameter drawn at random."""
    from openfold.model.model import AlphaFold

    draw = torch.Generator().manual_seed(0)
    model = AlphaFold(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter.shape[-1] ** 0.5)
            else:
                parameter.add_(noise, alpha=0.1)
    return model


def features(n: int, config, embedding: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Return the model's batch for a sequence of `n` residues: padded, or with an `embedding` as one row."""
    from argparse import Namespace

    from openfoldpp.types import Chain, Target
    from openfoldpp.upstream.model import process_features
    from openfoldpp.upstream.single_row_features import single_row_features

    names = ("openfold_home", "template_mmcif_dir", "use_precomputed_alignments")
    options = Namespace(**dict.fromkeys(names), config_preset=PRESET, multimer_ri_gap=200)
    raw = single_row_features(Target("a", (Chain("a", inputs.sequences(1, n)[0]),)), options)
    if embedding is not None:
        single_row.configure_single_row(config, templates=False)
        raw[single_row.FEATURE] = embedding.numpy()
    return process_features(raw, config, "cpu")


def one_pass(model, batch: dict[str, torch.Tensor]) -> float:
    """Run a model as upstream's script does and return the seconds."""
    wanted = model.config.template.enabled
    model.config.template.enabled = wanted and any("template_" in key for key in batch)
    given = dict(batch)
    start = time.perf_counter()
    with torch.no_grad():
        model(given)
    seconds = time.perf_counter() - start
    model.config.template.enabled = wanted
    return seconds


def set_chunk(model, chunk: int | None, tuners: dict | None) -> None:
    """Give a model one chunk size with the tuners off, or its tuners and its own chunk size back."""
    model.globals.chunk_size = chunk
    for name in STACKS:
        getattr(model, name).chunk_size_tuner = tuners[name] if tuners else None


def fastest_chunk(batch: dict[str, torch.Tensor]) -> int | None:
    """Return the chunk size with which a model of one block in each stack is fastest."""
    config = configuration(1)
    config.model.extra_msa.extra_msa_stack.no_blocks = 1
    model = random_model(config)
    seconds = {}
    for chunk in CHUNKS:
        set_chunk(model, chunk, None)
        seconds[chunk] = one_pass(model, batch)
        print(f"chunk {chunk or 'unchunked'}: {seconds[chunk]:.1f} s with one block", file=sys.stderr)
    return min(seconds, key=seconds.get)


class Sides:
    """The same weights as each side runs them."""

    def __init__(self, n: int, blocks: int, chunk: int | None, embedding: torch.Tensor):
        config = configuration(blocks)
        self.padded = features(n, config, None)
        self.model = random_model(config)
        self.own_chunk = self.model.globals.chunk_size
        self.tuners = {name: getattr(self.model, name).chunk_size_tuner for name in STACKS}
        self.chunk = chunk
        self.single = features(n, configuration(blocks), embedding)
        self.projector = torch.nn.Linear(embedding.shape[1], 256, bias=False)

    def measure(self, side: str) -> float:
        """Return the seconds of one pass."""
        if side == "best":
            set_chunk(self.model, self.chunk, None)
        else:
            set_chunk(self.model, self.own_chunk, self.tuners)
        if side in ("default", "best"):
            return one_pass(self.model, self.padded)
        single_row.attach(self.model, self.projector)
        try:
            if side == "one row":
                return one_pass(self.model, self.single)
            acceleration.accelerate(self.model)
            one_pass(self.model, self.single)  # packs the weights, once for a model
            return one_pass(self.model, self.single)
        finally:
            acceleration.undo(self.model)
            single_row.undo(self.model)


def measure(n: int, blocks: int, rounds: int, chunk: int | None, embedding: torch.Tensor) -> dict:
    """Return samples of each side in seconds, after one pass of each that is not counted."""
    sides = Sides(n, blocks, chunk, embedding)
    samples: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(rounds + 1):
        for side in SIDES:
            seconds = sides.measure(side)
            if number:
                samples[side].append(seconds)
            print(
                f"{blocks} blocks, {side}: {seconds:.2f} s{'' if number else ' (not counted)'}",
                file=sys.stderr,
            )
    return samples


def extrapolated(one: dict[str, float], many: dict[str, float], blocks: int) -> dict[str, float]:
    """Return the seconds of all blocks from those of one and of `blocks`: each block adds the same."""
    return {side: one[side] + (BLOCKS - 1) * (many[side] - one[side]) / (blocks - 1) for side in one}


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--residues", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=BLOCKS, help="Evoformer blocks that are run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunk", help="upstream's chunk size for 'best': a number, or unchunked")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = parse()
    activate()
    model = plm.load("antiberty")
    (sequence,) = inputs.sequences(1, options.residues)
    (embedding,) = model.embed([sequence])
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        model.embed([sequence])
        seconds.append(time.perf_counter() - start)
    embedding_s = statistics.median(seconds)
    if options.chunk:
        chunk = None if options.chunk == "unchunked" else int(options.chunk)
    else:
        chunk = fastest_chunk(features(options.residues, configuration(1), None))
    given = (options.rounds, chunk, embedding)
    samples = {options.blocks: measure(options.residues, options.blocks, *given)}
    if options.blocks < BLOCKS:
        samples[1] = measure(options.residues, 1, *given)
    medians = {
        blocks: {side: statistics.median(values) for side, values in found.items()}
        for blocks, found in samples.items()
    }
    whole, how = medians[options.blocks], f"all {BLOCKS} Evoformer blocks run"
    if options.blocks < BLOCKS:
        whole = extrapolated(medians[1], medians[options.blocks], options.blocks)
        how = f"{BLOCKS} Evoformer blocks, extrapolated from 1 and {options.blocks}"
    rows = []
    for side in SIDES:
        total = whole[side] + (embedding_s if side.startswith("one row") else 0)
        ratios = [f"{whole[base] / total:.1f}x" for base in ("default", "best")]
        rows.append([side, f"{whole[side]:.2f} s", f"{total:.2f} s", *ratios])
    table = kernel_tables.table(
        ["side", "model", "with the embedding", "default / side", "best / side"], rows
    )
    print(
        f"{PRESET} of OpenFold 0.0.1, {options.residues} residues, one pass, {how}; {options.rounds} "
        f"rounds; best chunk size {chunk or 'unchunked'}; embedding by AntiBERTy {1e3 * embedding_s:.0f} "
        f"ms.\n\n{table}"
    )
    if options.json:
        report = {
            "machine": machine.describe(),
            "residues": options.residues,
            "blocks": options.blocks,
            "rounds": options.rounds,
            "best_chunk": chunk,
            "embedding_s": embedding_s,
            "seconds": whole,
            "samples": samples,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
