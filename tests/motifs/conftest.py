"""Chains with an ideal backbone, files of them, and small libraries."""

import gzip
import io
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from openfoldpp.geometry.residues import LETTERS, NAMES
from openfoldpp.motifs.embedder import installed_embedding
from openfoldpp.motifs.hits import MotifHit
from openfoldpp.motifs.part_files import write_library
from openfoldpp.motifs.segments import Segment, SegmentInfo

SEQUENCE = "EVQLVESGGGLVQPGGSLRLSCAASGFNIK"


@dataclass(frozen=True)
class Atom:
    """One record of a structure file."""

    name: str
    residue: str
    chain: str
    number: int
    place: tuple[float, float, float]
    insertion: str = " "
    alternate: str = " "
    occupancy: float | None = 1.0
    record: str = "ATOM"

    def line(self, serial):
        x, y, z = self.place
        occupancy = "      " if self.occupancy is None else f"{self.occupancy:6.2f}"
        return (
            f"{self.record:<6}{serial:5d}  {self.name:<3}{self.alternate}{self.residue:>3} {self.chain}"
            f"{self.number:4d}{self.insertion}   {x:8.3f}{y:8.3f}{z:8.3f}{occupancy}  0.00          "
            f"{self.name[0]:>2}"
        )


def backbone(length, seed=0):
    """N, CA, C and O of a chain with ideal bonds and angles and random torsions, float32 [length, 4, 3]."""
    rng = np.random.default_rng(seed)
    phi, psi = np.radians(rng.uniform(-150, -50, length)), np.radians(rng.uniform(-60, 150, length))
    atoms = [np.zeros(3), np.array([1.458, 0, 0]), np.array([2.009, 1.420, 0])]

    def place(bond, angle, torsion):
        a, b, c = atoms[-3:]
        axis = (c - b) / np.linalg.norm(c - b)
        normal = np.cross(b - a, axis)
        normal /= np.linalg.norm(normal)
        angle = np.radians(angle)
        local = [-np.cos(angle), np.sin(angle) * np.cos(torsion), np.sin(angle) * np.sin(torsion)]
        return c + bond * (np.stack([axis, np.cross(normal, axis), normal], 1) @ local)

    oxygens = []
    for i in range(length):
        oxygens.append(place(1.231, 120.1, psi[i] + np.pi))
        if i + 1 < length:
            for bond, angle, torsion in (
                (1.329, 117.2, psi[i]), (1.458, 121.7, np.pi), (1.525, 111.0, phi[i + 1]),
            ):  # fmt: skip
                atoms.append(place(bond, angle, torsion))
    return np.concatenate([np.array(atoms).reshape(length, 3, 3), np.array(oxygens)[:, None]], 1).astype(
        np.float32
    )


def atoms_of(sequence=SEQUENCE, chain="A", first=1, seed=0, shift=0.0):
    """Records of a chain."""
    return [
        Atom(name, NAMES[LETTERS.index(letter)], chain, first + i, tuple(place[j] + shift))
        for i, (letter, place) in enumerate(zip(sequence, backbone(len(sequence), seed), strict=True))
        for j, name in enumerate(("N", "CA", "C", "O"))
    ]


def changed(atoms, residue, atom=None, /, **changes):
    """Records, those of a residue number (and of an atom name) changed."""
    return [
        replace(one, **changes) if one.number == residue and atom in (None, one.name) else one
        for one in atoms
    ]


def pdb(atoms):
    """Text of a PDB file."""
    return "".join(atom.line(i) + "\n" for i, atom in enumerate(atoms, 1)) + "END\n"


