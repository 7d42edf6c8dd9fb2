"""The recipe of the default library: whole Fvs, stretches around CDR-H3 of others, and how it was made."""

import numpy as np
import pytest

from openfoldpp.errors import InputError
from openfoldpp.geometry.superposition import fragment_rmsd
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.library_files import read_manifest, verify
from openfoldpp.training.fragments import draw, fragments, model_fvs
from openfoldpp.training.motif_library import Settings, make

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # OLGA's
SETTINGS = Settings(fvs=2, stretches=2, seed=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of a run."""
    out = tmp_path_factory.mktemp("run")
    make(SETTINGS, out, made_by="openfoldpp train motif-library --out runs/x", say=lambda _: None)
    return out


def test_whole_fvs_and_stretches_go_in_with_their_models(made):
    fvs = model_fvs(draw(4, 3), made / "models", "pool", atoms=4)
    with Library.open(made / "library") as library:
        found = [library.segment(number) for number in range(library.counts.segments)]
        coordinates = [library.coordinates(number) for number in range(library.counts.segments)]
    names = ["fv0000_H", "fv0000_L", "fv0001_H", "fv0001_L", "fv0002_H", "fv0003_H"]
    assert [one.name for one in found] == names
    whole = [chain for fv in fvs[:2] for chain in fv]
    assert [one.sequence for one in found[:4]] == [chain.sequence for chain in whole]
    for one, (heavy, _) in zip(found[4:], fvs[2:], strict=True):
        start, end = heavy.cdrs[2]
        assert one.sequence == heavy.sequence[start - 18 : end + 11]
        assert one.residue_number(0) == str(start - 18 + 1)
    for chain, own in zip(whole, coordinates, strict=False):
        assert fragment_rmsd(fragments(chain.backbone[:, :3]), fragments(own[:, :3])).max() < 0.02


def test_it_has_no_graph_and_tells_how_it_was_made(made):
    manifest = read_manifest(made / "library")
    assert verify(made / "library", manifest) == []
    assert not list((made / "library").rglob("index.faiss"))
    assert manifest.options.vectors == "int8"
    assert manifest.made_by.startswith("openfoldpp train motif-library --out runs/x # {'fvs': 2,")


def test_the_same_settings_give_the_same_bytes(made, tmp_path):
    (tmp_path / "models").mkdir()
    for file in (made / "models").iterdir():
        (tmp_path / "models" / file.name).write_bytes(file.read_bytes())
    make(SETTINGS, tmp_path, made_by="openfoldpp train motif-library --out runs/x", say=lambda _: None)
    for file in (made / "library").rglob("*"):
        if file.is_file():
            assert (tmp_path / file.relative_to(made)).read_bytes() == file.read_bytes(), file.name


def test_a_library_that_is_there_is_kept(made):
    before = (made / "library" / "manifest.json").stat().st_mtime_ns
    with pytest.raises(InputError, match="is there; name another folder with --out"):
        make(SETTINGS, made, say=lambda _: None)
    assert np.isclose((made / "library" / "manifest.json").stat().st_mtime_ns, before)
