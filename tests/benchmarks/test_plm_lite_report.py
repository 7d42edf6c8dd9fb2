"""The report on plm_lite says what was measured."""

import pytest

COSINE = {"mean": 0.91234, "percentile_5": 0.8, "worst_sequence": 0.7}


@pytest.fixture
def report(load):
    module = load("plm_lite_report")
    one = {
        "sequences": 20,
        "cosine": {module.UNTRAINED: COSINE | {"mean": 0.5}, module.SHIPPED: COSINE},
        "head": {"plm_lite_512": 0.85, "plm_lite_64": 0.76, "teacher_pca_64": 0.39},
    }
    log = [{"step": 1, "loss": 2.0, "earlier": 1.0, "head": 0.5, "cosine": 0.4}]
    log += [
        {"step": 2, "loss": 1.0, "earlier": 1.0, "head": 0.5, "cosine": 0.6},
        {"step": 2, "validation_cosine": 0.55},
    ]
    return module, {
        "machine": {"cpu": "a CPU", "sgemm_gflops": 99.6},
        "settings": {"training": {"steps": 2, "round_from": 0.5}},
        "file": "plm_lite.safetensors",
        "bytes": 7_360_000,
        "sha256": "0" * 64,
        "learned_from": {"tokens": 56789},
        "minutes": 7.2,
        "drawn": 100,
        "near": {"held out": 0.4, "held out, whole and human": 0.3, "crystals": 0.25},
        "log": log,
        "sets": {"held out": one, "held out, whole and human": one, "crystals": one},
        "latency": {"residues": 100, "threads": 2, "embed_ms": 25.04, "head_ms": 0.1},
    }


def test_the_report_has_every_figure(report):
    module, figures = report
    text = module.render(figures)
    assert f"| held out: {module.SHIPPED} | 0.9123 | 0.8000 | 0.7000 |" in text
    assert f"| crystals: {module.UNTRAINED} | 0.5000 |" in text
    assert "| 2 | 1.5000 | 1.0000 | 0.5000 | 0.5000 | 0.5500 |" in text
    assert "7.36 MB" in text
    assert "2 threads: embedding 25.0 ms, head 0.10 ms" in text
    assert "in 7 minutes" in text
    assert "Of 100 drawn, 60 % are" in text
    assert "(70 % of those drawn are apart)" in text
    assert "Of them 25 % are 90 % identical or more" in text
    assert "{" not in text


def test_the_description_is_of_the_shipped_file(report):
    module, figures = report
    found = module.describe(figures)
    assert found["held_out"]["cosine"] == 0.91234
    assert found["held_out"]["cosine_untrained"] == 0.5
    assert found["held_out_whole_and_human"] == 0.91234
    assert found["made_by"].startswith("openfoldpp train plm-lite ")
    assert found["bytes"] == 7_360_000
    assert found["teacher"]["licence"] == "MIT"
