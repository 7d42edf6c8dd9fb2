"""Which files of OpenFold the kernels were compared with: those of the supported releases, as published.

A kernel that takes the place of code which somebody has edited would undo the edit without a word.
"""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from pathlib import Path

# SHA-256 of each module's file: 0.0.1 first, then 2.0.0 to 2.2.0, where they differ.
_SHA256 = {
    "openfold.model.embedders": (
        "0a3334bbbb24c513b462ac7d413145903da8762cc9458601901e83c5d07ca709",
        "ed82c2b38e37eb3377867297c7ca430c02d43f0f6826c4032822e3beee9a060e",
    ),
    "openfold.model.evoformer": (
        "c288ee260c9ec490418bfa84073069dc3cf30b6debf190a7a4025fdc1df452ff",
        "e090b4b7de50852d112621482b06d39c355e2f1e45892e68d2207c91b4cb9aed",
    ),
    "openfold.model.msa": (
        "5dae45de8c510b8ec08c42d6fa24b9b2946e87104f550eff0230f66592600067",
        "ba6e887eb718fdf0cb0deadf2d1ef92d1c9132eec93f718cb1bf088d4fcaa2f4",
    ),
    "openfold.model.outer_product_mean": (
        "c46d405b1beda1b0e2d4bd85761b7b66fb3d16dddc123c47dc819e7b1b833e42",
    ),
    "openfold.model.pair_transition": ("69fa5ebe5348e2d961a127391e0a11132b19e7c208de0d7d1b7d05caea5e2035",),
    "openfold.model.primitives": (
        "52db21e897eac30c69892bbbaa6ef76d710c1fe4c3dc573e700c1a4b7693293b",
        "8c35630b47f55daee85c755ea73ec0d9215ea41251e54c74f7ed1ab314c335d0",
        "91ddf6af0bc802d8ab45ef19676058d98d11016bb711cb82e38a53dae405d7e9",
    ),
    "openfold.model.structure_module": (
        "92dbfe1613974c38fca57d905e3038d2e16fabd53ea1093fe9f7ca104458dbd8",
        "06ee0665e071d491348de357755655ff17b51014371564404c1bbafe8403173b",
    ),
    "openfold.model.template": (
        "6fbe787f1f773bc9421cb1e038d365fb9ca10ab2be5a29b2497b1330266acaff",
        "8754cd2951f4783f3126dcda20a6b2dd6b15fdddf8fb4eb1db365ae2c6d7190b",
    ),
    "openfold.model.triangular_attention": (
        "e80c0ea7b09f7e95aee7cb42ee47074426414eabcce8e61418137479e9cdc9b0",
        "7b6de8274c154dec939b92b0a0aa28d2cca8cf0f6a9558178cefc5aaf5202e7d",
    ),
    "openfold.model.triangular_multiplicative_update": (
        "f289e029cfd630f18fc01ee0a766f314a9040fd6fe9907f4eb65a70ec6c3435e",
        "af25327050c10fab0abfb53daf10df8712a8dc98900cfea9a52829acc1304c9a",
    ),
    "openfold.utils.chunk_utils": ("0c41e5ca97b03ec90a4f623e40c3ad9355ca2b779847a3ec51884e5a79606f1c",),
}
_USED_BY_ALL = "openfold.model.primitives"


def edited(module_name: str) -> str | None:
    """Say which file differs from that of every supported release.

    Parameters
    ----------
    module_name : str
        An imported module of openfold's, for example ``"openfold.model.msa"``.

    Returns
    -------
    str or None
        The file, of this module or of the primitives that it is made of; None where both are as published.
    """
    return next((name for name in (module_name, _USED_BY_ALL) if not _as_published(name)), None)


@cache
def _as_published(module_name: str) -> bool:
    try:
        source = Path(sys.modules[module_name].__file__).read_bytes().replace(b"\r\n", b"\n")
    except OSError:  # imported from an archive, say: nobody can tell what it is
        return False
    return hashlib.sha256(source).hexdigest() in _SHA256[module_name]
