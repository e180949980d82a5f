"""NpzStore: the windows of one split of a cache as it is, so that packing is never a must. Slow: a window costs a file.

A batch is read file by file, and the last recordings stay inflated; a sampler that keeps to a file for a while wins.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tusz_cache.packing.blocks import Float32Array
from tusz_cache.packing.npz import check_windows, open_npz, read_windows
from tusz_cache.packing.rows import Files
from tusz_cache.packing.windows import WindowStore
from tusz_cache.settings import cores

KEPT = 2  # recordings that stay inflated, some 85 MB each


def count_windows(files: Files, split: str, names: Sequence[str]) -> dict[str, int]:
    """Return the number of windows of each cache file, from the headers alone. Raises BadRecording."""

    def count(name: str) -> int:
        key = f"{split}/{name}"
        with open_npz(partial(files.open, key), name=key, wanted=("windows", "labels")) as npz:
            return check_windows(npz)[0].shape[0]

    with ThreadPoolExecutor(2 * cores()) as pool:
        return dict(zip(names, pool.map(count, names), strict=True))


class _Inflated(NamedTuple):
    windows_NCT: Float32Array
    labels_NT: Float32Array | None


class NpzStore(WindowStore):
    """Windows of NPZ files."""

    def __init__(self, files: Files, split: str, counts: Mapping[str, int], *, kept: int = KEPT) -> None:
        """files: rooted at the cache. counts: windows of each cache file, sorted by name. kept: recordings inflated."""
        super().__init__(split, list(counts), list(counts.values()))
        self._files, self._counts, self._kept = files, dict(counts), kept
        self._inflated: OrderedDict[int, _Inflated] = OrderedDict()  # the latest last
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(NpzStore, kept=self._kept), (self._files, self.split, self._counts)

    def _order(self, numbers: npt.NDArray[np.int64]) -> Sequence[int]:
        order: list[int] = np.argsort(numbers, kind="stable").tolist()
        return order

    def _has_labels(self, number: int) -> bool:
        return self._recording(number).labels_NT is not None

    def _read(self, number: int, window: int, window_CT: Float32Array, labels_T: Float32Array) -> None:
        recording = self._recording(number)
        window_CT[...] = recording.windows_NCT[window]
        labels_T[...] = np.nan if recording.labels_NT is None else recording.labels_NT[window]

    def _recording(self, number: int) -> _Inflated:
        with self._lock:
            if number not in self._inflated:
                key = f"{self.split}/{self.cache_files[number]}"
                while len(self._inflated) >= self._kept:  # before the next one: memory stays bounded
                    self._inflated.popitem(last=False)
                with open_npz(partial(self._files.open, key), name=key, wanted=("windows", "labels")) as npz:
                    self._inflated[number] = _Inflated(*read_windows(npz))
            self._inflated.move_to_end(number)
            return self._inflated[number]
