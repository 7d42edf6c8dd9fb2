"""The example that plots confidence, on vanilla OpenFold's own output; looks at the pixels."""

import importlib.util
import json
import shutil
from pathlib import Path

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from openfoldpp.files import read_pickle, write_pickle
from openfoldpp.inference import results

SCRIPT = Path(__file__).parents[2] / "examples" / "plots" / "plot_confidence.py"
NAME = "heavy-light_model_1_ptm"
# Of the 43 residues, these have a pLDDT inside each band and on its edge; then their colours.
KNOWN = {3: 95.0, 8: 90.0, 13: 89.9, 18: 70.0, 23: 69.9, 28: 50.0, 33: 49.9, 38: 5.0}
COLORS = ["#0053D6", "#0053D6", "#65CBF3", "#65CBF3", "#FFDB13", "#FFDB13", "#FF7D45", "#FF7D45"]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("plot_confidence", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def predictions(vanilla, tmp_path):
    """Vanilla's files of two chains, 25 and 18 residues, with known values of pLDDT."""
    output = read_pickle(vanilla["two"].output_dict)
    output["plddt"][:] = 99
    output["plddt"][list(KNOWN)] = list(KNOWN.values())
    write_pickle(tmp_path / f"{NAME}_output_dict.pkl", output)
    shutil.copy(vanilla["two"].pdb, tmp_path / f"{NAME}_unrelaxed.pdb")
    return tmp_path


def rendered(figure, path):
    """Draw a figure; returns a function that gives the colour at a place of some axes."""
    figure.savefig(path, dpi=figure.dpi)
    image = mpl.image.imread(path)[..., :3]

    def color(axes, x, y):
        column, row = axes.transData.transform((x, y))
        return image[len(image) - 1 - int(row), int(column)]

    return color


def test_the_picture_has_the_bands_colours_and_the_aligned_error(example, predictions, tmp_path):
    (result,) = results.find([predictions])
    figure = example.plot(result)
    plddt_axes, pae_axes, bar = figure.axes
    color = rendered(figure, tmp_path / "picture.png")
    for (residue, value), expected in zip(KNOWN.items(), COLORS, strict=True):
        np.testing.assert_allclose(color(plddt_axes, residue + 1, value), to_rgb(expected), atol=0.02)

    output = result.read()
    pae, bound = output["predicted_aligned_error"], output["max_predicted_aligned_error"]
    greens = mpl.colormaps["Greens_r"]
    for aligned, scored in ((2, 30), (30, 2), (40, 41)):
        expected = greens(float(pae[aligned, scored] / bound))[:3]
        np.testing.assert_allclose(color(pae_axes, scored + 1, aligned + 1), expected, atol=0.02)
    assert bar.get_ylim() == (0, bound)
    assert bar.get_ylabel() == "predicted aligned error (Å)"
    assert (pae_axes.get_xlabel(), pae_axes.get_ylabel()) == ("scored residue", "aligned residue")
    assert f"pTM {output['predicted_tm_score']:.2f}" in figure.get_suptitle()


def test_chains_are_marked_and_numbered_by_themselves(example, predictions, tmp_path):
    (result,) = results.find([predictions])
    figure = example.plot(result)
    color = rendered(figure, tmp_path / "picture.png")
    for axes in figure.axes[:2]:
        assert [text.get_text() for text in axes.texts] == ["chain A", "chain B"]
        numbers = dict(zip(axes.get_xticks(), (t.get_text() for t in axes.get_xticklabels()), strict=True))
        assert numbers == {1: "1", 5: "5", 10: "10", 15: "15", 20: "20"} | {
            26: "1",
            30: "5",
            35: "10",
            40: "15",
        }
    # The line is about a pixel wide, a residue about eight.
    near = [color(figure.axes[1], x, 10) for x in np.linspace(25.2, 25.8, 7)]
    red = max(near, key=lambda rgb: rgb[0] - rgb[1])
    assert red[0] > 0.6
    assert red[1:].max() < 0.4


def test_an_aligned_error_that_nobody_predicted_is_not_drawn(example, predictions, capsys):
    said = {"predicted_by": "a predictor", "values": {"predicted_aligned_error": "filled: not predicted"}}
    (predictions / f"{NAME}_provenance.json").write_text(json.dumps(said))
    assert example.main([str(predictions)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{predictions / NAME}_confidence.png\n"
    assert "without PAE, which a predictor does not predict" in err
    (result,) = results.find([predictions])
    figure = example.plot(result)
    assert [axes.get_ylabel() for axes in figure.axes] == ["pLDDT"]
    assert "pTM" not in figure.get_suptitle()
    image = mpl.image.imread(predictions / f"{NAME}_confidence.png")
    assert image.shape[1] == 150 * figure.get_size_inches()[0]


def test_without_a_structure_the_residues_are_counted_through(example, predictions):
    (predictions / f"{NAME}_unrelaxed.pdb").unlink()
    (result,) = results.find([predictions])
    axes = example.plot(result).axes[0]
    assert list(axes.texts) == []
    assert [tick.get_text() for tick in axes.get_xticklabels()][-1] == "40"


def test_a_path_without_a_prediction_is_named(example, tmp_path, capsys):
    assert example.main([str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
