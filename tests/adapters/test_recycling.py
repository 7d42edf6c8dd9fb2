from argparse import ArgumentParser

import pytest

from openfoldpp.errors import InputError
from openfoldpp.plugins.manager import PluginHost


@pytest.fixture
def host():
    return PluginHost.load("openfoldpp.recycling")


@pytest.fixture
def parse(host):
    parser = ArgumentParser()
    parser.add_argument("--openfold_checkpoint_path", default="weights.pt")
    parser.add_argument("--jax_param_path")
    host.call("add_options", parser=parser)
    return parser.parse_args


@pytest.fixture(scope="module")
def model_config():
    """Upstream's own function of the preset's name."""
    from openfoldpp.upstream import activate

    activate()
    from openfold.config import model_config

    return model_config


@pytest.mark.parametrize(
    ("arguments", "expected"), [([], 3), (["--recycling_iters", "0"], 0), (["--recycling_iters=7"], 7)]
)
def test_the_flag_sets_the_number_of_recycles_of_the_real_config(
    host, parse, model_config, arguments, expected
):
    config = model_config("model_1_ptm")
    host.call("configure", config=config, options=parse(arguments))
    assert config.data.common.max_recycling_iters == expected


@pytest.mark.parametrize("value", ["-1", "1.5", "three", ""])
def test_a_number_that_is_none_is_refused(parse, capsys, value):
    with pytest.raises(SystemExit):
        parse([f"--recycling_iters={value}"])
    assert f"{value!r} is not a number of recycles; expected 0 or more" in capsys.readouterr().err


def test_without_weights_the_flag_is_refused_rather_than_ignored(host, parse, model_config):
    options = parse(["--recycling_iters=1", "--openfold_checkpoint_path="])
    with pytest.raises(InputError, match="--recycling_iters 1 is for OpenFold's model"):
        host.call("configure", config=model_config("model_1_ptm"), options=options)
