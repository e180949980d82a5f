"""What comes before the first byte: open the source, list it, plan, see whether anything speaks against the plan."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

from tusz_cache import ssd
from tusz_cache.copying.line import SMALL
from tusz_cache.copying.rate import backoff
from tusz_cache.copying.transfer import partial_name
from tusz_cache.copying.values import CopySettings
from tusz_cache.entry import Entry, is_directory_marker, is_ours
from tusz_cache.errors import ListingBroken, NoSpace, UsageError
from tusz_cache.holdings import Holdings, look
from tusz_cache.keys import check_keys
from tusz_cache.manifest import Manifest
from tusz_cache.plan import Plan, check_limits, diff
from tusz_cache.progress import Progress
from tusz_cache.settings import SyncSettings, cores
from tusz_cache.ssd import Target
from tusz_cache.stores.base import Source
from tusz_cache.stores.local import LocalSource
from tusz_cache.stores.opening import open_source, target_path
from tusz_cache.units import format_bytes

LISTINGS = 3  # times that a broken listing is asked for
MOST_WORKERS = 64  # requests at once; their buffers together stay below 130 MB
PACED_WORKERS = 8  # with --bwlimit
MANY_FILES = 2000  # small ones, from which on starting worker processes pays
MOST_LARGE_BUFFERS = 12  # workers with buffers of 8 MiB each, to stay below 300 MB
MOST_PROCESSES = 4  # together beyond any network card, and with the parent below 300 MB


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source lists."""

    manifest: Manifest
    markers: int  # directory markers, skipped


def plan_copy(
    source: str,
    target: str | PathLike[str],
    *,
    settings: SyncSettings | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> Plan:
    """Return what `populate_cache` would do. Changes nothing, locks nothing. Raises as `populate_cache` does."""
    settings = replace(settings or SyncSettings(), **changes)
    place = Target(target_path(target), settings.durability)
    holdings = look(place.root)
    listing = list_source(open_for(source, place, settings), place, settings, progress or Progress("quiet"))
    plan = make_plan(listing.manifest, holdings, settings)
    check_space(place, plan, holdings, settings)
    return plan


def open_for(source: str, place: Target, settings: SyncSettings) -> Source:
    """Open `source` for copying to `place`. Raises UsageError if they lie in each other; as `open_source`."""
    store = open_source(source, settings.access)
    if isinstance(store, LocalSource) and store.overlaps(place.root):
        raise UsageError(f"{source} and {place.root} lie in each other", hint="name a target outside of the source")
    return store


def list_source(store: Source, place: Target, settings: SyncSettings, watcher: Progress) -> Listing:
    """Ask the source for all it has; once more from the start if the listing contradicts itself."""
    watcher.say(f"listing {store.url}")
    for attempt in range(LISTINGS):
        try:
            listing = _list_once(store, watcher)
            break
        except ListingBroken:
            if attempt + 1 == LISTINGS:
                raise
            time.sleep(backoff(attempt + 1))
    check_keys(settings.filters.within(listing.manifest), folds_case=ssd.folds_case(place))
    return listing


def _list_once(store: Source, watcher: Progress) -> Listing:
    markers = 0

    def files() -> Iterator[Entry]:
        nonlocal markers
        for entry in store.entries():
            watcher.check_stop("stopped before anything changed")
            if is_directory_marker(entry.key, entry.size):
                markers += 1
            elif not is_ours(entry.key):
                yield entry

    return Listing(Manifest.of(files()), markers)


def make_plan(source: Manifest, holdings: Holdings, settings: SyncSettings) -> Plan:
    """Diff, and check the limits. Raises Refused."""
    plan = diff(source, holdings.files, ours=holdings.ours, filters=settings.filters, seed=str(settings.part_size))
    check_limits(
        plan,
        settings.filters.within(source),
        delete=settings.delete,
        max_delete=settings.max_delete,
        allow_empty=settings.allow_empty,
        adopt=settings.adopt,
        target_is_ours=holdings.is_ours,
    )
    return plan


def check_space(place: Target, plan: Plan, holdings: Holdings, settings: SyncSettings) -> None:
    """Raise NoSpace at once if the target cannot hold the plan. A declared volume's figures mean nothing."""
    partials = [place.partial / partial_name(claim.entry) for claim in holdings.replay.open.values()]
    reserved = sum(path.stat().st_blocks * 512 for path in partials if path.exists())
    needed, free = plan.bytes_to_copy - reserved, ssd.free_bytes(place)
    if needed > free and settings.volume is None:
        raise NoSpace(
            f"{format_bytes(needed)} to copy, {format_bytes(free)} free at {place.root}",
            hint="free space, choose a larger disk, or copy less with --include",
        )


def copy_settings(settings: SyncSettings, store: Source, plan: Plan) -> CopySettings:
    """Return how the engine is to carry `plan` out."""
    processes = _processes(settings, store, plan)
    workers, start = _workers(settings, store, processes)
    return CopySettings(
        workers=workers,
        start=start,
        processes=processes,
        part_size=settings.part_size,
        retries=settings.retries,
        stall_timeout=settings.stall_timeout,
        bwlimit=settings.bwlimit,
        adopt=settings.adopt,
    )


def _workers(settings: SyncSettings, store: Source, processes: int) -> tuple[int, int]:
    """Return the most requests at once, and with how many to begin (0: as many)."""
    large_buffers = settings.durability.front_to_back or not store.crosses_processes()
    most = MOST_LARGE_BUFFERS if large_buffers else MOST_WORKERS
    if (asked := settings.workers) is not None:
        return min(asked, most) if large_buffers else asked, 0
    if settings.bwlimit is not None:  # each request has its share of the rate: their number must not change
        return min(most, PACED_WORKERS), 0
    return most, min(most, processes or max(4, 2 * cores()))


def _processes(settings: SyncSettings, store: Source, plan: Plan) -> int:
    """Several where one interpreter would be the limit: encryption, or many small files."""
    if not store.crosses_processes():
        return 0
    if settings.processes is not None:
        return settings.processes
    small = len(plan.copy) >= MANY_FILES and plan.bytes_to_copy < SMALL * len(plan.copy)
    return min(cores(), MOST_PROCESSES) if small or store.uses_tls() else 0
