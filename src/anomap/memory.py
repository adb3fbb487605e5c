"""The memory of this process: how it keeps what was freed or gives it back, and its peak. Imports nothing heavy."""

import ctypes
import os
import platform
import sys
from pathlib import Path


def keep_memory() -> None:
    """Tell glibc's allocator to keep freed memory instead of giving every large tensor back to the kernel.

    Each training step frees and allocates the same large tensors; mapping them anew costs page faults, about a third of
    a step on a CPU. Does nothing without glibc, or where the environment sets `MALLOC_…`.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    m_trim_threshold, m_mmap_max = -1, -4  # from malloc.h
    libc = ctypes.CDLL(None)
    libc.mallopt(m_mmap_max, 0)
    libc.mallopt(m_trim_threshold, 2**31 - 1)


def give_back_memory() -> None:
    """Give freed memory back to the kernel after all, once something large is gone for good; does nothing without glibc."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def peak_rss() -> int:
    """Peak resident memory of this process since its program started, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):  # not Linux
        import resource  # which Windows lacks

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
