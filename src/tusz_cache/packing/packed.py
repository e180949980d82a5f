"""PackedStore: the windows of one split of a packed store, read with one copy. Numpy only.

Axes: B = windows of a batch, C = 19 channels, T = 15,360 samples at 256 Hz; K = 6 blocks of S = 2,560 samples.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from tusz_cache.errors import Damaged
from tusz_cache.packing.blocks import BLOCK, CHANNELS, WINDOW_BLOCKS, Float32Array, aligned, as_blocks, crc_of
from tusz_cache.packing.index import SMALL_LABELS, Index, PackedRecording
from tusz_cache.packing.rows import BYTE, FLOAT, SHORT, Array, Backend, Files, Rows, open_rows
from tusz_cache.packing.windows import Indices, WindowStore, check_out
from tusz_cache.tusz import WINDOW
from tusz_cache.tusz_windows import CacheFile


class _Shard(NamedTuple):
    blocks: Rows
    labels: Rows


class PackedStore(WindowStore):
    """Windows of a packed store: nothing is inflated, and a window is one contiguous run."""

    def __init__(self, files: Files, index: Index, backend: Backend) -> None:
        """files: rooted at the store. backend: mmap for disks of this machine, pread where a page fault is slow."""
        rows = index.recordings
        super().__init__(index.split, [CacheFile(row.cache_file, row.windows, row.labels is not None) for row in rows])
        self.index, self.backend = index, backend
        self._files = files
        self._shards: dict[int, _Shard] = {}  # opened when first used: two descriptors each

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedStore, (self._files, self.index, self.backend)  # maps and descriptors are opened anew

    def read_blocks(self, indices: Indices, out: Array | None = None) -> Array:
        """Return the windows of `indices` as they are stored: (B, K, C, S), float32 or int16 (times `index.scale`).

        One contiguous copy each, half the bytes with int16: for unfolding on a GPU. Raises as `read_batch` does.
        """
        shape, dtype = (len(indices), WINDOW_BLOCKS, CHANNELS, BLOCK), FLOAT if self.index.scale is None else SHORT
        blocks_BKCS = aligned(shape, dtype) if out is None else out
        check_out(blocks_BKCS, shape, dtype)
        for row, (number, window) in enumerate(zip(*self.find(indices), strict=True)):
            recording = self.index.recordings[number]
            first = recording.first + int(window) * recording.step
            with _naming(recording, self.split):
                self._open(recording.shard).blocks.read(first, blocks_BKCS[row])
        return blocks_BKCS

    def advise(self, indices: Indices) -> None:
        """Have the kernel begin to read the windows of `indices`: of the next batch, where the disk is slow."""
        for number, window in zip(*self.find(indices), strict=True):
            recording = self.index.recordings[number]
            self._open(recording.shard).blocks.advise(recording.first + int(window) * recording.step, WINDOW_BLOCKS)

    def read_labels(self, indices: Indices, out: Float32Array | None = None) -> Float32Array:
        """Return the labels (B, T) of `indices`, as `read_batch` does: they go with `read_blocks`."""
        shape = len(indices), WINDOW
        labels_BT = aligned(shape, FLOAT) if out is None else out
        check_out(labels_BT, shape, FLOAT)
        for row, (number, window) in enumerate(zip(*self.find(indices), strict=True)):
            recording = self.index.recordings[number]
            with _naming(recording, self.split):
                self._read_labels(recording, int(window) * recording.step, labels_BT[row])
        return labels_BT

    def verify(self) -> tuple[str, ...]:
        """Read every byte; return the recordings whose checksums do not fit. Raises Damaged for whole shards."""
        return tuple(row.cache_file for number, row in enumerate(self.index.recordings) if not self._is_whole(number))

    def _is_whole(self, number: int) -> bool:
        row = self.index.recordings[number]
        if not row.blocks:
            return True
        with _naming(row, self.split):
            found = crc_of(self._open(row.shard).blocks.get(row.first, row.blocks)), crc_of(self._labels(row))
        return (row.crc, row.label_crc) == found

    def ictal_shares(self, number: int) -> npt.NDArray[np.float64]:
        """See WindowStore."""
        row = self.index.recordings[number]
        if not row.windows:
            return np.empty(0)
        with _naming(row, self.split):
            ictal_K = np.count_nonzero(self._labels(row) > 0, axis=1)
        shares_N: npt.NDArray[np.float64] = (
            sliding_window_view(ictal_K, WINDOW_BLOCKS)[:: row.step].sum(axis=1) / WINDOW
        )
        return shares_N

    def _read(self, number: int, window: int, window_CT: Float32Array, labels_T: Float32Array) -> None:
        recording = self.index.recordings[number]
        first = window * recording.step
        with _naming(recording, self.split):
            shard = self._open(recording.shard)
            if self.index.scale is None:
                shard.blocks.read(recording.first + first, as_blocks(window_CT))
            else:
                np.copyto(as_blocks(window_CT), shard.blocks.get(recording.first + first, WINDOW_BLOCKS))
                window_CT *= np.float32(self.index.scale)  # two passes: numpy casts and multiplies in pieces slower
            self._read_labels(recording, first, labels_T)

    def _read_labels(self, recording: PackedRecording, first: int, labels_T: Float32Array) -> None:
        """Fill in the labels of one window. first: its block, counted from the recording's."""
        if recording.labels is None:
            labels_T.fill(np.nan)
        elif recording.labels == SMALL_LABELS:
            labels_KS = self._open(recording.shard).labels.get(recording.first + first, WINDOW_BLOCKS)
            np.copyto(as_blocks(labels_T), labels_KS)
        else:
            self._own_labels(recording).read(first, as_blocks(labels_T))

    def _labels(self, recording: PackedRecording) -> Array:
        """Return the label blocks of a recording, (K, S); filler if it has none."""
        if recording.labels in {None, SMALL_LABELS}:
            return self._open(recording.shard).labels.get(recording.first, recording.blocks)
        return self._own_labels(recording).get(0, recording.blocks)

    def _open(self, number: int) -> _Shard:
        if number not in self._shards:
            shard, dtype = self.index.shards[number], FLOAT if self.index.scale is None else SHORT
            shape = (shard.blocks, CHANNELS, BLOCK)
            blocks = open_rows(self._files, f"{self.split}/{shard.file}", shape, dtype, self.backend)
            labels = open_rows(self._files, f"{self.split}/{shard.labels}", (shard.blocks, BLOCK), BYTE, self.backend)
            self._shards[number] = _Shard(blocks, labels)
        return self._shards[number]

    def _own_labels(self, recording: PackedRecording) -> Rows:
        """Open the labels of a recording that are no bytes; not kept open, since there may be thousands."""
        return open_rows(self._files, f"{self.split}/{recording.labels}", (recording.blocks, BLOCK), FLOAT, "pread")


@contextlib.contextmanager
def _naming(recording: PackedRecording, split: str) -> Iterator[None]:
    """Say in errors which recording could not be read."""
    try:
        yield
    except Damaged as error:
        raise Damaged(f"recording {recording.cache_file} of {split}: {error}", hint=error.hint) from error
