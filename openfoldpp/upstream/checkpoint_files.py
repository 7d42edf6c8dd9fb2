"""What a file given as weights is, told from its first bytes and its names, before anything is loaded."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path

from openfoldpp.errors import CheckpointError

#: What a file of Git LFS holds where the content itself was not downloaded.
_LFS_POINTER = b"version https://git-lfs"
#: How files begin: zip (torch.save since release 1.6, and .npz), a bare pickle (torch.save before it), .npy.
_ZIP, _PICKLE, _NPY = b"PK\x03\x04", b"\x80", b"\x93NUMPY"
#: Packed files, by how they begin; a tar file says so after its first file's name.
_PACKED = {b"\x1f\x8b": "gzip -d", b"\xfd7zXZ\x00": "xz -d", b"(\xb5/\xfd": "zstd -d", b"BZh": "bzip2 -d"}
_TAR, _TAR_OFFSET = b"ustar", 257
_HEAD_BYTES = 512

_OPENFOLD_FLAG, _JAX_FLAG = "--openfold_checkpoint_path", "--jax_param_path"


def check_checkpoint_file(path: str | Path, *, jax: bool = False, preset: str | None = None) -> None:
    """Refuse a file that cannot be the weights it is given as; reads its head and its table of contents.

    Parameters
    ----------
    path : path-like
        The file.
    jax : bool
        Whether it is given as AlphaFold's parameters (``--jax_param_path``), else as OpenFold's
        (``--openfold_checkpoint_path``).
    preset : str, optional
        The preset that the model is built for. Of AlphaFold's parameters the names are compared with it,
        because upstream leaves what the file does not have as it was drawn at random.

    Raises
    ------
    CheckpointError
        Says what the file is, and what to do.
    """
    path = Path(path)
    if not jax and preset is not None and "multimer" in preset:
        raise CheckpointError(
            f"{path}: for the preset {preset} OpenFold takes AlphaFold's parameters alone: give "
            f"params_{preset}.npz with {_JAX_FLAG}"
        )
    kind = _kind(path, _JAX_FLAG if jax else _OPENFOLD_FLAG, "an .npz file" if jax else "a .pt file")
    if jax and kind != "arrays":
        raise CheckpointError(f"{path} holds OpenFold weights: give it with {_OPENFOLD_FLAG}")
    if not jax and kind == "arrays":
        raise CheckpointError(f"{path} holds JAX parameters: give it with {_JAX_FLAG}")
    if jax and preset is not None:
        named, shapes = named_preset(path, preset), array_shapes(path)
        fitting = fitting_presets(shapes)
        if not fits(shapes, preset):
            raise CheckpointError(
                f"{path} does not fit preset {preset!r}: {preset_cure(shapes, preset, path=path)}"
            )
        if named not in fitting:
            raise CheckpointError(
                f"{path} is named by preset {named!r} and holds the parameters of {_or(fitting)}; OpenFold "
                f"goes by the name: rename it to params_{_inference_preset(preset)}.npz"
            )


def _kind(path: Path, flag: str, expected: str) -> str:
    """Return ``"torch"`` or ``"arrays"``, from the first bytes, or refuse the file."""
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder, as DeepSpeed writes: convert it with the script that DeepSpeed puts there, "
            f"`python {path / 'zero_to_fp32.py'} {path} weights.pt`, and give the .pt file that it writes"
            if flag == _OPENFOLD_FLAG
            else f"{path} is a folder: {flag} expects one of the .npz files in it"
        )
    if not path.is_file():
        what = "checkpoint" if flag == _OPENFOLD_FLAG else "JAX parameters"
        raise CheckpointError(f"no {what} at {path}: {flag} expects {expected}")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    if not head:
        raise CheckpointError(f"{path} is empty. Download it again.")
    if head.startswith(_LFS_POINTER):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` in that repository"
        )
    if head.startswith(_ZIP):
        return _archive_kind(path)
    if head.startswith(_PICKLE):
        return "torch"
    unpack = next((command for magic, command in _PACKED.items() if head.startswith(magic)), None)
    if head[_TAR_OFFSET:].startswith(_TAR):
        unpack = "tar -xf"
    if unpack:
        raise CheckpointError(
            f"{path} is packed: unpack it with `{unpack} {path.name}`, and give {expected} that comes out"
        )
    line = _text_line(head)
    if head.startswith(_NPY):
        what = "is a single array (.npy)"
    elif line is not None:
        what = f"is a text file that begins with {line!r}"
    else:
        what = "is no file of torch.save" if flag == _OPENFOLD_FLAG else "is no file of numpy.savez"
    wants = "OpenFold weights (.pt)" if flag == _OPENFOLD_FLAG else "AlphaFold's parameters (.npz)"
    raise CheckpointError(f"{path} {what}: {flag} expects {wants}")


def _archive_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise damaged(path, error) from error
    if names and all(name.endswith(".npy") for name in names):
        return "arrays"
    if any(name.endswith("/data.pkl") for name in names):
        return "torch"
    raise CheckpointError(
        f"{path} is a zip archive without weights of its own (first entry: "
        f"{names[0] if names else 'none'}): unpack it with `unzip {path.name}`, and give the weights file"
    )


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of an ``.npz`` file's arrays; the numbers are not read.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    dict of str to tuple of int
        The shape of each array, by its name.

    Raises
    ------
    CheckpointError
        It is damaged, or holds Python objects, which reading them would run.
    """
    from numpy.lib import format as npy

    shapes = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as file:
                    read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else None
                    shape, _, dtype = (read or npy.read_array_header_2_0)(file)
                if dtype.hasobject:
                    raise CheckpointError(
                        f"{path} holds more than arrays of numbers and was not loaded: {member} in it is a "
                        "pickle, and reading a pickle runs what it names. Take the file from where "
                        "AlphaFold's parameters are published."
                    )
                shapes[member.removesuffix(".npy")] = shape
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise damaged(path, error) from error
    return shapes


