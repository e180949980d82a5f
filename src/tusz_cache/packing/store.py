"""WindowStore: the windows of one split of a packed store, read with one copy. Numpy only.

Axes: B = windows of a batch, C = 19 channels, T = 15,360 samples at 256 Hz; K = 6 blocks of S = 2,560 samples.
"""

import contextlib
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tusz_cache.errors import Damaged, UsageError
from tusz_cache.packing.blocks import BLOCK, CHANNELS, WINDOW, WINDOW_BLOCKS, Float32Array, as_blocks, crc_of
from tusz_cache.packing.index import SMALL_LABELS, Index, PackedRecording
from tusz_cache.packing.rows import BYTE, FLOAT, SHORT, Array, Backend, Files, Rows, open_rows

Batch = tuple[Float32Array, Float32Array]
Indices = Sequence[int] | npt.NDArray[np.integer[Any]]


@contextlib.contextmanager
def naming(recording: PackedRecording, split: str) -> Iterator[None]:
    """Say in errors which recording could not be read."""
    try:
        yield
    except Damaged as error:
        raise Damaged(f"recording {recording.cache_file} of {split}: {error}", hint=error.hint) from error


class _Shard(NamedTuple):
    blocks: Rows
    labels: Rows


class _Columns(NamedTuple):
    """The index as arrays, one element a recording, for looking up whole batches."""

    ends: npt.NDArray[np.int64]  # windows up to and with this recording
    first: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]
    shard: npt.NDArray[np.int64]


