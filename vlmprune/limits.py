"""Limits of time and memory for code from elsewhere, such as a checkpoint's chat template."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

WALL_CLOCK_FACTOR = 10  # factor by which wall-clock time may exceed computing time, on a busy machine
STATUS = Path("/proc/self/statm")  # on Linux: numbers of pages, the sixth is that of data and stack


class _TimeLimitReached(BaseException):
    """Ends the code inside; a BaseException, because that code may catch Exception."""


@contextmanager
def limit_resources(seconds: int, gibibytes: int | None) -> Iterator[None]:
    """Raise TimeoutError after `seconds` of computing inside, MemoryError after `gibibytes` of additional memory.

    Time is limited in the main thread only, where signals arrive, and memory on Linux only. Code in C is interrupted
    when it returns. The limit of memory applies to the whole process, with its other threads; None sets no limit.
    """
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(_time(seconds))
        if gibibytes is not None and STATUS.exists():
            stack.enter_context(_memory(gibibytes * 2**30))
        yield


@contextmanager
def _time(seconds: int) -> Iterator[None]:
    began, computed = time.monotonic(), time.thread_time()

    def expire(_number: int, _frame: FrameType | None) -> None:
        if time.thread_time() - computed >= seconds or time.monotonic() - began >= WALL_CLOCK_FACTOR * seconds:
            raise _TimeLimitReached

    before = signal.signal(signal.SIGALRM, expire)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # repeated: it may be caught, or come too early
    try:
        yield
    except _TimeLimitReached as error:
        raise TimeoutError(f"it takes more than {seconds} seconds") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # continue the timer that was set before
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 1e-3), interval)


@contextmanager
def _memory(size: int) -> Iterator[None]:
    # Limits data that is written, not reserved addresses, which are terabytes for CUDA and threads.
    before = resource.getrlimit(resource.RLIMIT_DATA)
    taken = int(STATUS.read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    soft = min([taken + size, *(limit for limit in before if limit != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_DATA, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