def named_preset(path: Path, preset: str) -> str:
    """Return the preset that a JAX parameter file is named by, from which upstream reads what it holds.

    Parameters
    ----------
    path : pathlib.Path
        ``params_model_1_ptm.npz`` and the like.
    preset : str
        The configuration preset, for the message.

    Returns
    -------
    str
        ``model_1_ptm`` and the like.

    Raises
    ------
    CheckpointError
        The file has another kind of name.
    """
    name = path.stem.removeprefix("params_")
    if path.name != f"params_{name}.npz" or name not in _JAX_PRESETS:
        expected = _inference_preset(preset)
        expected = f"params_{expected}.npz" if expected in _JAX_PRESETS else "params_model_1_ptm.npz"
        raise CheckpointError(
            f"{path}: the name of JAX parameters says what they are: expected params_PRESET.npz, such as "
            f"{expected}. OpenFold weights (.pt) are given with {_OPENFOLD_FLAG}."
        )
    return name


_NUMBERED = {number: f"model_{number}" for number in range(1, 6)}
_JAX_PRESETS = frozenset(
    f"{name}{suffix}"
    for name in _NUMBERED.values()
    for suffix in ("", "_ptm", "_multimer", "_multimer_v2", "_multimer_v3")
)
# Presets of training, and for each one of inference whose model has the same parameters.
_OF_TRAINING = {
    "initial_training": "model_1",
    "finetuning": "model_1",
    "finetuning_ptm": "model_1_ptm",
    "finetuning_no_templ": "model_3",
    "finetuning_no_templ_ptm": "model_3_ptm",
    "seqemb_initial_training": "seq_model_esm1b",
    "seqemb_finetuning": "seq_model_esm1b",
}


def _inference_preset(preset: str) -> str:
    return _OF_TRAINING.get(preset, preset)


