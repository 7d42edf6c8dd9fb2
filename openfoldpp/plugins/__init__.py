"""The plugin contract and the host that serves it; README.md beside this file shows a first plugin."""

from openfoldpp.plugins.hookspecs import hookimpl

__all__ = ["hookimpl"]
