"""What goes into a run of the engine, and what comes out."""

from dataclasses import dataclass, field
from typing import Protocol

from tusz_cache.errors import CacheError
from tusz_cache.manifest import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySettings:
    """How to move bytes."""

    workers: int  # requests at once, at most
    start: int  # requests at once to begin with, the best number is then found; 0: `workers`, throughout
    processes: int
    part_size: int  # bytes
    retries: int
    stall_timeout: float  # seconds
    bwlimit: int | None  # bytes per second
    adopt: bool = False  # replace files that this tool never wrote


class Watcher(Protocol):
    """Who is told of progress, and may ask to stop."""

    @property
    def stop_signal(self) -> int | None:
        """Number of the signal that asked to stop, if one did."""

    def advance(self, received: int, files: int = 0) -> None:
        """`received` more bytes and `files` more files are there."""


@dataclass(slots=True)
class Outcome:
    """What came of a plan."""

    copied: Draft = field(default_factory=Draft)
    adopted: Draft = field(default_factory=Draft)
    failures: dict[str, CacheError] = field(default_factory=dict)
    resumed: int = 0  # of `copied`: files that an earlier run had begun
    received: int = 0  # bytes that count
    refetched: int = 0  # bytes that had to come twice
    retries: int = 0
    throttled: int = 0
