"""The learning rate of a recipe's steps."""

from __future__ import annotations

import math

# Part of the highest rate that is left at the end.
_LAST = 0.02


def warm_up_and_cosine(step: int, steps: int, *, highest: float, warm_up: int, falls_from: int = 0) -> float:
    """Return the rate of a step: a linear rise, and a cosine down to a fiftieth of the highest.

    Parameters
    ----------
    step : int
        From 0.
    steps : int
        Of the run.
    highest : float
        The rate that it rises to.
    warm_up : int
        Steps of the rise.
    falls_from : int
        The step at which the cosine begins; before the end of the rise it lowers that.

    Returns
    -------
    float
    """
    rise = min(1.0, (step + 1) / warm_up)
    fall = (1 + math.cos(math.pi * max(0, step - falls_from) / max(1, steps - falls_from))) / 2
    return highest * rise * (_LAST + (1 - _LAST) * fall)
