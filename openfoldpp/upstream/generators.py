"""The random number generators that upstream draws from: Python's, numpy's and torch's."""

from __future__ import annotations

import random


def generators() -> tuple:
    """Return the state of Python's, numpy's and torch's random number generators."""
    import numpy as np
    import torch

    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


def restore_generators(state: tuple) -> None:
    """Set the random number generators to a `state` from :func:`generators`."""
    import numpy as np
    import torch

    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])
