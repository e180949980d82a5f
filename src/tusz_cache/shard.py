"""Shards: how the files of a plan are split among several runs that work at the same time. Pure."""

import heapq
from dataclasses import dataclass

from tusz_cache.errors import UsageError
from tusz_cache.manifest import Manifest

MOST = 4096  # shards; each has a lock and a journal


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One of `count` disjoint parts of a plan. Raises UsageError for values that make no sense."""

    index: int  # from 1 on
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST:
            raise UsageError(f"{self.count} shards make no sense", hint=f"use 1 to {MOST}")
        if not 1 <= self.index <= self.count:
            raise UsageError(
                f"there is no shard {self.index} of {self.count}", hint=f"they are numbered 1/{self.count} and so on"
            )

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read "3/16". Raises UsageError."""
        index, _, count = text.partition("/")
        if not (index.isascii() and index.isdigit() and count.isascii() and count.isdigit()):
            raise UsageError(f"{text!r} is no shard", hint="write I/N, e.g. 3/16 for the third of sixteen")
        return cls(int(index), int(count))

    @classmethod
    def all(cls, count: int) -> "list[Shard]":
        """Return the shards of a plan that is split into `count`. Raises UsageError."""
        return [cls(index, count) for index in range(1, cls(1, count).count + 1)]

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def suffix(self) -> str:
        """What the names of its own files end with: "3-of-16"."""
        return f"{self.index}-of-{self.count}"

    def part_of(self, entries: Manifest) -> Manifest:
        """Return the entries that are this shard's to copy."""
        return entries.select([row for row, index in enumerate(assign(entries, self.count)) if index == self.index])


def assign(entries: Manifest, count: int) -> list[int]:
    """Return for each row the index of its shard: the largest file first, always to the shard with the least bytes.

    Keys and sizes decide, not what a target holds, so that a file stays with its shard however often a plan is
    resumed. No shard has more than the average and one file.
    """
    indices = [0] * len(entries)
    shards = [(0, 0, index) for index in range(1, count + 1)]  # bytes, files, index
    for row in sorted(range(len(entries)), key=entries.sizes.__getitem__, reverse=True):  # equal sizes stay by key
        size, files, index = shards[0]
        heapq.heapreplace(shards, (size + entries.sizes[row], files + 1, index))
        indices[row] = index
    return indices


def sizes(entries: Manifest, count: int) -> list[tuple[int, int]]:
    """Return (files, bytes) of each of `count` shards, in order."""
    totals = [(0, 0)] * count
    for row, index in enumerate(assign(entries, count)):
        files, size = totals[index - 1]
        totals[index - 1] = files + 1, size + entries.sizes[row]
    return totals
