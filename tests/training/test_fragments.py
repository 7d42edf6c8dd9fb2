"""Backbone fragments: windows and their places, models that are kept, Fvs apart from others."""

import json

import numpy as np
import pytest

from openfoldpp.errors import InputError
from openfoldpp.motifs.sequence_identity import identical
from openfoldpp.teachers import flashabb
from openfoldpp.training import fragments
from openfoldpp.training.fragments import Chain, draw, draw_apart, model_fvs, windows

# OLGA leaves its files open.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

RNG = np.random.default_rng(0)
#: Trastuzumab's heavy domain and its CDRs by IMGT.
VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS"
)
CDRS = ((25, 33), (50, 58), (96, 109))


def chain(sequence=VH, *, is_heavy=True, cdrs=CDRS):
    walk = RNG.normal(size=(len(sequence) * 3, 3)).cumsum(0).reshape(-1, 3, 3)
    return Chain(sequence, is_heavy, cdrs, walk.astype(np.float32))


def test_fragments_are_the_windows_atoms():
    backbone = RNG.normal(size=(14, 3, 3)).astype(np.float32)
    found = fragments.fragments(backbone)
    assert found.shape == (5, 30, 3)
    for start, fragment in enumerate(found):
        atoms = backbone[start : start + 10].reshape(30, 3)
        np.testing.assert_allclose(fragment, atoms - atoms.mean(0), atol=1e-5)


def test_windows_know_where_they_are_from():
    light = (
        "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPPTFG"
    )
    other = chain(light, is_heavy=False, cdrs=((26, 32), (49, 52), (88, 97)))
    found = windows([(chain(), other), (chain(VH[5:], cdrs=((20, 28), (45, 53), (91, 104))), other)])
    lengths = [len(VH) - 9, len(light) - 9, len(VH) - 14, len(light) - 9]
    assert len(found) == sum(lengths)
    np.testing.assert_array_equal(found.fv, np.repeat([0, 0, 1, 1], lengths))
    np.testing.assert_array_equal(found.is_heavy, np.repeat([True, False, True, False], lengths))
    assert bytes(found.letters[20]) == VH[20:30].encode()
    # Five of the ten residues from 20 on are in CDR1 (25 to 32), four of those from 19 on.
    assert found.cdr[18:21].tolist() == [0, 0, 1]
    assert set(found.cdr[92:104]) == {3}
    # The second Fv lacks five residues at its start and none elsewhere.
    np.testing.assert_array_equal(
        found.place[lengths[0] + lengths[1] :][: lengths[2]], found.place[5 : lengths[0]]
    )


def test_imgt_numbers_are_those_of_the_crystals(data_dir):
    for name, entry in json.loads((data_dir / "fv" / "chains.json").read_text()).items():
        for label, known in entry["chains"].items():
            cdrs = tuple(tuple(known[f"cdr{i}"]) for i in (1, 2, 3))
            found = chain(known["sequence"], is_heavy=label == "H", cdrs=cdrs).imgt
            for number, ours in zip(known["imgt"], found, strict=True):
                # Positions that a framework leaves empty are not known here, nor is where insertions begin.
                if number.isdigit() and int(number) > 10 and not 66 <= int(number) <= 82:
                    assert ours == int(number), f"{name} {label} {number}"


def test_crystals_are_read_whole(data_dir):
    found = fragments.crystal_fvs(data_dir / "fv")
    assert len(found) == 27
    for heavy, light in found:
        for one in (heavy, light):
            assert one.backbone.shape == (len(one.sequence), 3, 3)
            bonds = np.linalg.norm(one.backbone[:, 0] - one.backbone[:, 1], axis=-1)
            assert abs(bonds - 1.46).max() < 0.2  # N to CA


def test_a_crystal_with_a_gap_is_refused(data_dir, tmp_path):
    name, entry = next(iter(json.loads((data_dir / "fv" / "chains.json").read_text()).items()))
    (tmp_path / "chains.json").write_text(json.dumps({name: entry}))
    lines = (data_dir / "fv" / f"{name}.pdb").read_text().splitlines(keepends=True)
    lost = next(i for i, line in enumerate(lines) if line.startswith("ATOM") and line[12:16] == " CA ")
    (tmp_path / f"{name}.pdb").write_text("".join(lines[:lost] + lines[lost + 1 :]))
    with pytest.raises(InputError, match=rf"{name}.pdb: chain H has \d+ atoms CA for"):
        fragments.crystal_fvs(tmp_path)


def test_fvs_drawn_apart_are_not_near_any_other():
    others = draw(40, 1)
    found = draw_apart(6, 2, others)
    assert found == draw_apart(10, 2, others)[:6]
    for pair in found:
        for side in (0, 1):
            assert max(identical(pair[side].sequence, other[side].sequence) for other in others) < 0.9


def test_models_are_kept(tmp_path, monkeypatch):
    pairs = draw(3, 5)
    first = model_fvs(pairs, tmp_path, "some")
    for (heavy, light), (h, k) in zip(pairs, first, strict=True):
        model = flashabb.load().predict(heavy.sequence, light.sequence).coords[:, :3]
        np.testing.assert_array_equal(np.concatenate([h.backbone, k.backbone]), model)
        assert (h.is_heavy, h.sequence, h.cdrs) == (True, heavy.sequence, heavy.cdrs)
        assert (k.is_heavy, k.sequence, k.cdrs) == (False, light.sequence, light.cdrs)

    other = model_fvs(draw(2, 6), tmp_path, "some")  # the file is of other sequences: made anew
    assert len(other[0][0].backbone) == len(other[0][0].sequence)
    assert other[0][0].sequence != first[0][0].sequence

    monkeypatch.setattr(flashabb, "load", lambda: pytest.fail("modelled again"))
    again = model_fvs(draw(2, 6)[:1], tmp_path, "some")
    np.testing.assert_array_equal(again[0][1].backbone, other[0][1].backbone)
