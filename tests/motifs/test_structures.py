import gzip
import io
from pathlib import Path

import numpy as np
import pytest

from openfoldpp.errors import InputError
from openfoldpp.motifs.structure_atoms import suffix_of
from openfoldpp.motifs.structures import read_structure


@pytest.fixture
def read(chains):
    """Read records, or text, as a file of the given name."""

    def run(content, name="1abc.pdb"):
        data = content if isinstance(content, bytes) else None
        if data is None:
            data = (content if isinstance(content, str) else chains.pdb(content)).encode()
        return read_structure(Path(name), gzip.compress(data) if name.endswith(".gz") else data)

    return run


def as_cif(text, binary=False, without=()):
    """Convert PDB text with biotite; returns bytes."""
    from biotite.structure.io.pdb import PDBFile
    from biotite.structure.io.pdbx import BinaryCIFFile, CIFFile, set_structure

    file = BinaryCIFFile() if binary else CIFFile()
    atoms = PDBFile.read(io.StringIO(text)).get_structure(extra_fields=["occupancy"])
    set_structure(file, atoms)
    for column in without:
        del file.block["atom_site"][column]
    out = io.BytesIO() if binary else io.StringIO()
    file.write(out)
    return out.getvalue() if binary else out.getvalue().encode()


def spans(structure):
    return [(s.start, len(s)) for chain in structure.chains for s in chain.stretches]


def test_a_whole_chain_is_one_stretch(read, chains):
    structure = read(chains.atoms_of())
    [chain] = structure.chains
    [stretch] = chain.stretches
    assert (chain.name, chain.sequence) == ("A", chains.sequence)
    assert (stretch.start, stretch.numbering) == (0, "1..30")
    np.testing.assert_allclose(stretch.coordinates, chains.backbone(30), atol=6e-4)
    assert not structure.mended
    assert not structure.left_out


@pytest.mark.parametrize("name", ["a.cif", "a.mmcif.gz", "a.bcif", "a.bcif.gz", "a.ENT.GZ", "a.pdb.gz"])
def test_every_format_says_the_same(read, chains, name):
    text = chains.pdb(chains.atoms_of() + chains.atoms_of("DIQMTQSPSSLSA", "L", first=5, seed=1, shift=40))
    expected = read(text).chains
    lower = name.lower()
    found = read(as_cif(text, "bcif" in name) if "cif" in name else text, lower).chains
    assert [(c.name, c.sequence) for c in found] == [(c.name, c.sequence) for c in expected]
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one.stretches, other.stretches, strict=True):
            assert (a.start, a.numbering) == (b.start, b.numbering)
            np.testing.assert_array_equal(a.coordinates, b.coordinates)


def test_an_mmcif_file_needs_few_columns(read, chains):
    columns = (
        "auth_asym_id",
        "auth_seq_id",
        "auth_comp_id",
        "auth_atom_id",
        "occupancy",
        "pdbx_PDB_ins_code",
    )
    columns += ("pdbx_PDB_model_num", "group_PDB")
    [chain] = read(as_cif(chains.pdb(chains.atoms_of()), without=columns), "a.cif").chains
    assert chain.sequence == chains.sequence
    with pytest.raises(InputError, match="has no Cartn_x"):
        read(as_cif(chains.pdb(chains.atoms_of()), without=["Cartn_x"]), "a.cif")


@pytest.mark.parametrize("letters", ["AB", "BA", "12"])
@pytest.mark.parametrize(("occupancies", "best"), [((0.3, 0.7), 1), ((0.7, 0.3), 0), ((0.5, 0.5), 0)])
def test_the_most_occupied_location_is_taken_and_the_first_of_equal_ones(
    read, chains, letters, occupancies, best
):
    atoms = chains.atoms_of()
    both = [
        atom
        for letter, occupancy, shift in zip(letters, occupancies, (0.0, 0.2), strict=True)
        for atom in chains.changed(atoms, 12, alternate=letter, occupancy=occupancy)
        if atom.number == 12
        for atom in [type(atom)(**vars(atom) | {"place": tuple(np.add(atom.place, shift))})]
    ]
    # The N has one location, as atoms before the ones that move often have.
    both = [a for a in both if a.name != "N"]
    kept = [a for a in atoms if a.number != 12 or a.name == "N"]
    structure = read(kept[:45] + both + kept[45:])
    [stretch] = structure.chains[0].stretches
    expected = chains.backbone(30)[11].copy()
    expected[1:] += 0.2 * best
    np.testing.assert_allclose(stretch.coordinates[11], expected, atol=6e-4)
    assert structure.mended == {"alternate_locations": 1}


