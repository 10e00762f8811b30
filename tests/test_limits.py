"""Someone else's program ends in time and takes the memory that it may."""

from __future__ import annotations

import contextlib
import resource
import signal
import threading
import time

import pytest

from vlmprune.limits import limit_resources


def test_a_loop_is_ended_though_it_swallows_exceptions():
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="more than 1 seconds"), limit_resources(1, 1):
        while True:
            with contextlib.suppress(Exception):
                sum(range(1000))
    assert time.monotonic() - began < 5


def test_a_machine_that_is_busy_with_other_things_is_waited_for():
    with limit_resources(1, 1):
        time.sleep(1.3)


def test_memory_is_refused_and_can_be_had_again_afterwards():
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(MemoryError), limit_resources(5, 1):
        b"a" * 10**10
    assert resource.getrlimit(resource.RLIMIT_DATA) == limits


def test_another_clock_goes_on_and_another_handler_stays():
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with limit_resources(5, 1):
            time.sleep(0.1)
        assert not rung
        time.sleep(0.05)
        assert rung == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_in_a_thread_memory_alone_is_bounded():
    seen: list[str] = []

    def work() -> None:
        try:
            with limit_resources(1, 1):
                b"a" * 10**10
        except MemoryError:
            seen.append("memory")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["memory"]
