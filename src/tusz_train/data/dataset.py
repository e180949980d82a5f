"""WindowDataset: the labelled windows of a split as torch has them, each batch filled with one copy.

Axes: B = windows of a batch, C = 19 channels, T = 15,360 samples at 256 Hz; K = 6 blocks of S = 2,560 samples.
"""

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from tusz_cache import (
    AdmittedCache,
    CacheError,
    Damaged,
    PackedStore,
    UsageError,
    WindowManifest,
    WindowStore,
    check_disjoint,
    open_store,
    read_window_manifest,
)
from tusz_train.data.limit import limited
from tusz_train.data.order import Rows
from tusz_train.data.readahead import Advise, Readahead, readahead
from tusz_train.montage import CHANNELS, WINDOW

Pair = tuple[Tensor, Tensor]  # of a window or of a batch: signal, labels

BLOCKS = 6
BLOCK = WINDOW // BLOCKS


class WindowDataset(Dataset[Pair]):
    """Row i of a window manifest: `ds[i]` -> (x (C, T), y (T,)), float32; `ds.__getitems__(rows)` -> the same, batched.

    Windows without labels are in no manifest, so they are never trained on. Goes through pickle and fork, safe in
    threads. With `raw`, windows come as an int16 store has them: x (K, C, S) int16, to be unfolded on the device
    (see CudaFeed) and multiplied by `scale`.
    """

    def __init__(
        self,
        store: WindowStore,
        manifest: WindowManifest,
        *,
        cache: AdmittedCache | None = None,
        raw: bool = False,
        advise: Advise = "off",
    ) -> None:
        """cache: what the store was opened from; looked at again wherever this arrives by fork. advise: whether the
        kernel is told of windows before they are read; auto: where they may not be in memory yet. Needs `cache`.

        Raises: UsageError for a manifest without windows, `raw` without int16; Damaged if the store does not have what
        the manifest names, or has no labels for it.
        """
        if not len(manifest):
            raise UsageError(
                f"no window of {store.split} has labels", hint="training needs labels: check how the cache was made"
            )
        if raw and (not isinstance(store, PackedStore) or store.index.scale is None):
            raise UsageError(
                "only a store packed as int16 can be read raw", hint="pack it with --dtype int16, or do not ask for raw"
            )
        self.store, self.manifest, self.cache, self.raw = store, manifest, cache, raw
        self._windows = store_windows(store, manifest)
        self._ahead: Readahead | None = None
        if cache is not None and isinstance(store, PackedStore):
            self._ahead = readahead(cache, store, advise)
        self._process = os.getpid()

    @property
    def scale(self) -> float | None:
        """Return what raw numbers are to be multiplied by; None if windows come as float32."""
        return self.store.index.scale if self.raw and isinstance(self.store, PackedStore) else None

    @property
    def left_out(self) -> int:
        """Return the windows of the split that have no labels, and so are not here."""
        return sum(file.n_windows for file in self.store.recordings if not file.is_labelled)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, i: int) -> Pair:
        x_BCT, y_BT = self.read([i])
        return x_BCT[0], y_BT[0]

    def __getitems__(self, rows: Sequence[int]) -> Pair:
        return self.read(rows)

    @staticmethod
    def collate(batch: Pair) -> Pair:
        """Return the batch: it is finished. For DataLoader's `collate_fn`."""
        return batch

    def read(self, rows: Sequence[int], *, pin: bool = False) -> Pair:
        """Return the windows (B, C, T), or raw (B, K, C, S), and labels (B, T) of manifest rows.

        pin: in page-locked memory, from which CUDA copies without waiting. Raises IndexError; Damaged, naming the
        recording; CacheRefused in a process where something else is mounted at the cache's path.
        """
        self._arrive()
        windows = self._windows[np.asarray(rows, np.int64)]
        y_BT = _memory((len(windows), WINDOW), torch.float32, pin)
        if self.raw and isinstance(self.store, PackedStore):
            x = _memory((len(windows), BLOCKS, len(CHANNELS), BLOCK), torch.int16, pin)
            self.store.read_blocks(windows, x.numpy())
            self.store.read_labels(windows, y_BT.numpy())
        else:
            x = _memory((len(windows), len(CHANNELS), WINDOW), torch.float32, pin)
            self.store.read_batch(windows, (x.numpy(), y_BT.numpy()))
        self._check_labels(windows, y_BT)
        return x, y_BT

    def advise(self, rows: Sequence[int]) -> None:
        """Have the kernel begin to read the windows of manifest rows, which are read soon. From one thread only."""
        if self._ahead is None:
            return
        with contextlib.suppress(CacheError, OSError):  # reading says what is wrong, in its turn
            self._arrive()
            self._ahead(self._windows[np.asarray(rows, np.int64)])

    def _check_labels(self, windows: Rows, y_BT: Tensor) -> None:
        """Raise Damaged for labels that are not there: never zeros in their place."""
        is_absent_B = torch.isnan(y_BT).any(1).numpy()
        if is_absent_B.any():
            name, window = self.store.locate(int(windows[is_absent_B][0]))
            raise _unlabelled(f"window {window} of {name}", self.store.split)

    def _arrive(self) -> None:
        """In a process that was forked from the one that opened the cache, look whether its path still leads there."""
        if self._process != os.getpid():
            if self.cache is not None:
                self.cache.recheck()
            self._process = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._process = os.getpid()  # an admitted cache that was unpickled has looked already


