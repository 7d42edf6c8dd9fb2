"""The only door to OpenFold: which one is used, what it needs today, and where hooks meet it."""

from openfoldpp.upstream.activate import activate
from openfoldpp.upstream.locate import Installation, locate

__all__ = ["Installation", "activate", "locate"]
