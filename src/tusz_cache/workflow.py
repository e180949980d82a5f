"""populate_cache: lock, list, diff, check limits, copy, verify, seal. The whole story on one page."""

import time
from dataclasses import replace
from os import PathLike
from typing import Any

from tusz_cache.errors import UsageError
from tusz_cache.executing import Executor, populate_with
from tusz_cache.progress import Progress
from tusz_cache.report import SyncReport
from tusz_cache.run import prepared
from tusz_cache.settings import SyncSettings
from tusz_cache.ssd import Target
from tusz_cache.stores.opening import target_path

SHARDS = 16  # for an executor: a lost worker costs little, and each has enough to do


def populate_cache(
    source: str,
    target: str | PathLike[str],
    *,
    settings: SyncSettings | None = None,
    progress: Progress | None = None,
    executor: Executor | None = None,
    shards: int | None = None,
    **changes: Any,
) -> SyncReport:
    """Make the directory `target` equal to `source`, verified and sealed.

    source: any fsspec URL or path. changes: fields of SyncSettings, e.g. `workers=32`.
    executor: who copies, a shard each (default: 16 `shards`); anything with `submit`, as those of concurrent.futures or
    `dask.distributed.Client(...).get_executor()`. All of its workers see `target` under this path.
    Objects that fail are in the report (`failures`), which then has `sealed=False`; all others arrive.
    Raises CacheError: SourceError, TargetError, UsageError, Incomplete (the listing failed, or workers were lost),
    Refused, NoSpace, Interrupted.
    """
    began = time.monotonic()
    settings = replace(settings or SyncSettings(), **changes)
    place = Target(target_path(target), settings.durability)
    if executor is None and shards is not None:
        raise UsageError("shards are for an executor", hint="pass executor=, or leave shards out")
    with progress or Progress() as watcher:
        if executor is not None:
            count = SHARDS if shards is None else shards
            report = populate_with(executor, count, source=source, place=place, settings=settings, watcher=watcher)
        else:
            with prepared(source, place, settings, watcher) as (run, lock):
                report = run.carry_out((lock,))
        return replace(report, seconds=time.monotonic() - began)
