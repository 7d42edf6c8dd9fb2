"""Holds the stub of ``torch.utils.cpp_extension``."""
