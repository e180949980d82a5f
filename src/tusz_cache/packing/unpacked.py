"""NpzStore: the windows of one split of a cache as it is, so that packing is never a must. Slow: a window costs a file.

A batch is read file by file, and the last recordings stay inflated; a sampler that keeps to a file for a while wins.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tusz_cache.packing.blocks import Float32Array
from tusz_cache.packing.npz import check_windows, float_values, open_npz, read_windows
from tusz_cache.packing.rows import Files
from tusz_cache.packing.windows import WindowStore
from tusz_cache.settings import cores
from tusz_cache.tusz_windows import CacheFile, ictal_shares

KEPT = 2  # recordings that stay inflated, some 85 MB each


def look_at(files: Files, split: str, names: Sequence[str]) -> tuple[CacheFile, ...]:
    """Return what the headers of cache files tell. Raises BadRecording."""

    def look(name: str) -> CacheFile:
        key = f"{split}/{name}"
        with open_npz(partial(files.open, key), name=key, wanted=("windows", "labels")) as npz:
            windows, labels = check_windows(npz)
            return CacheFile(name, windows.shape[0], labels is not None)

    with ThreadPoolExecutor(2 * cores()) as pool:
        return tuple(pool.map(look, names))


class _Inflated(NamedTuple):
    windows_NCT: Float32Array
    labels_NT: Float32Array | None


class NpzStore(WindowStore):
    """Windows of NPZ files."""

    def __init__(self, files: Files, split: str, recordings: Sequence[CacheFile], *, kept: int = KEPT) -> None:
        """files: rooted at the cache. recordings: by name. kept: recordings that stay inflated."""
        super().__init__(split, recordings)
        self._files, self._kept = files, kept
        self._inflated: OrderedDict[int, _Inflated] = OrderedDict()  # the latest last
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(NpzStore, kept=self._kept), (self._files, self.split, self.recordings)

    def _order(self, numbers: npt.NDArray[np.int64]) -> Sequence[int]:
        order: list[int] = np.argsort(numbers, kind="stable").tolist()
        return order

    def ictal_shares(self, number: int) -> npt.NDArray[np.float64]:
        """See WindowStore. Inflates the labels alone."""
        key = f"{self.split}/{self.recordings[number].name}"
        with open_npz(partial(self._files.open, key), name=key, wanted=("windows", "labels")) as npz:
            _, labels = check_windows(npz)
            assert labels is not None
            return ictal_shares(float_values(npz, labels))

    def _read(self, number: int, window: int, window_CT: Float32Array, labels_T: Float32Array) -> None:
        recording = self._recording(number)
        window_CT[...] = recording.windows_NCT[window]
        labels_T[...] = np.nan if recording.labels_NT is None else recording.labels_NT[window]

    def _recording(self, number: int) -> _Inflated:
        with self._lock:
            if number not in self._inflated:
                key = f"{self.split}/{self.recordings[number].name}"
                while len(self._inflated) >= self._kept:  # before the next one: memory stays bounded
                    self._inflated.popitem(last=False)
                with open_npz(partial(self._files.open, key), name=key, wanted=("windows", "labels")) as npz:
                    self._inflated[number] = _Inflated(*read_windows(npz))
            self._inflated.move_to_end(number)
            return self._inflated[number]
