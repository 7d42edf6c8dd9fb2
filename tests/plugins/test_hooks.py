"""Every hook once, called by the host in a plugin that does something with it."""

from argparse import ArgumentParser, Namespace

import numpy as np
from ml_collections import ConfigDict

from openfoldpp.plugins.hookspecs import hookimpl
from openfoldpp.plugins.manager import PluginHost
from openfoldpp.types import Chain, Output, OutputPaths, ProgressEvent, Target

TARGET = Target("1ABC_H-1ABC_L", (Chain("1ABC_H", "ACDE"), Chain("1ABC_L", "FG")))


def host_of(plugin):
    host = PluginHost()
    host.register(plugin, "under_test")
    return host


def test_hook_add_options():
    class Flag:
        @hookimpl
        def openfoldpp_add_options(self, parser):
            parser.add_argument("--flag_depth", type=int, default=2)

    parser = ArgumentParser()
    host_of(Flag()).call("add_options", parser=parser)
    assert parser.parse_args([]).flag_depth == 2
    assert parser.parse_args(["--flag_depth", "5"]).flag_depth == 5


def test_hook_configure():
    class Shallow:
        @hookimpl
        def openfoldpp_configure(self, config, options):
            config.model.no_blocks = options.depth

    config = ConfigDict({"model": {"no_blocks": 48}})
    host_of(Shallow()).call("configure", config=config, options=Namespace(depth=3))
    assert config.model.no_blocks == 3


def test_hook_make_features():
    class LongOnly:
        @hookimpl
        def openfoldpp_make_features(self, target, options):
            if len(target.sequence) < options.least:
                return None
            return {"seq_length": np.full(len(target.sequence), len(target.sequence), np.int32)}

    host = host_of(LongOnly())
    features = host.call("make_features", target=TARGET, options=Namespace(least=6))
    assert features["seq_length"].tolist() == [6] * 6
    assert host.call("make_features", target=TARGET, options=Namespace(least=7)) is None


def test_hook_transform_features():
    class Doubled:
        @hookimpl
        def openfoldpp_transform_features(self, features, target, config, options):
            features["twice"] = features["once"] * 2 * config.scale
            return f"{target.tag}: {options.why}"

    features = {"once": np.ones(3)}
    said = host_of(Doubled()).call(
        "transform_features",
        features=features,
        target=TARGET,
        config=ConfigDict({"scale": 3}),
        options=Namespace(why="as asked"),
    )
    assert said == ["1ABC_H-1ABC_L: as asked"]
    np.testing.assert_array_equal(features["twice"], [6, 6, 6])


def test_hook_prepare_model():
    class Scale:
        """Replace a method of the model, and say so."""

        @hookimpl
        def openfoldpp_prepare_model(self, model, options):
            forward = model.forward
            model.forward = lambda x: options.factor * forward(x)
            return f"scaled by {options.factor}"

    class Silent:
        @hookimpl
        def openfoldpp_prepare_model(self, model):
            model.seen = True

    model = Namespace(forward=lambda x: x + 1)
    host = host_of(Scale())
    host.register(Silent(), "silent")
    assert host.call("prepare_model", model=model, options=Namespace(factor=3)) == ["scaled by 3"]
    assert model.forward(1) == 6
    assert model.seen


def test_hook_predict():
    class Line:
        """A straight line of CA atoms."""

        @hookimpl
        def openfoldpp_predict(self, model, batch, target):
            ca = np.arange(len(target.sequence), dtype=np.float32)[:, None] * batch["step"]
            return Output(
                {"ca": ca}, source=f"line {model}", chain_ids=("H", "L"), provenance={"ca": "predicted"}
            )

    output = host_of(Line()).call(
        "predict", model=None, batch={"step": np.array([3.8, 0, 0], np.float32)}, target=TARGET
    )
    assert isinstance(output, Output)
    assert output.source == "line None"
    np.testing.assert_array_equal(output["ca"][-1], np.array([5 * np.float32(3.8), 0, 0], np.float32))


def test_hook_write_outputs(tmp_path):
    class Lengths:
        @hookimpl
        def openfoldpp_write_outputs(self, output, target, paths):
            paths.file("lengths.txt").write_text(f"{output.source}: {target.chain_lengths}")

    output = Output({}, source="nothing", chain_ids=("H", "L"), provenance={})
    paths = OutputPaths(tmp_path, f"{TARGET.tag}_model_1_ptm")
    assert host_of(Lengths()).call("write_outputs", output=output, target=TARGET, paths=paths) == []
    assert (tmp_path / "1ABC_H-1ABC_L_model_1_ptm_lengths.txt").read_text() == "nothing: (4, 2)"


def test_hook_progress():
    class Phases:
        def __init__(self):
            self.heard = []

        @hookimpl
        def openfoldpp_progress(self, event):
            self.heard.append((event.phase, event.fraction, event.target))

    plugin = Phases()
    host = host_of(plugin)
    host.call("progress", event=ProgressEvent("load", 0.0))
    host.call("progress", event=ProgressEvent("predict", 0.5, TARGET))
    assert plugin.heard == [("load", 0.0, None), ("predict", 0.5, TARGET)]
