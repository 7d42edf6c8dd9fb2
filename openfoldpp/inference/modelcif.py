"""ModelCIF files: mmCIF for computed models (Vallat et al. 2023, doi 10.1016/j.jmb.2023.168021).

The ``modelcif`` package, which upstream 2.x uses too, writes them: it knows the categories that the
dictionary requires and how they refer to each other.
"""

from __future__ import annotations

import io
import re

import numpy as np

from openfoldpp.geometry.residues import ATOM37, LETTERS
from openfoldpp.inference.structure import Structure


def to_modelcif(
    structure: Structure,
    *,
    name: str,
    software: str,
    software_version: str,
    relaxed: bool = False,
) -> str:
    """Write a structure as the text of a ModelCIF file.

    Parameters
    ----------
    structure : Structure
        Chains of the same sequence become one entity. Where it has a pLDDT, that is written for each
        residue and, as the mean over residues, for the model; the B-factors are written as they are.
    name : str
        Of the target; the entry's identifier.
    software, software_version : str
        What predicted it.
    relaxed : bool, default False
        Say that the model was relaxed by energy minimisation after prediction.

    Returns
    -------
    str
        mmCIF text with, among others, ``entity_poly_seq``, ``struct_asym``, ``atom_site``, ``software``,
        ``ma_data``, ``ma_model_list``, ``ma_protocol_step``, ``ma_qa_metric_global`` and ``_local``.
    """
    import modelcif
    import modelcif.dumper
    from modelcif import model as models
    from modelcif import protocol

    name = name.encode("ascii", "replace").decode()  # mmCIF is ASCII
    # A data block's name has no blanks; the title keeps the name as it is.
    system = modelcif.System(title=f"Predicted structure of {name}", id=re.sub(r"\s+", "_", name))
    predictor = modelcif.Software(
        name=software,
        classification="model building",
        description="Structure prediction",
        location=None,
        version=software_version,
    )
    asyms = _asymmetric_units(structure)
    assembly = modelcif.Assembly(asyms, name="Predicted chains")

    class PredictedModel(models.AbInitioModel):
        def get_atoms(self):
            return _atoms(structure, asyms)

    model = PredictedModel(assembly=assembly, name=name)
    if structure.plddt is not None:
        model.qa_metrics.extend(_plddt_metrics(structure, asyms, predictor))
    system.model_groups.append(models.ModelGroup([model], name="All models"))

    steps = protocol.Protocol()
    entities = modelcif.data.DataGroup(dict.fromkeys(asym.entity for asym in asyms))
    details = "Relaxed by energy minimisation after prediction" if relaxed else None
    steps.steps.append(
        protocol.ModelingStep(entities, model, name="Prediction", details=details, software=predictor)
    )
    system.protocols.append(steps)

    text = io.StringIO()
    modelcif.dumper.write(text, [system])
    return text.getvalue()


def _asymmetric_units(structure: Structure) -> list:
    """One modelcif.AsymUnit for each chain; chains of one sequence share their entity."""
    import ihm
    import modelcif

    alphabet = ihm.LPeptideAlphabet()
    # The alphabet has no X.
    codes = [alphabet[letter] if letter != "X" else alphabet["UNK"] for letter in LETTERS]
    entities: dict[tuple[int, ...], modelcif.Entity] = {}
    asyms = []
    for chain, label in enumerate(structure.chain_ids):
        rows = np.nonzero(structure.chain_index == chain)[0]
        types = tuple(structure.aatype[rows].tolist())
        if types not in entities:
            entities[types] = modelcif.Entity(
                [codes[residue_type] for residue_type in types],
                description=f"Polypeptide {len(entities) + 1}",
            )
        numbers = dict(enumerate(structure.residue_number[rows].tolist(), start=1))
        asyms.append(
            modelcif.AsymUnit(entities[types], details=f"Chain {label}", id=label, auth_seq_id_map=numbers)
        )
    return asyms


def _sequence_positions(structure: Structure) -> np.ndarray:
    """Position of each residue in its chain, from 1."""
    starts = np.searchsorted(structure.chain_index, structure.chain_index)
    return np.arange(len(structure.chain_index)) - starts + 1


def _atoms(structure: Structure, asyms: list):
    """Yield modelcif's atoms, residue by residue in atom37 order."""
    from modelcif.model import Atom

    positions = _sequence_positions(structure)
    for residue, atom in np.argwhere(structure.atom_mask).tolist():
        # Rounded as PDB files are, so that both say the same.
        x, y, z = (round(value, 3) for value in structure.atom_positions[residue, atom].tolist())
        yield Atom(
            asym_unit=asyms[structure.chain_index[residue]],
            seq_id=int(positions[residue]),
            atom_id=ATOM37[atom],
            type_symbol=ATOM37[atom][0],
            x=x,
            y=y,
            z=z,
            biso=round(float(structure.b_factors[residue, atom]), 2),
            occupancy=1.0,
        )


def _plddt_metrics(structure: Structure, asyms: list, predictor) -> list:
    from modelcif import qa_metric

    class GlobalPLDDT(qa_metric.Global, qa_metric.PLDDT):
        """Mean over residues of the predicted lDDT."""

        name = "pLDDT"
        software = predictor

    class LocalPLDDT(qa_metric.Local, qa_metric.PLDDT):
        """Predicted lDDT of the residue, 0 to 100."""

        name = "pLDDT"
        software = predictor

    positions = _sequence_positions(structure)
    metrics: list = [GlobalPLDDT(round(float(structure.plddt.mean(dtype=np.float64)), 2))]
    for chain, position, value in zip(structure.chain_index, positions, structure.plddt, strict=True):
        metrics.append(LocalPLDDT(asyms[chain].residue(int(position)), round(float(value), 2)))
    return metrics
