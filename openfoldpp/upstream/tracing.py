"""Taking back what upstream's ``--trace_model`` does to a model, so that it can be traced for another length.

Upstream replaces parts of each Evoformer block by functions of TorchScript, which are right for one number of
residues, and cannot trace a model that already has them. Before, it cuts every stack to its first block for a
dry run, and leaves it so where that fails.
"""

from __future__ import annotations

from typing import Any


class Traced:
    """Remembers the modules of a model before it is traced.

    Parameters
    ----------
    model : torch.nn.Module
        Upstream's, not traced.
    n_res : int
        The number of residues that it is traced for.

    Attributes
    ----------
    n_res : int
        The number of residues.
    """

    def __init__(self, model: Any, n_res: int):
        self.n_res = n_res
        self._modules = [(part, dict(part._modules)) for part in model.modules()]

    def undo(self) -> None:
        """Put every module back where it was."""
        for part, modules in self._modules:
            for name in modules:
                # A function that was set in a module's place is a plain attribute.
                vars(part).pop(name, None)
            part._modules.clear()
            part._modules.update(modules)
