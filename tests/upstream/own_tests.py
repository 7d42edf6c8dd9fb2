"""Run OpenFold's own tests, alone or under openfoldpp: both sides of ``test_own_tests.py``.

A program of its own, started in a subprocess with the checkout on its import path.

    python own_tests.py alone|openfoldpp CHECKOUT TABLE.txt RESULTS.json

``alone`` knows nothing of openfoldpp: what today's packages lack is put in place as in ``vanilla.py``,
beside this file; Lightning is the real one where it is installed. ``openfoldpp`` activates the checkout, with
compat, and installs every seam that a run of the script installs. TABLE.txt holds the ideal bonds and angles,
which no release has and its own tests read. RESULTS.json gets, for each test, ``passed``, ``failed`` or
``skipped`` and why.
"""

import contextlib
import importlib.resources
import importlib.util
import json
import random
import sys
import unittest
import warnings
from pathlib import Path


class Recorded(unittest.TestResult):
    """One line for each test; every test begins with the same random numbers."""

    def __init__(self):
        super().__init__()
        self.said = {}

    def startTest(self, test):  # noqa: N802 - unittest's name
        import numpy as np
        import torch

        random.seed(1)
        np.random.seed(1)  # noqa: NPY002 - what upstream's tests draw from
        torch.manual_seed(1)
        torch.set_grad_enabled(True)
        super().startTest(test)

    def addSuccess(self, test):  # noqa: N802
        self.said[test.id()] = ["passed", ""]

    def addSkip(self, test, reason):  # noqa: N802
        self.said[test.id()] = ["skipped", reason]

    def addError(self, test, err):  # noqa: N802
        self.said[test.id()] = ["failed", f"{err[0].__name__}: {err[1]}".splitlines()[0]]

    addFailure = addError  # noqa: N815

    def addSubTest(self, test, subtest, err):  # noqa: N802
        if err is not None:
            self.addError(test, err)


def stand_in(table):
    """Supply what ``vanilla.py`` does, the gradient of its softmax, and the table of ideal bonds."""
    import torch
    import vanilla

    lightning = importlib.util.find_spec("pytorch_lightning")
    vanilla.stand_in_for_what_is_missing()
    if lightning is not None:
        for name in [name for name in sys.modules if name.startswith("pytorch_lightning")]:
            del sys.modules[name]
        import pytorch_lightning.utilities.seed as moved

        moved.seed_everything = sys.modules["pytorch_lightning"].seed_everything

    def backward_(probabilities, grad_out, values, rows, cols, cols_values):
        grad = torch.matmul(grad_out, values.transpose(-1, -2))
        inner = (probabilities * grad).sum(dim=-1, keepdim=True)
        probabilities.copy_(probabilities * (grad - inner))

    sys.modules["attn_core_inplace_cuda"].backward_ = backward_
    upstream = importlib.resources.read_text

    def read_text(package, name, *args, **kwargs):
        if name == "stereo_chemical_props.txt":
            return Path(table).read_text()
        return upstream(package, name, *args, **kwargs)

    importlib.resources.read_text = read_text


@contextlib.contextmanager
def openfoldpp(checkout):
    """Compat, and the seams of a run, which hand everything on."""
    from openfoldpp.upstream import activate, script, seams

    installation = activate(Path(checkout))
    hooks = script.Hooks(
        configure=lambda config: None,
        predict=lambda model, batch: None,
        on_step=lambda phase, done: None,
        on_alignments=lambda folder: None,
        on_load=lambda model: None,
        on_model=lambda model: None,
        transform=lambda config, features: None,
    )
    execution = script._Execution(hooks, script.KeptModel(), "own tests", None)
    with seams.installed(execution.handlers(), installation.version):
        yield


def main(mode, checkout, table, results):
    if mode == "alone":
        stand_in(table)
        context = contextlib.nullcontext()
    else:
        context = openfoldpp(checkout)
    result = Recorded()
    with context, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unittest.defaultTestLoader.discover(f"{checkout}/tests", top_level_dir=checkout).run(result)
    Path(results).write_text(json.dumps(result.said, indent=1, sort_keys=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
