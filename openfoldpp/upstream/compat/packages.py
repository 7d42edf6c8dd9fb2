"""Names that moved or went away in numpy, Biopython, Lightning and torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

from openfoldpp.errors import MissingDependencyError
from openfoldpp.upstream.compat.overlay import Overlay, attribute_supplied, module_supplied
from openfoldpp.upstream.compat.record import ALL_RELEASES, Mend, Record
from openfoldpp.upstream.locate import Installation


def _reads(installation: Installation, file: str, text: str) -> bool:
    path = installation.package / file
    return path.is_file() and text in path.read_text(encoding="utf-8")


# numpy ------------------------------------------------------------------------------------------------


def _numpy_object_probe(installation: Installation) -> str | None:
    import numpy as np

    if "object" in vars(np) or not _reads(installation, "data/templates.py", "np.object,"):
        return None
    return f"openfold.data.templates reads np.object at import, which numpy {np.__version__} does not have"


def _numpy_object() -> AbstractContextManager:
    import numpy as np

    return attribute_supplied(np, "object", object)


def _numpy_bool_probe(installation: Installation) -> str | None:
    import numpy as np

    # numpy 2 has its own np.bool; 1.24 to 1.26 have none.
    if "bool" in vars(np) or not _reads(installation, "np/relax/utils.py", "np.bool)"):
        return None
    return f"relaxation uses np.bool, which numpy {np.__version__} does not have"


def _numpy_bool(module: ModuleType) -> dict[str, Any]:
    return {"np": Overlay(module.np, bool=bool)}


def _numpy_array_probe(installation: Installation) -> str | None:
    import numpy as np

    if int(np.__version__.partition(".")[0]) < 2 or not _reads(installation, "utils/loss.py", "np.array(x)"):
        return None
    return f"the violation check calls np.array on tensors, which numpy {np.__version__} warns about"


def _numpy_array(module: ModuleType) -> dict[str, Any]:
    numpy = module.np

    def array(value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, module.torch.Tensor):
            value = value.numpy()  # as torch's own __array__ does; np.array then copies
        return numpy.array(value, *args, **kwargs)

    return {"np": Overlay(numpy, array=array)}


# Biopython --------------------------------------------------------------------------------------------


def _scopdata_probe(installation: Installation) -> str | None:
    if not _reads(installation, "data/mmcif_parsing.py", "import SCOPData"):
        return None
    if importlib.util.find_spec("Bio") is None or importlib.util.find_spec("Bio.Data.SCOPData") is not None:
        return None
    version = importlib.metadata.version("biopython")
    return f"openfold.data.mmcif_parsing imports Bio.Data.SCOPData, which Biopython {version} does not have"


def _scopdata() -> AbstractContextManager:
    from Bio.Data import PDBData

    return module_supplied("Bio.Data.SCOPData", protein_letters_3to1=PDBData.protein_letters_3to1_extended)


# Lightning --------------------------------------------------------------------------------------------


def _lightning_file(name: str) -> Path | None:
    spec = importlib.util.find_spec("pytorch_lightning")
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(spec.submodule_search_locations[0]) / name
    return file if file.is_file() else None


def _deepspeed_probe(installation: Installation) -> str | None:
    if not _reads(installation, "utils/script_utils.py", "pytorch_lightning.utilities.deepspeed"):
        return None
    if importlib.util.find_spec("pytorch_lightning") is None:
        return "openfold.utils.script_utils imports pytorch_lightning, which is not installed"
    if _lightning_file("utilities/deepspeed.py") is None:
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
    if not _reads(installation, "utils/seed.py", "pytorch_lightning.utilities.seed"):
        return None
    if importlib.util.find_spec("pytorch_lightning") is None:
        return "openfold.utils.seed imports pytorch_lightning, which is not installed"
    file = _lightning_file("utilities/seed.py")
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


# torch ------------------------------------------------------------------------------------------------


def _torch_load_probe(installation: Installation) -> str | None:
    if not _reads(installation, "utils/script_utils.py", "torch.load(ckpt_path)"):
        return None
    return (
        "checkpoints are read with torch.load without map_location, so one saved on a GPU fails on a machine "
        "without, and before torch 2.6 without weights_only"
    )


def _torch_load(module: ModuleType) -> dict[str, Any]:
    torch = module.torch

    def load(file: Any, **kwargs: Any) -> Any:
        return torch.load(file, **{"map_location": "cpu", "weights_only": True, **kwargs})

    return {"torch": Overlay(torch, load=load)}


RECORDS = (
    Record(
        name="numpy.object",
        versions=("0.0.1",),
        probe=_numpy_object_probe,
        mends=(Mend("openfold.data.templates", during=_numpy_object),),
        supplies="np.object while openfold.data.templates is imported; not afterwards",
        upstream_issue="mended in OpenFold 2.0.0",
        drop_when="OpenFold 0.0.1 is no longer supported",
    ),
    Record(
        name="numpy.bool",
        versions=("0.0.1",),
        probe=_numpy_bool_probe,
        mends=(Mend("openfold.np.relax.utils", names=_numpy_bool),),
        supplies="np.bool as openfold.np.relax.utils sees numpy; numpy itself is not touched",
        upstream_issue="mended in OpenFold 2.0.0",
        drop_when="OpenFold 0.0.1 or numpy 1 is no longer supported",
    ),
    Record(
        name="numpy.array of a tensor",
        versions=ALL_RELEASES,
        probe=_numpy_array_probe,
        mends=(Mend("openfold.utils.loss", names=_numpy_array),),
        supplies="np.array as openfold.utils.loss sees it takes tensors; numpy itself is not touched",
        upstream_issue=None,
        drop_when="torch.Tensor.__array__ takes the argument `copy` that numpy 2 hands it",
    ),
    Record(
        name="Bio.Data.SCOPData",
        versions=("0.0.1", "2.0.0"),
        probe=_scopdata_probe,
        mends=(Mend("openfold.data.mmcif_parsing", during=_scopdata),),
        supplies="the table of three-letter codes from Bio.Data.PDBData, as OpenFold 2.2.0 uses it",
        upstream_issue="mended in OpenFold 2.1.0",
        drop_when="OpenFold 0.0.1 and 2.0.0 are no longer supported",
    ),
    Record(
        name="pytorch_lightning.utilities.deepspeed",
        versions=ALL_RELEASES,
        probe=_deepspeed_probe,
        mends=(Mend("openfold.utils.script_utils", during=_deepspeed),),
        supplies="a converter that says what to install when a DeepSpeed checkpoint is given",
        upstream_issue=None,
        drop_when="OpenFold imports Lightning only where a DeepSpeed checkpoint is read",
    ),
    Record(
        name="pytorch_lightning.utilities.seed",
        versions=("0.0.1", "2.0.0"),
        probe=_seed_probe,
        mends=(Mend("openfold.utils.seed", during=_seed),),
        supplies="seed_everything from where Lightning 2 has it; without Lightning, an error that says so",
        upstream_issue="the module is gone in OpenFold 2.1.0",
        drop_when="OpenFold 0.0.1 and 2.0.0 are no longer supported",
    ),
    Record(
        name="torch.load",
        versions=ALL_RELEASES,
        probe=_torch_load_probe,
        mends=(Mend("openfold.utils.script_utils", names=_torch_load),),
        supplies="map_location='cpu' (the model is moved to its device afterwards) and weights_only=True",
        upstream_issue=None,
        drop_when="OpenFold passes both itself",
    ),
)
