"""Where the host takes part in OpenFold 2's own script: each seam's target, as the three releases have it."""

from __future__ import annotations

import functools
from collections.abc import Callable

from openfoldpp.upstream.seams import Expected, Seam

RELEASES = ("2.0.0", "2.1.0", "2.2.0")


def _around(original: Callable, handler: Callable) -> Callable:
    @functools.wraps(original)
    def replacement(*args, **kwargs):
        return handler(original, *args, **kwargs)

    return replacement


def _seam(name: str, target: str, reason: str, signature: str, source_sha256: str) -> Seam:
    same = Expected(signature, source_sha256)
    return Seam(name, target, reason, dict.fromkeys(RELEASES, same), _around)


_MODEL_CONFIG = Expected(
    "(name, train, low_prec, long_sequence_inference, use_deepspeed_evoformer_attention)",
    "b91dc97ef5b04ec3be4c5fa67f31190e4dc647bde08bd5eb99f578bd73490e55",
)
MODEL_CONFIG = Seam(
    name="model_config",
    target="openfold.config:model_config",
    reason="plugins edit the configuration before the script reads it",
    expected={
        "2.0.0": Expected(
            "(name, train, low_prec, long_sequence_inference)",
            "43c053374f41089676606ff3f228e740b8b5b7e954faa4a335cc6dc8120cbda5",
        ),
        "2.1.0": _MODEL_CONFIG,
        "2.2.0": _MODEL_CONFIG,
    },
    wrap=_around,
)
LOAD_MODELS = _seam(
    "load_models",
    "openfold.utils.script_utils:load_models_from_command_line",
    "a model is loaded once and kept for the next target",
    "(config, model_device, openfold_checkpoint_path, jax_param_path, output_dir)",
    "8d6023aa231c8a03cc191ab9dc29c87ec543d73733a0d5cb12a648b8ade0a165",
)
SEARCH = _seam(
    "search",
    "openfold.data.data_pipeline:AlignmentRunner.run",
    "alignments of a chain are kept as soon as its searches are done",
    "(self, fasta_path, output_dir)",
    "70ef7a575d8f9faec33900353032c44ad53aef2fbf225b2211fe385084312537",
)
FEATURES = _seam(
    "features",
    "openfold.data.data_pipeline:DataPipeline.process_fasta",
    "features that a plugin has made take the place of alignments and templates",
    "(self, fasta_path, alignment_dir, alignment_index, seqemb_mode)",
    "acf4fe7d8b37877ad7d2a18eec141229888917b4c00866448acf4439f9cb3e16",
)
MULTIMER_FEATURES = _seam(
    "multimer features",
    "openfold.data.data_pipeline:DataPipelineMultimer.process_fasta",
    "features that a plugin has made take the place of alignments and templates",
    "(self, fasta_path, alignment_dir, alignment_index)",
    "a9f4d675de3acac0d6c70b3a710b408de99d7bd08e63ccbcc886d24b81858fcf",
)
PROCESS_FEATURES = _seam(
    "process_features",
    "openfold.data.feature_pipeline:FeaturePipeline.process_features",
    "plugins add to the model's features, or alter them",
    "(self, raw_features, mode, is_multimer)",
    "fd8a8c761c58254923f70230162e74e0da5d93751526388a62356079aa26fd53",
)
RUN_MODEL = _seam(
    "run_model",
    "openfold.utils.script_utils:run_model",
    "a plugin may predict instead, and progress within the model is heard",
    "(model, batch, tag, output_dir)",
    "4402fc3e0f6eb8cf4b13d870dac93adcac739bde649f9966b754c6262a38d137",
)
PREP_OUTPUT = _seam(
    "prep_output",
    "openfold.utils.script_utils:prep_output",
    "the script's own output and protein are what is summarised and handed to plugins",
    "(out, batch, feature_dict, feature_processor, config_preset, multimer_ri_gap, subtract_plddt)",
    "5f08833700c657ca9da32c50b7311a59cc94126a9b40476e896c863df5219d31",
)
RELAX = _seam(
    "relax",
    "openfold.utils.script_utils:relax_protein",
    "a structure that cannot be relaxed is no reason to lose the prediction",
    "(config, model_device, unrelaxed_protein, output_directory, output_name, cif_output)",
    "24922b95f4231e8e615db16672d56ec2910a9b117262bc4d8c298bcedfd87280",
)
PAD = _seam(
    "padding",
    "openfold.utils.trace_utils:pad_feature_dict_seq",
    "what --trace_model pads to a multiple of 50 residues would be predicted, as alanines",
    "(feature_dict, seqlen)",
    "64693f9bf89dfcaa625e03e137d7fca72ecd1446897ca1b1035c4533d132fd73",
)
TRACE = _seam(
    "tracing",
    "openfold.utils.trace_utils:trace_model_",
    "a model that is kept must not be traced twice",
    "(model, sample_input)",
    "bbddd710ce2411e97c36d1b77c0c1f71dfdb79f750bbe5f85e57776335c949c7",
)
