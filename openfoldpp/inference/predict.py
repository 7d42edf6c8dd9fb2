"""``openfoldpp.predict``: one call from sequence to structure."""

from __future__ import annotations

from pathlib import Path

from openfoldpp.config import Settings
from openfoldpp.errors import ConfigError, InputError
from openfoldpp.inference import options as command_line
from openfoldpp.inference.fasta import parse_sequence_argument, read_target
from openfoldpp.inference.pipeline import generators_kept, settle, tag_rule
from openfoldpp.inference.prediction import Prediction
from openfoldpp.inference.script import make_pipeline
from openfoldpp.types import Target
from openfoldpp.upstream.model import weights_files

# What these flags ask for is done by methods of the prediction.
_NOT_HERE = ("--out", "--output_dir", "--output_postfix", "--cif_output", "--relax", "--subtract_plddt")


def predict(
    target: str | Path | Target,
    *arguments: str,
    tag: str = "prediction",
    plugins: str = "openfoldpp",
    seed: int = 0,
) -> Prediction:
    """Predict one structure.

    Parameters
    ----------
    target : str, pathlib.Path or Target
        One-letter sequence, ``:`` between chains: ``"VH:VL"`` for an antibody's variable fragment. A
        ``Path`` is a FASTA file.
    *arguments : str
        Flags of ``openfoldpp predict``, for example ``"--openfold_checkpoint_path", "weights.pt"``.
    tag : str
        Name of the target in the files that :meth:`Prediction.save` writes, where a sequence is given.
    plugins : str
        As ``--plugins`` takes them.
    seed : int
        Of the random numbers that OpenFold's features draw. The process's own generators are left as
        they are.

    Returns
    -------
    Prediction
        ``coords``, ``plddt``, ``pae``, ``to_pdb()``, ``to_cif()``, ``save(directory)``.

    Raises
    ------
    InputError
        The sequence cannot be read; :class:`UnsupportedTargetError` where no predictor serves it.
    ConfigError
        A flag is unknown, or is for the command alone.
    """
    Settings.from_environment()
    unused = [argument for argument in arguments if argument.partition("=")[0] in _NOT_HERE]
    if unused:
        raise ConfigError(f"{', '.join(unused)}: for the command; here use the methods of the prediction")
    try:
        options, host = command_line.defaults(*arguments, plugins=plugins)
    except SystemExit as error:
        raise ConfigError(f"arguments {arguments} cannot be used; argparse has printed why") from error
    if isinstance(target, Path):
        target = read_target(target, tag_rule=tag_rule(options))
    elif isinstance(target, str):
        target = parse_sequence_argument(target, tag=tag)
    elif not isinstance(target, Target):
        raise InputError(f"target is a {type(target).__name__}: expected a sequence, a Path or a Target")
    settle(options)
    if len(weights_files(options.openfold_checkpoint_path, options.jax_param_path)) > 1:
        raise InputError("several weights files are given: predict() runs one, call it once for each")
    pipeline = make_pipeline(options, host, seed)
    with generators_kept():
        return pipeline.predict(target, next(pipeline.models()))