def store_windows(store: WindowStore, manifest: WindowManifest) -> Rows:
    """Return the store's number of each window that a manifest names, (R,). Raises Damaged if they do not fit."""
    starts = np.cumsum([0, *(file.n_windows for file in store.recordings)], dtype=np.int64)
    held = {file.name: (file, start) for file, start in zip(store.recordings, starts, strict=False)}
    if absent := sorted(set(manifest.files) - held.keys()):
        raise Damaged(
            f"the window manifest of {store.split} names {absent[0]}, which is not there",
            hint="run verify: it tells which files are missing",
        )
    files = [held[name] for name in manifest.files]
    if (bare := next((file for file, _ in files if not file.is_labelled), None)) is not None:
        raise _unlabelled(bare.name, store.split)
    counts_F = np.array([file.n_windows for file, _ in files], np.int64)
    if (manifest.windows >= counts_F[manifest.file_numbers]).any():
        raise Damaged(
            f"the window manifest of {store.split} names windows that its files do not have",
            hint="run verify: it tells which files are damaged",
        )
    starts_F = np.array([start for _, start in files], np.int64)
    return starts_F[manifest.file_numbers] + manifest.windows


def open_datasets(
    cache: AdmittedCache,
    splits: Sequence[str] = ("train", "dev"),
    *,
    limits: Mapping[str, int] | None = None,
    seed: int = 0,
    raw: bool = False,
    advise: Advise = "auto",
    backend: Literal["auto", "mmap", "pread"] = "auto",
) -> dict[str, WindowDataset]:
    """Return the dataset of each split of a cache, or of a packed store.

    limits: files of each split, for smoke runs (see limit). raw, advise: of WindowDataset. backend: of open_store.
    Raises PatientOverlap if a patient is in two of the splits; and what WindowDataset, open_store raise.
    """
    stores = {split: open_store(cache, split, backend=backend) for split in splits}
    check_disjoint({split: store.cache_files for split, store in stores.items()})
    manifests = {split: read_window_manifest(cache, split) for split in splits}
    if limits:
        manifests = {split: limited(manifest, limits[split], seed) for split, manifest in manifests.items()}
    how: dict[str, Any] = {"cache": cache, "raw": raw, "advise": advise}
    return {split: WindowDataset(stores[split], manifests[split], **how) for split in splits}


def _unlabelled(what: str, split: str) -> Damaged:
    return Damaged(
        f"{what} of {split} has no labels",
        hint="training never takes them for zeros: remove manifest.json, which names it, or make the file anew",
    )


def _memory(shape: tuple[int, ...], dtype: torch.dtype, pin: bool) -> Tensor:
    """Return an empty tensor; in a worker in shared memory, since the queue would else copy it there."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype, pin_memory=pin)
    size = math.prod(shape) * dtype.itemsize
    shared: Any = torch.UntypedStorage
    storage = shared._new_shared(size)  # noqa: SLF001 - as torch's own collate does: there is no public way
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape, torch.empty(shape, device="meta").stride())
