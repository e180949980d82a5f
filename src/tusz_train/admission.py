"""The guarded start: nothing is read before the guard has let it through, and the log says what is read."""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tusz_cache import (
    AdmittedCache,
    Allow,
    CacheGuard,
    CacheRefused,
    DeclaredMount,
    Durability,
    PackedStore,
    UsageError,
    WindowStore,
    open_store,
    populate_cache,
)
from tusz_cache.errors import ForeignTarget, Incomplete, Interrupted
from tusz_cache.guarding.stated import read_stated
from tusz_cache.manifest_file import digest, to_lines
from tusz_cache.progress import Progress
from tusz_train.config import Config
from tusz_train.distributed import PATIENCE, World

ON_MODAL, ELSEWHERE = "Using valid Modal SSD cache", "Using valid local SSD cache"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Admission:
    """What training may read."""

    windows: AdmittedCache  # the cache, the store, or the staged copy of the store
    verdict: dict[str, Any]  # on the source, which is what was configured
    cache: dict[str, Any]  # what the windows are: equal for runs that may continue each other
    is_raw: bool  # windows are int16


def admit(
    config: Config,
    world: World,
    progress: Progress,
    *,
    splits: Sequence[str] = ("train", "dev"),
    declared: Sequence[DeclaredMount] = (),
    durability: Durability,
) -> Admission:
    """Return what the configuration says is to be read, admitted; copied to `data.stage_to` if asked for.

    splits: that will be read. declared: mounts, beside those of `guard.mounts_file`. Raises CacheRefused, TargetError
    (there is no such directory), UsageError, ForeignTarget (a cache lies where the copy should), Interrupted while
    copying, and what else `populate_cache` raises.
    """
    say: Say = progress.say if world.is_first else lambda _: None
    data = config.data
    expect = data.expected_files.model_dump() if data.expected_files else None
    cache = _admitted(_guard(config, declared, expect), data.cache_dir, say)
    source = cache if data.store_dir is None else _admitted(_guard(config, declared), data.store_dir, say)
    stores = [open_store(source, split) for split in splits]
    for store in stores:
        _check_origin(cache, source, store, say)
    say(_valid(source))
    windows = source
    if data.stage_to is not None:
        _check_place(Path(data.stage_to), cache)
        _stage(data.store_dir, data.stage_to, world, progress, durability)
        windows = _admitted(_guard(config, declared), data.stage_to, say)
        say(f"Staged to {data.stage_to}")
    return Admission(windows, source.verdict.as_dict(), _identity(cache, stores[0]), _dtype(stores[0]) == "int16")


def _valid(source: AdmittedCache) -> str:
    """Return the line of the log that says what is read. A container's own disk may be declared as well."""
    verdict = source.verdict
    is_volume = verdict.ruling.value == "ACCEPT_DECLARED" and verdict.declared_as == "volume"
    return ON_MODAL if is_volume else ELSEWHERE


def _guard(config: Config, declared: Sequence[DeclaredMount], expect: dict[str, int] | None = None) -> CacheGuard:
    told = config.guard
    return CacheGuard(
        (*declared, *(read_stated(told.mounts_file, DeclaredMount) if told.mounts_file else ())),
        allow=[Allow(**one.model_dump()) for one in told.allow],
        policy_file=told.policy_file,
        expect=expect,
        seal=told.seal,
        probe=told.probe,
    )


def _admitted(guard: CacheGuard, path: str, say: Say) -> AdmittedCache:
    """Let the guard judge one root, and say what it says."""
    try:
        admitted = guard.admit(path)
    except CacheRefused as error:
        say(error.verdict.as_text())
        raise
    say(admitted.verdict.as_text())
    return admitted


def _check_origin(cache: AdmittedCache, source: AdmittedCache, store: WindowStore, say: Say) -> None:
    """Raise UsageError unless what is read is the configured cache, or was packed from it; say if that is not known."""
    if source is cache:
        if isinstance(store, PackedStore):
            raise UsageError(
                f"data.cache_dir, {cache.root}, is a packed store",
                hint="set data.store_dir to it, and data.cache_dir to the cache that it was packed from",
            )
        return
    if not isinstance(store, PackedStore):
        raise UsageError(
            f"data.store_dir, {source.root}, is no packed store", hint="pack the cache, or set data.store_dir to null"
        )
    known = _manifest_sha256(cache)
    same = store.index.cache_manifest_sha256 == known
    if known is None:
        same = store.recordings == open_store(cache, store.split).recordings
        what = "names and numbers of windows agree" if same else "names or numbers of windows differ"
        say(f"note: {cache.root} has no seal and no manifest: of {store.split} only the recordings' {what}")
    if not same:
        raise UsageError(
            f"{source.root} was not packed from {cache.root} as it is now",
            hint=f"python -m tusz_cache.pack {cache.root} STORE packs it; or name the cache of this store",
        )


def _manifest_sha256(cache: AdmittedCache) -> str | None:
    """Return what tells a cache from any other, sealed or not; None if there are only files."""
    if cache.seal:
        return cache.seal.manifest_sha256
    held = cache.manifest
    return digest(to_lines(held)) if len(held) and len(held.proven()) == len(held) else None


def _check_place(target: Path, cache: AdmittedCache) -> None:
    """Raise ForeignTarget if the staged copy would come into a cache: its indexes and its seal would be overwritten."""
    real = Path(os.path.realpath(target))  # unlike `resolve`, it bears a link that leads to itself
    is_within = real.is_relative_to(cache.real_path) or cache.real_path.is_relative_to(real)
    if is_within or any(real.glob("*/*_windows.npz")):
        raise ForeignTarget(
            f"data.stage_to, {target}, is no place for a copy of the store: a cache lies there",
            hint="name a folder of its own, which need not be there yet",
        )


def _stage(source: str | None, target: str, world: World, progress: Progress, durability: Durability) -> None:
    """Copy the store to this machine's own disk, once on each machine; all wait for all.

    Raises Incomplete; Interrupted, on every process, if one was to stop: the copy goes on from there.
    """
    assert source is not None, "the configuration refuses stage_to without store_dir"
    was_stopped = False
    if world.local_rank == 0:
        hours = f"; the other processes wait for at most {PATIENCE.total_seconds() / 3600:.0f} h"
        if world.is_first:
            progress.say(f"staging {source} to {target}{hours if world.size > 1 else ''}")
        own = Durability("none") if durability.policy == "none" else Durability()
        try:
            report = populate_cache(source, target, durability=own, progress=progress)
        except Interrupted:
            was_stopped = True
        else:
            if not report.sealed:
                raise Incomplete(f"{source} could not be copied to {target} whole", hint="run the same command again")
    if any(world.any(was_stopped, patiently=True)):
        raise Interrupted(
            f"stopped in time, before {source} was copied to {target} whole",
            hint="run the same command again: the copy goes on from there",
            signum=progress.stop_signal or signal.SIGTERM,
        )


def _identity(cache: AdmittedCache, store: WindowStore) -> dict[str, Any]:
    sealed = cache.seal
    return {
        "manifest_sha256": _manifest_sha256(cache),
        "splits": {name: asdict(count) for name, count in sealed.splits.items()} if sealed else None,
        "values": _dtype(store),
    }


def _dtype(store: WindowStore) -> str:
    return store.index.dtype if isinstance(store, PackedStore) else "float32"
