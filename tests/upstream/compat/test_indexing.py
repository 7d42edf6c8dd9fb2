"""Each place that indexes by a list of slices: the same bits as by the tuple, today and later."""

import warnings

import pytest
import torch
from torch.overrides import TorchFunctionMode

from openfoldpp.upstream.compat.indexing import LISTS

RECORD = "indexing by lists"
WARNING = "Using a non-tuple sequence for multidimensional indexing"


class ListsAreTensors(TorchFunctionMode):
    """What torch announces: ``x[[a, b]]`` means ``x[torch.tensor([a, b])]``."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and isinstance(args[1], list):
            args = (args[0], torch.tensor(args[1]), *args[2:])
        return function(*args, **(kwargs or {}))


def draw(*shape, seed=5):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gather(module):
    indices = torch.tensor([[2, 0], [1, 1], [0, 2]])
    return [
        module.batched_gather(draw(7), torch.tensor([3, 1])),
        module.batched_gather(draw(3, 4, 5), indices, dim=1, no_batch_dims=1),
        module.batched_gather(draw(2, 3, 4), torch.tensor([3, 3, 0]), dim=-1),
        module.batched_gather(draw(2, 3, 4, 5), torch.tensor([[[1], [0], [2]]] * 2), dim=-2, no_batch_dims=2),
    ]


def multiply(module):
    outputs = []
    for kind in (module.TriangleMultiplicationOutgoing, module.TriangleMultiplicationIncoming):
        torch.manual_seed(2)
        layer = kind(6, 4).eval()
        for parameter in layer.parameters():  # upstream's output layer begins at zero
            torch.nn.init.normal_(parameter)
        for residues, add in ((9, True), (8, False)):  # odd: the cache of the left half loses a row
            pair = draw(residues, residues, 6)
            with torch.no_grad():
                outputs.append(
                    layer(pair, pair.new_ones(residues, residues), True, add, _inplace_chunk_size=2)
                )
    return outputs


def crop(module):
    features = {
        "aatype": torch.arange(20),
        "template_aatype": torch.arange(60).reshape(3, 20),
        "seq_length": torch.tensor(20),
    }
    schema = {"aatype": ["num residues placeholder"], "seq_length": []}
    schema["template_aatype"] = ["num templates placeholder", "num residues placeholder"]
    cropped = module.random_crop_to_size(8, 2, schema, subsample_templates=True, seed=4)(features)
    return list(cropped.values())


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("openfold.utils.tensor_utils", gather),
        ("openfold.model.triangular_multiplicative_update", multiply),
        ("openfold.data.data_transforms", crop),
    ],
)
def test_lists_and_tuples_give_the_same_bits(name, run, imported, reason):
    assert "lists of slices" in reason(RECORD)
    with imported(name) as module, pytest.warns(UserWarning, match=WARNING):
        by_lists = run(module)
    with imported(name, RECORD) as module, warnings.catch_warnings():
        warnings.filterwarnings("error", message=WARNING)
        by_tuples = run(module)
        with ListsAreTensors():
            in_future = run(module)
    for one, other, later in zip(by_lists, by_tuples, in_future, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, later)


@pytest.mark.filterwarnings(f"ignore:{WARNING}")
def test_what_would_become_of_lists(imported, reason):
    reason(RECORD)
    with imported("openfold.utils.tensor_utils") as module, ListsAreTensors():
        data = torch.arange(7.0)
        # No error, and another shape: this would go on unnoticed.
        assert module.batched_gather(data, torch.tensor([3])).shape == (1,)
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            module.batched_gather(draw(3, 4), torch.tensor([1]), dim=1)


def test_every_list_of_the_record_is_there(imported, reason):
    reason(RECORD)
    for name, functions in LISTS.items():
        with imported(name, *(["attn_core_inplace_cuda"] if "model" in name else []), RECORD) as module:
            for dotted, lists in functions.items():
                function = module
                for part in dotted.split("."):
                    function = getattr(function, part)
                codes = [function.__code__]
                codes += [c for c in function.__code__.co_consts if hasattr(c, "co_names")]
                variables = {v for code in codes for v in (*code.co_varnames, *code.co_cellvars)}
                assert lists <= variables, dotted
                assert any("tuple" in code.co_names for code in codes), dotted
