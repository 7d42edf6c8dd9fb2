"""Raw features of a target by upstream's data pipeline: alignments and templates, or neither."""

from __future__ import annotations

import shutil
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from openfoldpp.errors import InputError
from openfoldpp.types import Target

_DATABASES = ("uniref90", "mgnify", "pdb70", "uniclust30", "bfd")
_TOOLS = ("jackhmmer", "hhblits", "hhsearch", "kalign")


def add_data_options(parser: ArgumentParser) -> None:
    """Add to a parser the data flags of upstream's ``scripts/utils.py``, which the PyPI release lacks."""
    group = parser.add_argument_group("alignments and templates (upstream's flags)")
    for name in _DATABASES:
        group.add_argument(f"--{name}_database_path", metavar="PATH", help=f"{name} database to search")
    for name in _TOOLS:
        group.add_argument(f"--{name}_binary_path", metavar="FILE", default=f"/usr/bin/{name}")
    group.add_argument("--max_template_date", metavar="YYYY-MM-DD", default=f"{datetime.now(UTC):%Y-%m-%d}")
    group.add_argument("--obsolete_pdbs_path", metavar="FILE", help="replacements of obsolete PDB entries")
    group.add_argument("--release_dates_path", metavar="FILE", help="release dates of PDB entries")


def searches_databases(options: Namespace) -> bool:
    """Say whether the options give a database and no precomputed alignments."""
    given = any(getattr(options, f"{name}_database_path") for name in _DATABASES)
    return given and options.use_precomputed_alignments is None


def raw_features(target: Target, options: Namespace, config) -> dict[str, Any]:
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

    Returns
    -------
    dict of str to numpy.ndarray
        Upstream's feature dictionary.

    Raises
    ------
    InputError
        The alignment folder of a chain, or the template folder's files, are missing.
    """
    from openfold.data import data_pipeline

    processor = data_pipeline.DataPipeline(template_featurizer=_template_featurizer(options, config))
    with TemporaryDirectory(prefix="openfoldpp-") as scratch:
        folder = _alignment_folder(target, options, Path(scratch))
        fasta = Path(scratch) / "target.fasta"
        fasta.write_text("\n".join(f">{chain.tag}\n{chain.sequence}" for chain in target.chains))
        if len(target.chains) == 1:
            return processor.process_fasta(
                fasta_path=str(fasta), alignment_dir=str(folder / target.chains[0].tag)
            )
        return processor.process_multiseq_fasta(
            fasta_path=str(fasta), super_alignment_dir=str(folder), ri_gap=options.multimer_ri_gap
        )


def _template_featurizer(options: Namespace, config):
    """Make upstream's featurizer, or None, with which upstream makes empty template features."""
    if options.template_mmcif_dir is None:
        return None
    from openfold.data import templates

    folder = Path(options.template_mmcif_dir)
    if not any(folder.glob("*.cif")):
        raise InputError(
            f"template folder {folder} has no .cif file: give a folder of mmCIF files, or leave the "
            "argument out to predict without templates"
        )
    return templates.TemplateHitFeaturizer(
        mmcif_dir=str(folder),
        max_template_date=options.max_template_date,
        max_hits=config.data.predict.max_templates,
        kalign_binary_path=options.kalign_binary_path,
        release_dates_path=options.release_dates_path,
        obsolete_pdbs_path=options.obsolete_pdbs_path,
    )


def _alignment_folder(target: Target, options: Namespace, scratch: Path) -> Path:
    """Return a folder that has, for each chain, a folder of alignment files by the chain's tag."""
    if options.use_precomputed_alignments is not None:
        folder = Path(options.use_precomputed_alignments)
        missing = [chain.tag for chain in target.chains if not (folder / chain.tag).is_dir()]
        if missing:
            raise InputError(
                f"--use_precomputed_alignments {folder} has no folder for {', '.join(missing)}: expected one "
                "for each chain, named by the first word of its FASTA header"
            )
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

    databases = {f"{name}_database_path": getattr(options, f"{name}_database_path") for name in _DATABASES}
    tools = {f"{name}_binary_path": getattr(options, f"{name}_binary_path") for name in _TOOLS[:3]}
    runner = data_pipeline.AlignmentRunner(
        **databases, **tools, use_small_bfd=options.preset == "reduced_dbs", no_cpus=options.cpus
    )
    fasta = scratch / f"{chain.tag}.fasta"
    fasta.write_text(f">{chain.tag}\n{chain.sequence}")
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    runner.run(str(fasta), str(partial))
    partial.rename(folder)
