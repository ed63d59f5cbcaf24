"""Keep freed memory in the process, so that a training step on a CPU need not ask the kernel for it again.

A step allocates and frees hundreds of megabytes. By default glibc returns such blocks to the kernel at once,
and each new block must be mapped again page by page. On two cores this took half of each step
(benchmarks/allocator.py).
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # names and numbers of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc to keep and reuse freed memory; returns True where that is possible (Linux with glibc)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
