"""Settings of a run: every option of `sync`, checked."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from tusz_cache.durability import Durability
from tusz_cache.errors import UsageError
from tusz_cache.plan import Filters, MaxDelete
from tusz_cache.stores.base import Access

PART_SIZE = 16 * 1024**2
SMALLEST_PART = 64 * 1024


def cores() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSettings:
    """How `populate_cache` works. Raises UsageError for values that make no sense."""

    access: Access = field(default_factory=Access)
    filters: Filters = field(default_factory=Filters)
    workers: int | None = None  # requests at once; None: the number that pays is found on the way
    processes: int | None = None  # worker processes; None: several for TLS and for many small files; 0: threads
    part_size: int = PART_SIZE  # bytes; larger files are fetched in parts
    retries: int = 5  # for each part
    stall_timeout: float = 30.0  # seconds without progress before a request counts as dead
    bwlimit: int | None = None  # bytes per second, all requests together
    delete: bool = False  # remove what this tool wrote and the source no longer has
    max_delete: MaxDelete = field(default_factory=MaxDelete)
    allow_empty: bool = False  # an empty source is meant
    adopt: bool = False  # the target may hold files that this tool never wrote: keep equal ones, replace others
    reverify: bool = False  # read every byte of the target again before sealing
    durability: Durability = field(default_factory=Durability)
    volume: Mapping[str, str] | None = None  # {"kind", "name", "object_id"}: where the target lies, if declared

    def __post_init__(self) -> None:
        checks = (
            (self.workers is None or 1 <= self.workers <= 1024, f"workers={self.workers}", "use 1 to 1024"),
            (self.processes is None or 0 <= self.processes <= 64, f"processes={self.processes}", "use 0 to 64"),
            (self.part_size >= SMALLEST_PART, f"part_size={self.part_size}", "use at least 64KiB"),
            (self.retries >= 0, f"retries={self.retries}", "use 0 or more"),
            (
                0 < self.stall_timeout <= 86400,
                f"stall_timeout={self.stall_timeout}",
                "use seconds above 0, at most a day",
            ),
            (self.bwlimit is None or self.bwlimit > 0, f"bwlimit={self.bwlimit}", "use bytes per second above 0"),
        )
        for good, what, hint in checks:
            if not good:
                raise UsageError(f"{what} makes no sense", hint=hint)
