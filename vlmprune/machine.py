"""The machine: the threads of OpenMP, and one-line messages for a lack of memory, threads, disk space or open files."""

from __future__ import annotations

import errno
import mmap
import os
import resource
import sys

from vlmprune.errors import UserError, error_text

# Virtual memory of the libraries and the threads of a run, measured with the embedded model, one thread, no GPU.
LIBRARIES = 2_700_000_000  # bytes
MEMORY = {errno.ENOMEM, errno.EAGAIN}  # EAGAIN: of fork and of a new thread
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG}
SIGNS = (  # of a lack of memory, in messages of PyTorch, the C++ library, the dynamic linker, Python and NumPy
    "can't allocate memory",
    "annot allocate memory",
    "nable to allocate",
    "out of memory",
    "bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "failed to map segment",
    "can't start new thread",
    "thread creation failed",
)
LACKS = (MemoryError, OSError, RuntimeError, ImportError)


WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # of threads: OpenMP's, GCC's and Intel's variables
OPENMP = ("OMP_NUM_THREADS", *WAITING)
SPINS = 1_000  # GCC's library takes 300,000 (its manual, GOMP_SPINCOUNT)


def limit_spinning() -> None:
    """Let OpenMP's threads spin briefly and then sleep while they wait, unless the user set one of OPENMP.

    By default they spin so long that they take the time of the threads that they wait for where other processes compute
    too; threads that sleep at once lose a quarter of the speed where none do (scripts/bench_openmp.py). Nothing is set
    if torch has read the variables already. It changes no answer: the number of threads stays.
    """
    if "torch" not in sys.modules and not openmp_settings():
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)


def openmp_settings() -> dict[str, str]:
    """Return the variables of OpenMP that are set in the environment."""
    return {name: os.environ[name] for name in OPENMP if name in os.environ}


def check_memory() -> None:
    """Raise UserError if a memory limit is too small for the libraries: NumPy would retry for ever, others crash."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    try:
        mmap.mmap(-1, LIBRARIES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"too little memory: a limit (ulimit -v) leaves this process {limit / 1e9:.1f} GB of addresses in all, and "
            f"the libraries alone take {LIBRARIES / 1e9:.1f}: raise it with ulimit -v; nothing was begun or lost"
        ) from error


def resource_message(error: BaseException | None) -> str | None:
    """Return one line about a lack of resources if `error` or one of its causes is of that kind, else None."""
    while error is not None:
        if is_memory_error(error):
            return (
                f"out of memory ({type(error).__name__}{f': {error_text(error)}' if str(error) else ''}): give a "
                "smaller batch_size= or limit=, or raise the limit (ulimit -v); every answer is kept, and the same "
                "command resumes"
            )
        if isinstance(error, OSError) and error.errno in DISK:
            where = "" if error.filename is None else f"{error.filename}: "
            return (
                f"{where}{error.strerror or error_text(error)}; every answer is kept: once that is mended, the same "
                "command resumes"
            )
        error = error.__cause__ or error.__context__
    return None


def is_memory_error(error: BaseException) -> bool:
    """Return True if `error` is a lack of memory, on the machine or a GPU, or of threads or processes.

    The text decides where a library has no class for it: torch 2.13 raises RuntimeError for the machine's memory and
    for cuBLAS, the dynamic linker and NumPy 2.4 raise ImportError or OSError.
    """
    if isinstance(error, OSError) and error.errno in MEMORY:
        return True
    told = isinstance(error, RuntimeError | ImportError | OSError) and any(sign in str(error) for sign in SIGNS)
    # Compared by name, so that PyTorch is not imported for its OutOfMemoryError.
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or told
