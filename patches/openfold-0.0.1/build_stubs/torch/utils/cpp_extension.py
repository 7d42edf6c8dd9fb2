"""The names that the sdist's setup.py imports; without CUDA_HOME it looks for no compiler."""

from setuptools import Extension
from setuptools.command.build_ext import build_ext as BuildExtension

__all__ = ["CUDA_HOME", "BuildExtension", "CUDAExtension", "CppExtension"]

CUDA_HOME = None
CppExtension = Extension
CUDAExtension = Extension
