"""What SoloSeq needs: an empty template folder, and embeddings of long sequences."""

from __future__ import annotations

import copy
import functools
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from openfoldpp.errors import InputError
from openfoldpp.upstream.compat.record import ALL_RELEASES, TWO, Mend, Record, reads
from openfoldpp.upstream.locate import Installation

# ESM-1b has 1024 learned positions, and two of them are for the tokens before and after the sequence.
ESM1B_MAX_RESIDUES = 1022

# Templates --------------------------------------------------------------------------------------------


def _cif_probe(installation: Installation) -> str | None:
    if not reads(installation, "data/templates.py", "Could not find CIFs"):
        return None
    return "a folder without mmCIF files is refused even where no template is searched"


def _empty_folder(module: ModuleType) -> dict[str, Any]:
    original = module.TemplateHitFeaturizer.__init__

    @functools.wraps(original)
    def mended(self: Any, mmcif_dir: str, *args: Any, **kwargs: Any) -> None:
        folder = Path(mmcif_dir)
        # The custom featurizer takes every file of the folder for a template, so it needs one.
        custom = isinstance(self, getattr(module, "CustomHitFeaturizer", ()))
        if custom or not folder.is_dir() or any(folder.glob("*.cif")):
            original(self, mmcif_dir, *args, **kwargs)
            return
        with TemporaryDirectory(prefix="openfoldpp-") as scratch:
            (Path(scratch) / "none.cif").touch()  # it only looks whether there is one
            original(self, scratch, *args, **kwargs)
        self._mmcif_dir = mmcif_dir

    return {"TemplateHitFeaturizer.__init__": mended}


# Embeddings -------------------------------------------------------------------------------------------


def _truncation_probe(installation: Installation) -> str | None:
    script = installation.root / "scripts" / "precompute_embeddings.py"
    if not script.is_file() or "toks[:1022]" not in script.read_text(encoding="utf-8"):
        return None
    return "a sequence longer than ESM-1b takes is meant to be cut, but the batch is: toks[:1022]"


def _cut_sequences(module: ModuleType) -> dict[str, Any]:
    original = module.EmbeddingGenerator.run

    @functools.wraps(original)
    def run(self: Any, fasta_file: str, output_dir: str) -> None:
        if not self.truncate:
            original(self, fasta_file, output_dir)
            return
        generator = copy.copy(self)
        generator.truncate = False  # what it cuts is the batch
        dataset = module.SequenceDataset.from_file(fasta_file)
        records = []
        for index in range(len(dataset)):
            label, sequence = dataset[index]
            if len(sequence) > ESM1B_MAX_RESIDUES:
                logging.warning(
                    "%s has %d residues; ESM-1b takes %d, so the rest is not embedded",
                    label, len(sequence), ESM1B_MAX_RESIDUES,
                )  # fmt: skip
            records.append(f">{label}\n{sequence[:ESM1B_MAX_RESIDUES]}\n")
        with TemporaryDirectory(prefix="openfoldpp-") as scratch:
            cut = Path(scratch) / "cut.fasta"
            cut.write_text("".join(records), encoding="utf-8")
            original(generator, str(cut), output_dir)

    return {"EmbeddingGenerator.run": run}


def _length_probe(installation: Installation) -> str | None:
    if not reads(installation, "data/data_pipeline.py", '["seq_embedding"]'):
        return None
    return "an embedding that is shorter than its sequence is padded with zeros, without a word"


def _same_length(module: ModuleType) -> dict[str, Any]:
    original = module.DataPipeline.process_fasta

    @functools.wraps(original)
    def process_fasta(self: Any, fasta_path: str, alignment_dir: str, *args: Any, **kwargs: Any) -> Any:
        features = original(self, fasta_path, alignment_dir, *args, **kwargs)
        if "seq_embedding" in features:
            _require_same_length(features, alignment_dir)
        return features

    return {"DataPipeline.process_fasta": process_fasta}


def _require_same_length(features: Any, folder: str) -> None:
    rows, residues = len(features["seq_embedding"]), len(features["aatype"])
    if rows == residues:
        return
    cure = (
        f"ESM-1b, and with it SoloSeq, takes {ESM1B_MAX_RESIDUES} residues: predict a domain of this "
        "sequence, or choose a preset that uses alignments"
        if residues > ESM1B_MAX_RESIDUES
        else "compute the embedding of this very sequence (scripts/precompute_embeddings.py)"
    )
    raise InputError(
        f"the embedding (.pt) in {folder} has {rows} rows and the sequence {residues} residues, and each "
        f"residue needs its own row: {cure}"
    )


RECORDS = (
    Record(
        name="empty template folder",
        versions=ALL_RELEASES,
        probe=_cif_probe,
        mends=(Mend("openfold.data.templates", names=_empty_folder),),
        breaks='without templates a run stops at "Could not find CIFs" until a file is put into the folder',
        supplies="an empty folder means no templates; a hit whose file is missing is still upstream's error",
        upstream_issue="#409, #529",
        drop_when="OpenFold looks for files only where there is a hit",
    ),
    Record(
        name="ESM-1b truncation",
        versions=TWO,
        probe=_truncation_probe,
        mends=(Mend("scripts.precompute_embeddings", names=_cut_sequences),),
        breaks="`toks[:1022]` cuts the batch: long sequences crash ESM-1b, many short ones lose the last",
        supplies="sequences cut to the 1022 residues that ESM-1b takes, and a warning for each",
        upstream_issue="#580",
        drop_when="OpenFold cuts the sequence",
    ),
    Record(
        name="embedding length",
        versions=TWO,
        probe=_length_probe,
        mends=(Mend("openfold.data.data_pipeline", names=_same_length),),
        breaks="an embedding shorter than its sequence is padded with zeros, and the prediction is wrong",
        supplies="an error that names both lengths and says what to do",
        upstream_issue="#580",
        drop_when="OpenFold refuses such an embedding",
    ),
)
