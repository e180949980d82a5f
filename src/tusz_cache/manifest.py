"""Manifest: the entries of a source or a target, as columns sorted by key.

A million entries as objects are a gigabyte; as columns they are the text of keys and ETags and some 50 bytes each.
"""

import itertools
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import lt

from tusz_cache.entry import LEVELS, Entry, Proof
from tusz_cache.errors import ListingBroken
from tusz_cache.tusz import split_of

BARE = -1  # in the column of levels: an entry without proof
LEVEL_NUMBERS: dict[str, int] = {name: number for number, name in enumerate(LEVELS)}

_BROKEN = "run again; if it persists, the server's listing is broken"

Parts = tuple[int, Sequence[int]]  # (part size in bytes, crc64nvme of each part)


@dataclass(frozen=True, slots=True)
class SplitCount:
    """What one split holds."""

    files: int = 0
    npz: int = 0
    bytes: int = 0

    def __add__(self, other: "SplitCount") -> "SplitCount":
        return SplitCount(self.files + other.files, self.npz + other.npz, self.bytes + other.bytes)


def _longs() -> "array[int]":
    return array("q")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Entries in the order of their keys' UTF-8 bytes, each key once. An Entry is made when it is asked for.

    The columns are for reading; `of`, `select`, `merged` and Draft make them.
    """

    keys: list[str] = field(default_factory=list)
    sizes: "array[int]" = field(default_factory=_longs)  # bytes
    etags: list[str | None] = field(default_factory=list)
    levels: "array[int]" = field(default_factory=lambda: array("b"))  # index into LEVELS, or BARE
    crcs: "array[int]" = field(default_factory=lambda: array("Q"))  # crc64nvme; 0 for a bare entry
    mtimes: "array[int]" = field(default_factory=_longs)  # nanoseconds; 0 for a bare entry
    parts: dict[int, Parts] = field(default_factory=dict)  # by row: most files are one part and have none

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Manifest":
        """Collect `entries`. Raises ListingBroken if a key comes twice or a size is beyond 64 bits."""
        draft = Draft()
        for entry in entries:
            try:
                draft.add(entry)
            except OverflowError as error:
                raise ListingBroken(f"{entry.key!r} is listed with {entry.size} bytes", hint=_BROKEN) from error
        if (row := draft.repeated()) is not None:
            raise ListingBroken(f"the listing names {draft.keys[row]!r} twice", hint=_BROKEN)
        return draft.latest()

    @classmethod
    def merged(cls, *manifests: "Manifest") -> "Manifest":
        """Put manifests together. Of entries with the same key the one of the last manifest counts."""
        filled = [manifest for manifest in manifests if len(manifest)]
        if len(filled) == 1:
            return filled[0]
        draft = Draft()
        for manifest in filled:
            draft.extend(manifest)
        return draft.latest()

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Entry]:
        return map(self.at, range(len(self.keys)))

    def at(self, row: int) -> Entry:
        """Return the entry in this row."""
        level = self.levels[row]
        proof = None
        if level != BARE:
            part_size, part_crcs = self.parts.get(row, (0, ()))
            proof = Proof(self.crcs[row], LEVELS[level], self.mtimes[row], part_size, tuple(part_crcs))
        return Entry(self.keys[row], self.sizes[row], self.etags[row], proof)

    def __contains__(self, key: str) -> bool:
        return self.row(key) is not None

    def __getitem__(self, key: str) -> Entry:
        if (entry := self.get(key)) is None:
            raise KeyError(key)
        return entry

    def row(self, key: str) -> int | None:
        """Return where `key` is, or None."""
        row = bisect_left(self.keys, key)
        return row if row < len(self.keys) and self.keys[row] == key else None

    def get(self, key: str) -> Entry | None:
        """Return the entry of `key`, or None."""
        return None if (row := self.row(key)) is None else self.at(row)

    def rows_in(self, other: "Manifest") -> Iterator[int]:
        """Yield for each key the row that it has in `other`, or -1. A merge: one pass over both."""
        theirs, row, count = other.keys, 0, len(other)
        for key in self.keys:
            while row < count and theirs[row] < key:
                row += 1
            yield row if row < count and theirs[row] == key else -1

    def select(self, rows: Sequence[int]) -> "Manifest":
        """Return the entries at `rows`, which ascend."""
        return self if len(rows) == len(self) else self.taken(rows)

    def taken(self, rows: Sequence[int]) -> "Manifest":
        """Return the entries at `rows`, whose keys ascend."""
        return Manifest(
            list(map(self.keys.__getitem__, rows)),
            array("q", map(self.sizes.__getitem__, rows)),
            list(map(self.etags.__getitem__, rows)),
            array("b", map(self.levels.__getitem__, rows)),
            array("Q", map(self.crcs.__getitem__, rows)),
            array("q", map(self.mtimes.__getitem__, rows)),
            {new: self.parts[old] for new, old in enumerate(rows) if old in self.parts} if self.parts else {},
        )

    def where(self, wanted: Callable[[str], bool]) -> "Manifest":
        """Return the entries whose keys are `wanted`."""
        return self.select([row for row, key in enumerate(self.keys) if wanted(key)])

    def without(self, keys: Container[str]) -> "Manifest":
        """Return the entries whose keys are not among `keys`."""
        return self.where(lambda key: key not in keys)

    def proven(self) -> "Manifest":
        """Return the entries with proof."""
        return self.select([row for row, level in enumerate(self.levels) if level != BARE])

    @property
    def bytes(self) -> int:
        """Sum of all sizes."""
        return sum(self.sizes)

    def splits(self) -> dict[str, SplitCount]:
        """Return counts by split (first folder)."""
        counts: dict[str, SplitCount] = {}
        row = 0
        while row < len(self):
            split = split_of(self.keys[row])
            # what lies below a folder is one run, and "0" comes right behind "/"; files at the root come one by one
            end = row + 1 if split == "." else bisect_left(self.keys, f"{split}0", row)
            npz = sum(key.endswith(".npz") for key in self.keys[row:end])
            counts[split] = counts.get(split, SplitCount()) + SplitCount(end - row, npz, sum(self.sizes[row:end]))
            row = end
        return counts

    def level_counts(self) -> dict[str, int]:
        """Return how many files were verified at each level; entries without proof do not count."""
        counts = Counter(self.levels)
        return {level: counts[number] for number, level in enumerate(LEVELS) if counts[number]}


class Draft:
    """A manifest being gathered: entries in any order, also several of one key."""

    def __init__(self) -> None:
        self._rows = Manifest()
        self.keys = self._rows.keys

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, entry: Entry) -> None:
        """Append an entry. Raises OverflowError for a size beyond 64 bits; the draft is of no use then."""
        proof = entry.proof
        if proof is None:
            self.append(entry.key, entry.size, entry.etag)
        else:
            numbers = LEVEL_NUMBERS[proof.verified], proof.crc64nvme, proof.mtime_ns
            parts = (proof.part_size, proof.part_crcs) if proof.part_crcs else None
            self.append(entry.key, entry.size, entry.etag, numbers, parts)

    def append(
        self,
        key: str,
        size: int,
        etag: str | None,
        proof: tuple[int, int, int] = (BARE, 0, 0),
        parts: Parts | None = None,
    ) -> None:
        """Append a row. proof: level, crc64nvme and mtime in nanoseconds.

        Raises OverflowError or TypeError for numbers that are no 64-bit integers; the draft is of no use then.
        """
        rows = self._rows
        level, crc, mtime_ns = proof
        rows.sizes.append(size)
        rows.mtimes.append(mtime_ns)
        rows.crcs.append(crc)
        rows.levels.append(level)
        rows.etags.append(etag)
        if parts is not None:
            rows.parts[len(self.keys)] = parts[0], array("Q", parts[1])
        self.keys.append(key)

    def extend(self, manifest: Manifest) -> None:
        """Append all entries of `manifest`."""
        rows, start = self._rows, len(self)
        rows.parts.update({start + row: parts for row, parts in manifest.parts.items()})
        rows.keys.extend(manifest.keys)
        rows.sizes.extend(manifest.sizes)
        rows.etags.extend(manifest.etags)
        rows.levels.extend(manifest.levels)
        rows.crcs.extend(manifest.crcs)
        rows.mtimes.extend(manifest.mtimes)

    def repeated(self) -> int | None:
        """Return the first row whose key came before, if there is one."""
        keys = self.keys
        if self._ascends():
            return None
        return min(
            (late for early, late in itertools.pairwise(self._order()) if keys[early] == keys[late]), default=None
        )

    def latest(self) -> Manifest:
        """Return what was gathered, sorted; of several entries with one key the last. Nothing may be added after it."""
        if self._ascends():
            return self._rows
        order, keys = self._order(), self.keys
        last = [row for row, following in itertools.pairwise(order) if keys[row] != keys[following]]
        return self._rows.taken([*last, order[-1]])

    def _ascends(self) -> bool:
        return all(map(lt, self.keys, itertools.islice(self.keys, 1, None)))

    def _order(self) -> list[int]:
        return sorted(range(len(self)), key=self.keys.__getitem__)  # stable: equal keys stay as they came
