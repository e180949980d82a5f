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
from tusz_cache.packing.blocks import Float32Array, aligned
from tusz_cache.tusz import CHANNELS, WINDOW
from tusz_cache.tusz_windows import CacheFile

Batch = tuple[Float32Array, Float32Array]
Indices = Sequence[int] | npt.NDArray[np.integer[Any]]


class WindowStore(ABC):
    """Windows in the order of file names, then of time. Goes through pickle and fork; safe in threads.

    `len(store)`; `store[i]` -> (window (C, T) float32, labels (T,) float32 or None);
    `store.read_batch(indices)` -> (windows (B, C, T), labels (B, T)), rows without labels NaN.
    """

    def __init__(self, split: str, recordings: Sequence[CacheFile]) -> None:
        """recordings: by name."""
        self.split, self.recordings = split, tuple(recordings)
        self._ends = np.cumsum([file.n_windows for file in recordings], dtype=np.int64)  # windows with each recording

    @property
    def cache_files(self) -> tuple[str, ...]:
        """The names of the recordings' files, in order."""
        return tuple(file.name for file in self.recordings)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, i: int) -> tuple[Float32Array, Float32Array | None]:
        windows_BCT, labels_BT = self.read_batch([operator.index(i)])
        number = int(self.find([i])[0][0])
        return windows_BCT[0], labels_BT[0] if self.recordings[number].is_labelled else None

    def __iter__(self) -> Iterator[tuple[Float32Array, Float32Array | None]]:
        return (self[i] for i in range(len(self)))

    def locate(self, i: int) -> tuple[str, int]:
        """Return (cache file, window of that file) of window `i`. Raises IndexError."""
        numbers, windows = self.find([i])
        return self.recordings[numbers[0]].name, int(windows[0])

    def find(self, indices: Indices) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return (recording, window of that recording) of each index, as two arrays. Raises IndexError, UsageError."""
        given = np.asarray(indices)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise UsageError(
                f"{given.dtype} of shape {given.shape} are no indices", hint="give a list of whole numbers"
            )
        wanted = given.astype(np.int64)
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
    def ictal_shares(self, number: int) -> npt.NDArray[np.float64]:
        """Return the share of ictal samples in each window of recording `number`, which has labels, (N,).

        Raises Damaged.
        """


def _arrays(count: int, out: Batch | None) -> Batch:
    shapes = (count, CHANNELS, WINDOW), (count, WINDOW)
    if out is None:
        return aligned(shapes[0], np.float32), aligned(shapes[1], np.float32)
    for array, shape in zip(out, shapes, strict=True):
        check_out(array, shape, np.dtype(np.float32))
    return out


def check_out(out: npt.NDArray[Any], shape: tuple[int, ...], dtype: "np.dtype[Any]") -> None:
    """Raise UsageError unless `out` can be filled with an array of this shape and type."""
    if (out.shape, out.dtype) != (shape, dtype) or not (out.flags.c_contiguous and out.flags.writeable):
        raise UsageError(
            f"out has an array of shape {out.shape} and type {out.dtype}",
            hint=f"give a writable C-contiguous array of shape {shape} and type {dtype}",
        )
