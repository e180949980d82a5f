"""Windows of one split, whatever they are read from: how they are numbered, and how batches are asked for.

Axes: B = windows of a batch, C = 19 channels, T = 15,360 samples at 256 Hz.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tusz_cache.errors import UsageError
from tusz_cache.packing.blocks import Float32Array
from tusz_cache.tusz import CHANNELS, WINDOW

Batch = tuple[Float32Array, Float32Array]
Indices = Sequence[int] | npt.NDArray[np.integer[Any]]


class WindowStore(ABC):
    """Windows in the order of file names, then of time. Goes through pickle and fork; safe in threads.

    `len(store)`; `store[i]` -> (window (C, T) float32, labels (T,) float32 or None);
    `store.read_batch(indices)` -> (windows (B, C, T), labels (B, T)), rows without labels NaN.
    """

    def __init__(self, split: str, cache_files: Sequence[str], counts: Sequence[int]) -> None:
        """cache_files: names of the recordings' files, sorted. counts: windows of each."""
        self.split, self.cache_files = split, tuple(cache_files)
        self._ends = np.cumsum(counts, dtype=np.int64)  # windows up to and with each recording

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, i: int) -> tuple[Float32Array, Float32Array | None]:
        windows_BCT, labels_BT = self.read_batch([operator.index(i)])
        number = int(self.find([i])[0][0])
        return windows_BCT[0], labels_BT[0] if self._has_labels(number) else None

    def __iter__(self) -> Iterator[tuple[Float32Array, Float32Array | None]]:
        return (self[i] for i in range(len(self)))

    def locate(self, i: int) -> tuple[str, int]:
        """Return (cache file, window of that file) of window `i`. Raises IndexError."""
        numbers, windows = self.find([i])
        return self.cache_files[numbers[0]], int(windows[0])

    def find(self, indices: Indices) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return (recording, window of that recording) of each index, as two arrays. Raises IndexError."""
        wanted = np.asarray(indices, np.int64)
        if len(wanted) and not -len(self) <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"windows {wanted.min()} to {wanted.max()} of {len(self)}")
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        numbers = np.searchsorted(self._ends, wanted, "right")
        return numbers, wanted - np.concatenate(([0], self._ends))[numbers]

    def read_batch(self, indices: Indices, out: Batch | None = None) -> Batch:
        """Return the windows (B, C, T) and labels (B, T) of `indices`, float32; rows without labels are NaN.

        out: arrays to fill, of these shapes, C-contiguous. Raises IndexError, UsageError, Damaged (naming the file).
        """
        windows_BCT, labels_BT = _arrays(len(indices), out)
        numbers, windows = self.find(indices)
        for row in self._order(numbers):
            self._read(int(numbers[row]), int(windows[row]), windows_BCT[row], labels_BT[row])
        return windows_BCT, labels_BT

    def _order(self, numbers: npt.NDArray[np.int64]) -> Sequence[int]:
        """Return the rows of a batch, whose recordings are `numbers`, in the order in which they are best read."""
        return range(len(numbers))

    @abstractmethod
    def _read(self, number: int, window: int, window_CT: Float32Array, labels_T: Float32Array) -> None:
        """Fill in one window of recording `number`; labels that are not there are NaN. Raises Damaged."""

    @abstractmethod
    def _has_labels(self, number: int) -> bool:
        """Whether recording `number` has labels."""


def _arrays(count: int, out: Batch | None) -> Batch:
    shapes = (count, CHANNELS, WINDOW), (count, WINDOW)
    if out is None:
        return np.empty(shapes[0], np.float32), np.empty(shapes[1], np.float32)
    for array, shape in zip(out, shapes, strict=True):
        fits = array.shape == shape and array.dtype == np.float32
        if not (fits and array.flags.c_contiguous and array.flags.writeable):
            raise UsageError(
                f"out has an array of shape {array.shape} and type {array.dtype}",
                hint=f"give writable C-contiguous float32 arrays of shapes {shapes[0]} and {shapes[1]}",
            )
    return out
