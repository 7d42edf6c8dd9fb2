"""Settings from the environment: typed, checked, all errors reported at once."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from openfoldpp.errors import ConfigError

PREFIX = "OPENFOLDPP_"
SIMD_LEVELS = ("scalar", "neon", "avx2", "avx512")
BACKENDS = ("auto", "native", "cuda", "triton", "torch")


@dataclass(frozen=True)
class Settings:
    """What a user sets through environment variables.

    Attributes
    ----------
    num_threads : int or None
        ``OPENFOLDPP_NUM_THREADS``: threads of the native kernels. None: as many as
        ``torch.get_num_threads()``.
    simd : str or None
        ``OPENFOLDPP_SIMD``: instruction-set level of the native kernels, one of ``scalar``, ``neon``,
        ``avx2``, ``avx512``. None: the fastest that this CPU has. The native library reads it itself.
    backend : str
        ``OPENFOLDPP_BACKEND``: ``native``, ``cuda``, ``triton`` or ``torch`` forces every op to that backend;
        ``auto``, the default, takes the first that supports the arguments. Under each, what no kernel serves
        of a model of OpenFold's (a part, a dtype, a device) runs OpenFold's own code.
    memory_limit_gib : float or None
        ``OPENFOLDPP_MEMORY_LIMIT_GIB``: GiB that a prediction may use, instead of what is found to be free.
    cache_dir : str or None
        ``OPENFOLDPP_CACHE_DIR``: folder that keeps the embeddings of language models between runs. None: a
        prediction keeps none.
    """

    num_threads: int | None = None
    simd: str | None = None
    backend: str = "auto"
    memory_limit_gib: float | None = None
    cache_dir: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings; a variable that is unset or empty keeps its default.

        Parameters
        ----------
        environ : mapping of str to str, optional
            Instead of ``os.environ``.

        Returns
        -------
        Settings

        Raises
        ------
        ConfigError
            Names every unknown ``OPENFOLDPP_*`` variable and every value that cannot be used.
        """
        environ = os.environ if environ is None else environ
        values, problems = {}, []
        for name in sorted(environ):
            if name.startswith(PREFIX) and name not in _VARIABLES:
                near = difflib.get_close_matches(name, _VARIABLES, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(_VARIABLES))}"
                problems.append(f"{name} is not a setting; {hint} To go on without it: unset {name}")
        for name, (field, parse) in _VARIABLES.items():
            text = environ.get(name, "")
            if text:
                try:
                    values[field] = parse(text)
                except ValueError as error:
                    problems.append(f"{name}={text}: {error}")
        if problems:
            raise ConfigError("the environment has settings that cannot be used:\n  " + "\n  ".join(problems))
        return cls(**values)


def _positive_integer(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError("expected a whole number, 1 or more")
    return int(text)


def _positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError("expected a number of GiB above 0, such as 16 or 1.5")
    return number


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return text

    return parse


_VARIABLES: dict[str, tuple[str, Callable]] = {
    "OPENFOLDPP_NUM_THREADS": ("num_threads", _positive_integer),
    "OPENFOLDPP_SIMD": ("simd", _one_of(SIMD_LEVELS)),
    "OPENFOLDPP_BACKEND": ("backend", _one_of(BACKENDS)),
    "OPENFOLDPP_MEMORY_LIMIT_GIB": ("memory_limit_gib", _positive_number),
    "OPENFOLDPP_CACHE_DIR": ("cache_dir", str),
}
