"""Run OpenFold 2's own ``run_pretrained_openfold.py`` alone: the other side of every parity test with 2.x.

A program of its own, started in a subprocess with the checkout on its import path: it knows nothing of
openfoldpp. What today's packages lack is put in place as in ``vanilla.py``, beside this file.

    python vanilla_script.py JOBS.json

The jobs are a list of JSON objects: ``script`` (upstream's file), ``argv`` (its arguments), ``preset``,
``overrides`` (dotted configuration path -> value, so that a test need not run 48 blocks), ``random`` (seed of
Python's own generator, which upstream draws from and does not seed), ``checkpoint`` (written first, with
every parameter drawn at random, where it does not exist; may be null; ``params_PRESET.npz`` gets AlphaFold's
names and shapes, which is all that 2.1 and later take for a multimer).
"""

import json
import random
import runpy
import sys
import types
from pathlib import Path

import vanilla


def give_numpy_back_its_names():
    """Pairing the alignments of chains reads np.string_ and sums a generator; numpy 2.4 has neither."""
    import numpy as np

    vars(np)["string_"] = np.bytes_

    numpys = np.sum

    def either(a, *args, **kwargs):
        return sum(a) if isinstance(a, types.GeneratorType) else numpys(a, *args, **kwargs)

    vars(np)["sum"] = either


def write_random_jax_parameters(config, preset, path):
    """The random checkpoint with AlphaFold's names: upstream's translation, turned round.

    AlphaFold's attention has the heads as an axis of their own, which upstream flattens: one is enough here.
    """
    import numpy as np
    import torch
    from openfold.model.model import AlphaFold
    from openfold.utils import import_weights as upstream

    checkpoint = Path(path).with_suffix(".pt")
    vanilla.write_random_checkpoint(config, checkpoint)
    model = AlphaFold(config)
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    checkpoint.unlink()
    kinds = upstream.ParamType
    turned = {
        kinds.LinearWeight: lambda value: value.T,
        kinds.LinearWeightMHA: lambda value: value.T[:, None],
        kinds.LinearBiasMHA: lambda value: value[None],
        kinds.LinearMHAOutputWeight: lambda value: value.T[None],
        kinds.LinearWeightOPM: lambda value: value.T[None],
        kinds.Other: lambda value: value,
    }
    translation = upstream.generate_translation_dict(model, preset, is_multimer="multimer" in preset)
    arrays = {}
    for name, param in upstream.process_translation_dict(translation).items():
        parts = []
        for tensor in param.param if param.stacked else [param.param]:
            value = tensor.detach()
            if param.swap:
                value = value.roll(len(value) // 2, 0)
            parts.append(turned[param.param_type](value).numpy())
        arrays[name] = np.stack(parts) if param.stacked else parts[0]
    np.savez(path, **arrays)


def run(job):
    import torch
    from openfold import config

    upstream_config = config.model_config

    def shrunk(*args, **kwargs):
        made = upstream_config(*args, **kwargs)
        made.update_from_flattened_dict(job.get("overrides", {}))
        return made

    config.model_config = shrunk
    try:
        checkpoint = job.get("checkpoint")
        if checkpoint and not Path(checkpoint).exists():
            made = config.model_config(job["preset"])
            if checkpoint.endswith(".npz"):
                write_random_jax_parameters(made, job["preset"], checkpoint)
            else:
                vanilla.write_random_checkpoint(made, checkpoint)
        random.seed(job.get("random", 0))
        sys.argv = [job["script"], *job["argv"]]
        runpy.run_path(job["script"], run_name="__main__")
    finally:
        config.model_config = upstream_config
        torch.set_grad_enabled(True)


if __name__ == "__main__":
    vanilla.stand_in_for_what_is_missing()
    give_numpy_back_its_names()
    for one in json.loads(Path(sys.argv[1]).read_text()):
        run(one)
