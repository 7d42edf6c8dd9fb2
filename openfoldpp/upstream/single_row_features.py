"""Raw features of a target without its MSA, by upstream's own data pipeline."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from openfoldpp.types import Target
from openfoldpp.upstream import activate
from openfoldpp.upstream.alignments import template_hits
from openfoldpp.upstream.configuration import model_config
from openfoldpp.upstream.features import missing_template, template_featurizer
from openfoldpp.upstream.model import quiet_upstream


def single_row_features(target: Target, options: Namespace) -> dict[str, Any]:
    """Make a target's features with its own sequence as the one row of the MSA.

    Parameters
    ----------
    target : Target
        One or more chains; several are joined as upstream's "AlphaFold-Gap" joins them, into one row.
    options : argparse.Namespace
        Upstream's options. Templates are used where there is a folder of mmCIF files: the hits that the
        chain's folder in ``--use_precomputed_alignments`` has, or, with ``--use_custom_template``, the files
        themselves.

    Returns
    -------
    dict of str to numpy.ndarray
        Upstream's feature dictionary.

    Raises
    ------
    InputError
        A chain has no folder among the alignments, hits are damaged, or a template's file is missing.
    """
    version = activate(options.openfold_home).version  # before anything of openfold is imported
    from openfold.data import data_pipeline
    from openfold.np import residue_constants

    with TemporaryDirectory(prefix="openfoldpp-") as scratch, quiet_upstream():
        featurizer = None
        if options.template_mmcif_dir is not None:
            featurizer = template_featurizer(options, model_config(options.config_preset), version)
        processor = data_pipeline.DataPipeline(template_featurizer=featurizer)
        folders = Path(scratch) / "alignments"
        for chain in target.chains:
            (folders / chain.tag).mkdir(parents=True, exist_ok=True)
            if options.use_precomputed_alignments is None:
                continue
            for file in template_hits(options.use_precomputed_alignments, chain):
                # 0.0.1 takes whatever ends in .sto for an alignment.
                if file.suffix == ".hhr" or version.startswith("2."):
                    (folders / chain.tag / file.name).symlink_to(file.absolute())
        fasta = Path(scratch) / "target.fasta"
        fasta.write_text("\n".join(f">{chain.tag}\n{chain.sequence}" for chain in target.chains))
        try:
            if len(target.chains) == 1:
                return processor.process_fasta(
                    fasta_path=str(fasta), alignment_dir=str(folders / target.chains[0].tag)
                )
            features = processor.process_multiseq_fasta(
                fasta_path=str(fasta), super_alignment_dir=str(folders), ri_gap=options.multimer_ri_gap
            )
        except FileNotFoundError as error:
            raise missing_template(error, options) from error
    # Upstream gives each chain a row of its own, with gaps for the others.
    row = [residue_constants.HHBLITS_AA_TO_ID[letter] for letter in target.sequence]
    features["msa"] = np.array([row], np.int32)
    features["deletion_matrix_int"] = np.zeros((1, len(row)), np.int32)
    features["num_alignments"] = np.ones(len(row), np.int32)
    return features
