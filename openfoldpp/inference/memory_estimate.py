"""How much memory a prediction by upstream's model needs: an upper estimate, from the configuration alone.

For each stage of the model it adds up the tensors that are alive at its worst moment. The pair
representation ``z`` has ``C_z N_res^2`` numbers, the MSA representation ``m`` has ``C_m N_seq N_res``.
Beyond those, three things decide:

attention logits
    ``2 H N_res^2`` numbers for each row that is computed at once (the softmax is not in place), and ``2 H
    N_seq^2`` for each residue in the attention over columns.
outer product mean
    ``3 C^2 N_res`` numbers for each residue that is computed at once, with ``C = 32``: 24 times ``z`` where
    all are.
how many are computed at once
    The chunk. Upstream's default is 4, but its ``ChunkSizeTuner`` raises it to the largest that runs without
    an error, at most 516, trying it on copies of ``m`` and ``z``. On a GPU too large a chunk is an error,
    and the tuner goes down. On a CPU the kernel may end the process instead, so that there the full chunk
    counts, unless the tuner is told otherwise (:func:`openfoldpp.inference.memory.limit_chunk_size`).

``benchmarks/memory.py`` prints the estimate beside the measured peak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GIB = 1 << 30
#: Largest chunk that upstream's tuner tries by default, less the 4 that it adds; and upstream's smallest.
TUNED_CHUNK, SMALLEST_CHUNK = 512, 4

_FLOAT = 4  # upstream's model computes in float32
# The interpreter with torch, OpenFold and what they import; the weights, beside the file they came from.
_RUNTIME_BYTES = GIB // 2
_WEIGHTS_BYTES = 3 * GIB // 4
# What the allocator keeps beyond the tensors, and tensors too small to be named; from the measurements. The
# constant covers glibc's holes: equal runs of the same model differ by up to 150 MB in their peak.
_SLACK, _SLACK_BYTES = 1.10, 128 << 20
# Triangle multiplication brings a chunk of its own.
_MULTIPLICATION_CHUNK = 256


@dataclass(frozen=True)
class Depth:
    """How many rows the model sees beside the residues; upstream pads to them, however few there are.

    Attributes
    ----------
    n_seq : int
        Rows of the MSA representation, those of templates among them.
    n_extra : int
        Rows of the extra MSA; 0 where the preset has none.
    n_templ : int
        Templates; 0 where the preset has none.
    """

    n_seq: int
    n_extra: int
    n_templ: int

    @classmethod
    def of(cls, config: Any, *, templates: bool = True) -> Depth:
        """Read the depth from a configuration.

        Parameters
        ----------
        config : ml_collections.ConfigDict
            Upstream's, of any release.
        templates : bool
            Whether the features have templates; without them upstream leaves that part of the model out.

        Returns
        -------
        Depth
        """
        predict, common = config.data.predict, config.data.common
        n_templ = predict.max_templates if templates and config.model.template.enabled else 0
        n_seq = predict.max_msa_clusters
        embeds = n_templ and config.model.template.get("embed_angles", True)
        if embeds and not common.get("reduce_msa_clusters_by_max_templates", False):
            n_seq += n_templ
        return cls(n_seq, predict.max_extra_msa if _has_extra(config) else 0, n_templ)


def estimate_peak_bytes(
    config: Any,
    n_res: int,
    *,
    device: str = "cpu",
    depth: Depth | None = None,
    largest_chunk: int = TUNED_CHUNK,
) -> int:
    """Estimate the peak memory of one prediction by upstream's model.

    Parameters
    ----------
    config : ml_collections.ConfigDict
        Upstream's configuration of the preset, as flags and plugins have edited it.
    n_res : int
        Residues of all chains.
    device : str
        A torch device name. Off the CPU the smallest chunk is taken, because there the tuner goes down to it.
    depth : Depth, optional
        Rows and templates; by default those that the configuration pads to.
    largest_chunk : int
        How far the tuner may go.

    Returns
    -------
    int
        Bytes: of the whole process on a CPU, weights and libraries among them; of the device elsewhere.
    """
    peak = max(stage_bytes(config, n_res, device=device, depth=depth, largest_chunk=largest_chunk).values())
    return _WEIGHTS_BYTES + (_RUNTIME_BYTES if device == "cpu" else 0) + with_slack(peak)


def with_slack(tensor_bytes: int) -> int:
    """Add what the allocator keeps beyond `tensor_bytes`, and tensors too small to be counted."""
    return int(_SLACK_BYTES + _SLACK * tensor_bytes)


def stage_bytes(
    config: Any,
    n_res: int,
    *,
    device: str = "cpu",
    depth: Depth | None = None,
    largest_chunk: int = TUNED_CHUNK,
) -> dict[str, int]:
    """Add up the tensors of each stage at its worst moment; :func:`estimate_peak_bytes` adds the slack.

    Parameters
    ----------
    config : ml_collections.ConfigDict
        Upstream's configuration of the preset, as flags and plugins have edited it.
    n_res : int
        Residues of all chains.
    device : str
        A torch device name.
    depth : Depth, optional
        Rows and templates; by default those that the configuration pads to.
    largest_chunk : int
        How far the tuner may go.

    Returns
    -------
    dict of str to int
        Bytes by the stage's name: ``templates``, ``extra_msa``, ``evoformer``, ``structure`` and ``output``.
    """
    depth = depth or Depth.of(config)
    model, chunk_size = config.model, config.globals.chunk_size
    trunk, extra, templates = model.evoformer_stack, model.extra_msa.extra_msa_stack, model.template
    n, square = n_res, n_res * n_res
    z, m = trunk.c_z * square, trunk.c_m * depth.n_seq * n
    features = (config.data.common.max_recycling_iters + 1) * n * (49 * depth.n_seq + 5 * depth.n_extra)

    def chunk(stack) -> tuple[int, bool]:
        if chunk_size is None:
            return max(n, depth.n_seq, depth.n_extra), False
        # The tuner's last candidate is 4 more than its limit.
        tunes = stack.get("tune_chunk_size", False) and device == "cpu" and largest_chunk > chunk_size
        return (largest_chunk + 4 if tunes else chunk_size), tunes

    stages = {}
    if depth.n_templ:
        stack = templates.template_pair_stack
        size, tunes = chunk(stack)
        t = stack.c_t * depth.n_templ * square
        block = _pair_block(n, stack.c_t, stack.no_heads, stack.c_hidden_tri_att, stack.c_hidden_tri_mul,
                            stack.pair_transition_n, size)  # fmt: skip
        pair_features = 3 * 88 * square
        stages["templates"] = z + m + max(t + pair_features, (1 + tunes) * t + max(block, t))
    kept = 0
    if depth.n_extra:
        size, tunes = chunk(extra)
        e, one_hot = extra.c_m * depth.n_extra * n, 25 * depth.n_extra * n
        kept = e + one_hot  # upstream's iteration holds both until its end
        copies = (e + z) if tunes else 0
        stages["extra_msa"] = z + m + kept + max(2 * one_hot, copies + _block(n, depth.n_extra, extra, size))
    size, tunes = chunk(trunk)
    copies = (m + z) if tunes else 0
    stages["evoformer"] = z + m + kept + copies + _block(n, depth.n_seq, trunk, size)
    points = 3 * model.structure_module.no_heads_ipa * model.structure_module.no_qk_points
    heads = 3 * model.structure_module.no_heads_ipa
    twice = 2 if config.globals.get("is_multimer", False) else 1
    stages["structure"] = 2 * z + m + kept + square * (2 * twice * points + heads)
    logits = sum(model.heads[name].no_bins for name in ("distogram", "tm")) * square
    # The model's output, and its copy as numpy arrays; with a ptm preset the probabilities come on top.
    stages["output"] = 2 * (z + m + 1.5 * logits)
    return {name: int(_FLOAT * (features + numbers)) for name, numbers in stages.items()}


def _has_extra(config: Any) -> bool:
    return bool(config.model.extra_msa.get("enabled", True))


def _block(n: int, rows: int, stack: Any, chunk: int) -> int:
    """Count the numbers that one block adds to ``m`` and ``z`` at its worst moment."""
    pair = _pair_block(n, stack.c_z, stack.no_heads_pair, stack.c_hidden_pair_att, stack.c_hidden_mul,
                       stack.transition_n, chunk)  # fmt: skip
    c, heads, width = stack.c_m, stack.no_heads_msa, stack.no_heads_msa * stack.c_hidden_msa_att
    m, out = c * rows * n, stack.c_z * n * n
    at_once = min(chunk, rows)
    is_extra = "no_column_attention" not in stack and "c_s" not in stack
    # The extra stack's attention over rows works in place, and over columns it is global: no [S, S] logits.
    row = m + 2 * heads * n * n + at_once * n * ((1 if is_extra else 2) * heads * n + 6 * width)
    residues = min(chunk, n)
    if is_extra:
        column = m + 5 * c * residues * rows
    elif stack.get("no_column_attention", False):
        column = 0
    else:
        column = m + residues * rows * (2 * heads * rows + 6 * width)
    transition = m + at_once * n * c * (2 * stack.transition_n + 1)
    hidden = stack.c_hidden_opm
    projections = 3 * hidden * rows * n
    outer = max(m + projections, out + projections + 3 * residues * n * hidden * hidden)
    return max(pair, row, column, transition, outer)


def _pair_block(
    n: int, c: int, heads: int, hidden: int, hidden_mul: int, transition_n: int, chunk: int
) -> int:
    """Count the numbers that the updates of a pair representation ``[N_res, N_res, c]`` add to it."""
    pair, rows = c * n * n, min(chunk, n)
    multiplication = 1.5 * hidden_mul * n * n + 6 * c * n * min(_MULTIPLICATION_CHUNK, n)
    attention = 2 * pair + 2 * heads * n * n + rows * n * (2 * heads * n + 6 * heads * hidden)
    transition = pair + rows * n * c * (2 * transition_n + 1)
    return int(max(multiplication, attention, transition))


def longest_chain(
    config: Any,
    budget: int,
    *,
    device: str = "cpu",
    depth: Depth | None = None,
    largest_chunk: int = SMALLEST_CHUNK,
) -> int:
    """Return the most residues that fit.

    Parameters
    ----------
    config : ml_collections.ConfigDict
        Upstream's configuration of the preset.
    budget : int
        Bytes that may be used, as :func:`openfoldpp.inference.memory.budget_bytes` finds them.
    device : str
        A torch device name.
    depth : Depth, optional
        Rows and templates; by default those that the configuration pads to.
    largest_chunk : int
        How far the tuner may go; by default not at all, as a run does before it refuses a target.

    Returns
    -------
    int
        0 where not even the weights fit.
    """

    def fits(n: int) -> bool:
        return (
            estimate_peak_bytes(config, n, device=device, depth=depth, largest_chunk=largest_chunk) <= budget
        )

    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
