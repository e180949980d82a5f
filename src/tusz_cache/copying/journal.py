"""Journal: an append-only record of what a run has done, from which the next one goes on.

One line a record: CRC-32C of the rest in hex, a space, a JSON array. Reading stops at the first line whose CRC is
wrong, so a torn tail costs the records after it and nothing else.

    ["file", n, key, size, etag, part_size]           file number n is being fetched in parts of part_size bytes
    ["part", n, index, length, crc64nvme]             a hint: re-read before it is believed, so it need not be synced
    ["done", n, crc64nvme, level, mtime_ns, [crcs]]   the file lies durable under its final name; synced at once
    ["kept", key, size, etag, crc64nvme, level, mtime_ns, part_size, [crcs]]   likewise, of a file that lay there
    ["gone", key]                                     we deleted it
    ["doubt", key]                                    it is damaged or written anew: no record before this counts
    ["plan", plan_id, shards]                         the journal of a shard begins so
    ["laid", split, error, ...]                       a recording lies in a shard: a hint, as packing.splitting has it
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from awscrt.checksums import crc32c

from tusz_cache.entry import Entry, Proof
from tusz_cache.manifest import Draft, Manifest
from tusz_cache.ssd import Appender, Target

NAME = "journal"  # a shard's has its suffix: "journal-3-of-16"


@dataclass(slots=True)
class OpenFile:
    """A file that was being fetched when the journal ended."""

    number: int
    entry: Entry
    part_size: int
    parts: dict[int, tuple[int, int]] = field(default_factory=dict)  # index -> (length, crc64nvme), claimed


@dataclass(slots=True)
class Replay:
    """What a journal says."""

    done: Manifest = field(default_factory=Manifest)  # durable files, with proof
    open: dict[str, OpenFile] = field(default_factory=dict)  # unfinished ones
    started: set[str] = field(default_factory=set)  # every key that a run began to write
    gone: set[str] = field(default_factory=set)  # keys that we deleted
    doubted: set[str] = field(default_factory=set)  # keys of ours whose older records do not count
    plans: set[tuple[str, int]] = field(default_factory=set)  # (plan_id, number of shards) that were worked on
    files: int = 0  # numbers given away
    good_bytes: int = 0  # length of the part that can be read

    def then(self, later: "Replay") -> "Replay":
        """Return what both say, `later`, a shard's, having the last word. Numbers and length are its own. Pure.

        Shards delete nothing, so there is nothing `gone` in it.
        """
        return Replay(
            Manifest.merged(self.done.without(later.doubted), later.done),
            {key: claim for key, claim in self.open.items() if key not in later.started} | later.open,
            self.started | later.started,
            self.gone - later.started,
            self.doubted | later.doubted,
            self.plans | later.plans,
            later.files,
            later.good_bytes,
        )


def line(record: Sequence[Any]) -> bytes:
    """Return the journal line of `record`."""
    body = orjson.dumps(record)
    return b"%08x %s\n" % (crc32c(body), body)


def replay(lines: bytes | Iterable[bytes]) -> Replay:
    """Read a journal as far as it is whole. lines: all its bytes, or its lines with their ends. Pure."""
    reading = _Reading()
    for record, length in whole_records(lines):
        reading.apply(record)
        reading.state.good_bytes += length
    return reading.finish()


def whole_records(lines: bytes | Iterable[bytes]) -> Iterator[tuple[list[Any], int]]:
    """Yield (record, bytes of its line) until the first line that is torn."""
    for raw in lines.splitlines(keepends=True) if isinstance(lines, bytes) else lines:
        record = _parse(raw)
        if record is None:
            return
        yield record, len(raw)


def _parse(raw: bytes) -> list[Any] | None:
    body = raw[9:-1]
    if raw[:9] != b"%08x " % crc32c(body) or raw[-1:] != b"\n":
        return None
    try:
        record: list[Any] = orjson.loads(body)
    except ValueError:
        return None  # an empty line has the CRC of nothing
    return record


class _Reading:
    """A journal being read."""

    def __init__(self) -> None:
        self.state = Replay()
        self._numbered: dict[int, OpenFile] = {}
        self._done = Draft()  # what ended, in order; an entry without proof takes back those before it

    def apply(self, record: list[Any]) -> None:
        """Take in one record. Those of an unknown kind say nothing."""
        state = self.state
        match record:
            case ["file", number, key, size, etag, part_size]:
                file = self._numbered[number] = state.open[key] = OpenFile(number, Entry(key, size, etag), part_size)
                state.files = max(state.files, number + 1)
                self._appears(key)
            case ["part", number, index, length, crc]:
                self._numbered[number].parts[index] = (length, crc)
            case ["done", number, crc, level, mtime_ns, crcs]:
                file = self._numbered.pop(number)
                state.open.pop(file.entry.key, None)
                proof = Proof(crc, level, mtime_ns, file.part_size if crcs else 0, tuple(crcs))
                self._done.add(replace(file.entry, proof=proof))
            case ["kept", key, size, etag, crc, level, mtime_ns, part_size, crcs]:
                self._appears(key)
                self._done.add(Entry(key, size, etag, Proof(crc, level, mtime_ns, part_size, tuple(crcs))))
            case ["gone", key]:
                self._done.append(key, 0, None)
                state.open.pop(key, None)
                state.started.discard(key)
                state.gone.add(key)
            case ["doubt", key]:
                self._done.append(key, 0, None)
                self._appears(key)
                state.doubted.add(key)
            case ["plan", plan_id, shards]:
                state.plans.add((plan_id, shards))

    def _appears(self, key: str) -> None:
        self.state.started.add(key)
        self.state.gone.discard(key)

    def finish(self) -> Replay:
        """Return what was read."""
        self.state.done = self._done.latest().proven()
        return self.state


class Journal:
    """The journal being written. Thread-safe."""

    def __init__(self, target: Target, state: Replay, name: str = NAME) -> None:
        """Go on after the whole part of the journal that `state` was read from. Raises TargetError, NoSpace."""
        self._file = Appender(target, target.meta / name, keep_bytes=state.good_bytes)
        self._lock = threading.Lock()
        self._next = state.files

    def number(self) -> int:
        """Return a fresh file number."""
        self._next += 1
        return self._next - 1

    def record(self, records: Iterable[Sequence[Any]], *, sync: bool = False) -> None:
        """Append `records`; with `sync` they survive power loss when this returns."""
        data = b"".join(line(record) for record in records)
        with self._lock:
            self._file.append(data)
        if sync:
            self._file.sync()

    def claim(self, claims: Iterable[OpenFile]) -> None:
        """Record files that another journal says were begun. They get numbers of this one."""
        for claim in claims:
            claim.number, entry = self.number(), claim.entry
            parts = [["part", claim.number, index, length, crc] for index, (length, crc) in claim.parts.items()]
            self.record([["file", claim.number, entry.key, entry.size, entry.etag, claim.part_size], *parts])

    def sync(self) -> None:
        """Make what was recorded survive power loss."""
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def kept_record(entry: Entry) -> list[Any]:
    """Return the record that says `entry`, which carries a proof, lies there already."""
    proof = entry.proof
    assert proof is not None
    return [
        "kept",
        entry.key,
        entry.size,
        entry.etag,
        proof.crc64nvme,
        proof.verified,
        proof.mtime_ns,
        proof.part_size,
        list(proof.part_crcs),
    ]