def test_two_kinds_of_residue_at_one_place_are_one(read, chains):
    atoms = chains.atoms_of()
    kinds = [
        atom
        for letter, occupancy, name in (("A", 0.4, "SER"), ("B", 0.6, "THR"))
        for atom in chains.changed(atoms, 12, alternate=letter, occupancy=occupancy, residue=name)
        if atom.number == 12
    ]
    [chain] = read([a for a in atoms if a.number < 12] + kinds + [a for a in atoms if a.number > 12]).chains
    assert chain.sequence == chains.sequence[:11] + "T" + chains.sequence[12:]
    assert len(chain.stretches) == 1


@pytest.mark.parametrize("missing", ["N", "CA", "C"])
def test_a_residue_without_a_backbone_atom_breaks_the_chain_and_stays_in_its_sequence(read, chains, missing):
    atoms = [a for a in chains.atoms_of() if (a.number, a.name) != (13, missing)]
    structure = read(atoms)
    assert structure.chains[0].sequence == chains.sequence
    assert spans(structure) == [(0, 12), (13, 17)]
    assert [s.numbering for s in structure.chains[0].stretches] == ["1..12", "14..30"]
    assert structure.left_out == {"incomplete_residues": 1}


def test_a_missing_oxygen_is_placed(read, chains):
    structure = read([a for a in chains.atoms_of() if a.name != "O" or a.number not in (5, 30)])
    [stretch] = structure.chains[0].stretches
    assert np.linalg.norm(stretch.coordinates[4, 3] - chains.backbone(30)[4, 3]) < 0.1
    # Nothing tells where that of the last residue is.
    assert len(stretch) == 29
    assert structure.mended == {"oxygens_placed": 1}
    assert structure.left_out == {"incomplete_residues": 1}
    [stretch] = read(chains.changed(chains.atoms_of(), 30, "O", name="OXT")).chains[0].stretches
    np.testing.assert_allclose(stretch.coordinates[29], chains.backbone(30)[29], atol=6e-4)


@pytest.mark.parametrize(
    ("residue", "letter", "count"),
    [
        ("MSE", "M", {"nonstandard_residues": 1}),
        ("SEP", "S", {"nonstandard_residues": 1}),
        ("DAL", "A", {"nonstandard_residues": 1}),
        ("UNK", "X", {"unknown_residues": 1}),
        ("SEC", "X", {"unknown_residues": 1}),
        ("QQQ", "X", {"unknown_residues": 1}),
    ],
)
def test_residues_beyond_the_twenty(read, chains, residue, letter, count):
    structure = read(chains.changed(chains.atoms_of(), 12, residue=residue, record="HETATM"))
    assert structure.chains[0].sequence == chains.sequence[:11] + letter + chains.sequence[12:]
    assert spans(structure) == [(0, 30)]
    assert structure.mended == count


def test_insertion_codes_and_skipped_numbers_are_kept_and_break_nothing(read, chains):
    atoms = chains.atoms_of()
    atoms = chains.changed(atoms, 11, number=10, insertion="A")
    atoms = chains.changed(atoms, 12, number=10, insertion="B")
    atoms = [type(a)(**vars(a) | {"number": a.number + 7 if a.number > 20 else a.number}) for a in atoms]
    atoms = [type(a)(**vars(a) | {"number": a.number - 4}) for a in atoms]
    [stretch] = read(atoms).chains[0].stretches
    assert stretch.numbering == "-3..6,6A,6B,9..16,24..33"
    assert len(stretch) == 30


def test_a_gap_breaks_the_chain_whatever_the_numbers(read, chains):
    moved = [
        type(a)(**vars(a) | {"place": tuple(np.add(a.place, 3.0 if a.number > 15 else 0))})
        for a in chains.atoms_of()
    ]
    assert spans(read(moved)) == [(0, 15), (15, 15)]


