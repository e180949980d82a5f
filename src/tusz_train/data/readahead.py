"""Which windows the kernel is told of before they are read: those that may not be in memory yet.

In random order from a cold disk that makes reading 1.2 to 1.4 times as fast; from memory it takes some CPU time more
(docs/measurements.md).
"""

import os
from pathlib import Path
from typing import Literal

import numpy as np

from tusz_cache import AdmittedCache, PackedStore
from tusz_train.data.order import Rows

Advise = Literal["auto", "on", "off"]
When = Literal["never", "first", "always"]  # first: each window once, when it is read for the first time

# Share of the memory below which a store is taken to stay in it beside all else. What is dropped and not told of again
# would come back page by page: a map that was told of gets no other readahead (see Mapped.advise).
_ROOMY = 0.5


def when_to_advise(asked: Advise, *, is_in_memory: bool, store_bytes: int, memory_bytes: int | None) -> When:
    """Return when windows are told of. Pure. memory_bytes: that may hold files; None: not known."""
    if asked == "off" or (asked == "auto" and is_in_memory):
        return "never"
    if asked == "on" or memory_bytes is None or store_bytes > _ROOMY * memory_bytes:
        return "always"
    return "first"


class Readahead:
    """Tells the kernel of windows of a store. Not thread-safe."""

    def __init__(self, store: PackedStore, when: When) -> None:
        self.store, self.when = store, when
        self._is_told = np.zeros(len(store), bool)

    def __call__(self, windows: Rows) -> None:
        """Have the kernel begin to read `windows`, as far as they are to be told of. Raises Damaged, OSError."""
        if self.when == "first":
            windows = windows[~self._is_told[windows]]
            self._is_told[windows] = True
        if self.when != "never" and len(windows):
            self.store.advise(windows)


def readahead(cache: AdmittedCache, store: PackedStore, asked: Advise) -> Readahead:
    """Return what tells the kernel of windows of an admitted store, where this system can be told."""
    is_in_memory = cache.verdict.ruling.value == "ACCEPT_MEMORY"
    if not hasattr(os, "posix_fadvise"):
        return Readahead(store, "never")
    held = cache.manifest.bytes
    when = when_to_advise(asked, is_in_memory=is_in_memory, store_bytes=held, memory_bytes=memory_bytes())
    return Readahead(store, when)


def memory_bytes() -> int | None:
    """Return the bytes of memory that files may be held in: what the machine has free, or the cgroup's limit."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return None
    try:
        return min(available, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # "max": no limit
        return available
