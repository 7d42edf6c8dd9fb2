"""The Python call: the command's result, nothing printed, nothing of the process changed."""

import pickle

import numpy as np
import pytest
import torch

import openfoldpp
from openfoldpp.errors import ConfigError, InputError, UnsupportedTargetError
from openfoldpp.inference import driver
from openfoldpp.types import Output

VH = (
    "QVQLQESGPGLVAPSQSLSITCTVSGFSLTGYGVNWVRQPPGKGLEWLGMIWGDGNTDYNSALKSRLSISKDNSKSQVFLKMNSLHTDDTARYYC"
    "ARERDYRLDYWGQGTTLTVSS"
)
VL = (
    "DIVLTQSPASLSASVGETVTITCRASGNIHNYLAWYQQKQGKSPQLLVYYTTTLADGVPSRFSGSGSGTQYSLKINSLQPEDFGSYYCQHFWSTPRTF"
    "GGGTKLEIK"
)


@pytest.fixture(scope="module")
def prediction():
    return openfoldpp.predict(f"{VH}:{VL}", tag="d1.3")


def test_it_gives_the_files_of_the_command(prediction, tmp_path):
    fasta = tmp_path / "d1.3.fasta"
    fasta.write_text(f">d1.3\n{VH}:{VL}\n")
    command = ["--output_dir", str(tmp_path / "command"), "--quiet", str(fasta)]
    assert driver.main(command, program="openfoldpp predict", targets=True) == 0
    written = {path.name: path for path in (tmp_path / "command" / "predictions").iterdir()}
    saved = prediction.save(tmp_path / "new" / "folder")
    assert {path.name for path in saved} == set(written)
    for path in saved:
        if path.suffix != ".json":
            assert path.read_bytes() == written[path.name].read_bytes(), path.name


def test_what_was_not_predicted_is_none(prediction):
    assert prediction.pae is None
    assert prediction.ptm is None
    assert 80 < prediction.mean_plddt < 100
    assert prediction.coords.shape == (len(VH + VL), 37, 3)
    assert not prediction.coords[prediction.atom_mask == 0].any()


def test_its_repr_is_a_line(prediction):
    text = f"<Prediction of 'd1.3' by flash-abb 0.0.5: {len(VH + VL)} residues in 2 chains, mean pLDDT "
    assert repr(prediction).startswith(text)
    assert len(repr(prediction)) < 120


def test_b_factors_can_be_subtracted(prediction):
    ca = [line for line in prediction.to_pdb().splitlines() if line[12:16] == " CA "]
    turned = [line for line in prediction.to_pdb(subtract_plddt=True).splitlines() if line[12:16] == " CA "]
    sums = [float(a[60:66]) + float(b[60:66]) for a, b in zip(ca, turned, strict=True)]
    np.testing.assert_allclose(sums, 100, atol=0.011)


def test_an_output_pickles_as_a_plain_dict(prediction):
    again = pickle.loads(pickle.dumps(prediction.output))
    assert type(prediction.output) is Output
    assert type(again) is dict
    assert list(again) == list(prediction.output)


def test_a_path_is_a_fasta_file(prediction, tmp_path):
    file = tmp_path / "x.fasta"
    file.write_text(f">fv\n{VH}:{VL}\n")
    read = openfoldpp.predict(file)
    assert read.target.tag == "fv"
    np.testing.assert_array_equal(read.coords, prediction.coords)


def test_the_processs_random_numbers_are_left_alone():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    openfoldpp.predict(f"{VH}:{VL}")
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("EVQL",), UnsupportedTargetError, "--openfold_checkpoint_path"),
        (("EV1",), InputError, "'1' at line 1, column 3"),
        (({"H": VH},), InputError, "target is a dict: expected a sequence, a Path or a Target"),
        ((VH, "--out", "x.pdb"), ConfigError, "--out: for the command"),
        ((VH, "--openfold_checkpoint_path", "a.pt,b.pt"), InputError, "predict\\(\\) runs one"),
    ],
)
def test_misuse_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        openfoldpp.predict(*arguments)


def test_an_unknown_flag_does_not_end_the_caller(capsys):
    with pytest.raises(ConfigError, match="'--nosuch'"):
        openfoldpp.predict(VH, "--nosuch")
    assert "--nosuch" in capsys.readouterr().err