def test_impossible_residues_and_short_stretches_are_left_out(read, chains):
    atoms = chains.changed(chains.atoms_of(), 8, "CA", place=(0.0, 0.0, 0.0))
    structure = read(atoms)
    assert spans(structure) == [(8, 22)]
    assert structure.left_out == {"distorted_residues": 1, "short_stretches": 1, "short_stretch_residues": 7}
    short = read(chains.atoms_of("ACDEFGHIK"))
    assert short.chains == ()
    assert short.left_out["chains"] == 1


def test_the_first_model_is_read(read, chains):
    models = [chains.pdb(chains.atoms_of(seed=seed)).removesuffix("END\n") for seed in (0, 1, 2)]
    text = "".join(f"MODEL     {i:4d}\n{model}ENDMDL\n" for i, model in enumerate(models, 1))
    for name, content in (("a.pdb", text), ("a.cif", as_cif(text))):
        structure = read(content, name)
        np.testing.assert_allclose(
            structure.chains[0].stretches[0].coordinates, chains.backbone(30), atol=6e-4
        )
        assert structure.chains[0].sequence == chains.sequence
        assert structure.left_out == {"models": 2}


def test_what_is_no_protein_is_left_out_and_counted(read, chains):
    make = type(chains.atoms_of()[0])
    far = (90.0, 90.0, 90.0)
    others = [
        make("O", "HOH", "A", 201, far, record="HETATM"),
        make("CA", "CA", "A", 202, far, record="HETATM"),  # calcium
        make("P", "DA", "C", 1, far),
        make("N1", "DA", "C", 1, far),
        # A free amino acid has all atoms of a residue, and is bonded to none.
        *(
            make(a.name, "GLY", "A", 203, tuple(np.add(a.place, 70)), record="HETATM")
            for a in chains.atoms_of()[:4]
        ),
    ]
    hydrogens = [make("H", a.residue, a.chain, a.number, a.place) for a in chains.atoms_of() if a.name == "N"]
    structure = read(chains.atoms_of() + hydrogens + others)
    assert [(chain.name, chain.sequence) for chain in structure.chains] == [("A", chains.sequence)]
    assert structure.left_out == {"other_residues": 4}


def test_columns_that_some_programs_leave_empty_are_not_missed(read, chains):
    atoms = [type(a)(**vars(a) | {"occupancy": None}) for a in chains.atoms_of()]
    cut = "\n".join(line[:54] for line in chains.pdb(chains.atoms_of()).splitlines())
    for content in (atoms, cut):
        assert read(content).chains[0].sequence == chains.sequence


def test_nothing_of_a_file_without_protein(read, chains):
    make = type(chains.atoms_of()[0])
    structure = read([make("P", "DA", "C", 1, (0.0, 0.0, 0.0))])
    assert structure.chains == ()
    assert structure.left_out == {"other_residues": 1}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pdb", b"", "is empty"),
        ("a.pdb", b"hello\n", "no ATOM records"),
        ("a.pdb", b"ATOM      1  N   ALA A   1      xx.xxx  0.000   0.000\n", "cannot be read as PDB"),
        ("a.pdb", b"ATOM      1  N   ALA A   1         nan   0.000   0.000\n", "not a finite number"),
        ("a.cif", b"data_x\n_entry.id x\n", "no atom_site table"),
        ("a.cif", b"\xff\xfe\x00garbage", "cannot be read as mmCIF"),
        ("a.bcif", b"\x81garbage", "cannot be read as mmCIF"),
        ("a.pdb.gz", gzip.compress(b"ATOM" * 500)[:-9], "cannot be decompressed"),
        ("a.pdb.gz", b"no gzip", "cannot be decompressed"),
        ("a.txt", b"x", "its ending is none of"),
    ],
)
def test_a_broken_file_says_why(name, data, message):
    with pytest.raises(InputError, match=message):
        read_structure(Path(name), data)


def test_suffixes():
    assert suffix_of("1ABC.PDB.GZ") == ".pdb"
    assert suffix_of("1abc.mmcif") == ".mmcif"
    assert suffix_of("1abc.pdb.bak") is None
    assert suffix_of(".pdb") is None
