"""Measuring: how fast the files of a cache are read, within a few seconds and some hundred MB, and whether from memory.

One read at a time, as one worker of a loader does it. The page cache is asked to let go of the files first; whether it
did is found out, so that a figure from memory is not taken for the disk's.
"""

import bisect
import contextlib
import errno
import itertools
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tusz_cache.errors import TargetError

FILES = 8  # largest ones are read
BLOCK = 2 * 1024**2  # bytes of one sequential read
PAGE = 4096  # bytes
WINDOW = 19 * 15360 * 4  # bytes of one window: channels, samples, float32
MOST = 256 * 1024**2  # bytes of one measurement
SECONDS = 1.5  # of one measurement
READS = 512  # random ones


@dataclass(frozen=True, slots=True)
class Speed:
    """What one way of reading came to."""

    kind: str
    size: int  # bytes of one read
    reads: int
    bytes: int
    seconds: float
    median: float  # seconds of one read
    evicted: bool | None  # whether memory had let go of the files; None: the file system does not tell

    @property
    def bytes_per_second(self) -> float:
        """Rate."""
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def reads_per_second(self) -> float:
        """Rate of reads."""
        return self.reads / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class _File:
    descriptor: int
    size: int  # bytes


def measure(files: Sequence[tuple[Path, int]], check_stop: Callable[[], None]) -> tuple[Speed, ...]:
    """Read from the largest of `files` (path, bytes): in order, pages here and there, windows here and there.

    check_stop: called between reads; may raise. What no file is large enough for is left out. Raises TargetError.
    """
    chosen = sorted((file for file in files if file[1] >= PAGE), key=lambda file: -file[1])[:FILES]
    try:
        with contextlib.ExitStack() as stack:
            held = [_File(_opened(path, stack), size) for path, size in chosen]
            ways = (
                ("sequential", BLOCK, _in_order),
                ("random 4 KiB", PAGE, _anywhere),
                ("random window", WINDOW, _anywhere),
            )
            return tuple(speed for way in ways if (speed := _timed(*way, held, check_stop)) is not None)
    except OSError as error:
        raise TargetError(
            f"cannot read the cache: {error.strerror}",
            hint="check its disk and the kernel log, then verify --level full",
        ) from error


def _opened(path: Path, stack: contextlib.ExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


Places = Callable[[Sequence[_File], int], Iterator[tuple[_File, int]]]


def _in_order(files: Sequence[_File], size: int) -> Iterator[tuple[_File, int]]:
    for file in files:
        for start in range(0, file.size, size):
            yield file, start


def _anywhere(files: Sequence[_File], size: int) -> Iterator[tuple[_File, int]]:
    """Yield places that share no byte: what was read before would come from memory."""
    ends = list(itertools.accumulate(file.size // size for file in files))
    for place in random.sample(range(ends[-1]), min(READS, ends[-1])) if ends else ():
        file = bisect.bisect_right(ends, place)
        yield files[file], (place - (ends[file - 1] if file else 0)) * size


def _timed(
    kind: str, size: int, places: Places, files: Sequence[_File], check_stop: Callable[[], None]
) -> Speed | None:
    evicted = _all_evicted(files)
    buffer = memoryview(bytearray(size))
    received, taken = 0, []
    deadline = time.monotonic() + SECONDS
    for file, start in itertools.takewhile(lambda _: time.monotonic() < deadline, places(files, size)):
        check_stop()
        began = time.perf_counter()
        received += os.preadv(file.descriptor, [buffer], start)
        taken.append(time.perf_counter() - began)
        if received >= MOST:
            break
    if not taken:
        return None
    return Speed(kind, size, len(taken), received, sum(taken), statistics.median(taken), evicted)


def _all_evicted(files: Sequence[_File]) -> bool | None:
    """Ask memory to let go of `files`. Returns whether it did; None if that cannot be told of any."""
    told = [_evicted(file) for file in files]
    return None if None in told else all(told)


def _evicted(file: _File) -> bool | None:
    if not hasattr(os, "posix_fadvise") or not hasattr(os, "RWF_NOWAIT"):
        return None
    os.posix_fadvise(file.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    try:  # the last page: asking may start to read what follows
        os.preadv(file.descriptor, [bytearray(1)], file.size - 1, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return True
        if error.errno in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
            return None
        raise
    return False
