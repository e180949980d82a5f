"""Executing: shards are copied by whoever runs functions elsewhere: a pool of processes, a Dask cluster."""

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import replace
from typing import Any, Protocol

from tusz_cache import sealing
from tusz_cache.copying.values import Outcome
from tusz_cache.errors import CacheError, Incomplete, UsageError
from tusz_cache.lock import PLANNING
from tusz_cache.progress import Progress
from tusz_cache.report import SyncReport, together
from tusz_cache.run import prepared
from tusz_cache.settings import SyncSettings
from tusz_cache.shard import Shard
from tusz_cache.sharding import copy_shard, finish, named
from tusz_cache.ssd import Target


class Executor(Protocol):
    """Who runs shards elsewhere."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Return a future: its `result()` is what `fn` returned, or raises what it raised."""


def populate_with(
    executor: Executor, count: int, *, source: str, place: Target, settings: SyncSettings, watcher: Progress
) -> SyncReport:
    """Plan, have `executor` copy `count` shards, finish. Raises Incomplete if it lost some; as `populate_cache`."""
    shards = Shard.all(count)
    with prepared(source, place, settings, watcher, work=PLANNING) as (run, _):
        if not run.store_plan():
            return run.report(Outcome(), run.whole(Outcome()), sealed=True)
    sealing.make_durable(place)
    watcher.start(run.plan.copy.bytes + run.plan.check.bytes, len(run.plan.copy) + len(run.plan.check))
    futures = [_submitted(executor, source, str(place.root), shard, settings) for shard in shards]
    copied = together(_gathered(shards, futures, watcher))
    if copied.failures:
        return copied
    sealed = finish(source, place, settings, watcher)
    return replace(
        sealed,
        files_copied=copied.files_copied,
        files_resumed=copied.files_resumed,
        files_adopted=copied.files_adopted,
        files_unchanged=sealed.files_total - copied.files_copied - copied.files_adopted,
        bytes_copied=copied.bytes_copied,
        bytes_refetched=copied.bytes_refetched,
        retries=copied.retries,
        throttled=copied.throttled,
    )


def _gathered(shards: Sequence[Shard], futures: Sequence[Any], watcher: Progress) -> list[SyncReport]:
    """Return what all shards report. Raises the first of their errors; Incomplete, UsageError."""
    reports: list[SyncReport] = []
    errors: list[CacheError] = []
    lost: dict[Shard, Exception] = {}
    for shard, future in zip(shards, futures, strict=True):
        try:
            report: SyncReport = future.result()
        except CacheError as error:
            errors.append(error)
        except Exception as error:
            if _cannot_travel(error):
                raise UsageError(
                    f"the settings do not reach the workers: {error}",
                    hint="what is sent has to pickle: a commit must be a function of a module, and no lambda",
                ) from error
            if type(error).__module__ == "builtins":
                raise  # a bug of ours; what an executor has to say is its own
            lost[shard] = error
        else:
            reports.append(report)
            watcher.advance(report.bytes_copied, report.files_copied + report.files_adopted)
    if errors:
        raise errors[0]
    if lost:
        first = next(iter(lost.values()))
        raise Incomplete(
            f"the workers of shards {named(list(lost))} were lost: {type(first).__name__}: {first}",
            hint="run again: what is whole is kept",
        ) from first
    return reports


def _cannot_travel(error: Exception) -> bool:
    """Whether a call could not be sent to another process. Python has three errors for that."""
    return isinstance(error, pickle.PicklingError | AttributeError | TypeError) and "pickle" in str(error)


def _submitted(executor: Executor, *arguments: Any) -> Any:
    try:
        return executor.submit(_copy_quietly, *arguments)
    except BrokenExecutor as error:  # its workers died of the first shards
        failed: Future[Any] = Future()
        failed.set_exception(error)
        return failed


def _copy_quietly(source: str, target: str, shard: Shard, settings: SyncSettings) -> SyncReport:
    return copy_shard(source, target, shard, settings=settings, progress=Progress("quiet"))
