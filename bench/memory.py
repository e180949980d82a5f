"""Memory that stays with this machine, so that writing it costs the same each time.

A virtual machine may return free memory to its host ("free page reporting"), in blocks of 2 MiB, some every two
seconds. Whoever takes it next waits for the host: on the machine of docs/measurements.md that is four to nine times
what writing it costs, and it falls on whichever arm comes next.
"""

import contextlib
import mmap
from collections.abc import Iterator
from pathlib import Path

_PAGE = 4096  # bytes
_EVERY = 1024**2  # bytes; half of the smallest block that is returned
_LEFT = 1024**3  # bytes; for everybody else while this is under way
_POPULATE = 23  # MADV_POPULATE_WRITE, Linux 5.14


@contextlib.contextmanager
def splinter() -> Iterator[None]:
    """Take the free memory and give it back but for a page in each MiB: no block of 2 MiB is free to be returned.

    Holds 1/256 of that memory as long as the context does. Takes some 20 seconds for 20 GB.
    """
    size = max(_EVERY, (_free() - _LEFT) // _EVERY * _EVERY)
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        memory.madvise(_POPULATE)
        for start in range(0, size, _EVERY):
            memory.madvise(mmap.MADV_DONTNEED, start + _PAGE, _EVERY - _PAGE)
        yield


def _free() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemFree:"))
