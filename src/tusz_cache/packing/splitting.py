"""Writing a split of a store: recordings in a fixed order into shards, each noted when it lies in its place.

The order and the cuts between shards follow from the recordings alone, so a run that goes on after a kill ends with the
same bytes as one that was never interrupted.
"""

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tusz_cache.checksum import crc64nvme
from tusz_cache.copying.committer import commit
from tusz_cache.copying.journal import Journal, kept_record
from tusz_cache.entry import Entry, Proof
from tusz_cache.errors import UsageError
from tusz_cache.manifest import Manifest
from tusz_cache.packing.blocks import BLOCK, CHANNELS, FULL_SCALE, SCALE, Float32Array, crc_of, quantised
from tusz_cache.packing.folding import Folded
from tusz_cache.packing.growing import GrowingArray
from tusz_cache.packing.index import SMALL_LABELS, Dtype, PackedRecording, Shard, own_labels_file, shard_files
from tusz_cache.packing.rows import BYTE, FLOAT, HEADER, SHORT, Array
from tusz_cache.ssd import Target, publish, write_new

SHARD_BYTES = 2 * 1024**3  # of blocks, at most, but for a single recording that is larger
AT_ONCE = 2  # blocks that are quantised together: they stay in a core's cache, which takes a third of the time
NO_LABEL = 255  # fills the label blocks of recordings without labels, or with a file of their own


def in_store_order(cache_files: Iterable[str]) -> list[str]:
    """Return names in the order of their hashes: a shard holds recordings of many patients, whatever the names are."""
    return sorted(cache_files, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())


def as_stored(blocks_KCS: Float32Array, dtype: Dtype, name: str) -> tuple[Array, float]:
    """Return blocks as they are kept, and the largest error of a sample. Raises UsageError if int16 cannot do."""
    if dtype == "float32":
        return blocks_KCS, 0.0
    numbers_KCS, error = np.empty(blocks_KCS.shape, SHORT), 0.0
    for start in range(0, len(blocks_KCS), AT_ONCE):
        some, there = blocks_KCS[start : start + AT_ONCE], numbers_KCS[start : start + AT_ONCE]
        largest = float(np.abs(some).max())  # NaN if there is one
        if not largest <= FULL_SCALE:
            raise UsageError(
                f"{name} has a sample of size {largest}: int16 holds finite ones within +-{FULL_SCALE:g}",
                hint="pack with --dtype float32, which keeps every bit",
            )
        there[...] = quantised(some)
        error = max(error, float(np.abs(there * np.float32(SCALE) - some).max()))
    return numbers_KCS, error


@dataclass(frozen=True, slots=True)
class Laid:
    """A recording in its place, as the journal keeps it."""

    recording: PackedRecording
    error: float  # largest of a sample against the cache


def laid_record(split: str, laid: Laid) -> list[Any]:
    """Return the journal's record of a recording in its place."""
    return ["laid", split, laid.error, *astuple(laid.recording)]


def laid_from_record(record: list[Any]) -> tuple[str, Laid] | None:
    """Return (split, recording) of a journal's record; None for records of another kind."""
    match record:
        case ["laid", str(split), float(error), *fields]:
            return split, Laid(PackedRecording(*fields), error)
    return None


class WholeShard(NamedTuple):
    """A shard of an earlier run that lies there, every file of it proven."""

    laid: list[Laid]
    entries: list[Entry]


def whole_shards(
    split: str, order: Sequence[str], claims: Mapping[str, Laid], proven: Manifest
) -> dict[int, WholeShard]:
    """Return the shards, by number, whose files are all proven and full of the recordings claimed to be in them. Pure.

    order: all recordings, in store order.
    """
    found: dict[int, WholeShard] = {}
    claimed = (claims.get(name) for name in order)
    for number, some in itertools.groupby(claimed, lambda laid: None if laid is None else laid.recording.shard):
        laid = [claim for claim in some if claim is not None]
        if number is None or number in found:
            continue
        own = [claim.recording.labels for claim in laid if claim.recording.labels not in {None, SMALL_LABELS}]
        entries = [entry for name in (*shard_files(number), *own) if (entry := proven.get(f"{split}/{name}"))]
        rows = sum(claim.recording.blocks for claim in laid)
        if len(entries) == 2 + len(own) and entries[1].size == HEADER + rows * BLOCK:  # labels: a byte a sample
            found[number] = WholeShard(laid, entries)
    return found


