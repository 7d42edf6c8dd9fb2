"""Whether the machine has the memory that a prediction needs: told before it runs, with what would help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from openfoldpp.config import Settings
from openfoldpp.errors import InsufficientMemoryError
from openfoldpp.inference.free_memory import available_bytes, held_bytes
from openfoldpp.inference.memory_estimate import (
    GIB,
    SMALLEST_CHUNK,
    TUNED_CHUNK,
    Depth,
    estimate_peak_bytes,
    longest_chain,
)

# Rows that a prediction can do with, proposed where they would make it fit.
_FEW_SEQ, _FEW_EXTRA = 128, 512
_LIMIT_VARIABLE = "OPENFOLDPP_MEMORY_LIMIT_GIB"


@dataclass(frozen=True)
class MemoryPlan:
    """What a prediction will need, and what it may use.

    Attributes
    ----------
    peak_bytes : int
        Estimated peak: of the process on a CPU, of the device elsewhere.
    budget_bytes : int
        What is there for it, with what the process holds already.
    largest_chunk : int
        How far upstream's chunk size tuner may go, see :func:`limit_chunk_size`.
    """

    peak_bytes: int
    budget_bytes: int
    largest_chunk: int

    @property
    def note(self) -> str | None:
        """What to tell the user where the plan slows the run down; else None."""
        if self.largest_chunk == TUNED_CHUNK:
            return None
        return (
            f"memory: OpenFold's chunk size is kept to {self.largest_chunk}; with its own choice this target "
            f"would need more than the {self.budget_bytes / GIB:.1f} GiB that there are"
        )


def plan_memory(
    config: Any, n_res: int, *, device: str = "cpu", depth: Depth | None = None, what: str = "this target"
) -> MemoryPlan:
    """Check that a prediction fits, before any work, and say how far the chunk size may go.

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
    what : str
        Names the target in the error, for example ``"target '1ABC_A'"``.

    Returns
    -------
    MemoryPlan
        With the largest chunk that fits.

    Raises
    ------
    InsufficientMemoryError
        Not even the smallest chunk fits. Says how much is needed and free, and which flags would help.
    """
    budget = budget_bytes(device)
    chunk = TUNED_CHUNK
    while True:
        peak = estimate_peak_bytes(config, n_res, device=device, depth=depth, largest_chunk=chunk)
        if peak <= budget:
            return MemoryPlan(peak, budget, chunk)
        if chunk <= SMALLEST_CHUNK:
            break
        chunk //= 2
    longest = longest_chain(config, budget, device=device, depth=depth)
    raise InsufficientMemoryError(
        f"{what} with {n_res:,} residues needs about {peak / GIB:,.1f} GiB of memory on {device} (an "
        f"estimate), and there are {budget / GIB:,.1f} GiB, enough for about {longest:,} residues. "
        f"{_cures(config, n_res, budget, device=device, depth=depth or Depth.of(config))}"
    )


def _cures(config: Any, n_res: int, budget: int, *, device: str, depth: Depth) -> str:
    """Say what would help, and only what does."""

    def fits(lesser: Depth) -> bool:
        peak = estimate_peak_bytes(config, n_res, device=device, depth=lesser, largest_chunk=SMALLEST_CHUNK)
        return lesser != depth and peak <= budget

    cures = []
    if fits(Depth(min(depth.n_seq, _FEW_SEQ), min(depth.n_extra, _FEW_EXTRA), depth.n_templ)):
        cures.append(
            "fewer alignment rows, with --experiment_config_json and a file of "
            f'{{"data.predict.max_msa_clusters": {_FEW_SEQ}, "data.predict.max_extra_msa": {_FEW_EXTRA}}}'
        )
    cures.append("the target split into domains, each predicted alone")
    cures.append("a machine with more memory" + ("" if device == "cpu" else ", or --model_device cpu"))
    insist = f"To try it all the same, set {_LIMIT_VARIABLE} to the GiB that it may use."
    return f"What helps: {'; '.join(cures)}. {insist}"


def budget_bytes(device: str = "cpu") -> int:
    """Return what a prediction may use: what is free, and what this process holds already.

    Parameters
    ----------
    device : str
        A torch device name.

    Returns
    -------
    int
        Bytes; ``OPENFOLDPP_MEMORY_LIMIT_GIB`` where that is set.

    Raises
    ------
    ConfigError
        A setting in the environment cannot be used.
    """
    limit = Settings.from_environment().memory_limit_gib
    return int(limit * GIB) if limit is not None else available_bytes(device) + held_bytes(device)


def limit_chunk_size(model: Any, largest_chunk: int) -> bool:
    """Tell upstream's chunk size tuners how far they may go; 512 is upstream's own limit.

    Parameters
    ----------
    model : torch.nn.Module
        Upstream's model.
    largest_chunk : int
        From :class:`MemoryPlan`. What a tuner found under another limit is forgotten.

    Returns
    -------
    bool
        Whether one of them is in use. Native kernels take the place of all: nothing of theirs is chunked.
    """
    in_use = False
    for module in model.modules():
        tuner = getattr(module, "chunk_size_tuner", None)
        if tuner is None:
            continue
        in_use = in_use or "tune_chunk_size" not in vars(tuner)
        if tuner.max_chunk_size != largest_chunk:
            tuner.max_chunk_size = largest_chunk
            tuner.cached_arg_data = tuner.cached_chunk_size = None
    return in_use


def out_of_memory_error(
    error: BaseException, n_res: int, *, device: str = "cpu", what: str = "this target"
) -> InsufficientMemoryError:
    """Make the clear error of one that :func:`openfoldpp.errors.is_out_of_memory` knows.

    Parameters
    ----------
    error : BaseException
        What was raised.
    n_res : int
        Residues of the target.
    device : str
        A torch device name.
    what : str
        Names the target.

    Returns
    -------
    InsufficientMemoryError
        To be raised from `error`.
    """
    said = (str(error).splitlines() or [""])[0][:160]
    words = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return InsufficientMemoryError(
        f"{what} with {n_res:,} residues ran out of memory on {device} ({words}). What helps: end other "
        "programs that use it; the target split into domains, each predicted alone; a machine with more."
    )
