"""Which backend runs an op, and why: a backend declares what it supports, a refusal lists every reason."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.forward_ad import unpack_dual

from openfoldpp import _native
from openfoldpp.config import Settings
from openfoldpp.errors import BackendError, ConfigError

FLOAT32_OR_BFLOAT16 = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Backend:
    """One implementation of an op.

    Attributes
    ----------
    name : str
        ``"native"``, ``"cuda"``, ``"triton"`` or ``"torch"``.
    refuse : callable
        Given the op's arguments: why the backend does not support them, or None where it does.
    run : callable
        The implementation, with the op's arguments.
    """

    name: str
    refuse: Callable[..., str | None]
    run: Callable[..., Any]


@dataclass(frozen=True)
class Choice:
    """The backend chosen for an op, and the reason; ``str(choice)`` is what a user is shown.

    Attributes
    ----------
    op : str
        Name of the op.
    backend : Backend
        What will run it.
    reason : str
        The setting that forced it, level and threads, and why preferred backends were not taken.
    """

    op: str
    backend: Backend
    reason: str

    def __str__(self) -> str:
        return f"{self.op}: {self.backend.name} ({self.reason})"


class Op:
    """A named operation with several backends, the preferred one first."""

    def __init__(self, name: str, backends: tuple[Backend, ...]):
        self.name = name
        self.backends = backends

    def choose(self, *arguments: Any) -> Choice:
        """Choose the backend for these arguments.

        Returns
        -------
        Choice

        Raises
        ------
        BackendError
            Where no backend, or not the one that ``OPENFOLDPP_BACKEND`` names, supports the arguments.
        ConfigError
            Where a setting in the environment cannot be used.
        """
        wanted = settings().backend
        refusals = []
        for backend in self.backends:
            refusal = backend.refuse(*arguments)
            if refusal is None and wanted in ("auto", backend.name):
                why = refusals if wanted == "auto" else [f"OPENFOLDPP_BACKEND={wanted}"]
                return Choice(self.name, backend, "; ".join([_describe(backend.name), *why]))
            refusals.append(f"not {backend.name}: {refusal or 'not asked for'}")
        if wanted not in ("auto", *(backend.name for backend in self.backends)):
            refusals.append(f"there is no {wanted} kernel of this op")
        cure = "" if wanted == "auto" else "; unset OPENFOLDPP_BACKEND to let a backend be chosen"
        raise BackendError(
            f"{self.name}: OPENFOLDPP_BACKEND={wanted} leaves no backend: {'; '.join(refusals)}{cure}"
        )

    def __call__(self, *arguments: Any) -> Any:
        """Run the op on the chosen backend."""
        return self.choose(*arguments).backend.run(*arguments)


@functools.cache
def settings() -> Settings:
    """Return the settings of this process, read at first use; ``settings.cache_clear()`` reads them again."""
    return Settings.from_environment()


def threads() -> int:
    """Return the threads of a native kernel: ``OPENFOLDPP_NUM_THREADS``, else ``torch.get_num_threads()``."""
    return settings().num_threads or torch.get_num_threads()


def simd_level() -> str:
    """Return the instruction-set level of the native kernels.

    Raises
    ------
    ConfigError
        Where ``OPENFOLDPP_SIMD`` names a level that cannot run here.
    """
    try:
        return _native.simd_level()
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _describe(backend: str) -> str:
    if backend == "native":
        count = threads()
        return f"{simd_level()}, {count} thread{'s' if count > 1 else ''}"
    return {"cuda": "CUDA kernel", "triton": "Triton kernel", "torch": "torch reference"}[backend]


def refuse_tangent(tensor: torch.Tensor) -> str | None:
    """Why a kernel cannot take a tensor that forward-mode differentiation follows; None where none does."""
    if unpack_dual(tensor).tangent is None:
        return None
    return "a tensor has a tangent of forward-mode differentiation, which a kernel would lose"


def refuse_unless_cpu(*tensors: torch.Tensor) -> str | None:
    """Why a native kernel cannot take these tensors: device, dtype, layout or tangent; None where it can."""
    return _refuse(tensors, "cpu")


def refuse_unless_cuda(*tensors: torch.Tensor) -> str | None:
    """Why no CUDA kernel takes these tensors: build, device, dtype, layout, tangent; None where one does."""
    if not hasattr(_native, "cuda_softmax_forward"):
        return "this build has no CUDA kernels; build with -C cmake.define.OPENFOLDPP_CUDA=ON"
    return _refuse(tensors, "cuda")


def refuse_kind(
    tensor: torch.Tensor, device: str, dtypes: tuple[torch.dtype, ...] = (torch.float32,)
) -> str | None:
    """Why a kernel cannot take a tensor: not on this type of device, of no such dtype, or with a tangent."""
    if tensor.device.type != device:
        return f"a tensor is on {tensor.device}, expected {device}"
    if tensor.dtype not in dtypes:
        expected = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        return f"a tensor is {tensor.dtype}, expected {expected}"
    return refuse_tangent(tensor)


def refuse_gradient(tensor: torch.Tensor) -> str | None:
    """Why a kernel without a backward pass cannot take a tensor; None where it can."""
    if torch.is_grad_enabled() and tensor.requires_grad:
        return "a gradient is needed; under torch.no_grad() none is"
    return None


def refuse_transform() -> str | None:
    """Why a kernel cannot run inside a transform of torch.func; None outside of one."""
    if torch._C._are_functorch_transforms_active():
        return "a transform of torch.func is active, and its tensors have no memory"
    return None


def _refuse(tensors: tuple[torch.Tensor, ...], device: str) -> str | None:
    for tensor in tensors:
        if reason := refuse_kind(tensor, device, FLOAT32_OR_BFLOAT16):
            return reason
        if not tensor.is_contiguous():
            return "a tensor is not contiguous"
    return None
