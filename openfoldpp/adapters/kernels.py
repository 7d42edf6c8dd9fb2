"""Builtin plugin ``openfoldpp.kernels``: exact native kernels inside OpenFold's model, on a CPU."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from openfoldpp.plugins.hookspecs import hookimpl

# Configuration values that ask upstream for one of its other implementations of the same attention.
_ATTENTIONS = ("use_deepspeed_evo_attention", "use_flash", "use_lma")


class KernelsPlugin:
    """Native kernels for the trunk and the invariant point attention, where the model is on a CPU.

    They change no result beyond the rounding of float32. On another device, with
    ``OPENFOLDPP_BACKEND=torch`` and where OpenFold's files have been edited, OpenFold's own code runs.
    """

    @hookimpl
    def openfoldpp_prepare_model(self, model: Any, options: Namespace) -> str:
        """Put the kernels in place, and say which, or why not."""
        from openfoldpp.errors import InputError
        from openfoldpp.ops import settings
        from openfoldpp.upstream.acceleration import accelerate, explain

        backend = settings().backend
        if backend not in ("auto", "native"):
            return f"native kernels: not used, as OPENFOLDPP_BACKEND={backend}"
        devices = sorted({str(parameter.device) for parameter in model.parameters()})
        if devices != ["cpu"]:
            return f"native kernels: not used, as the model is on {', '.join(devices)}; they serve the CPU"
        try:
            accelerate(model)
        except InputError as error:  # a fix of the user's in OpenFold is no reason to predict nothing
            return f"native kernels: not used: {error}"
        return "; ".join([explain(model), *_passed_over(model, options)])


def _passed_over(model: Any, options: Namespace) -> list[str]:
    """Say which of the user's choices the kernels make needless, and which keeps them out of a part."""
    config = getattr(model, "globals", {})
    names = [name for name in _ATTENTIONS if config.get(name, False)]
    said = [f"in place of the attention of {', '.join(names)}"] if names else []
    if getattr(options, "trace_model", False):
        said.append(
            "not in what --trace_model traces, which is the Evoformer's attention, outer product mean and "
            "triangle updates: leave the flag out to have them there"
        )
    return said


plugin = KernelsPlugin()