class WindowStore:
    """Windows in the order of file names, then of time. Goes through pickle and fork; safe in threads.

    `len(store)`; `store[i]` -> (window (C, T) float32, labels (T,) float32 or None);
    `store.read_batch(indices)` -> (windows (B, C, T), labels (B, T)), rows without labels NaN.
    """

    def __init__(self, files: Files, index: Index, backend: Backend) -> None:
        self.index, self.backend = index, backend
        self._files = files
        self._shards: dict[int, _Shard] = {}  # opened when first used
        self._own_labels: dict[int, Rows] = {}  # of recordings whose labels are no small whole numbers
        rows = index.recordings
        self._columns = _Columns(
            np.cumsum([row.windows for row in rows], dtype=np.int64),
            np.array([row.first for row in rows], np.int64),
            np.array([row.step for row in rows], np.int64),
            np.array([row.shard for row in rows], np.int64),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return WindowStore, (self._files, self.index, self.backend)  # maps and descriptors are opened anew

    def __len__(self) -> int:
        return self.index.windows

    def __getitem__(self, i: int) -> tuple[Float32Array, Float32Array | None]:
        windows_BCT, labels_BT = self.read_batch([operator.index(i)])
        recording, _ = self._locate(i)
        return windows_BCT[0], None if recording.labels is None else labels_BT[0]

    def __iter__(self) -> Iterator[tuple[Float32Array, Float32Array | None]]:
        return (self[i] for i in range(len(self)))

    def locate(self, i: int) -> tuple[str, int]:
        """Return (cache file, window of that file) of window `i`. Raises IndexError."""
        recording, window = self._locate(i)
        return recording.cache_file, window

    def read_batch(self, indices: Indices, out: Batch | None = None) -> Batch:
        """Return the windows (B, C, T) and labels (B, T) of `indices`, float32; rows without labels are NaN.

        out: arrays to fill, of these shapes, C-contiguous. Raises IndexError, UsageError, Damaged (naming the file).
        """
        windows_BCT, labels_BT = _arrays(len(indices), out)
        for row, (number, first) in enumerate(self._places(indices)):
            self._read(number, first, windows_BCT[row], labels_BT[row])
        return windows_BCT, labels_BT

    def read_blocks(self, indices: Indices, out: Array | None = None) -> Array:
        """Return the windows of `indices` as they are stored: (B, K, C, S), float32 or int16 (times `index.scale`).

        One contiguous copy each, half the bytes with int16: for unfolding on a GPU. Raises as `read_batch` does.
        """
        blocks_BKCS = self._empty_blocks(len(indices)) if out is None else out
        for row, (number, first) in enumerate(self._places(indices)):
            self._copy(number, first, blocks_BKCS[row])
        return blocks_BKCS

    def verify(self) -> tuple[str, ...]:
        """Read every byte; return the recordings whose checksums do not fit. Raises Damaged for whole shards."""
        return tuple(row.cache_file for number, row in enumerate(self.index.recordings) if not self._is_whole(number))

    def _is_whole(self, number: int) -> bool:
        row = self.index.recordings[number]
        if not row.blocks:
            return True
        shard = self._open(row.shard)
        if row.labels in {None, SMALL_LABELS}:
            labels = shard.labels.get(row.first, row.blocks)
        else:
            labels = self._labels_of(number).get(0, row.blocks)
        return (row.crc, row.label_crc) == (crc_of(shard.blocks.get(row.first, row.blocks)), crc_of(labels))

    def _empty_blocks(self, count: int) -> Array:
        dtype = FLOAT if self.index.scale is None else SHORT
        return np.empty((count, WINDOW_BLOCKS, CHANNELS, BLOCK), dtype)

    def _locate(self, i: int) -> tuple[PackedRecording, int]:
        if not -len(self) <= i < len(self):
            raise IndexError(f"window {i} of {len(self)}")
        i %= len(self)
        number = int(np.searchsorted(self._columns.ends, i, "right"))
        recording = self.index.recordings[number]
        return recording, i - int(self._columns.ends[number]) + recording.windows

    def _places(self, indices: Indices) -> Iterator[tuple[int, int]]:
        """Yield (recording, first block in its shard) of each window."""
        wanted = np.asarray(indices, dtype=np.int64) if len(indices) else np.empty(0, np.int64)
        if len(wanted) and not -len(self) <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"windows {wanted.min()} to {wanted.max()} of {len(self)}")
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        ends, first, step, _ = self._columns
        numbers = np.searchsorted(ends, wanted, "right")
        begins = np.concatenate(([0], ends))[numbers]
        blocks = first[numbers] + (wanted - begins) * step[numbers]
        return zip(numbers.tolist(), blocks.tolist(), strict=True)

    def _read(self, number: int, first: int, window_CT: Float32Array, labels_T: Float32Array) -> None:
        recording = self.index.recordings[number]
        with naming(recording, self.index.split):
            shard = self._open(recording.shard)
            if self.index.scale is None:
                shard.blocks.read(first, as_blocks(window_CT))
            else:
                numbers_KCS = shard.blocks.get(first, WINDOW_BLOCKS)
                np.multiply(numbers_KCS, np.float32(self.index.scale), out=as_blocks(window_CT))
            if recording.labels is None:
                labels_T.fill(np.nan)
            elif recording.labels == SMALL_LABELS:
                np.copyto(as_blocks(labels_T), shard.labels.get(first, WINDOW_BLOCKS))
            else:
                self._labels_of(number).read(first - recording.first, as_blocks(labels_T))

    def _copy(self, number: int, first: int, blocks_KCS: Array) -> None:
        recording = self.index.recordings[number]
        with naming(recording, self.index.split):
            self._open(recording.shard).blocks.read(first, blocks_KCS)

    def _open(self, number: int) -> _Shard:
        if number not in self._shards:
            split, shard = self.index.split, self.index.shards[number]
            dtype = FLOAT if self.index.scale is None else SHORT
            blocks = open_rows(
                self._files, f"{split}/{shard.file}", (shard.blocks, CHANNELS, BLOCK), dtype, self.backend
            )
            labels = open_rows(self._files, f"{split}/{shard.labels}", (shard.blocks, BLOCK), BYTE, self.backend)
            self._shards[number] = _Shard(blocks, labels)
        return self._shards[number]

    def _labels_of(self, number: int) -> Rows:
        recording = self.index.recordings[number]
        if number not in self._own_labels:
            key = f"{self.index.split}/{recording.labels}"
            self._own_labels[number] = open_rows(self._files, key, (recording.blocks, BLOCK), FLOAT, self.backend)
        return self._own_labels[number]


def _arrays(count: int, out: Batch | None) -> Batch:
    shapes = (count, CHANNELS, WINDOW), (count, WINDOW)
    if out is None:
        return np.empty(shapes[0], np.float32), np.empty(shapes[1], np.float32)
    for array, shape in zip(out, shapes, strict=True):
        if (
            array.shape != shape
            or array.dtype != np.float32
            or not array.flags.c_contiguous
            or not array.flags.writeable
        ):
            raise UsageError(
                f"out has an array of shape {array.shape} and type {array.dtype}",
                hint=f"give writable C-contiguous float32 arrays of shapes {shapes[0]} and {shapes[1]}",
            )
    return out
