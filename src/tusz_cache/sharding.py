"""Sharding: one plan, carried out by several runs side by side, and finished by one.

Whoever plans or finishes has the target alone. Each shard has its share of the lock, its own journal, and files that no
other one touches; it rewrites nothing that others read.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, NoReturn

from tusz_cache import sealing, ssd
from tusz_cache.checking import with_retimed
from tusz_cache.copying import journal
from tusz_cache.copying.journal import Journal
from tusz_cache.copying.values import Outcome
from tusz_cache.errors import Damaged, Incomplete, LockHeld, PlanDiffers
from tusz_cache.holdings import look, shard_journals
from tusz_cache.lock import PLANNING, locked_shard
from tusz_cache.manifest import Manifest
from tusz_cache.plan import Plan
from tusz_cache.plan_file import StoredPlan
from tusz_cache.planning import Listing, check_space, make_plan, open_for
from tusz_cache.progress import Progress
from tusz_cache.report import SyncReport
from tusz_cache.run import Run, has_plan, prepared, stored_plan
from tusz_cache.sealed import refuse_store
from tusz_cache.settings import SyncSettings
from tusz_cache.shard import Shard, assign
from tusz_cache.ssd import Target
from tusz_cache.stores.base import Source
from tusz_cache.stores.opening import target_path
from tusz_cache.units import format_bytes

REFUSALS = 25  # in a row, while there is no plan: shards that come at once may be in each other's way for a moment
FINISHING = "finishes what shards have copied"
PAUSE = 0.2  # seconds between two looks whether another one has made the plan
SHOWN = 20  # shards named in a message


def write_plan(
    source: str,
    target: str | PathLike[str],
    *,
    settings: SyncSettings | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> Plan:
    """List, diff, check limits and space, take the old seal off, and store the plan for `copy_shard`.

    What is there counts, also what shards of an earlier plan have copied, so it may be called again at any time. If
    there is nothing to do, nothing changes. Returns and raises as `plan_copy`; LockHeld while a shard works.
    """
    settings = replace(settings or SyncSettings(), **changes)
    place = Target(target_path(target), settings.durability)
    with progress or Progress() as watcher:
        with prepared(source, place, settings, watcher, work=PLANNING) as (run, _):
            run.store_plan()
        sealing.make_durable(place)
        return run.plan


def copy_shard(
    source: str,
    target: str | PathLike[str],
    shard: Shard,
    *,
    settings: SyncSettings | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> SyncReport:
    """Copy one shard of the stored plan; the first of several without one makes it. Deletes nothing, seals nothing.

    settings: filters and part size are those of the plan. `delete` and `reverify` are of no account here.
    Returns and raises as `populate_cache`, but never `sealed`; PlanDiffers.
    """
    began = time.monotonic()
    settings = replace(settings or SyncSettings(), **changes)
    place = Target(target_path(target), settings.durability)
    with progress or Progress() as watcher:
        refuse_store(place.root)
        work = _Shard(shard, open_for(source, place, settings), place, settings, watcher)
        report = work.carry_out(source)
        sealing.make_durable(place)  # the last records, for who finishes, and that the lock is free
        return replace(report, seconds=time.monotonic() - began)


def finish_shards(
    source: str,
    target: str | PathLike[str],
    *,
    settings: SyncSettings | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> SyncReport:
    """Delete what is to go, check that every file of the plan is there as it was copied, and seal.

    settings: `delete` and its limit count here, and `reverify` to read every byte.
    Raises Incomplete naming the shards that have to be run again; Damaged likewise, if files are no longer as they were
    copied; LockHeld while a shard works; PlanDiffers; as `populate_cache`.
    """
    began = time.monotonic()
    settings = replace(settings or SyncSettings(), **changes)
    place = Target(target_path(target), settings.durability)
    with progress or Progress() as watcher:
        return replace(finish(source, place, settings, watcher), seconds=time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class _Shard:
    """One shard at work."""

    shard: Shard
    store: Source
    place: Target
    settings: SyncSettings
    watcher: Progress

    def carry_out(self, source: str) -> SyncReport:
        """Copy as the plan says. Where there is none, make it, or wait for who does."""
        refusals = 0
        while True:
            self._wait()
            planned = has_plan(self.place)
            try:
                if planned:
                    with locked_shard(self.place, self.shard.suffix, self._wait) as locks:
                        if (stored := stored_plan(self.place)) is not None:
                            stored.check(self.store.url, self.settings.filters, self.settings.part_size)
                            return self._copy(stored, locks)
                else:
                    with prepared(source, self.place, self.settings, self.watcher, work=PLANNING) as (run, _):
                        if not run.store_plan():
                            return self._report(self._part(run.to_store()), Outcome())
                refusals = 0
            except LockHeld as error:
                refusals = 0 if error.work == PLANNING else refusals + 1
                if refusals > (0 if planned else REFUSALS):
                    raise
                time.sleep(PAUSE)

    def _wait(self) -> None:
        self.watcher.check_stop("stopped before anything was copied")

    def _part(self, stored: StoredPlan) -> Run:
        """Return the run that copies what is this shard's, and nothing else."""
        own, holdings = self.shard.part_of(stored.wanted), look(self.place.root, self.shard.suffix)
        settings = replace(self.settings, delete=False, allow_empty=True)
        plan = make_plan(own, holdings, settings)
        plan = replace(plan, delete=Manifest(), outside=Manifest(), foreign=(), plan_id=stored.plan_id)
        return Run(self.store, self.place, settings, self.watcher, Listing(own, 0), holdings, plan)

    def _copy(self, stored: StoredPlan, locks: Sequence[int]) -> SyncReport:
        part = self._part(stored)
        if part.plan.is_done:
            return self._report(part, Outcome())
        check_space(self.place, part.plan, part.holdings, self.settings)
        ssd.prepare(self.place)
        book = self._journal(part, stored.plan_id)
        try:
            mine = part.claims()
            book.claim(claim for key, claim in part.holdings.elsewhere.open.items() if mine.get(key) is claim)
            outcome = part.copy(book, tuple(locks))
        finally:
            book.close()
        return self._report(part, outcome)

    def _journal(self, part: Run, plan_id: str) -> Journal:
        """Go on with this shard's journal. Raises PlanDiffers if it, or that of another shard, is of another split."""
        name, mine = f"{journal.NAME}-{self.shard.suffix}", (plan_id, self.shard.count)
        book = Journal(self.place, part.holdings.replay, name)
        # its name is there before it looks for others: of two splits that begin at once, one sees the other
        others = {path.name for path in shard_journals(self.place.meta) if not path.name.endswith(f"-of-{mine[1]}")}
        if others or part.holdings.replay.plans - {mine}:
            book.close()
            if not part.holdings.replay.good_bytes:
                ssd.remove(self.place, self.place.meta / name)
            what = f"a plan was split otherwise: {min(others)}" if others else f"its journal is not of plan {plan_id}"
            raise PlanDiffers(
                f"shard {self.shard} does not fit what is there: {what}",
                hint="use the same number of shards, or write the plan anew with --plan: work that is done counts",
            )
        if not part.holdings.replay.plans:
            book.record([["plan", *mine]])
        return book

    def _report(self, part: Run, outcome: Outcome) -> SyncReport:
        return replace(part.report(outcome, part.whole(outcome), sealed=False), shard=str(self.shard))


