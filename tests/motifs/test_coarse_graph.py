import numpy as np
import pytest

from openfoldpp.motifs.assembly import blended, lay_out
from openfoldpp.motifs.coarse_graph import EDGES, NODES, RESIDUES, graph_of
from openfoldpp.motifs.library import Library


@pytest.fixture
def laid(tmp_path, coarse):
    """A layout, and random vectors of the query's windows."""
    sequence, _, hits, folder = coarse.fv(tmp_path / "lib")
    with Library.open(folder) as library:
        layout = lay_out(sequence, hits, library)
    rng = np.random.default_rng(0)
    return layout, [rng.normal(size=(len(chain) - 9, 64)).astype(np.float32) for chain in layout.chains]


def test_nodes_are_in_the_order_of_the_sequence(laid):
    graph = graph_of(*laid)
    count = len(laid[0].fragments)
    first = graph.mask.argmax(1)
    assert (np.diff(first) >= 0).all()
    assert graph.nodes.shape == (count, NODES)
    assert graph.edges.shape == (count, count, EDGES)
    assert graph.residues.shape == (count, 110, RESIDUES)
    assert sorted(graph.sources) == sorted(fragment.source for fragment in laid[0].fragments)
    for array in (graph.nodes, graph.edges, graph.residues, graph.shifts, graph.turns):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()


def test_the_embedding_is_the_mean_of_the_windows_within(laid):
    graph = graph_of(*laid)
    for row in range(len(graph.mask)):
        places = np.flatnonzero(graph.mask[row])
        chain, first = (0, 0) if places[0] < 60 else (1, 60)
        windows = [p - first for p in places if p + 9 <= places[-1]]
        expected = laid[1][chain][windows].mean(0)
        np.testing.assert_allclose(graph.nodes[row, :64], expected, atol=1e-5)


def test_edges_are_counted_residue_by_residue(laid):
    graph = graph_of(*laid)
    rng = np.random.default_rng(1)
    checked = 0
    for i, j in rng.integers(len(graph.mask), size=(200, 2)):
        both = graph.mask[i] & graph.mask[j]
        assert graph.edges[i, j, 0] == pytest.approx(both.sum() / graph.mask[i].sum())
        if not both.any() or i == j:
            continue
        checked += 1
        way = graph.placed[j][both] - graph.placed[i][both]
        arms = graph.placed[i][both] - graph.centres[i]
        np.testing.assert_allclose(graph.shifts[i, j], way.mean(0), atol=1e-4)
        turn = np.cross(arms, way).sum(0) / max((arms**2).sum(), 1)
        np.testing.assert_allclose(graph.turns[i, j], turn, atol=1e-4)
        apart = min(np.sqrt((way**2).sum(1).mean()), 6) / 6
        assert graph.edges[i, j, 1] == pytest.approx(apart, abs=2e-4)
    assert checked > 20


def test_what_would_fill_the_same_space_clashes(laid):
    layout, vectors = laid
    graph = graph_of(layout, vectors)
    ca = blended(layout).ca.astype(np.float64)
    ca -= ca.mean(0)
    own = graph.mask.astype(float)
    expected = np.zeros((len(own), len(own)))
    for i in range(len(own)):
        for r in np.flatnonzero(graph.mask[i]):
            near = np.linalg.norm(graph.placed[i, r] - ca, axis=1) < 3.0
            near &= np.abs(np.arange(110) - r) > 2
            expected[i] += own @ near
        expected[i] /= own[i].sum()
    np.testing.assert_allclose(graph.edges[..., 2], np.minimum(expected, 1), atol=1e-5)
