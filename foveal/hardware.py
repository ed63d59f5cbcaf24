"""The abilities of this machine: arithmetic in bf16, free and used memory, and freed memory that the process keeps.

A training step allocates and frees hundreds of megabytes. By default glibc returns such blocks to the kernel at once,
and each new block must be mapped again page by page. On two cores this took half of each step
(benchmarks/allocator.py). Kept memory fragments when the shapes change, from training to validation and back, so it is
given back there (benchmarks/memory.py).
"""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil
import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # names and numbers of glibc's malloc.h


def bf16_support(device: torch.device) -> Literal["matrix", "vector", "none"]:
    """How a device computes in bf16: by matrix units, which are always faster, by vector units, or not in hardware.

    On a CPU, the limit in ONEDNN_MAX_CPU_ISA counts. Apple's GPUs count as "none", because they are untested.
    """
    if device.type == "cuda":
        return "matrix" if torch.cuda.is_bf16_supported(including_emulation=False) else "none"
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return "none"
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported() or limit in ("AVX512_CORE", "AVX512_CORE_VNNI"):
        return "none"
    able = torch.cpu.get_capabilities()
    if able.get("amx_bf16") and (limit in ("", "ALL", "DEFAULT") or "AMX" in limit):
        return "matrix"
    return "vector" if able.get("avx512_bf16") or able.get("bf16") else "none"


def in_precision(precision: str, device: torch.device) -> torch.autocast:
    """A block in which networks compute in bf16 if `precision` is bf16, and in their own precision otherwise."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def wait_for(device: torch.device) -> None:
    """Wait until the device has done all work; measure times only after this."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def free_memory() -> int:
    """Bytes of free memory on this machine, or in this container; cached files that can be dropped count as free."""
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    version2 = ("memory.max", "memory.current", "memory.stat")
    version1 = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat")
    for limit, used, statistics in (version2, version1):
        try:
            rows = (line.split() for line in (group / statistics).read_text(encoding="ascii").splitlines())
            cached = {name: int(value) for name, value in rows}.get("inactive_file", 0)
            return min(free, max(0, int((group / limit).read_text()) - int((group / used).read_text()) + cached))
        except (OSError, ValueError):  # no such limit, or "max"
            continue
    return free


def free_on(device: torch.device) -> int:
    """Bytes that a process can allocate on a device, after it gives back memory that it keeps but does not use."""
    give_back_memory()
    if device.type != "cuda":
        return free_memory() // processes_here()
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


def held_on(device: torch.device) -> int:
    """Bytes that this process uses on a device now."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def reset_peak_memory() -> None:
    """Let `peak_memory` start again from what the process uses now, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int:
    """The most bytes that this process has used since `reset_peak_memory`; 0 where the system does not tell."""
    with suppress(OSError):
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
        return 1024 * int(lines.get("VmHWM", "0 kB").split()[0])
    return 0


def keep_freed_memory() -> bool:
    """Tell glibc to keep and reuse freed memory; returns True if that is possible (Linux with glibc)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))


def give_back_memory() -> None:
    """Return freed memory to the kernel; call it when the shapes of the work change."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def processes_here() -> int:
    """The number of processes of this run that share this machine's memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
