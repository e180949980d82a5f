"""Durability: when written bytes count as surviving power loss or pre-emption."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from tusz_cache.errors import UsageError

Policy = Literal["fsync", "commit", "none"]


@dataclass(frozen=True, slots=True)
class Durability:
    """A policy for everything that is published.

    fsync:  data sync, rename, directory sync, in groups. The default.
    commit: no fsync; `commit()` after every `every_bytes` and at the end. For Modal volumes, where fsync has hung.
            Files are then written from front to back in blocks of at least 8 MiB.
    none:   neither. For tests and tmpfs.
    """

    policy: Policy = "fsync"
    commit: Callable[[], None] | None = None
    every_bytes: int = 8 * 1024**3

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise UsageError(
                f"durability {self.policy!r} does not exist", hint=f"use one of {', '.join(get_args(Policy))}"
            )
        if (self.policy == "commit") != (self.commit is not None):
            raise UsageError(
                "durability 'commit' needs a callable, the others take none",
                hint='from Python: Durability("commit", commit=volume.commit); on the command line use fsync or none',
            )

    @property
    def syncs(self) -> bool:
        """Whether fsync is called."""
        return self.policy == "fsync"

    @property
    def front_to_back(self) -> bool:
        """Whether each file has to be written in order."""
        return self.policy == "commit"
