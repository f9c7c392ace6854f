"""How many threads torch takes."""

import os
import subprocess
import sys
import time

import pytest
import torch

from ppl_vae.core import threads
from ppl_vae.core.threads import fastest, threads_of


def test_a_number_holds_inside_alone():
    before = torch.get_num_threads()
    with threads_of(1) as number:
        assert number == torch.get_num_threads() == 1
    with threads_of(None) as number:
        assert number == torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), threads_of(1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


def test_measuring_leaves_everything_as_it_was():
    before, state = torch.get_num_threads(), torch.get_rng_state()
    assert 1 <= fastest(3) <= 3
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("cost", "expected"), [({1: 4, 2: 2, 3: 1}, 3), ({1: 4, 2: 3.9, 3: 3.8}, 1), ({1: 1, 2: 3, 3: 3}, 1)]
)
def test_more_threads_are_taken_where_they_are_faster_by_a_tenth(monkeypatch, cost, expected):
    """By a clock that says what each number of threads costs."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += cost.get(torch.get_num_threads(), 1)
        return now

    monkeypatch.setattr(threads.time, "perf_counter", clock)
    monkeypatch.setattr(threads, "LONGEST", float("inf"))
    monkeypatch.setattr(threads, "ROUNDS", 3)
    assert fastest(3) == expected


@pytest.mark.slow
def test_beside_as_many_busy_processes_as_cores_one_thread_is_taken():
    """Most of the time: what other processes do decides, too."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        time.sleep(1.0)
        taken = [fastest(2) for _ in range(3)]
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert 1 in taken
