"""The dataset index: which EDF files a split was made of, and how many windows each gave. `_dataset_index.json`."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from tusz_cache.errors import Damaged
from tusz_cache.tusz import cache_file_of, listed
from tusz_cache.tusz_windows import CacheFile

_REMOVE_IT = "move it away: it is rebuilt from the NPZ files"


@dataclass(frozen=True, slots=True)
class DatasetIndex:
    """Recordings in the order of the users' tool."""

    files: tuple[str, ...]  # EDF paths where the cache was made
    window_counts: tuple[int, ...]

    @property
    def cache_files(self) -> tuple[str, ...]:
        """The name of each recording's file in the cache."""
        return tuple(map(cache_file_of, self.files))


def rebuild(files: Iterable[CacheFile]) -> DatasetIndex:
    """Return an index of the files that lie there, by name. EDF paths are bare names: the tool compares no more."""
    rows = sorted((file.name.removesuffix("_windows.npz") + ".edf", file.n_windows) for file in files)
    return DatasetIndex(tuple(name for name, _ in rows), tuple(count for _, count in rows))


def from_bytes(data: bytes, *, path: str) -> DatasetIndex:
    """Read `_dataset_index.json`. path: for the message. Raises Damaged if it is not what the users' tool writes."""
    try:
        return _index(orjson.loads(data))
    except (ValueError, TypeError) as error:
        raise Damaged(f"{path} is no dataset index: {error}", hint=_REMOVE_IT) from error


def _index(value: Any) -> DatasetIndex:
    """Return what the file says. Raises ValueError or TypeError."""
    if not isinstance(value, dict) or value.keys() != {"files", "window_counts"}:
        raise ValueError("it must have the keys files, window_counts")
    files, counts = value["files"], value["window_counts"]
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise TypeError("files must be a list of paths")
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise TypeError("window_counts must be a list of whole numbers")
    if len(files) != len(counts):
        raise ValueError(f"it has {len(files)} files, but {len(counts)} window counts")
    return DatasetIndex(tuple(files), tuple(counts))


def to_bytes(index: DatasetIndex) -> bytes:
    """Return `_dataset_index.json`, byte for byte as the users' tool writes it."""
    return json.dumps({"files": index.files, "window_counts": index.window_counts}).encode()


def differences(index: DatasetIndex, files: Iterable[CacheFile]) -> tuple[str, ...]:
    """Say in what an index does not fit the files of its split: nothing if it does, else it is stale."""
    held = {file.name: file.n_windows for file in files}
    named = index.cache_files
    rows = list(zip(named, index.window_counts, strict=True))
    found = {
        "names files that are not there": [name for name in named if name not in held],
        "names files twice": [name for name, times in Counter(named).items() if times > 1],
        "counts windows wrongly": [name for name, count in rows if held.get(name, count) != count],
        "lacks files": sorted(held.keys() - set(named)),
    }
    return tuple(f"{what}: {listed(names)}" for what, names in found.items() if names)
