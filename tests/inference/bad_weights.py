"""Weights files that cannot be used: the name of the mistake, what the file is, and words that are said.

Of ``test_bad_input.py``.
"""

import pickle

import numpy as np
import torch

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 373292032\n"

# Every kind of block once, and few sequences: a model that is made, loaded and run in seconds.
SMALL = {
    "model.evoformer_stack.no_blocks": 1,
    "model.extra_msa.extra_msa_stack.no_blocks": 1,
    "model.template.template_pair_stack.no_blocks": 1,
    "data.predict.max_extra_msa": 16,
    "data.predict.max_msa_clusters": 20,
    "data.common.max_recycling_iters": 0,
}


def saved(*change):
    """Return a function that saves a checkpoint, all of it or that much."""

    def write(path, fraction=1.0):
        torch.save({"weight": torch.zeros(64, 64)}, path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])

    return lambda path: write(path, *change)


def arrays(path):
    with path.open("wb") as file:
        np.savez(file, weights=np.zeros((64, 64)))


def truncated_arrays(path):
    arrays(path)
    path.write_bytes(path.read_bytes()[:1000])


def objects(path):
    with path.open("wb") as file:
        np.savez(file, weights=np.array([Payload()], dtype=object))


class Payload:
    """Unpickled, it would run."""

    def __reduce__(self):
        return (exec, ("import sys; sys.payload_has_run = True",))


def pickled(path):
    path.write_bytes(pickle.dumps({"weight": Payload()}))


def saved_with_payload(path):
    torch.save({"weight": torch.zeros(2), "more": Payload()}, path)


def parameters(preset):
    """Return a function that saves a checkpoint with some parameters of a preset's model."""
    names = ["evoformer.linear.weight", "structure_module.linear_in.weight"]
    names += ["aux_heads.tm.linear.weight"] * preset.endswith("_ptm")
    names += ["template_pair_stack.layer_norm.weight"] * preset.startswith("model_1")
    return lambda path: torch.save({name: torch.zeros(2) for name in names}, path)


def small_model(path):
    """Save the small model's parameters, as upstream draws them."""
    from openfoldpp.upstream import activate

    activate()
    from openfold.config import model_config
    from openfold.model.model import AlphaFold

    config = model_config("model_1_ptm")
    config.update_from_flattened_dict(SMALL)
    torch.manual_seed(0)
    torch.save(AlphaFold(config).state_dict(), path)


# Given with --openfold_checkpoint_path
CHECKPOINTS = [
    ("a Git LFS pointer", LFS_POINTER, "is a Git LFS pointer", "run `git lfs pull`"),
    ("an empty checkpoint", "", "is empty. Download it again"),
    ("a checkpoint cut short", saved(0.5), "cut short or damaged (", "Download it again"),
    ("a page instead of a checkpoint", "<html>\n", "text file that begins with '<html>'", "(.pt)"),
    ("an .npz as checkpoint", arrays, "holds JAX parameters: give it with --jax_param_path"),
    ("a pickle with a payload", pickled, "holds more than tensors and was not loaded"),
    ("a checkpoint with a payload", saved_with_payload, "holds more than tensors and was not loaded"),
]
# Given with --jax_param_path
JAX_PARAMETERS = [
    ("JAX: a Git LFS pointer", LFS_POINTER, "run `git lfs pull`"),
    ("JAX: cut short", truncated_arrays, "cut short or damaged (1,000 bytes"),
    ("JAX: a checkpoint", saved(), "give it with --openfold_checkpoint_path"),
    ("JAX: a pickle in it", objects, "weights.npy in it is a pickle"),
]
