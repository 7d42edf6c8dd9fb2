"""The machine's limits."""

import pytest


@pytest.fixture
def fastest(load, monkeypatch):
    """Return a function: the fastest of calls that last as long as told, and which of them were not made."""
    machine = load("machine")
    now = 0.0
    monkeypatch.setattr(machine.time, "perf_counter", lambda: now)

    def measured(*durations, seconds):
        left = list(durations)

        def call():
            nonlocal now
            now += left.pop(0)

        return machine.fastest(call, seconds), left

    return measured


def test_the_fastest_of_at_least_three_calls_counts(fastest):
    assert fastest(0.5, 4.0, 2.0, 3.0, 1.0, seconds=0) == (2.0, [1.0])  # the first one warms up


def test_calls_go_on_until_the_time_given_is_over(fastest):
    assert fastest(0.5, 4.0, 2.0, 3.0, 1.0, 0.25, seconds=9.5) == (1.0, [0.25])


def test_rates_and_names_are_told(load):
    machine = load("machine")
    assert machine.sgemm_gflops(0.01) > 0.1
    described = machine.describe()
    assert described["cpu"]
    assert described["threads"] >= 1
