"""Make a library, and be killed at the n-th time that something on the disk changes.

Usage: python kill_build.py STRUCTURES LIB N [add]; N = 0 is not killed. The embedding is a cheap one, so that
the time goes into what is tested.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np

from openfoldpp.motifs import build_blocks, build_parts
from openfoldpp.motifs.build import build_library
from openfoldpp.motifs.library_files import Options


class CheapEmbedder:
    """Vectors that depend on the sequence alone."""

    def embed(self, sequences):
        return [
            np.random.default_rng(list(s.encode())).normal(size=(len(s) - 9, 64)).astype(np.float32)
            for s in sequences
        ]


structures, out, left = sys.argv[1], sys.argv[2], int(sys.argv[3])


def counted(function):
    """Kill this process before the call, or after it, by turns."""

    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        done = function(*args, **kwargs)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return call


os.fsync = counted(os.fsync)
Path.rename = counted(Path.rename)
Path.replace = counted(Path.replace)
shutil.rmtree = counted(shutil.rmtree)
build_blocks.shingle_embedder = lambda plm: CheapEmbedder()
build_parts.FILES = 2
add = sys.argv[4:] == ["add"]
options = None if add else Options(flat_below=50, part_shingles=80)
build_library([structures], out, add=add, options=options)