def write_structures(folder, count, length=30):
    """Write `count` files of a chain of random letters each."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    for i in range(count):
        sequence = "".join(rng.choice(list(LETTERS[:20]), length))
        (folder / f"s{i:03d}.pdb").write_text(pdb(atoms_of(sequence, seed=i)))
    return folder


@pytest.fixture(scope="session")
def chains():
    """What makes chains, records and files of them."""
    return SimpleNamespace(
        sequence=SEQUENCE,
        backbone=backbone,
        atoms_of=atoms_of,
        changed=changed,
        pdb=pdb,
        write_structures=write_structures,
        random_segments=random_segments,
    )


@pytest.fixture
def structures(tmp_path):
    """Folder with a PDB file of two chains, an mmCIF file, and a compressed PDB file."""
    from biotite.structure.io.pdb import PDBFile
    from biotite.structure.io.pdbx import CIFFile, set_structure

    folder = tmp_path / "structures"
    (folder / "sub").mkdir(parents=True)
    (folder / "1abc.pdb").write_text(pdb(atoms_of() + atoms_of("DIQMTQSPSSLSASVGDRV", "B", seed=1, shift=50)))
    file = CIFFile()
    text = pdb(atoms_of("QVQLQQSGAELARPGASVKMSCK", "H", seed=2))
    set_structure(file, PDBFile.read(io.StringIO(text)).get_structure(model=1))
    file.write(folder / "sub" / "2xyz.cif")
    (folder / "3def.ent.gz").write_bytes(
        gzip.compress(pdb(atoms_of("ACDEFGHIKLMNPQRSTVWY", seed=3)).encode())
    )
    return folder


def random_segments(count, seed=0, length=(10, 40)):
    """Segments of random letters and lengths, and random vectors for their shingles."""
    rng = np.random.default_rng(seed)
    segments = []
    for i in range(count):
        n = int(rng.integers(*length))
        info = SegmentInfo(f"s{i}_A", f"1..{n}", "".join(rng.choice(list(LETTERS[:20]), n)))
        segments.append(Segment(info, backbone(n, i) + np.float32(100)))
    shingles = sum(len(segment.info.sequence) - 9 for segment in segments)
    return segments, rng.normal(size=(shingles, 64)).astype(np.float32)


@pytest.fixture
def make_library(tmp_path):
    """Write a library of random segments; returns its folder, the segments and the vectors."""

    def make(name="lib", count=20, seed=0, options=None):
        segments, vectors = random_segments(count, seed)
        write_library(tmp_path / name, segments, vectors, installed_embedding(), options)
        return tmp_path / name, segments, vectors

    return make


def hit_of(coords, sequence, offset, source="s_A", score=0.9, segment=0, start=0):
    """A hit of a stretch of backbone, float32 [length, 4, 3]."""
    return MotifHit(
        offset=offset, length=len(coords), source=source, residue="1", sequence=sequence, score=score,
        distance=0.3, tm=0.9, coords=np.asarray(coords, np.float32), segment=segment, start=start,
    )  # fmt: skip


def turned(coords, seed):
    """Points, rotated and shifted at random."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return coords @ (q * np.sign(np.linalg.det(q))) + rng.normal(size=3) * 20


@pytest.fixture(scope="session")
def coarse():
    """Makers of hits, and a query of two chains with hits of structures in a library."""
    return SimpleNamespace(hit=hit_of, turned=turned, fv=fv_like)


def fv_like(folder, structures=3, noise=0.4):
    """Sequence, CA, hits and library: structures of two chains that are nearly the query's."""
    rng = np.random.default_rng(8)
    lengths = (60, 50)
    sequences = ["".join(rng.choice(list(LETTERS[:20]), n)) for n in lengths]
    whole = np.concatenate([backbone(60, 1), backbone(50, 2) + np.float32([12, 9, -7])])
    segments, hits = [], []
    for number in range(structures):
        # Whole residues are displaced, smoothly along the chain.
        off = np.cumsum(rng.normal(size=(110, 1, 3)), 0) * noise / 6
        moved = turned(whole + off, number).astype(np.float32)
        for chain, (first, last) in enumerate(((0, 60), (60, 110))):
            name, segment = f"x{number}_{'HL'[chain]}", len(segments)
            sequence = sequences[chain]
            segments.append(Segment(SegmentInfo(name, f"1..{last - first}", sequence), moved[first:last]))
            for start in range(0, last - first - 15, 15):
                part = slice(first + start, first + start + 16 + number)
                hits.append(
                    hit_of(
                        moved[part],
                        sequence[start : start + len(moved[part])],
                        first + start,
                        name,
                        0.9 - 0.1 * number,
                        segment,
                        start,
                    )
                )
    vectors = rng.normal(size=(sum(n - 9 for n in lengths) * structures, 64)).astype(np.float32)
    write_library(folder, segments, vectors, installed_embedding())
    hits = [hit for hit in hits if hit.offset + hit.length <= (60 if hit.offset < 60 else 110)]
    return ":".join(sequences), whole[:, 1], hits, folder
