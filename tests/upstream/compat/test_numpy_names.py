"""Names that numpy dropped: what breaks without each record, and that it works with it."""

import warnings

import numpy as np
import pytest
import torch


@pytest.mark.skipif("object" in vars(np), reason="this numpy has np.object")
def test_numpy_object(imported, reason):
    assert "np.object" in reason("numpy.object")
    with (
        pytest.raises(AttributeError, match="object"),
        warnings.catch_warnings(action="ignore", category=FutureWarning),
        imported("openfold.data.templates"),
    ):
        pass
    with imported("openfold.data.templates", "numpy.object") as module:
        assert module.TEMPLATE_FEATURES["template_sequence"] is object
    assert "object" not in vars(np)


class NumpyWithoutBool:
    """numpy 1.24 to 1.26, as one module sees it; taking the name from the real one breaks numpy 2 itself."""

    def __getattr__(self, name):
        if name == "bool":
            raise AttributeError("module 'numpy' has no attribute 'bool'")
        return getattr(np, name)


def test_numpy_bool(monkeypatch, imported, reason, records):
    with monkeypatch.context() as patch:
        patch.delattr(np, "bool", raising=False)
        assert "np.bool" in reason("numpy.bool")
    mask = np.ones((2, 37))
    with imported("openfold.np.relax.utils") as module:
        module.np = NumpyWithoutBool()
        module.np.__name__ = "numpy"
        with pytest.raises(AttributeError, match="bool"):
            module.assert_equal_nonterminal_atom_types(mask, mask)
        (mend,) = records["numpy.bool"].mends
        vars(module).update(mend.names(module))
        module.assert_equal_nonterminal_atom_types(mask, mask)
        with pytest.raises(AssertionError):
            module.assert_equal_nonterminal_atom_types(mask, 2 * mask)


@pytest.mark.skipif(int(np.__version__.split(".")[0]) < 2, reason="numpy 1 does not warn")
def test_numpy_array_of_a_tensor(imported, reason):
    assert "np.array on tensors" in reason("numpy.array of a tensor")
    tensor = torch.arange(3.0)
    with imported("openfold.utils.loss") as module, pytest.warns(DeprecationWarning, match="copy"):
        module.np.array(tensor)
    with imported("openfold.utils.loss", "numpy.array of a tensor") as module:
        copied = module.np.array(tensor)
        tensor[0] = 9
        np.testing.assert_array_equal(copied, [0, 1, 2])
        np.testing.assert_array_equal(module.np.array([1, 2], dtype=np.int8), [1, 2])
        assert module.np.float32 is np.float32


def chain(msa, species):
    """Features of a chain that multimer prediction pairs and merges, as far as these functions read them."""
    return {
        "msa_all_seq": np.array(msa),
        "msa_species_identifiers_all_seq": np.array(species, dtype=object),
        "num_alignments": np.array(len(msa)),
        "seq_length": np.array(len(msa[0])),
    }


@pytest.mark.upstream
@pytest.mark.skipif("string_" in vars(np), reason="this numpy has np.string_")
def test_numpy_string(imported, reason):
    assert "np.string_" in reason("numpy.string_")
    chains = [chain([[1, 2], [3, 4]], [b"", b"A"]), chain([[5], [6]], [b"", b"A"])]
    with (
        imported("openfold.data.msa_pairing") as module,
        pytest.raises(AttributeError, match="string_"),
    ):
        module.create_paired_features(chains)
    with imported("openfold.data.msa_pairing", "numpy.string_") as module:
        first, second = module.create_paired_features(chains)
    np.testing.assert_array_equal(first["msa_all_seq"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(second["msa_all_seq"], [[5], [6]])
    assert "string_" not in vars(np)


@pytest.mark.upstream
@pytest.mark.filterwarnings("error")
def test_numpy_sum_of_a_generator(imported, reason):
    assert "np.sum on a generator" in reason("numpy.sum of a generator")
    chains = [{"num_alignments": np.array(3)}, {"num_alignments": np.array(4)}]
    with (
        imported("openfold.data.msa_pairing") as module,
        pytest.raises((TypeError, DeprecationWarning), match="generator"),
    ):
        module._merge_features_from_multiple_chains(chains, True)
    with imported("openfold.data.msa_pairing", "numpy.sum of a generator") as module:
        merged = module._merge_features_from_multiple_chains(chains, True)
        assert merged["num_alignments"] == 7
        assert merged["num_alignments"].dtype == np.int32
        np.testing.assert_array_equal(module.np.sum(np.ones((2, 3)), axis=0), [2, 2, 2])
