"""Memory of a process, and its end when the process that started it ends."""

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def resident_bytes(process_id: int | None = None) -> int:
    """Return the resident memory of a process; by default, of this one.

    Raises:
        psutil.Error: the process has ended, or the system does not report its memory.
    """
    return int(psutil.Process(process_id).memory_info().rss)


def peak_resident_bytes() -> int:
    """Return the largest resident memory that this process has had since it started or since `reset_peak`.

    Linux reports it in /proc. getrusage also counts the parent's memory, which a child shares between fork and exec.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes


def reset_peak() -> None:
    """Reset the peak of the resident memory to the present value; systems other than Linux keep the old peak."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def end_with_parent(parent: int | None = None) -> None:
    """Have Linux kill this process when its parent ends; other systems do nothing.

    Args:
        parent: process id of the parent; None: not known, and an orphan is recognised by its new parent, process 1.

    Raises:
        ProcessLookupError: the parent ended before the kernel was asked.
        OSError: the kernel refuses.
    """
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError("The system cannot end this process together with its parent.")
    if os.getppid() == 1 if parent is None else os.getppid() != parent:
        raise ProcessLookupError("The parent process has ended.")
