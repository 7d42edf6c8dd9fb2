"""Raw features of a target by upstream's data pipeline: alignments and templates, or neither."""

from __future__ import annotations

import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from openfoldpp.errors import InputError
from openfoldpp.types import Target
from openfoldpp.upstream.alignments import check_alignments
from openfoldpp.upstream.databases import (
    DATABASES,
    TOOLS,
    check_databases,
    require_program,
    searches_databases,
)

#: The release that has no script, whose steps are done here.
RELEASE = "0.0.1"


def raw_features(
    target: Target, options: Namespace, config, *, note: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Make a target's raw features as upstream's script does.

    Alignments are read from ``--use_precomputed_alignments``, or made from the databases given and
    kept in ``OUTPUT_DIR/alignments``, or there are none: then each chain's MSA is its own sequence.
    Templates are used where ``template_mmcif_dir`` is given.

    Parameters
    ----------
    target : Target
        One or more chains; several are joined with a gap of ``--multimer_ri_gap`` in the residue index
        (upstream's "AlphaFold-Gap").
    options : argparse.Namespace
        Upstream's options.
    config : ml_collections.ConfigDict
        The model's configuration.
    note : callable
        Called with what the user should know though it is no error.

    Returns
    -------
    dict of str to numpy.ndarray
        Upstream's feature dictionary.

    Raises
    ------
    InputError
        The alignment folder of a chain, the template folder's files, a database or a program is missing,
        or a search fails.
    """
    from openfold.data import data_pipeline

    processor = data_pipeline.DataPipeline(template_featurizer=template_featurizer(options, config, RELEASE))
    with TemporaryDirectory(prefix="openfoldpp-") as scratch:
        folder = _alignment_folder(target, options, Path(scratch), note)
        fasta = Path(scratch) / "target.fasta"
        fasta.write_text("\n".join(f">{chain.tag}\n{chain.sequence}" for chain in target.chains))
        if len(target.chains) == 1:
            return processor.process_fasta(
                fasta_path=str(fasta), alignment_dir=str(folder / target.chains[0].tag)
            )
        return processor.process_multiseq_fasta(
            fasta_path=str(fasta), super_alignment_dir=str(folder), ri_gap=options.multimer_ri_gap
        )


def template_featurizer(options: Namespace, config: Any, version: str) -> Any:
    """Make the featurizer of templates that upstream's script would make for a preset of one chain.

    Parameters
    ----------
    options : argparse.Namespace
        Upstream's options.
    config : ml_collections.ConfigDict
        The model's configuration.
    version : str
        The OpenFold release.

    Returns
    -------
    openfold.data.templates.TemplateHitFeaturizer or None
        None where there is no template folder: upstream then makes empty template features.

    Raises
    ------
    InputError
        One of its files cannot be read.
    """
    if options.template_mmcif_dir is None:
        return None
    from openfold.data import templates

    folder = Path(options.template_mmcif_dir)
    if getattr(options, "use_custom_template", False):
        # The script's own values for what every file of the folder is taken by.
        return templates.CustomHitFeaturizer(
            mmcif_dir=str(folder),
            max_template_date="9999-12-31",
            max_hits=-1,
            kalign_binary_path=options.kalign_binary_path,
        )
    if version.startswith("2."):
        featurizer = templates.HhsearchHitFeaturizer
    else:
        featurizer = _refusing_featurizer(templates.TemplateHitFeaturizer)
    try:
        return featurizer(
            mmcif_dir=str(folder),
            max_template_date=options.max_template_date,
            max_hits=config.data.predict.max_templates,
            kalign_binary_path=options.kalign_binary_path,
            release_dates_path=options.release_dates_path,
            obsolete_pdbs_path=options.obsolete_pdbs_path,
        )
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(
            f"--release_dates_path {options.release_dates_path} or --obsolete_pdbs_path "
            f"{options.obsolete_pdbs_path} cannot be read: {type(error).__name__}: {error}"
        ) from error


def missing_template(error: FileNotFoundError, options: Namespace) -> Exception:
    """Say what upstream means by a file that is missing, where it is a template's.

    Parameters
    ----------
    error : FileNotFoundError
        What upstream raised.
    options : argparse.Namespace
        With the template folder.

    Returns
    -------
    Exception
        An :class:`InputError`, or the error itself where it is about another file.
    """
    if not str(error.filename or "").endswith(".cif"):
        return error
    return InputError(
        f"the alignments name a template whose file {error.filename} is missing: add it to "
        f"{options.template_mmcif_dir}, remove the hit from the alignments (.hhr, hmm_output.sto), or "
        "leave the folder out to predict without templates"
    )


def _refusing_featurizer(base: type) -> type:
    """Subclass upstream's featurizer so that a hit is not left out because of a missing file or program."""

    class Featurizer(base):
        def get_templates(self, *args, **kwargs):
            try:
                result = super().get_templates(*args, **kwargs)
            except FileNotFoundError as error:
                raise InputError(
                    f"a template was found by the search, and its file {error.filename} is missing: add it "
                    "to the folder of mmCIF files, or remove the hit from the alignments (.hhr)"
                ) from error
            # Upstream aligns anew where the sequence of a hit is not in its mmCIF file; only then is kalign
            # needed, and a hit that cannot be aligned is skipped.
            if any("Could not align old template" in error for error in result.errors):
                require_program("kalign", self._kalign_binary_path, "a template whose sequence has changed")
            return result

    return Featurizer


def _alignment_folder(target: Target, options: Namespace, scratch: Path, note: Callable[[str], None]) -> Path:
    """Return a folder that has, for each chain, a folder of alignment files by the chain's tag."""
    if options.use_precomputed_alignments is not None:
        folder = Path(options.use_precomputed_alignments)
        for text in check_alignments(folder, target, options.config_preset):
            note(text)
        return folder
    if searches_databases(options):
        folder = Path(options.output_dir) / "alignments"
        for chain in target.chains:
            if not (folder / chain.tag).is_dir():
                _search(chain, options, folder / chain.tag, scratch)
        return folder
    for chain in target.chains:
        (scratch / chain.tag).mkdir()
    return scratch


def _search(chain, options: Namespace, folder: Path, scratch: Path) -> None:
    """Search the databases for one chain; the folder appears once all searches are done."""
    from openfold.data import data_pipeline

    check_databases(options)
    databases = {f"{name}_database_path": getattr(options, f"{name}_database_path") for name in DATABASES}
    tools = {f"{name}_binary_path": getattr(options, f"{name}_binary_path") for name in TOOLS[:3]}
    fasta = scratch / f"{chain.tag}.fasta"
    fasta.write_text(f">{chain.tag}\n{chain.sequence}")
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        runner = data_pipeline.AlignmentRunner(
            **databases, **tools, use_small_bfd=options.preset == "reduced_dbs", no_cpus=options.cpus
        )
        runner.run(str(fasta), str(partial))
    except (ValueError, RuntimeError, OSError) as error:
        shutil.rmtree(partial)
        raise InputError(
            f"the databases could not be searched for chain {chain.tag}: {' '.join(str(error).split())}"
        ) from error
    partial.rename(folder)
