"""The files of one prediction, in upstream's layout and under upstream's names."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from importlib import metadata
from pathlib import Path

import numpy as np

from openfoldpp.files import write_json, write_pickle, write_text
from openfoldpp.inference.prediction import Prediction
from openfoldpp.types import OutputPaths


def write_prediction(
    prediction: Prediction,
    paths: OutputPaths,
    *,
    cif: bool = False,
    output_dict: bool = True,
    subtract_plddt: bool = False,
    seed: int | None = None,
) -> list[Path]:
    """Write a prediction's files; each is complete or absent.

    Parameters
    ----------
    prediction : Prediction
        What to write.
    paths : OutputPaths
        Folder and name.
    cif : bool
        Write ModelCIF in place of PDB, as upstream 2.x does with ``--cif_output``.
    output_dict : bool
        Write ``NAME_output_dict.pkl``.
    subtract_plddt : bool
        Write 100 - pLDDT as B-factors.
    seed : int, optional
        Noted in the provenance.

    Returns
    -------
    list of pathlib.Path
        The files written.
    """
    paths.directory.mkdir(parents=True, exist_ok=True)
    if cif:
        structure = paths.file("unrelaxed.cif")
        write_text(structure, prediction.to_cif(subtract_plddt=subtract_plddt))
    else:
        structure = paths.file("unrelaxed.pdb")
        write_text(structure, prediction.to_pdb(subtract_plddt=subtract_plddt))
    written = [structure]
    if output_dict:
        written.append(paths.file("output_dict.pkl"))
        write_pickle(written[-1], prediction.output)
    return written + write_protein(prediction, paths, seed=seed, subtract_plddt=subtract_plddt)


def write_protein(
    prediction: Prediction, paths: OutputPaths, *, seed: int | None = None, subtract_plddt: bool = False
) -> list[Path]:
    """Write what upstream's script does not: ``NAME_protein.pkl`` and ``NAME_provenance.json``.

    Parameters
    ----------
    prediction : Prediction
        What to write.
    paths : OutputPaths
        Folder and name.
    seed : int, optional
        Noted in the provenance.
    subtract_plddt : bool
        Take 100 - pLDDT as B-factors.

    Returns
    -------
    list of pathlib.Path
        The files written.
    """
    protein = upstream_protein(prediction, subtract_plddt=subtract_plddt)
    alternatives = np.zeros_like(protein.atom_positions)
    pickled, said = paths.file("protein.pkl"), paths.file("provenance.json")
    write_pickle(pickled, {"protein": protein, "alt_atom_positions": alternatives})
    write_json(said, provenance(prediction, seed))
    return [pickled, said]


def upstream_protein(prediction: Prediction, *, subtract_plddt: bool = False):
    """Return upstream's ``Protein`` of a prediction, made from its structure where a plugin predicted.

    Parameters
    ----------
    prediction : Prediction
        Whose ``protein`` is returned where it has one.
    subtract_plddt : bool
        Take 100 - pLDDT as B-factors.

    Returns
    -------
    openfold.np.protein.Protein
        Residues numbered from 1 in each chain.
    """
    from openfoldpp.upstream import activate, model, schema

    if prediction.protein is not None:
        if not subtract_plddt:
            return prediction.protein
        return dataclasses.replace(prediction.protein, b_factors=100 - prediction.protein.b_factors)
    schema.require_release(activate())
    structure = prediction.structure(subtract_plddt=subtract_plddt)
    return model.new_protein(
        atom_positions=structure.atom_positions,
        aatype=structure.aatype.astype(np.int64),
        atom_mask=structure.atom_mask.astype(np.float32),
        residue_index=structure.residue_number.astype(np.int64),
        b_factors=structure.b_factors,
        chain_index=structure.chain_index.astype(np.int64),
        remark=f"predicted by {prediction.output.source}",
        parents=[],
        parents_chain_index=None,
    )


def provenance(prediction: Prediction, seed: int | None = None) -> dict:
    """Return what ``NAME_provenance.json`` says of a prediction and its seed: where each value comes from."""
    chains = zip(prediction.output.chain_ids, prediction.target.chains, strict=True)
    return {
        "target": prediction.target.tag,
        "preset": prediction.preset,
        "predicted_by": prediction.output.source,
        **({"features_by": prediction.features_by} if prediction.features_by else {}),
        "written_by": f"openfoldpp {metadata.version('openfoldpp')}",
        "data_random_seed": seed,
        "chains": [{"id": i, "tag": chain.tag, "residues": len(chain.sequence)} for i, chain in chains],
        "values": prediction.output.provenance,
    }


def record_timings(file: Path, name: str, seconds: dict[str, float]) -> None:
    """Add one target's times to ``timings.json``, atomically.

    Upstream's keys (``inference``, ``relaxation``) stay at the top level and are those of the latest
    target, as with upstream; ``total`` is that target's whole time, and ``targets`` has every target by
    its output name.

    Parameters
    ----------
    file : pathlib.Path
        Made where it is absent; a file that is no JSON object is replaced, as upstream does.
    name : str
        The target's output name.
    seconds : dict of str to float
        Time of each step.
    """
    timings = {}
    with contextlib.suppress(FileNotFoundError, ValueError):
        timings = json.loads(file.read_bytes())
    targets = timings.get("targets") if isinstance(timings, dict) else None
    if not isinstance(targets, dict):
        targets = {}
    seconds = {step: round(value, 6) for step, value in seconds.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {**seconds, "targets": {**targets, name: seconds}})
