"""open_store: the windows of one split, packed or not."""

import os
from os import PathLike
from pathlib import Path
from typing import Literal

from tusz_cache.errors import Damaged, UsageError
from tusz_cache.guarding.admitted import AdmittedCache
from tusz_cache.guarding.guard import CacheGuard
from tusz_cache.guarding.stages import is_url
from tusz_cache.guarding.values import Ruling, Verdict
from tusz_cache.packing.index import INDEX, from_bytes
from tusz_cache.packing.packed import PackedStore
from tusz_cache.packing.rows import Backend, Directory, Files
from tusz_cache.packing.unpacked import NpzStore, look_at
from tusz_cache.packing.windows import WindowStore
from tusz_cache.tusz import SPLITS, split_of


def open_store(
    store: AdmittedCache | str | PathLike[str],
    split: str,
    *,
    backend: Literal["auto", "mmap", "pread"] = "auto",
) -> WindowStore:
    """Return the windows of `split`, of a packed store or of a cache that was never packed.

    store: what the guard admitted; or a path, for notebooks and checks. backend: how packed shards are read; auto: mmap
    on disks of this machine, pread elsewhere. Raises UsageError if there is no such split; Damaged, BadRecording.
    """
    if backend not in {"auto", "mmap", "pread"}:
        raise UsageError(f"backend {backend!r} does not exist", hint="use auto, mmap or pread")
    root, files, keys = files_of(store, split)
    if f"{split}/{INDEX}" in keys:
        with os.fdopen(files.open(f"{split}/{INDEX}"), "rb") as file:
            index = from_bytes(file.read(), path=str(root / split / INDEX))
        if index.split != split:
            raise Damaged(f"{root / split / INDEX} is of {index.split}", hint="pack the cache again")
        return PackedStore(files, index, _chosen(store) if backend == "auto" else backend)
    names = sorted(key.partition("/")[2] for key in keys if key.endswith(".npz"))
    if not names:
        raise UsageError(
            f"{root} has no windows of {split}",
            hint="name the packed store or the cache; splits are train, dev and eval",
        )
    return NpzStore(files, split, look_at(files, split, names))


def files_of(store: AdmittedCache | str | PathLike[str], split: str) -> tuple[Path, Files, set[str]]:
    """Return the root, its files, and the keys of those that lie directly in the split's folder."""
    if isinstance(store, AdmittedCache):
        keys = {key for key in store.files() if split_of(key) == split and key.count("/") == 1}
        return store.root, store, keys
    if is_url(os.fspath(store)):
        raise UsageError(f"{store} is a URL: windows are read from disk", hint="sync it to a disk first, and pack it")
    if split not in SPLITS:
        raise UsageError(f"there is no split {split!r}", hint=f"name one of {', '.join(SPLITS)}")
    root = Path(store)
    folder = root / split
    paths = folder.iterdir() if folder.is_dir() else ()
    return root, Directory(root), {f"{split}/{path.name}" for path in paths}


def _chosen(store: AdmittedCache | str | PathLike[str]) -> Backend:
    verdict: Verdict = store.verdict if isinstance(store, AdmittedCache) else CacheGuard(seal="ignore").check(store)
    return "mmap" if verdict.ruling in {Ruling.ACCEPT_LOCAL_BLOCK, Ruling.ACCEPT_MEMORY} else "pread"
