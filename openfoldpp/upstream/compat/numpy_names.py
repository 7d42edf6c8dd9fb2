"""Names that numpy dropped, and tensors that it warns about."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import GeneratorType, ModuleType
from typing import Any

from openfoldpp.upstream.compat.overlay import Overlay, attribute_supplied
from openfoldpp.upstream.compat.record import ALL_RELEASES, TWO, Mend, Record, reads
from openfoldpp.upstream.locate import Installation


def _object_probe(installation: Installation) -> str | None:
    import numpy as np

    if "object" in vars(np) or not reads(installation, "data/templates.py", "np.object,"):
        return None
    return f"openfold.data.templates reads np.object at import, which numpy {np.__version__} does not have"


def _object() -> AbstractContextManager:
    import numpy as np

    return attribute_supplied(np, "object", object)


def _bool_probe(installation: Installation) -> str | None:
    import numpy as np

    # numpy 2 has its own np.bool; 1.24 to 1.26 have none.
    if "bool" in vars(np) or not reads(installation, "np/relax/utils.py", "np.bool)"):
        return None
    return f"relaxation uses np.bool, which numpy {np.__version__} does not have"


def _bool(module: ModuleType) -> dict[str, Any]:
    return {"np": Overlay(module.np, bool=bool)}


def _string_probe(installation: Installation) -> str | None:
    import numpy as np

    if "string_" in vars(np) or not reads(installation, "data/msa_pairing.py", "np.string_"):
        return None
    return f"pairing the alignments of two chains uses np.string_, which numpy {np.__version__} does not have"


def _string(module: ModuleType) -> dict[str, Any]:
    return {"np": Overlay(module.np, string_=module.np.bytes_)}


def _sum_probe(installation: Installation) -> str | None:
    import numpy as np

    if not reads(installation, "data/msa_pairing.py", "np.sum(x for x in feats)"):
        return None
    return f"merging chains calls np.sum on a generator, which numpy {np.__version__} does not take"


def _sum(module: ModuleType) -> dict[str, Any]:
    numpy = module.np

    def add(values: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(values, GeneratorType):
            return sum(values)  # what np.sum itself did
        return numpy.sum(values, *args, **kwargs)

    return {"np": Overlay(numpy, sum=add)}


def _array_probe(installation: Installation) -> str | None:
    import numpy as np

    if int(np.__version__.partition(".")[0]) < 2 or not reads(installation, "utils/loss.py", "np.array(x)"):
        return None
    return f"the violation check calls np.array on tensors, which numpy {np.__version__} warns about"


def _array(module: ModuleType) -> dict[str, Any]:
    numpy = module.np

    def array(value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, module.torch.Tensor):
            value = value.numpy()  # as torch's own __array__ does; np.array then copies
        return numpy.array(value, *args, **kwargs)

    return {"np": Overlay(numpy, array=array)}


RECORDS = (
    Record(
        name="numpy.object",
        versions=("0.0.1",),
        probe=_object_probe,
        mends=(Mend("openfold.data.templates", during=_object),),
        breaks="numpy 1.24 dropped `np.object`: importing openfold fails",
        supplies="`np.object` while openfold.data.templates is imported; not afterwards",
        upstream_issue="#306, #307, #391",
        drop_when="0.0.1 is no longer supported (2.0.0 mended it)",
    ),
    Record(
        name="numpy.bool",
        versions=("0.0.1",),
        probe=_bool_probe,
        mends=(Mend("openfold.np.relax.utils", names=_bool),),
        breaks="numpy 1.24 to 1.26 have no `np.bool`: relaxation fails",
        supplies="`np.bool` as openfold.np.relax.utils sees numpy; numpy itself is not touched",
        upstream_issue=None,
        drop_when="0.0.1 or numpy 1 is no longer supported (2.0.0 mended it)",
    ),
    Record(
        name="numpy.string_",
        versions=TWO,
        probe=_string_probe,
        mends=(Mend("openfold.data.msa_pairing", names=_string),),
        breaks="numpy 2 dropped `np.string_`: multimer prediction of different chains fails",
        supplies="`np.bytes_` by its former name, as openfold.data.msa_pairing sees numpy",
        upstream_issue=None,
        drop_when="OpenFold writes `np.bytes_`",
    ),
    Record(
        name="numpy.sum of a generator",
        versions=TWO,
        probe=_sum_probe,
        mends=(Mend("openfold.data.msa_pairing", names=_sum),),
        breaks="numpy 2.4 refuses `np.sum` of a generator: multimer prediction fails",
        supplies="`np.sum` as openfold.data.msa_pairing sees it takes generators",
        upstream_issue=None,
        drop_when="OpenFold sums a list",
    ),
    Record(
        name="numpy.array of a tensor",
        versions=ALL_RELEASES,
        probe=_array_probe,
        mends=(Mend("openfold.utils.loss", names=_array),),
        breaks="numpy 2 hands `copy` to `torch.Tensor.__array__`, which does not take it: relaxation warns",
        supplies="`np.array` as openfold.utils.loss sees it takes tensors; numpy itself is not touched",
        upstream_issue=None,
        drop_when="`torch.Tensor.__array__` takes the argument `copy` that numpy 2 hands it",
    ),
)
