"""``openfoldpp.predict``: one call from sequence to structure."""

from __future__ import annotations

from openfoldpp.errors import InputError
from openfoldpp.inference import options as command_line
from openfoldpp.inference.fasta import parse_sequence_argument
from openfoldpp.inference.pipeline import Pipeline
from openfoldpp.inference.prediction import Prediction
from openfoldpp.types import Target
from openfoldpp.upstream.model import count_models


def predict(
    target: str | Target, *arguments: str, tag: str = "prediction", plugins: str = "openfoldpp", seed: int = 0
) -> Prediction:
    """Predict one structure.

    Parameters
    ----------
    target : str or Target
        One-letter sequence, ``:`` between chains: ``"VH:VL"`` for an antibody's variable fragment.
    *arguments : str
        Flags of ``openfoldpp predict``, for example ``"--openfold_checkpoint_path", "weights.pt"``.
    tag : str
        Name of the target in the files that :meth:`Prediction.save` writes.
    plugins : str
        As ``--plugins`` takes them.
    seed : int
        Of the random numbers that OpenFold's features draw.

    Returns
    -------
    Prediction
        ``coords``, ``plddt``, ``pae``, ``to_pdb()``, ``to_cif()``, ``save(directory)``.

    Raises
    ------
    InputError
        The sequence cannot be read; :class:`UnsupportedTargetError` where no predictor serves it.
    """
    options, host = command_line.defaults(*arguments, plugins=plugins)
    if isinstance(target, str):
        target = parse_sequence_argument(target, tag=tag)
    pipeline = Pipeline(options, host, seed)
    if count_models(options.openfold_checkpoint_path, options.jax_param_path) > 1:
        raise InputError("several weights files are given: predict() runs one, call it once for each")
    return pipeline.predict(target, next(pipeline.models()))
