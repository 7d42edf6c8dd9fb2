"""Exact kernels behind one function each; the backend is chosen by what the arguments need."""

from openfoldpp.ops.dispatch import settings
from openfoldpp.ops.softmax import explain, softmax_, softmax_backward_

__all__ = ["explain", "settings", "softmax_", "softmax_backward_"]