class SplitWriter:
    """Lays the recordings of one split, in store order: `resume`, `add` each that is left, `finish`, `write`."""

    def __init__(self, place: Target, split: str, dtype: Dtype, journal: Journal) -> None:
        self._place, self._split, self._dtype, self._journal = place, split, dtype, journal
        self.laid: list[Laid] = []
        self.shards: list[Shard] = []
        self.published: list[Entry] = []  # with proof
        self._whole: dict[int, WholeShard] = {}  # that are not laid yet
        self._after_whole: set[str] = set()  # recordings that begin a shard, since the one before is in a whole one
        self._open: _OpenShard | None = None
        self._waiting: list[Entry] = []  # under their names, but not yet committed

    def __enter__(self) -> "SplitWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()

    def resume(self, order: Sequence[str], claims: Mapping[str, Laid], proven: Manifest) -> list[str]:
        """Take over what an earlier run laid, as far as it lies there. Returns the recordings that are left, in order.

        order: all recordings, in store order. claims: by recording. proven: files that nothing touched.
        """
        self._whole = whole_shards(self._split, order, claims, proven)
        there = {claim.recording.cache_file for shard in self._whole.values() for claim in shard.laid}
        self._after_whole = {name for before, name in itertools.pairwise(order) if before in there}
        left = [name for name in order if name not in there]
        self._take_over()
        kept: list[Laid] = []
        claimed = [claims[name] for name in itertools.takewhile(claims.__contains__, left)]
        if claimed:
            self._open = self._new_shard(len(self.shards))
            kept = list(itertools.takewhile(self._open.keep, claimed))
            self.laid += kept
        return left[len(kept) :]

    def add(self, name: str, folded: Folded) -> None:
        """Lay the next recording that is left. Raises NoSpace, TargetError, UsageError, Damaged."""
        blocks_KCS, error = as_stored(folded.blocks_KCS, self._dtype, f"{self._split}/{name}")
        if self._open is not None and self._ends(self._open, name, blocks_KCS.nbytes):
            self._publish(self._open)
        if self._open is None:
            self._open = self._new_shard(len(self.shards))
        laid = Laid(self._open.add(name, folded, blocks_KCS), error)
        self._journal.record([laid_record(self._split, laid)])
        self.laid.append(laid)

    def _ends(self, shard: "_OpenShard", name: str, size: int) -> bool:
        """Whether a shard ends before the recording `name` with `size` bytes of blocks."""
        return shard.rows > 0 and (name in self._after_whole or shard.bytes + size > SHARD_BYTES)

    def finish(self) -> None:
        """Publish the last shard. Raises as `add` does."""
        if self._open is not None:
            self._publish(self._open)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Publish small files by name, and note that all survives. Raises NoSpace, TargetError."""
        moves = []
        for name, data in files.items():
            key = f"{self._split}/{name}"
            moves.append((self._place.partial / key.replace("/", "."), self._place.path(key)))
            write_new(moves[-1][0], memoryview(data))
        self._name(moves, [crc64nvme(data, 0) for data in files.values()])
        self._record(final=True)

    def _take_over(self) -> None:
        """Go on behind the whole shards that come next."""
        while shard := self._whole.pop(len(self.shards), None):
            self.shards.append(Shard(*shard_files(len(self.shards)), sum(laid.recording.blocks for laid in shard.laid)))
            self.laid += shard.laid
            self.published += shard.entries

    def _new_shard(self, number: int) -> "_OpenShard":
        return _OpenShard(self._place, self._split, number, FLOAT if self._dtype == "float32" else SHORT)

    def _publish(self, shard: "_OpenShard") -> None:
        crcs = shard.complete()
        self._name([(array.path, self._place.path(array.key)) for array in crcs], list(crcs.values()))
        self.shards.append(Shard(*shard_files(shard.number), shard.rows))
        self._open = None
        self._record(final=False)
        self._take_over()

    def _name(self, moves: Sequence[tuple[Path, Path]], crcs: Sequence[int]) -> None:
        """Give whole files their names; from now on they are known to be ours."""
        keys = [final.relative_to(self._place.root).as_posix() for _, final in moves]
        self._journal.record(["doubt", key] for key in keys)
        for key, crc, stat in zip(keys, crcs, publish(self._place, moves), strict=True):
            self._waiting.append(Entry(key, stat.st_size, None, Proof(crc, "own-crc", stat.st_mtime_ns)))

    def _record(self, *, final: bool) -> None:
        """Note what survives by now."""
        durability, waiting = self._place.durability, self._waiting
        if durability.commit is not None and waiting:
            if not final and sum(entry.size for entry in waiting) < durability.every_bytes:
                return
            commit(durability.commit)
        self._journal.record(map(kept_record, waiting), sync=True)
        self.published += waiting
        waiting.clear()


class _OpenShard:
    """The files of the shard that is being written."""

    def __init__(self, place: Target, split: str, number: int, dtype: "np.dtype[Any]") -> None:
        blocks, labels = (f"{split}/{name}" for name in shard_files(number))
        self.number = number
        self._place, self._split = place, split
        self._blocks = GrowingArray(place, blocks, (CHANNELS, BLOCK), dtype)
        self._labels = GrowingArray(place, labels, (BLOCK,), BYTE)
        self._own: dict[GrowingArray, int] = {}  # whole, with CRC64NVME: labels that are no bytes, one a recording

    @property
    def rows(self) -> int:
        return self._blocks.rows

    @property
    def bytes(self) -> int:
        return self._blocks.size

    def complete(self) -> dict[GrowingArray, int]:
        """Complete all arrays; returns them with their files' CRC64NVME."""
        return {array: array.complete() for array in (self._blocks, self._labels)} | self._own

    def add(self, name: str, folded: Folded, blocks_KCS: Array) -> PackedRecording:
        first, own = self.rows, own_labels_file(name)
        crc = self._blocks.add(blocks_KCS)
        match folded.labels_KS:
            case None:
                kind, label_crc = None, self._labels.add(_no_labels(len(blocks_KCS)))
            case labels_KS if labels_KS.dtype == BYTE:
                kind, label_crc = SMALL_LABELS, self._labels.add(labels_KS)
            case labels_KS:
                self._labels.add(_no_labels(len(blocks_KCS)))
                array = self._own_array(own)
                kind, label_crc = own, array.add(labels_KS)
                self._own[array] = array.complete()
        return PackedRecording(name, self.number, first, folded.windows, folded.step, kind, crc, label_crc)

    def keep(self, claim: Laid) -> bool:
        """Take over a recording of an earlier run. False if it does not lie there as claimed."""
        recording, rows = claim.recording, claim.recording.blocks
        if (recording.shard, recording.first) != (self.number, self.rows):
            return False
        own = None if recording.labels in {None, SMALL_LABELS} else self._own_array(str(recording.labels))
        wanted = {self._blocks: recording.crc, self._labels: recording.label_crc}
        if own is not None:
            wanted |= {self._labels: crc_of(_no_labels(rows)), own: recording.label_crc}
        holds = all(array.holds(rows, crc) for array, crc in wanted.items())
        if holds:
            for array, crc in wanted.items():
                array.keep(rows, crc)
        if own is not None and holds:
            self._own[own] = own.complete()
        elif own is not None:
            own.close()
        return holds

    def close(self) -> None:
        for array in (self._blocks, self._labels):
            array.close()

    def _own_array(self, name: str) -> GrowingArray:
        return GrowingArray(self._place, f"{self._split}/{name}", (BLOCK,), FLOAT)


def _no_labels(rows: int) -> Array:
    return np.full((rows, BLOCK), NO_LABEL, np.uint8)
