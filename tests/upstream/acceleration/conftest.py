"""Small modules of upstream's with random parameters, and the rule of exactness.

The tests here run with the OpenFold that is installed; with ``-m upstream`` once more, with the checkout of
OpenFold 2 at ``OPENFOLD_HOME``, whose classes differ.
"""

import importlib
import inspect

import pytest
import torch

from openfoldpp.ops import dispatch
from openfoldpp.upstream import activate

# Sizes at which each differs from every other: a wrong axis cannot go unseen.
C_M, C_Z, C_S = 18, 12, 10
N_SEQ, N_RES = 5, 13

# Arguments of the classes; each takes those that its release knows.
ARGUMENTS = {
    "c_m": C_M, "c_z": C_Z, "c_s": C_S, "c_in": C_Z, "c_t": C_Z, "c_hidden": 5, "n": 2, "inf": 1e9,
    "eps": 1e-8,
    "no_heads": 3, "no_qk_points": 2, "no_v_points": 4, "c_hidden_msa_att": 5, "c_hidden_opm": 6,
    "c_hidden_mul": 7, "c_hidden_pair_att": 5, "no_heads_msa": 3, "no_heads_pair": 2, "transition_n": 2,
    "msa_dropout": 0.15, "pair_dropout": 0.25, "no_blocks": 2, "blocks_per_ckpt": None, "ckpt": False,
    "no_column_attention": False, "opm_first": False, "fuse_projection_weights": False, "c_hidden_tri_att": 5,
    "c_hidden_tri_mul": 7, "pair_transition_n": 2, "dropout_rate": 0.25, "tri_mul_first": False,
    "tune_chunk_size": True,
}  # fmt: skip


@pytest.fixture(
    scope="session", autouse=True, params=["installed", pytest.param("2.x", marks=pytest.mark.upstream)]
)
def release():
    """The release in use; before any test imports another openfold."""
    return activate().version


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No setting from outside; returns a function that sets one for the rest of the test."""
    monkeypatch.delenv("OPENFOLDPP_BACKEND", raising=False)
    dispatch.settings.cache_clear()

    def put(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        dispatch.settings.cache_clear()

    yield put
    monkeypatch.undo()
    dispatch.settings.cache_clear()


@pytest.fixture
def draw():
    """Return a function that draws normal tensors, or with ``mask`` zeros and ones; equal in every run."""
    generator = torch.Generator().manual_seed(0)

    def make(*shape, mask=False):
        if mask:
            return (torch.rand(*shape, generator=generator) < 0.8).float()
        return torch.randn(*shape, generator=generator)

    return make


@pytest.fixture
def build(draw):
    """Make a small module by its class's name, every parameter random, for inference."""

    def make(place, name, **changes):
        """Make one, or skip the test where the release has no such class."""
        made = getattr(importlib.import_module(f"openfold.model.{place}"), name, None)
        if made is None:
            pytest.skip(f"this release has no {name}")
        known = inspect.signature(made.__init__).parameters
        module = made(**{k: v for k, v in (ARGUMENTS | changes).items() if k in known})
        with torch.no_grad():
            for parameter in module.parameters():
                scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.5
                parameter.copy_(scale * draw(*parameter.shape))
        return module.eval()

    return make


@pytest.fixture
def assert_as_exact():
    """Compare with float64: at most twice the error of upstream's float32, plus 2 ulp of the largest."""

    def check(ours, upstreams, exact, name=""):
        assert ours.dtype == upstreams.dtype == torch.float32
        assert ours.shape == upstreams.shape == exact.shape
        assert exact.dtype == torch.float64
        top = exact.abs().max().float()
        ulp = (torch.nextafter(top, torch.tensor(torch.inf)) - top).item()
        error = (ours - exact).abs().max().item()
        allowed = 2 * (upstreams - exact).abs().max().item() + 2 * ulp
        assert error <= allowed, f"{name}: error {error:.3g}, allowed {allowed:.3g}"

    return check
