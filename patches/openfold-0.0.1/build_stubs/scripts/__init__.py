"""Holds the stub of ``scripts.utils``."""