def fits(names: Collection[str], preset: str) -> bool:
    """Say whether a preset's model, one of training too, has parameters of these names.

    Parameters
    ----------
    names : collection of str
        As for :func:`fitting_presets`.
    preset : str
        A preset of any release.

    Returns
    -------
    bool
        Whether it has.
    """
    return _inference_preset(preset) in fitting_presets(names)


def fitting_presets(names: Collection[str]) -> tuple[str, ...]:
    """Return the presets of inference whose model has parameters of these names, OpenFold's or AlphaFold's.

    Parameters
    ----------
    names : collection of str
        Parameter names of an OpenFold checkpoint of any release, or array names of AlphaFold's file.

    Returns
    -------
    tuple of str
        Several, where they differ in the size of their alignments alone; none, where the names are not
        those of OpenFold's model.
    """
    if not (_any(names, "evoformer") and _any(names, "structure_module")):
        return ()
    # The head of the predicted aligned error.
    ptm = "_ptm" if _any(names, "aux_heads.tm.", "predicted_aligned_error_head") else ""
    if _any(names, "linear_preemb_"):
        return (f"seq_model_esm1b{ptm}",)
    if _any(names, "ipa.linear_k_points", "~_relative_encoding"):
        # Release 3 of AlphaFold-Multimer has one projection where the earlier have two.
        fused = _any(names, "tri_mul_out.linear_ab_p", "triangle_multiplication_outgoing/projection")
        return tuple(
            f"{name}_multimer{release}"
            for release in (("_v3",) if fused else ("_v2", ""))
            for name in _NUMBERED.values()
        )
    numbers = (1, 2) if _any(names, "template_") else (3, 4, 5)
    return tuple(f"{_NUMBERED[number]}{ptm}" for number in numbers)


def preset_cure(names: Collection[str], preset: str, *, path: Path) -> str:
    """Say which presets parameters of these names are for, and which flag to give.

    Parameters
    ----------
    names : collection of str
        As for :func:`fitting_presets`.
    preset : str
        The preset that was given.
    path : pathlib.Path
        The file; where its name has a preset that fits, that one is advised.

    Returns
    -------
    str
        One or two sentences.
    """
    fitting = fitting_presets(names)
    if not fitting:
        return (
            "Its names are not those of OpenFold's model: give weights of OpenFold, and the preset that they "
            "were trained with: --config_preset NAME."
        )
    if fits(names, preset):
        return (
            "Its names are those of this preset, so it was trained with another configuration, by a plugin "
            "or by --experiment_config_json (give the same), or another release of OpenFold wrote it "
            "(OpenFold 2 reads the weights of every release: --openfold_home DIR)."
        )
    named = path.stem.removeprefix("params_")
    advised = named if named in fitting else fitting[0]
    cure = f"It holds the parameters of {_or(fitting)}: give --config_preset {advised}."
    if not _known_preset(advised):
        cure = f"{cure[:-1]}, and an OpenFold 2, which has that preset: --openfold_home DIR."
    return cure


def damaged(path: Path, error: BaseException) -> CheckpointError:
    """Make the error of a file that is cut short; it says how long the file is.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    error : BaseException
        What reading it raised.

    Returns
    -------
    CheckpointError
        To be raised.
    """
    return CheckpointError(
        f"{path} cannot be read as a checkpoint: it is cut short or damaged "
        f"({path.stat().st_size:,} bytes; {type(error).__name__}: {first_line(error)}). Download it again."
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or say that it has none."""
    return (str(error).splitlines() or ["no more is known"])[0]


def _known_preset(preset: str) -> bool:
    from openfold.config import model_config

    try:
        model_config(preset)
    except ValueError:
        return False
    return True


def _any(names: Iterable[str], *parts: str) -> bool:
    return any(part in name for name in names for part in parts)


def _or(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _text_line(head: bytes) -> str | None:
    """Return the first line of a file's beginning where that is text, else None."""
    text = head.decode("ascii", "replace")
    if not all(letter.isprintable() or letter.isspace() for letter in text) or "\ufffd" in text:
        return None
    return text.splitlines()[0][:60]
