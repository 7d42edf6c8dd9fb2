"""Names that moved or went away in Biopython, Lightning and FlashAttention."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from openfoldpp.errors import MissingDependencyError
from openfoldpp.upstream.compat.overlay import attribute_supplied, module_supplied
from openfoldpp.upstream.compat.record import ALL_RELEASES, Mend, Record, reads
from openfoldpp.upstream.locate import Installation

# Biopython --------------------------------------------------------------------------------------------


def _scopdata_probe(installation: Installation) -> str | None:
    if not reads(installation, "data/mmcif_parsing.py", "import SCOPData"):
        return None
    if importlib.util.find_spec("Bio") is None or importlib.util.find_spec("Bio.Data.SCOPData") is not None:
        return None
    version = importlib.metadata.version("biopython")
    return f"openfold.data.mmcif_parsing imports Bio.Data.SCOPData, which Biopython {version} does not have"


def _scopdata() -> AbstractContextManager:
    from Bio.Data import PDBData

    return module_supplied("Bio.Data.SCOPData", protein_letters_3to1=PDBData.protein_letters_3to1_extended)


# Lightning --------------------------------------------------------------------------------------------


def _file_of(package: str, name: str) -> Path | None:
    """Return a file of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(spec.submodule_search_locations[0]) / name
    return file if file.is_file() else None


def _deepspeed_probe(installation: Installation) -> str | None:
    if not reads(installation, "utils/script_utils.py", "pytorch_lightning.utilities.deepspeed"):
        return None
    if importlib.util.find_spec("pytorch_lightning") is None:
        return "openfold.utils.script_utils imports pytorch_lightning, which is not installed"
    if _file_of("pytorch_lightning", "utilities/deepspeed.py") is None:
        return "pytorch_lightning.utilities.deepspeed is gone from the installed Lightning"
    return None


def _deepspeed() -> AbstractContextManager:
    def convert_zero_checkpoint_to_fp32_state_dict(*args: Any, **kwargs: Any) -> None:
        raise MissingDependencyError(
            "A DeepSpeed checkpoint folder can be read only with Lightning's converter, which is not "
            "installed. Install it with `pip install pytorch-lightning deepspeed`, or give the checkpoint as "
            "one .pt file."
        )

    return module_supplied(
        "pytorch_lightning.utilities.deepspeed",
        convert_zero_checkpoint_to_fp32_state_dict=convert_zero_checkpoint_to_fp32_state_dict,
    )


def _seed_probe(installation: Installation) -> str | None:
    if not reads(installation, "utils/seed.py", "pytorch_lightning.utilities.seed"):
        return None
    if importlib.util.find_spec("pytorch_lightning") is None:
        return "openfold.utils.seed imports pytorch_lightning, which is not installed"
    file = _file_of("pytorch_lightning", "utilities/seed.py")
    if file is None or "seed_everything" not in file.read_text(encoding="utf-8"):
        return "seed_everything moved from pytorch_lightning.utilities.seed to pytorch_lightning"
    return None


def _seed() -> AbstractContextManager:
    def seed_everything(*args: Any, **kwargs: Any) -> Any:
        if importlib.util.find_spec("pytorch_lightning") is None:
            raise MissingDependencyError(
                "openfold.utils.seed.seed_globally needs Lightning, which is not installed. "
                "Install it with `pip install pytorch-lightning`."
            )
        import pytorch_lightning

        return pytorch_lightning.seed_everything(*args, **kwargs)

    return module_supplied("pytorch_lightning.utilities.seed", seed_everything=seed_everything)


# FlashAttention ---------------------------------------------------------------------------------------

_FLASH = "flash_attn_unpadded_kvpacked_func"
_FLASH_2 = "flash_attn_varlen_kvpacked_func"


def _flash_probe(installation: Installation) -> str | None:
    if not reads(installation, "model/primitives.py", _FLASH):
        return None
    file = _file_of("flash_attn", "flash_attn_interface.py")
    if file is None or _FLASH_2 not in (text := file.read_text(encoding="utf-8")) or _FLASH in text:
        return None
    return f"openfold.model.primitives imports {_FLASH}, which FlashAttention 2 calls {_FLASH_2}"


@contextmanager
def _flash() -> Iterator[None]:
    interface = importlib.import_module("flash_attn.flash_attn_interface")
    with ExitStack() as stack:
        stack.enter_context(attribute_supplied(interface, _FLASH, getattr(interface, _FLASH_2)))
        if importlib.util.find_spec("flash_attn.flash_attention") is None:
            # 0.0.1 imports this class, and does nothing with it.
            stack.enter_context(module_supplied("flash_attn.flash_attention", FlashAttention=None))
        yield


def _four_values(module: ModuleType) -> dict[str, Any]:
    unpad_input = module.unpad_input

    def first_four(*args: Any, **kwargs: Any) -> tuple:
        return tuple(unpad_input(*args, **kwargs)[:4])  # later releases return a fifth

    return {"unpad_input": first_four}


RECORDS = (
    Record(
        name="Bio.Data.SCOPData",
        versions=("0.0.1", "2.0.0"),
        probe=_scopdata_probe,
        mends=(Mend("openfold.data.mmcif_parsing", during=_scopdata),),
        breaks="Biopython 1.82 dropped `Bio.Data.SCOPData`: importing openfold fails",
        supplies="the table of three-letter codes from Bio.Data.PDBData, as OpenFold 2.2.0 uses it",
        upstream_issue=None,
        drop_when="0.0.1 and 2.0.0 are no longer supported (2.1.0 mended it)",
    ),
    Record(
        name="pytorch_lightning.utilities.deepspeed",
        versions=ALL_RELEASES,
        probe=_deepspeed_probe,
        mends=(Mend("openfold.utils.script_utils", during=_deepspeed),),
        breaks="Lightning, a training package, has to be installed for a prediction",
        supplies="a converter that says what to install when a DeepSpeed checkpoint is given",
        upstream_issue=None,
        drop_when="OpenFold imports Lightning only where a DeepSpeed checkpoint is read",
    ),
    Record(
        name="pytorch_lightning.utilities.seed",
        versions=("0.0.1", "2.0.0"),
        probe=_seed_probe,
        mends=(Mend("openfold.utils.seed", during=_seed),),
        breaks="Lightning 2 moved `seed_everything`: importing openfold fails",
        supplies="`seed_everything` from where Lightning 2 has it; without Lightning, an error that says so",
        upstream_issue="#418",
        drop_when="0.0.1 and 2.0.0 are no longer supported (2.1.0 has no such module)",
    ),
    Record(
        name=f"flash_attn.{_FLASH}",
        versions=("0.0.1", "2.0.0", "2.1.0"),
        probe=_flash_probe,
        mends=(Mend("openfold.model.primitives", during=_flash, names=_four_values),),
        breaks=f"FlashAttention 2 renamed `{_FLASH}`: where it is installed, importing openfold fails",
        supplies="the function by its former name, and the four values of `unpad_input` that are expected",
        upstream_issue="#454, #534",
        drop_when="0.0.1, 2.0.0 and 2.1.0 are no longer supported (2.2.0 mended it)",
    ),
)
