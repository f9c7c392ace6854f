"""Is there memory for what is asked? An estimate, before the work, so that the answer is a sentence and not a kill."""

import math
import os
from pathlib import Path

from ppl_vae.core.errors import InputError

GROUP = Path("/sys/fs/cgroup")


def check_memory(size: float, what: str, do: str) -> None:
    """Raise `InputError` where there is no memory for `size` bytes.

    Args:
        what: the beginning of the sentence, up to how much that is.
        do: what the user can do.
    """
    available = available_memory()
    if size > available:
        raise InputError(
            f"{what} {gigabytes(size)}, and this machine has {gigabytes(available)} of memory available: {do}"
        )


def available_memory() -> float:
    """Bytes of memory that this process could get now; without a limit where the system does not tell."""
    return min(_of_machine(), _of_group())


def _of_machine() -> float:
    try:
        with open("/proc/meminfo") as lines:
            found = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return 1024 * int(found)
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return math.inf


def _of_group() -> float:
    """What a container lets it have. Pages of files that were read count as taken there, and are given back."""
    try:
        most, taken = (int((GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        told = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
        pages = sum(int(told.get(f"{kind}_file", 0)) for kind in ("active", "inactive"))
        return max(0, most - taken + pages)
    except (OSError, ValueError):  # no such group, or `max`: no limit
        return math.inf


def is_out_of_memory(error: BaseException) -> bool:
    """Is it an error of Python or torch for want of memory?"""
    told = str(error)
    return isinstance(error, MemoryError) or "allocate memory" in told or "out of memory" in told


def gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.3f} MB"