def finish(source: str, place: Target, settings: SyncSettings, watcher: Progress) -> SyncReport:
    """See `finish_shards`."""
    if not place.meta.is_dir():
        raise Incomplete(f"nothing was copied to {place.root}", hint="write a plan with --plan, then run its shards")
    with prepared(source, place, settings, watcher, work=FINISHING, planned=True) as (begun, lock):
        found = _reread(begun)
        plan, plans = _unpinned_done(found), found.holdings.replay.plans
        run = replace(found, plan=plan)
        if others := {name for name, _ in plans} - {plan.plan_id}:
            raise PlanDiffers(
                f"shards have worked on plan {min(others)}, not on {plan.plan_id}",
                hint="write the plan anew with --plan, then run the shards again: work that is done counts",
            )
        if not plan.is_done:
            _refuse(run, {count for _, count in plans})
        return run.carry_out((lock,))


def _reread(run: Run) -> Run:
    """Return the run with proof of files that only their time tells from what shards recorded, if all else is there.

    A volume may show another machine other times than the one that wrote. So every such file is read once.
    """
    if len(run.plan.copy) or not len(run.holdings.retimed):
        return run
    run.watcher.say(f"reading {len(run.holdings.retimed)} files: their times are not those that were recorded")
    holdings = with_retimed(run.place.root, run.holdings, run.plan.check, run.watcher)
    return replace(run, holdings=holdings, plan=make_plan(run.listing.manifest, holdings, run.settings))


def _unpinned_done(run: Run) -> Plan:
    """Return the plan without files that shards have copied from a source that has no version marks.

    Nothing tells whether such an object is still the same, so `diff` asks for each to be checked, always.
    """
    plan, done, files = run.plan, run.holdings.replay.done, run.holdings.files.proven()
    here = files.where(lambda key: key in plan.check and plan.check[key].etag is None and key in done)
    return replace(
        plan, check=plan.check.without(frozenset(here.keys)), unchanged=Manifest.merged(plan.unchanged, here)
    )


def _refuse(run: Run, counts: set[int]) -> NoReturn:
    """Raise Incomplete or Damaged for files of the plan that are not there as it says."""
    todo, recorded = Manifest.merged(run.plan.copy, run.plan.check), run.holdings.replay.done
    unread = run.holdings.retimed.where(lambda key: key in todo and todo[key].etag == run.holdings.retimed[key].etag)
    todo = todo.without(frozenset(unread.keys))
    bad = [entry.key for entry in todo if (held := recorded.get(entry.key)) and held.etag == entry.etag]
    again = "each shard" if len(counts) != 1 else f"shards {named(_shards_of(run, todo, counts.pop()))}"
    if run.holdings.damaged or bad:
        if run.holdings.damaged:
            run.begin().close()  # puts them in doubt, for the shards to see
        bad = sorted({*run.holdings.damaged, *bad})
        raise Damaged(
            f"{len(bad)} files are not as they were copied, e.g. {bad[0]!r}",
            hint=f"something else writes to the target, or its disk is failing; run {again} again, then --finish",
        )
    raise Incomplete(
        f"{len(todo)} files of plan {run.plan.plan_id} ({format_bytes(todo.bytes)}) are not there yet, "
        f"e.g. {todo.keys[0]!r}",
        hint=f"run {again} again, then --finish: what is whole is kept",
    )


def _shards_of(run: Run, todo: Manifest, count: int) -> list[Shard]:
    wanted = run.settings.filters.within(run.listing.manifest)
    whose = zip(wanted.keys, assign(wanted, count), strict=True)
    return [Shard(index, count) for index in sorted({index for key, index in whose if key in todo})]


def named(shards: Sequence[Shard]) -> str:
    """Return the first of `shards` by name."""
    more = f" and {len(shards) - SHOWN} more" if len(shards) > SHOWN else ""
    return ", ".join(map(str, shards[:SHOWN])) + more
