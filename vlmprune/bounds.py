"""Time and memory that someone else's program may take, such as a checkpoint's chat template."""

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

PATIENCE = 10  # times as long may pass where the machine is busy with other things
STATUS = Path("/proc/self/statm")  # of Linux: pages, of which the sixth number counts data and stack


class _Expired(BaseException):
    """Ends what runs: no Exception, which the code inside may swallow."""


@contextmanager
def bounds(seconds: int, gibibytes: int | None) -> Iterator[None]:
    """Raise TimeoutError after `seconds` of computing inside, MemoryError where `gibibytes` more of memory are taken.

    Time is bounded in the main thread alone, where signals arrive, and memory on Linux alone. Code in C is interrupted
    when it returns. A limit of memory is the whole process's, other threads' too; None sets none.
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
        if time.thread_time() - computed >= seconds or time.monotonic() - began >= PATIENCE * seconds:
            raise _Expired

    before = signal.signal(signal.SIGALRM, expire)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # again where it was swallowed, or too early
    try:
        yield
    except _Expired as error:
        raise TimeoutError(f"it takes more than {seconds} seconds") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # someone else's clock, which goes on
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 1e-3), interval)


@contextmanager
def _memory(size: int) -> Iterator[None]:
    # Data that is written, not addresses that are reserved: those of CUDA and of threads are terabytes.
    before = resource.getrlimit(resource.RLIMIT_DATA)
    taken = int(STATUS.read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    soft = min([taken + size, *(limit for limit in before if limit != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_DATA, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
