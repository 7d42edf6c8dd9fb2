"""Predictions in the layout of AlphaFold 2, for programs that read AlphaFold's files.

The layout is that of AlphaFold 2.3.2: one folder for each target, in it ``result_MODEL.pkl``,
``unrelaxed_MODEL.pdb``, ``relaxed_MODEL.pdb``, ``confidence_MODEL.json``, ``pae_MODEL.json``,
``ranked_N.pdb`` and ``ranking_debug.json``. OpenFold keeps no ``features.pkl``, and AlphaFold's
``timings.json`` has steps that OpenFold does not take; neither is written.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from openfoldpp.errors import InputError
from openfoldpp.files import write_json, write_pickle, write_text
from openfoldpp.geometry.confidence import DISTOGRAM_EDGES
from openfoldpp.inference.results import Result
from openfoldpp.inference.structure_files import matched_to_plddt, read_as_pdb
from openfoldpp.upstream import schema

#: Path in OpenFold's output to path in AlphaFold's result. 0.0.1 and 2.x name the pTM differently.
ALPHAFOLD2_NAMES: Mapping[str, str] = {
    "num_recycles": "num_recycles",
    "distogram_logits": "distogram/logits",
    "experimentally_resolved_logits": "experimentally_resolved/logits",
    "masked_msa_logits": "masked_msa/logits",
    "lddt_logits": "predicted_lddt/logits",
    "final_atom_positions": "structure_module/final_atom_positions",
    "final_atom_mask": "structure_module/final_atom_mask",
    "plddt": "plddt",
    "aligned_confidence_probs": "aligned_confidence_probs",
    "predicted_aligned_error": "predicted_aligned_error",
    "max_predicted_aligned_error": "max_predicted_aligned_error",
    "predicted_tm_score": "ptm",
    "ptm_score": "ptm",
    "iptm_score": "iptm",
    "weighted_ptm_score": "ranking_confidence",
}

#: Paths, and the folder ``sm``, without a place in AlphaFold's result: AlphaFold returns representations only
#: when asked, overwrites the logits of the aligned error with the error, and has the chains in its features.
NOT_IN_ALPHAFOLD2 = frozenset({"msa", "pair", "single", "sm", "final_affine_tensor", "tm_logits", "asym_id"})

# Means nothing without the error that it bounds.
_NEEDS = {"max_predicted_aligned_error": "predicted_aligned_error"}


@dataclass(frozen=True)
class ExportedModel:
    """One prediction in AlphaFold's layout.

    Attributes
    ----------
    name : str
        AlphaFold's name of the model, for example ``"model_1_ptm_pred_0"``.
    result : Result
        Where it comes from.
    mean_plddt : float
        0 to 100.
    ptm, iptm : float or None
        0 to 1; None where nobody predicted it.
    ranking_confidence : float
        0.8 ipTM + 0.2 pTM where there is an ipTM, else the mean pLDDT.
    left_out : tuple of str
        AlphaFold's keys that OpenFold's output has a value for that nobody predicted.
    notes : tuple of str
        What a user should know of the files.
    """

    name: str
    result: Result
    mean_plddt: float
    ptm: float | None
    iptm: float | None
    ranking_confidence: float
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Exported:
    """One target's folder.

    Attributes
    ----------
    target : str
        Its tag.
    folder : pathlib.Path
        The folder.
    models : tuple of ExportedModel
        The best first, as ``ranked_0``, ``ranked_1`` and so on.
    """

    target: str
    folder: Path
    models: tuple[ExportedModel, ...]


def alphafold2_result(result: Result, output: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Give the values of an output dictionary the names that AlphaFold 2 gives them.

    Parameters
    ----------
    result : Result
        Its provenance says what nobody predicted.
    output : mapping
        What :meth:`Result.read` returned.

    Returns
    -------
    values : dict
        Nested as ``result_MODEL.pkl``, with ``ranking_confidence`` and ``distogram/bin_edges`` (angstrom),
        which OpenFold's output lacks.
    left_out : tuple of str
        AlphaFold's keys whose values nobody predicted; a reader would show them as if somebody had.
    """
    values: dict[str, Any] = {}
    left_out = []
    for path, value in schema.flatten(output):
        name = ALPHAFOLD2_NAMES.get(path)
        if name is None:
            continue
        if result.is_filled(path) or result.is_filled(_NEEDS.get(path, path)):
            left_out.append(name)
        else:
            values[name] = value
    if "distogram/logits" in values:
        bins = values["distogram/logits"].shape[-1]
        values["distogram/bin_edges"] = np.linspace(*DISTOGRAM_EDGES, bins - 1, dtype=np.float32)
    if "ranking_confidence" not in values and "plddt" in values:
        values["ranking_confidence"] = np.mean(values["plddt"])
    return schema.unflatten(values), tuple(left_out)


def alphafold2_model_names(results: Sequence[Result]) -> list[str]:
    """Name the models of one target as AlphaFold 2 does.

    Parameters
    ----------
    results : sequence of Result
        Predictions of one target.

    Returns
    -------
    list of str
        ``PRESET_pred_K``, where K counts the predictions with the same preset. Readers take a number from
        the name, so a preset whose name has none, such as ``seq_model_esm1b_ptm``, follows ``model_1_``.
    """
    seen: dict[str, int] = {}
    names = []
    for result in results:
        model = result.preset if result.preset.startswith("model_") else f"model_1_{result.preset}"
        number = seen[model] = seen.get(model, -1) + 1
        names.append(f"{model}_pred_{number}")
    return names


