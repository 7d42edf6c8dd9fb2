"""The doctor's single checks: kernels, plugins, weights, memory, relaxation, programs."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from openfoldpp.config import Settings
from openfoldpp.errors import BackendError, CheckpointError, ConfigError, InputError, MissingDependencyError
from openfoldpp.inference import memory as memory_plan
from openfoldpp.inference import memory_estimate as estimate
from openfoldpp.inference.findings import NOTE, OK, PROBLEM, Finding, Question, one_line
from openfoldpp.inference.free_memory import UNKNOWN
from openfoldpp.upstream import Installation

#: External programs, what they are for, and the Debian package that has them.
_PROGRAMS = {
    "jackhmmer": ("searches UniRef90 and MGnify", "hmmer"),
    "hmmsearch": ("searches templates for multimer presets", "hmmer"),
    "hmmbuild": ("searches templates for multimer presets", "hmmer"),
    "hhblits": ("searches BFD and UniRef30", "hhsuite"),
    "hhsearch": ("searches templates", "hhsuite"),
    "kalign": ("aligns templates whose sequence differs", "kalign"),
}
_RESOURCES = Path("openfold") / "resources"
_ESM_1B = ("esm1b_t33_650M_UR50S.pt", "esm1b_t33_650M_UR50S-contact-regression.pt")
_PRESETS = ("model_1_ptm", "seq_model_esm1b_ptm", "model_1_multimer_v3")
_FEWEST_RESIDUES = 16
_AFTER_SETTINGS = "can be told when the settings above are right"


def kernels() -> Iterator[Finding]:
    """Say which backend runs the kernels, and why, and which devices there are.

    Yields
    ------
    Finding
        A problem where the native library cannot be loaded or a setting leaves no backend.
    """
    try:
        from openfoldpp import _native
    except ImportError as error:
        text = f"the native library cannot be loaded: {error}"
        yield Finding("backend", PROBLEM, text, "pip install --force-reinstall --no-deps openfoldpp")
        return
    yield _chosen_kernels()
    import torch

    devices = [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    built = "" if hasattr(_native, "cuda_softmax_forward") else ", and this build has no CUDA kernels"
    if any(device.startswith("cuda") for device in devices) and built:
        yield Finding("CUDA kernels", NOTE, f"a GPU is there{built}: torch's are used", "docs/native.md")
    there = ", ".join(["cpu", *devices])
    text = f"{there} (--model_device; cpu is the default)"
    yield Finding("devices", OK, text, facts={"devices": ["cpu", *devices]})


def _chosen_kernels() -> Finding:
    from openfoldpp.ops import dispatch, softmax

    if not _settings_are_valid():
        return Finding("backend", NOTE, f"the library loads; what it runs {_AFTER_SETTINGS}")
    try:
        choice = softmax.explain()
        facts = {"backend": choice.backend.name, "simd": dispatch.simd_level(), "threads": dispatch.threads()}
    except (ConfigError, BackendError) as error:  # a level that this CPU does not have
        return Finding("backend", PROBLEM, one_line(error), "unset OPENFOLDPP_SIMD OPENFOLDPP_BACKEND")
    text = f"{choice.backend.name} ({choice.reason})"
    served = "OpenFold's model" if choice.backend.name == "native" else "the softmax of OpenFold's attention"
    return Finding("backend", OK, f"{text}: {served}, on the CPU", facts=facts)


def _settings_are_valid() -> bool:
    try:
        Settings.from_environment()
    except ConfigError:
        return False
    return True


def plugins() -> Iterator[Finding]:
    """List the installed plugins.

    Yields
    ------
    Finding
        A problem where one of openfoldpp's own cannot be used; of another package it is a note.
    """
    from openfoldpp.plugins.discovery import installed

    found = installed()
    if not found:
        yield Finding("plugins", PROBLEM, "none is installed", "pip install --force-reinstall openfoldpp")
    for plugin in found:
        origin = " ".join(filter(None, (plugin.distribution, plugin.version)))
        facts = {"distribution": plugin.distribution, "version": plugin.version, "error": plugin.error}
        if plugin.error is None:
            yield Finding(plugin.name, OK, plugin.summary.replace("``", ""), facts=facts)
        elif plugin.distribution == "openfoldpp":
            cure = "pip install --force-reinstall --no-deps openfoldpp"
            yield Finding(plugin.name, PROBLEM, f"cannot be used: {plugin.error}", cure, facts)
        else:
            text = f"of {origin} cannot be used: {plugin.error}"
            yield Finding(plugin.name, NOTE, text, f"leave {plugin.name} out of --plugins", facts)


def weights(installation: Installation | None, question: Question) -> Iterator[Finding]:
    """Find the weights that a run would take or could be given, and look at how each file begins.

    Parameters
    ----------
    installation : Installation or None
        OpenFold, whose folder is looked at beside the working directory.
    question : Question
        Settled, with the files that a run would take.

    Yields
    ------
    Finding
        A problem for a file that a run would take and that is damaged or of another preset; a note for
        another one that is damaged.
    """
    yield from _named_weights(installation, question)
    named = (path for paths in (question.checkpoint, question.jax_parameters) for path in _paths(paths))
    seen = {path.resolve() for path in named}
    for folder in [Path()] + ([installation.root] if installation else []):
        for pattern in ("params/*.npz", "openfold_params/*.pt", "openfold_soloseq_params/*.pt"):
            for file in sorted((folder / _RESOURCES).glob(pattern)):
                if file.resolve() not in seen:
                    seen.add(file.resolve())
                    yield _weights_file(file)
    if not seen:
        text = "no AlphaFold or OpenFold weights in the places where OpenFold keeps them"
        cure = "--openfold_checkpoint_path FILE or --jax_param_path FILE names others"
        yield Finding("weights", NOTE, f"{text} ({_RESOURCES})", cure)
    yield from _antibody_weights()
    yield from _language_models()


def _weights_file(file: Path) -> Finding:
    from openfoldpp.upstream.checkpoints import check_checkpoint_file

    jax = file.suffix == ".npz"
    facts = {"path": str(file), "bytes": file.stat().st_size if file.is_file() else 0}
    try:
        check_checkpoint_file(file, jax=jax)
    except CheckpointError as error:
        return Finding(file.name, NOTE, str(error), f"replace it, or move it away: {file}", facts)
    preset = file.stem.removeprefix("params_")
    use = f"taken with --config_preset {preset}" if jax else f"--openfold_checkpoint_path {file}"
    return Finding(file.name, OK, f"{facts['bytes'] / 1e6:,.0f} MB in {file.parent}; {use}", facts=facts)


def _named_weights(installation: Installation | None, question: Question) -> Iterator[Finding]:
    """Check the files that a run would take, against the preset."""
    from openfoldpp.upstream.checkpoint_files import fits, preset_cure
    from openfoldpp.upstream.checkpoints import check_checkpoint_file, read_checkpoint
    from openfoldpp.upstream.model import weights_files

    given = [paths and str(paths) for paths in (question.checkpoint, question.jax_parameters)]
    try:
        files = weights_files(*given)
    except CheckpointError as error:
        yield Finding("weights files", PROBLEM, str(error), "rename one of them")
        return
    for file, jax in files:
        facts = {"path": str(file), "preset": question.preset}
        try:
            check_checkpoint_file(file, jax=jax, preset=question.preset if installation else None)
            names = [] if jax else read_checkpoint(file)
            if names and not fits(names, question.preset):
                cure = preset_cure(names, question.preset, path=file)
                text = f"{file} is not a checkpoint of preset {question.preset!r}"
                yield Finding(file.name, PROBLEM, text, cure, facts)
                continue
        except CheckpointError as error:
            flag = "--jax_param_path" if jax else "--openfold_checkpoint_path"
            yield Finding(file.name, PROBLEM, str(error), f"give another file with {flag}", facts)
        else:
            yield Finding(file.name, OK, f"holds the parameters of preset {question.preset}", facts=facts)


def _paths(text: str | Path | None) -> list[Path]:
    return [Path(path) for path in str(text or "").split(",") if path]


def _antibody_weights() -> Iterator[Finding]:
    from openfoldpp.teachers import flashabb

    try:
        source = flashabb.source()
    except MissingDependencyError:
        source = None
    if source is None or importlib.util.find_spec("anarcii") is None:
        text = "not installed: antibodies cannot be predicted without OpenFold's weights"
        yield Finding("FlashABB", NOTE, text, "pip install 'openfoldpp[fv]'")
    else:
        text = f"{source}, with its weights: antibody Fvs are predicted where no weights are given"
        yield Finding("FlashABB", OK, text, facts={"source": source})


def _language_models() -> Iterator[Finding]:
    """Say which language models have their weights; the files are not read."""
    import torch

    from openfoldpp import plm

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    missing = [name for name in _ESM_1B if not (folder / name).is_file()]
    facts = {"folder": str(folder), "missing": missing}
    if _ESM_1B[0] in missing:
        text = (
            f"{_ESM_1B[0]} is not in {folder}: SoloSeq presets read this language model's embedding; a run "
            "with database flags downloads the file"
        )
        cure = (
            "put the file of fair-esm there, or --plm_weights FILE (docs/plm.md); embeddings that were made "
            "before: --use_precomputed_alignments DIR, with TAG/TAG.pt in it"
        )
        yield Finding("ESM-1b", NOTE, text, cure, facts)
    else:
        alone = " (OpenFold's own script, with database flags, downloads a second file)" if missing else ""
        yield Finding("ESM-1b", OK, f"in {folder}, for SoloSeq presets{alone}", facts=facts)
    others = [file for name in plm.names() if name != "esm1b" and (file := folder / f"{name}.pt").is_file()]
    for file in others:
        facts = {"path": str(file)}
        yield Finding(file.stem, OK, f"in {folder}, for --plm {file.stem} with a projector", facts=facts)
    yield _antibody_language_model()


def _antibody_language_model() -> Finding:
    from openfoldpp.plm.antiberty import PACKAGE

    cure = "pip install 'openfoldpp[antiberty]'"
    try:
        version, files = metadata.version(PACKAGE), metadata.files(PACKAGE) or ()
    except metadata.PackageNotFoundError:
        return Finding("AntiBERTy", NOTE, "not installed: --plm antiberty cannot be used", cure)
    facts = {"version": version}
    if not any(file.name == "pytorch_model.bin" for file in files):
        return Finding("AntiBERTy", NOTE, f"{PACKAGE} {version} comes without its weights", cure, facts)
    text = f"{PACKAGE} {version}, with its weights: --plm antiberty with a projector"
    return Finding("AntiBERTy", OK, text, facts=facts)


def memory(installation: Installation | None, question: Question) -> Iterator[Finding]:
    """Hold the memory that is free against the longest chain that fits.

    Parameters
    ----------
    installation : Installation or None
        OpenFold, whose configurations are read.
    question : Question
        With the preset, which is looked at first.

    Yields
    ------
    Finding
        A problem where not even a peptide fits.
    """
    if not _settings_are_valid():
        yield Finding("free", NOTE, f"what there is {_AFTER_SETTINGS}")
        return
    limit = Settings.from_environment().memory_limit_gib
    budget = memory_plan.budget_bytes("cpu")
    if budget >= UNKNOWN:
        text = "how much memory is free is not told by this system, so no limit is applied to a prediction"
        yield Finding("free", NOTE, text, "export OPENFOLDPP_MEMORY_LIMIT_GIB=N")
        return
    text = f"{budget / estimate.GIB:.1f} GiB for a prediction on the CPU"
    why = "as OPENFOLDPP_MEMORY_LIMIT_GIB says" if limit else "free now, within the limits of this process"
    yield Finding("free", OK, f"{text}, {why}", facts={"budget_bytes": budget})
    if installation is None:
        return
    from openfoldpp.upstream.configuration import model_config

    for preset in dict.fromkeys((question.preset, *_PRESETS)):
        try:
            config = model_config(preset)
        except InputError as error:
            if preset == question.preset:
                yield Finding(preset, PROBLEM, one_line(error), "give another --config_preset")
            continue
        longest = estimate.longest_chain(config, budget)
        fast = estimate.longest_chain(config, budget, largest_chunk=estimate.TUNED_CHUNK)
        facts = {"longest": longest, "longest_at_full_speed": fast}
        if longest < _FEWEST_RESIDUES:
            text = f"its weights and {_FEWEST_RESIDUES} residues need more than there is"
            yield Finding(preset, PROBLEM if preset == question.preset else NOTE, text, _MORE_MEMORY, facts)
        else:
            text = f"up to about {longest:,} residues, at full speed up to about {fast:,}"
            yield Finding(preset, OK, text, facts=facts)


_MORE_MEMORY = "end other programs, or run it on a machine with more memory"


def relaxation() -> Iterator[Finding]:
    """Try to import what relaxation needs.

    Yields
    ------
    Finding
        A note where a package is missing: ``--skip_relaxation`` leaves the step out.
    """
    for package in ("openmm", "pdbfixer"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            cure = f"pip install {package}, or give --skip_relaxation"
            yield Finding(package, NOTE, f"structures cannot be relaxed: {error}", cure)
        else:
            yield Finding(package, OK, "for relaxation")


def programs() -> Iterator[Finding]:
    """Look for the programs that search databases.

    Yields
    ------
    Finding
        A note for each that is missing; precomputed alignments and antibodies need none.
    """
    for program, (use, package) in _PROGRAMS.items():
        path = shutil.which(program)
        if path:
            yield Finding(program, OK, f"{path}, {use}", facts={"path": path})
        else:
            text = f"not on the PATH; {use}. Precomputed alignments and antibodies do without"
            yield Finding(program, NOTE, text, f"apt install {package}", facts={"path": None})
