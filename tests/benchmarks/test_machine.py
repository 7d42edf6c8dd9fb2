"""The machine's limits."""

import time


def test_the_fastest_of_at_least_three_calls_counts(load):
    machine = load("machine")
    pauses = [0.02, 0.0, 0.005, 0.01]  # the first one warms up

    def call():
        time.sleep(pauses.pop(0))

    assert machine.fastest(call, seconds=0) < 0.005
    assert not pauses


def test_rates_and_names_are_told(load):
    machine = load("machine")
    assert machine.sgemm_gflops(0.01) > 0.1
    described = machine.describe()
    assert described["cpu"]
    assert described["threads"] >= 1
