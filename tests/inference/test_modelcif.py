import dataclasses
import io

import gemmi
import modelcif.reader
import numpy as np
import pytest
from biotite.structure.io.pdbx import CIFFile, get_structure

from openfoldpp.geometry.residues import ATOM37
from openfoldpp.inference.modelcif import to_modelcif

# Of the dictionary mmcif_ma.dic: what a deposited model of polymers cannot lack.
REQUIRED = {
    *("atom_site", "atom_type", "audit_conform", "chem_comp", "entity", "entity_poly", "entity_poly_seq"),
    *("entry", "ma_data", "ma_model_list", "ma_protocol_step", "ma_qa_metric", "ma_qa_metric_global"),
    *("ma_qa_metric_local", "ma_software_group", "ma_target_entity", "ma_target_entity_instance"),
    *("pdbx_poly_seq_scheme", "software", "struct", "struct_asym"),
}


def write(structure, **changes):
    names = {"name": "1ABC_H-1ABC_L", "software": "a predictor", "software_version": "1.2"}
    return to_modelcif(structure, **(names | changes))


@pytest.fixture
def block(structure):
    return gemmi.cif.read_string(write(structure)).sole_block()


def test_required_categories_are_there(block):
    present = {name.strip("_").rstrip(".") for name in block.get_mmcif_category_names()}
    assert REQUIRED - present == set()
    assert block.name == "1ABC_H-1ABC_L"
    assert block.find_value("_entry.id") == block.name


def test_references_between_categories_hold(block):
    def column(name):
        return set(block.find_values(name))

    assert column("_struct_asym.entity_id") == column("_entity.id") == {"1", "2"}
    assert column("_atom_site.label_asym_id") == column("_struct_asym.id") == {"H", "L", "A"}
    assert column("_atom_site.label_comp_id") <= column("_chem_comp.id")
    assert column("_atom_site.type_symbol") <= column("_atom_type.symbol")
    assert column("_ma_qa_metric_local.metric_id") < column("_ma_qa_metric.id")
    assert column("_ma_model_list.data_id") <= column("_ma_data.id")
    assert column("_ma_protocol_step.software_group_id") == column("_ma_software_group.group_id") == {"1"}


def test_chains_of_one_sequence_share_an_entity(block):
    pairs = zip(
        block.find_values("_struct_asym.id"), block.find_values("_struct_asym.entity_id"), strict=True
    )
    assert dict(pairs) == {"H": "1", "L": "1", "A": "2"}
    assert list(block.find_values("_entity_poly.pdbx_seq_one_letter_code_can")) == [
        "ARNDCQEGHILKMFPSTWYVX",
        "ARNDC",
    ]


# auth_atom_id repeats label_atom_id and is not required; modelcif leaves it out.
@pytest.mark.filterwarnings("ignore:Attribute 'auth_atom_id' not found:UserWarning")
def test_gemmi_and_biotite_read_the_atoms_back(structure):
    text = write(structure)
    expected = structure.to_atom_array()
    atoms = get_structure(CIFFile.read(io.StringIO(text)), model=1, extra_fields=["b_factor"])
    for field in ("chain_id", "res_id", "res_name", "atom_name", "element"):
        assert getattr(atoms, field).tolist() == getattr(expected, field).tolist()
    # Half of the last of three digits, and float32's own rounding.
    assert np.abs(atoms.coord - expected.coord).max() <= 0.0005 + 1e-5
    assert np.abs(atoms.b_factor - expected.b_factor).max() <= 0.005 + 1e-5

    read = gemmi.make_structure_from_block(gemmi.cif.read_string(text).sole_block())
    places = list(read[0].all())
    assert [place.atom.name for place in places] == expected.atom_name.tolist()
    assert [place.chain.name for place in places] == expected.chain_id.tolist()
    assert [entity.full_sequence[:2] for entity in read.entities] == [["ALA", "ARG"]] * 2
    assert (
        np.abs(np.array([place.atom.pos.tolist() for place in places]) - expected.coord).max()
        <= 0.0005 + 1e-5
    )


def test_modelcif_reads_model_and_confidence_back(structure):
    (system,) = modelcif.reader.read(io.StringIO(write(structure)))
    assert system.title == "Predicted structure of 1ABC_H-1ABC_L"
    assert [(software.name, software.version) for software in system.software] == [("a predictor", "1.2")]
    ((step,),) = [protocol.steps for protocol in system.protocols]
    assert step.method_type == "modeling"
    assert step.software[0].name == "a predictor"
    (model,) = system.model_groups[0]
    assert len(list(model.get_atoms())) == structure.atom_mask.sum()
    local = [metric for metric in model.qa_metrics if isinstance(metric, modelcif.qa_metric.Local)]
    (whole,) = [metric for metric in model.qa_metrics if isinstance(metric, modelcif.qa_metric.Global)]
    assert isinstance(whole, modelcif.qa_metric.PLDDT)
    assert whole.value == pytest.approx(structure.plddt.mean(), abs=0.006)
    assert [(m.residue.asym.id, m.residue.seq_id) for m in local] == [
        (structure.chain_ids[chain], number)
        for chain, number in zip(structure.chain_index, structure.residue_number.tolist(), strict=True)
    ]
    np.testing.assert_allclose([metric.value for metric in local], structure.plddt, atol=0.006)


def test_confidence_is_plddt_whatever_the_b_factors_are(structure):
    text = write(dataclasses.replace(structure, b_factors=100 - structure.plddt))
    block = gemmi.cif.read_string(text).sole_block()
    values = [float(value) for value in block.find_values("_ma_qa_metric_local.metric_value")]
    np.testing.assert_allclose(values, structure.plddt, atol=0.006)
    first = float(block.find_values("_atom_site.B_iso_or_equiv")[0])
    assert first == pytest.approx(100 - structure.plddt[0], abs=0.006)


def test_no_confidence_is_claimed_where_there_is_none(structure):
    block = gemmi.cif.read_string(write(dataclasses.replace(structure, plddt=None))).sole_block()
    assert not [name for name in block.get_mmcif_category_names() if "qa_metric" in name]


def test_what_a_pdb_file_cannot_hold_is_written(structure):
    positions = structure.atom_positions.copy()
    positions[0, 0] = 123456.789
    numbers = structure.residue_number.copy()
    numbers[20] = 10000
    wide = dataclasses.replace(
        structure, atom_positions=positions, residue_number=numbers, chain_ids=("H", "L", "LONG")
    )
    read = gemmi.make_structure_from_block(gemmi.cif.read_string(write(wide)).sole_block())[0]
    assert [chain.name for chain in read] == ["H", "L", "LONG"]
    assert read["H"][20].seqid.num == 10000
    assert read["H"][20].label_seq == 21
    assert read["H"][0][ATOM37[0]][0].pos.x == pytest.approx(123456.789, abs=0.01)


def test_names_and_relaxation_are_said(structure):
    block = gemmi.cif.read_string(write(structure, name="my 'own' Å", relaxed=True)).sole_block()
    assert block.name == "my_own_"
    assert block.find_value("_ma_model_list.model_name") == "\"my 'own' ?\""
    assert "energy minimisation" in block.find_values("_ma_protocol_step.details")[0]
