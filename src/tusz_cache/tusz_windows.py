"""The window manifest: which windows of a split show a seizure, in part, in full or not at all.

A value, its file `manifest.json` as the users' tool writes it, and the pure function that makes it of labels. Columns
instead of objects, for a split has hundreds of thousands of windows.

Axes: N = windows of a recording, T = samples of a window, R = rows of a manifest, F = files.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from tusz_cache.errors import Damaged
from tusz_cache.tusz import listed, recordings

FULL_SHARE = 0.99  # share of ictal samples from which a window is a full seizure

_REMOVE_IT = "move it away: it is rebuilt from the labels"


class Category(IntEnum):
    """What a window shows, in the order of the file."""

    PARTIAL = 0  # 0 < share of ictal samples < 0.99
    FULL = 1
    NONE = 2


_KEYS = {Category.PARTIAL: "partial_seizure", Category.FULL: "full_seizure", Category.NONE: "no_seizure"}


@dataclass(frozen=True, slots=True)
class CacheFile:
    """A recording's file as it lies there."""

    name: str
    n_windows: int
    is_labelled: bool = True  # windows without labels belong to no category


@dataclass(frozen=True, slots=True, eq=False)
class WindowManifest:
    """The windows of a split, as columns. Rows stand in the file's order: partial, full, none. Draws rely on it."""

    files: tuple[str, ...]  # names, sorted
    file_numbers: npt.NDArray[np.int32]  # (R,), into `files`
    windows: npt.NDArray[np.int32]  # (R,), within the file
    categories: npt.NDArray[np.uint8]  # (R,)

    def __post_init__(self) -> None:
        """Make the columns read-only."""
        for column in (self.file_numbers, self.windows, self.categories):
            column.flags.writeable = False

    def __len__(self) -> int:
        return len(self.file_numbers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WindowManifest):
            return NotImplemented
        return (
            self.files == other.files
            and np.array_equal(self.file_numbers, other.file_numbers)
            and np.array_equal(self.windows, other.windows)
            and np.array_equal(self.categories, other.categories)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have none

    def rows(self, category: Category) -> slice:
        """Return the rows of a category, which stand together."""
        first, end = np.searchsorted(self.categories, [category, category + 1])
        return slice(int(first), int(end))

    def counts(self) -> Counter[Category]:
        """Return the windows by category."""
        return Counter({category: self.rows(category).stop - self.rows(category).start for category in Category})

    def counts_by_file(self) -> npt.NDArray[np.int64]:
        """Return the windows by file and category, (F, 3)."""
        cells = self.file_numbers.astype(np.int64) * len(Category) + self.categories
        return np.bincount(cells, minlength=len(self.files) * len(Category)).reshape(-1, len(Category))

    def counts_by_patient(self) -> Mapping[str, Counter[Category]]:
        """Return each patient's windows by category. Raises UsageError for a file whose name tells no patient."""
        patients: dict[str, Counter[Category]] = {}
        for recording, counts in zip(recordings(self.files), self.counts_by_file().tolist(), strict=True):
            patients.setdefault(recording.patient, Counter()).update(dict(zip(Category, counts, strict=True)))
        return patients


# from labels


def ictal_shares(labels_NT: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the share of each window's samples whose label is above 0, (N,)."""
    shares_N: npt.NDArray[np.float64] = np.count_nonzero(labels_NT > 0, axis=1) / labels_NT.shape[1]
    return shares_N


def categories(shares_N: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Return each window's category by the share of its ictal samples, (N,)."""
    seizure_N = np.where(shares_N >= FULL_SHARE, np.uint8(Category.FULL), np.uint8(Category.PARTIAL))
    return np.where(shares_N > 0, seizure_N, np.uint8(Category.NONE))


def rebuild(shares_by_file: Mapping[str, npt.NDArray[np.float64] | None]) -> WindowManifest:
    """Return the manifest that the users' tool writes: files by name, windows in order, files without labels left out.

    shares_by_file: cache file -> share of ictal samples in each of its windows, (N,), None without labels.
    """
    shares = [(name, shares_N) for name, shares_N in sorted(shares_by_file.items()) if shares_N is not None]
    shares = [(name, shares_N) for name, shares_N in shares if len(shares_N)]
    counts = [len(shares_N) for _, shares_N in shares]
    return _manifest(
        tuple(name for name, _ in shares),
        np.repeat(np.arange(len(shares)), counts),
        np.concatenate([np.empty(0), *map(np.arange, counts)]),
        np.concatenate([np.empty(0, np.uint8), *(categories(shares_N) for _, shares_N in shares)]),
    )


def _manifest(
    files: tuple[str, ...], file_R: npt.NDArray[Any], window_R: npt.NDArray[Any], category_R: npt.NDArray[np.uint8]
) -> WindowManifest:
    """Sort rows by category and leave them else in their order."""
    order = np.argsort(category_R, kind="stable")
    return WindowManifest(
        files, file_R[order].astype(np.int32), window_R[order].astype(np.int32), category_R[order].astype(np.uint8)
    )


# the file manifest.json


def from_bytes(data: bytes, *, path: str) -> WindowManifest:
    """Read `manifest.json`. path: for the message. Raises Damaged if it is not what the users' tool writes."""
    try:
        names, windows, numbers = _rows(orjson.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"{path} is no window manifest: {error}", hint=_REMOVE_IT) from error
    files = sorted(set(names))
    row = {name: number for number, name in enumerate(files)}
    return _manifest(
        tuple(files),
        np.fromiter((row[name] for name in names), np.int32, len(names)),
        np.array(windows, np.int32),
        np.array(numbers, np.uint8),
    )


def _rows(value: Any) -> tuple[list[str], list[int], list[int]]:
    """Return file, window and category of each row. Raises what odd values raise."""
    if value.keys() != set(_KEYS.values()):
        raise ValueError(f"it must have the keys {', '.join(_KEYS.values())}")
    names: list[str] = []
    windows: list[int] = []
    numbers: list[int] = []
    for category, key in _KEYS.items():
        if not isinstance(value[key], list):
            raise TypeError(f"{key} must be a list")
        for item in value[key]:
            name, window = item["cache_file"], item["window_idx"]
            if len(item) != 2 or not isinstance(name, str) or type(window) is not int or not 0 <= window < 2**31:
                raise ValueError(f"{key} has an entry {item!r:.200}")
            names.append(name)
            windows.append(window)
        numbers += [category] * len(value[key])
    return names, windows, numbers


def to_bytes(manifest: WindowManifest) -> bytes:
    """Return `manifest.json`, byte for byte as the users' tool writes it."""
    files, windows = manifest.file_numbers.tolist(), manifest.windows.tolist()
    value = {
        key: [
            {"cache_file": manifest.files[file], "window_idx": window}
            for file, window in zip(files[manifest.rows(category)], windows[manifest.rows(category)], strict=True)
        ]
        for category, key in _KEYS.items()
    }
    return json.dumps(value, indent=2).encode()


def differences(manifest: WindowManifest, files: Iterable[CacheFile]) -> tuple[str, ...]:
    """Say in what a manifest does not fit the files of its split: nothing if it does, else it is stale."""
    held = {file.name: file for file in files}
    n_F = np.array([held[name].n_windows if name in held else 0 for name in manifest.files], np.int64)
    there_R = manifest.windows < n_F[manifest.file_numbers]
    cells = (manifest.file_numbers.astype(np.int64) << 32) + manifest.windows
    named_F = np.bincount(np.unique(cells[there_R]) >> 32, minlength=len(manifest.files)).tolist()
    named = dict(zip(manifest.files, named_F, strict=True))
    beyond = np.unique(manifest.file_numbers[~there_R]).tolist()
    found = {
        "names files that are not there": [name for name in manifest.files if name not in held],
        "names files without labels": [name for name in manifest.files if name in held and not held[name].is_labelled],
        "names windows that files do not have": [
            manifest.files[file] for file in beyond if manifest.files[file] in held
        ],
        "lacks windows of files": [
            name for name, file in sorted(held.items()) if file.is_labelled and named.get(name, 0) < file.n_windows
        ],
    }
    said = [f"{what}: {listed(names)}" for what, names in found.items() if names]
    twice = len(cells) - len(np.unique(cells))
    return (*said, *([f"names {twice} windows more than once"] if twice else []))
