"""The users' two JSON files of a split: their own where they fit its recordings, else made anew. Draws rely on them."""

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from tusz_cache import tusz_index, tusz_windows
from tusz_cache.errors import Damaged
from tusz_cache.guarding.admitted import AdmittedCache
from tusz_cache.packing.rows import Files
from tusz_cache.packing.store import files_of, open_store
from tusz_cache.packing.windows import WindowStore
from tusz_cache.tusz_windows import CacheFile, WindowManifest

WINDOW_MANIFEST, DATASET_INDEX = "manifest.json", "_dataset_index.json"

T = TypeVar("T")
_Differences = Callable[[Any, Iterable[CacheFile]], tuple[str, ...]]
_Form = tuple[Callable[..., Any], _Differences, Callable[[], bytes]]


@dataclass(frozen=True, slots=True)
class UsersFile:
    """A file as the users' tool writes it."""

    data: bytes
    fault: str  # of the cache's own, which is why this was made anew; "": it is the cache's own, byte for byte


def read_window_manifest(cache: AdmittedCache | str | PathLike[str], split: str) -> WindowManifest:
    """Return which windows of `split` show a seizure, of a packed store or a cache.

    cache: as `open_store` has it. Where `manifest.json` is absent or stale, the labels are read instead: from a cache
    that takes a while. Raises as `open_store` does.
    """
    store = open_store(cache, split, backend="pread")
    root, files, keys = files_of(cache, split)
    data = _read(files, keys, f"{split}/{WINDOW_MANIFEST}")
    found, _ = _fitting(data, root / split / WINDOW_MANIFEST, store, tusz_windows.from_bytes, tusz_windows.differences)
    return rebuilt(store) if found is None else found


def rebuilt(store: WindowStore) -> WindowManifest:
    """Return the window manifest that the labels give. Reads all labels. Raises Damaged."""
    return tusz_windows.rebuild(
        {
            file.name: store.ictal_shares(number) if file.is_labelled else None
            for number, file in enumerate(store.recordings)
        }
    )


def users_files(cache: AdmittedCache, store: WindowStore) -> dict[str, UsersFile]:
    """Return window manifest and dataset index, by name, of the split of `cache` that `store` was made of."""
    root, files, keys = files_of(cache, store.split)
    forms: dict[str, _Form] = {
        WINDOW_MANIFEST: (
            tusz_windows.from_bytes,
            tusz_windows.differences,
            lambda: tusz_windows.to_bytes(rebuilt(store)),
        ),
        DATASET_INDEX: (
            tusz_index.from_bytes,
            tusz_index.differences,
            lambda: tusz_index.to_bytes(tusz_index.rebuild(store.recordings)),
        ),
    }
    found: dict[str, UsersFile] = {}
    for name, (parse, differences, made_anew) in forms.items():
        data = _read(files, keys, f"{store.split}/{name}")
        _, fault = _fitting(data, root / store.split / name, store, parse, differences)
        found[name] = UsersFile(made_anew() if data is None or fault else data, fault)
    return found


def _read(files: Files, keys: Collection[str], key: str) -> bytes | None:
    if key not in keys:
        return None
    with os.fdopen(files.open(key), "rb") as file:
        return file.read()


def _fitting(
    data: bytes | None,
    path: Path,
    store: WindowStore,
    parse: Callable[..., T],
    differences: _Differences,
) -> tuple[T | None, str]:
    """Return what a file says if it fits the recordings of `store`; else None, and in what it does not."""
    if data is None:
        return None, "the cache has none"
    try:
        value = parse(data, path=str(path))
    except Damaged as error:
        return None, str(error)
    found = differences(value, store.recordings)
    return (None, "; ".join(found)) if found else (value, "")
