"""Writing a split of a store: recordings in a fixed order into shards, each noted when it lies in its place.

The order and the cuts between shards follow from the recordings alone, so a run that goes on after a kill ends with the
same bytes as one that was never interrupted.
"""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from tusz_cache.copying.committer import commit
from tusz_cache.copying.journal import Journal, kept_record
from tusz_cache.entry import Entry, Proof
from tusz_cache.errors import UsageError
from tusz_cache.manifest import Manifest
from tusz_cache.packing.blocks import BLOCK, CHANNELS, FULL_SCALE, SCALE, Float32Array, crc_of, quantised
from tusz_cache.packing.folding import Folded
from tusz_cache.packing.growing import GrowingArray
from tusz_cache.packing.index import SMALL_LABELS, Dtype, PackedRecording, Shard
from tusz_cache.packing.rows import BYTE, FLOAT, SHORT, Array
from tusz_cache.ssd import Target, publish

SHARD_BYTES = 2 * 1024**3  # of blocks, at most, but for a single recording that is larger
NO_LABEL = 255  # fills the label blocks of recordings without labels, or with a file of their own


def in_store_order(cache_files: Iterable[str]) -> list[str]:
    """Return names in the order of their hashes: a shard holds recordings of many patients, whatever the names are."""
    return sorted(cache_files, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())


def shard_files(number: int) -> tuple[str, str]:
    """Return the names of a shard's two files: blocks and labels."""
    return f"shard-{number:05d}.npy", f"labels-{number:05d}.npy"


def own_labels_file(cache_file: str) -> str:
    """Return the name of the file of labels that are no bytes."""
    return f"{cache_file.removesuffix('.npz')}.labels.npy"


def as_stored(blocks_KCS: Float32Array, dtype: Dtype, name: str) -> tuple[Array, float]:
    """Return blocks as they are kept, and the largest error of a sample. Raises UsageError if int16 cannot do."""
    if dtype == "float32":
        return blocks_KCS, 0.0
    largest = float(np.abs(blocks_KCS).max(initial=0.0))  # NaN if there is one
    if not largest <= FULL_SCALE:
        raise UsageError(
            f"{name} has samples up to {largest}: int16 holds finite ones within +-{FULL_SCALE:g}",
            hint="pack with --dtype float32, which keeps every bit",
        )
    numbers_KCS = quantised(blocks_KCS)
    restored = numbers_KCS * np.float32(SCALE)
    return numbers_KCS, float(np.abs(restored - blocks_KCS).max(initial=0.0))


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


class SplitWriter:
    """Lays the recordings of one split, in store order. `add` each, then `finish`."""

    def __init__(self, place: Target, split: str, dtype: Dtype, journal: Journal) -> None:
        self._place, self._split, self._dtype, self._journal = place, split, dtype, journal
        self.laid: list[Laid] = []
        self.shards: list[Shard] = []
        self.published: list[Entry] = []  # with proof
        self._open: _OpenShard | None = None
        self._waiting: list[Entry] = []  # under their names, but not yet committed

    def __enter__(self) -> "SplitWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()

    def resume(self, claims: Iterable[Laid], whole: Manifest) -> None:
        """Take over what an earlier run laid, as far as it lies there. claims: in store order. whole: proven files."""
        for number, some in itertools.groupby(claims, key=lambda laid: laid.recording.shard):
            group = list(some)
            own = [claim.recording.labels for claim in group if claim.recording.labels not in {None, SMALL_LABELS}]
            entries = [whole.get(f"{self._split}/{name}") for name in [*shard_files(number), *own]]
            if number != len(self.shards) or not all(entries):
                self._open = self._new_shard(number)
                self.laid += itertools.takewhile(self._open.keep, group)
                return
            last = group[-1].recording
            self.shards.append(Shard(*shard_files(number), last.first + last.blocks))
            self.published += [entry for entry in entries if entry is not None]
            self.laid += group

    def add(self, name: str, folded: Folded) -> None:
        """Lay the next recording. Raises NoSpace, TargetError, UsageError, Damaged."""
        blocks_KCS, error = as_stored(folded.blocks_KCS, self._dtype, name)
        if self._open is not None and self._open.rows and self._open.bytes + blocks_KCS.nbytes > SHARD_BYTES:
            self._publish(self._open)
        if self._open is None:
            self._open = self._new_shard(len(self.shards))
        laid = Laid(self._open.add(name, folded, blocks_KCS), error)
        self._journal.record([laid_record(self._split, laid)])
        self.laid.append(laid)

    def finish(self) -> None:
        """Publish the last shard. Raises as `add` does."""
        if self._open is not None:
            self._publish(self._open)
        self._record(final=True)

    def _new_shard(self, number: int) -> "_OpenShard":
        return _OpenShard(self._place, self._split, number, FLOAT if self._dtype == "float32" else SHORT)

    def _publish(self, shard: "_OpenShard") -> None:
        crcs = [array.complete() for array in shard.arrays]
        stats = publish(self._place, [(array.path, self._place.path(array.key)) for array in shard.arrays])
        for array, crc, stat in zip(shard.arrays, crcs, stats, strict=True):
            self._waiting.append(Entry(array.key, stat.st_size, None, Proof(crc, "own-crc", stat.st_mtime_ns)))
        self.shards.append(Shard(*shard_files(shard.number), shard.rows))
        self._open = None
        self._record(final=False)

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
        self._own: list[GrowingArray] = []  # labels that are no bytes, a file for each such recording

    @property
    def arrays(self) -> list[GrowingArray]:
        return [self._blocks, self._labels, *self._own]

    @property
    def rows(self) -> int:
        return self._blocks.rows

    @property
    def bytes(self) -> int:
        return self._blocks.size

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
                kind, label_crc = own, self._own_array(own).add(labels_KS)
        return PackedRecording(name, self.number, first, folded.windows, folded.step, kind, crc, label_crc)

    def keep(self, claim: Laid) -> bool:
        """Take over a recording of an earlier run. False if it does not lie there as claimed."""
        recording, rows = claim.recording, claim.recording.blocks
        wanted = [(self._blocks, recording.crc)]
        if recording.labels in {None, SMALL_LABELS}:
            wanted.append((self._labels, recording.label_crc))
        else:
            wanted.append((self._labels, crc_of(_no_labels(rows))))
            wanted.append((self._own_array(str(recording.labels)), recording.label_crc))
        if (recording.shard, recording.first) != (self.number, self.rows):
            return False
        if not all(array.holds(rows, crc) for array, crc in wanted):
            return False
        for array, crc in wanted:
            array.keep(rows, crc)
        return True

    def close(self) -> None:
        for array in self.arrays:
            array.close()

    def _own_array(self, name: str) -> GrowingArray:
        self._own.append(GrowingArray(self._place, f"{self._split}/{name}", (BLOCK,), FLOAT))
        return self._own[-1]


def _no_labels(rows: int) -> Array:
    return np.full((rows, BLOCK), NO_LABEL, np.uint8)
