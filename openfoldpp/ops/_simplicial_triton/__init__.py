"""Triton kernels of 2-simplicial attention; its modules need triton."""
