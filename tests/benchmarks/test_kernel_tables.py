"""The figures that are printed from a report."""

import pytest


def result(**changes):
    return {
        "residues": 256, "rows": 1, "operations": 80 * 10**9, "bytes": 1, "sgemm_gflops": 200.0,
        "seconds": {"openfoldpp": 0.5, "best": 1.5, "default": 2.0},
        "upstream": {"best": "chunk 8", "default": "chunk 516, attention 129"},
        "search": {"chunk 8": 1.5, "unchunked": "needs about 20 GiB of 10 free"},
        "samples": {"openfoldpp": [0.5, 0.5]},
    } | changes  # fmt: skip


def report(**results):
    machine = dict.fromkeys(("cpu", "threads", "simd", "system", "python", "torch", "torch_blas"), "x")
    sizes = {"extra_bytes": 3 << 28, "peak_bytes": 3 << 29, "z_bytes": 1 << 28}
    memory = [{"residues": 512, "side": side, **sizes} for side in ("openfoldpp", "chunk 8")]
    return {
        "machine": machine, "openfold": "2.2.0", "copy_gbytes_per_s": 20.0, "rounds": 5, "results": results,
        "memory": memory,
    }  # fmt: skip


def test_ratios_and_rates(load):
    tables = load("kernel_tables")
    assert tables.ratio(result()) == pytest.approx(3)
    assert tables.ratio(result(), "default") == pytest.approx(4)
    assert tables.percent_of_sgemm(result()) == pytest.approx(80)
    assert tables.percent_of_sgemm(result(), "best") == pytest.approx(80 / 3)


def test_each_figure_is_in_its_cell(load):
    other = result(residues=512, seconds={"openfoldpp": 0.5}, upstream={"default_left_out": "why"})
    text = load("kernel_tables").markdown(
        report(evoformer_block=[result(), other], pair_transition=[result()])
    )
    lines = text.splitlines()
    best, default = "1.5 s (chunk 8), 3.00x", "2 s (chunk 516, attention 129), 4.00x"
    assert f"| 256 | 0.5 s | {best} | {default} | 80.0 | 200 | 80 | 27 | 2 |" in lines
    assert "| 512 | 0.5 s | left out | left out | 80.0 | 200 | 80 | left out | 2 |" in lines
    assert "| pair transition | 0.5 s, 3.00x, 80 % |" in lines
    assert "| 512 | upstream (chunk 8) | 3.00 | 0.75 GiB | 1.50 GiB |" in lines
    assert "- evoformer_block, N_res 256: upstream's unchunked needs about 20 GiB of 10 free" in lines
    assert "- evoformer_block, N_res 512: upstream's default: why" in lines