def export_alphafold2(results: Sequence[Result], directory: Path) -> Exported:
    """Write the predictions of one target in AlphaFold 2's layout.

    Parameters
    ----------
    results : sequence of Result
        All of one target.
    directory : path-like
        The folder ``directory/TARGET`` is made, complete or not at all.

    Returns
    -------
    Exported
        The folder, and its models in their ranks.

    Raises
    ------
    InputError
        The folder is there already; a pickle cannot be used; there is no structure beside it, or one of
        another length; or nobody predicted a pLDDT, by which the layout ranks.
    UnsafePickleError
        A pickle names more than arrays and plain data.
    """
    (target,) = {result.target for result in results}
    folder = Path(directory) / target
    if folder.exists():
        raise InputError(
            f"{folder} is there already, and is not overwritten: remove it, or choose another --out"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Hidden, and of the final folder's file system, so that the rename below is one step.
    staging = folder.with_name(f".openfoldpp-{secrets.token_hex(8)}.tmp")
    staging.mkdir()
    try:
        models = [
            _write_model(result, name, staging)
            for result, name in zip(results, alphafold2_model_names(results), strict=True)
        ]
        models = _rank(models, staging)
        write_json(staging / "provenance.json", _provenance(models))
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Exported(target, folder, models)


def _write_model(result: Result, name: str, folder: Path) -> ExportedModel:
    output = result.read()
    values, left_out = alphafold2_result(result, output)
    if "plddt" not in values:
        raise InputError(
            f"{result.output_dict}: nobody predicted its pLDDT, by which AlphaFold's layout ranks and which "
            "its readers show: use the structure file by itself"
        )
    for key in ("plddt", "predicted_aligned_error"):
        if key in values and not np.isfinite(values[key]).all():
            raise InputError(
                f"{result.output_dict}: {key} has values that are not numbers: the prediction failed; run it "
                "in float32"
            )
    if result.unrelaxed is None and result.relaxed is None:
        expected = result.output_dict.name.replace("output_dict.pkl", "unrelaxed.pdb")
        raise InputError(f"{result.output_dict} has no structure beside it: expected {expected}")
    plddt = np.asarray(values["plddt"])
    notes = []
    for state, file in (("unrelaxed", result.unrelaxed), ("relaxed", result.relaxed)):
        if file is not None:
            text, note = matched_to_plddt(read_as_pdb(file), plddt, file)
            write_text(folder / f"{state}_{name}.pdb", text)
            notes += [note] if note else []
    write_pickle(folder / f"result_{name}.pkl", values)
    write_text(folder / f"confidence_{name}.json", _compact(_confidence_json(plddt)))
    if {"predicted_aligned_error", "max_predicted_aligned_error"} <= set(values):
        write_text(folder / f"pae_{name}.json", _compact(_pae_json(values)))
    ptm, iptm = (float(values[key]) if key in values else None for key in ("ptm", "iptm"))
    return ExportedModel(
        name=name,
        result=result,
        mean_plddt=float(plddt.mean(dtype=np.float64)),
        ptm=ptm,
        iptm=iptm,
        ranking_confidence=float(values["ranking_confidence"]),
        left_out=left_out,
        notes=tuple(notes),
    )


def _confidence_json(plddt: np.ndarray) -> dict[str, list]:
    """Return what the AlphaFold database has too: disordered, low, medium and high from 0, 50, 70 and 90."""
    categories = np.array(list("DLMH"))[np.digitize(plddt, [50, 70, 90])]
    return {
        "residueNumber": list(range(1, len(plddt) + 1)),
        "confidenceScore": [round(value, 2) for value in plddt.tolist()],
        "confidenceCategory": categories.tolist(),
    }


def _pae_json(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    # In float64, in which one decimal has a short text.
    error = np.round(np.asarray(values["predicted_aligned_error"], np.float64), 1)
    return [
        {
            "predicted_aligned_error": error.tolist(),
            "max_predicted_aligned_error": float(values["max_predicted_aligned_error"]),
        }
    ]


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _rank(models: Sequence[ExportedModel], folder: Path) -> tuple[ExportedModel, ...]:
    """Write ``ranked_N.pdb`` and ``ranking_debug.json``; return the models in their order."""
    # Models with and without ipTM have no common scale but the pLDDT.
    by_iptm = all(model.iptm is not None for model in models)
    scores = {
        model.name: model.ranking_confidence if by_iptm else model.mean_plddt
        for model in sorted(models, key=lambda model: model.name)
    }
    ranked = sorted(models, key=lambda model: scores[model.name], reverse=True)
    for rank, model in enumerate(ranked):
        best = next(
            file for state in ("relaxed", "unrelaxed")
            if (file := folder / f"{state}_{model.name}.pdb").exists()
        )  # fmt: skip
        write_text(folder / f"ranked_{rank}.pdb", best.read_text())
    order = [model.name for model in ranked]
    write_json(folder / "ranking_debug.json", {"iptm+ptm" if by_iptm else "plddts": scores, "order": order})
    return tuple(ranked)


def _provenance(models: Sequence[ExportedModel]) -> dict[str, Any]:
    """Return where each model comes from, and what its result lacks or has that no network predicted."""
    said = {}
    for model in models:
        values = model.result.provenance
        said[model.name] = {
            "from": str(model.result.output_dict),
            "predicted_by": model.result.source,
            "left_out": {
                name: values[path if model.result.is_filled(path) else _NEEDS[path]]
                for path, name in ALPHAFOLD2_NAMES.items()
                if name in model.left_out and path in values
            },
            "derived": {
                name: values[path]
                for path, name in ALPHAFOLD2_NAMES.items()
                if name not in model.left_out and values.get(path, "").startswith("derived")
            },
        }
    return {
        "written_by": f"openfoldpp {metadata.version('openfoldpp')}",
        "layout": "alphafold2",
        "models": said,
    }


#: What ``--layout`` may name: a function that writes the predictions of one target into a folder.
LAYOUTS = {"alphafold2": export_alphafold2}
