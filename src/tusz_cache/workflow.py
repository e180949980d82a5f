"""populate_cache: lock, list, diff, check limits, copy, verify, seal. The whole story on one page."""

import time
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

from tusz_cache import sealing, ssd
from tusz_cache.checking import check_files, without_damaged
from tusz_cache.copying.engine import Engine
from tusz_cache.copying.journal import Journal
from tusz_cache.copying.transfer import partial_name
from tusz_cache.copying.values import Outcome
from tusz_cache.errors import Damaged
from tusz_cache.holdings import Holdings, look
from tusz_cache.lock import locked
from tusz_cache.manifest import Manifest
from tusz_cache.manifest_file import digest, to_lines
from tusz_cache.plan import Plan
from tusz_cache.planning import Listing, check_space, copy_settings, list_source, make_plan, open_for
from tusz_cache.progress import Progress
from tusz_cache.report import Failure, SyncReport
from tusz_cache.seal import Seal
from tusz_cache.sealed import SEAL, refuse_store
from tusz_cache.settings import SyncSettings
from tusz_cache.ssd import Target
from tusz_cache.stores.base import Source
from tusz_cache.stores.opening import target_path


def populate_cache(
    source: str,
    target: str | PathLike[str],
    *,
    settings: SyncSettings | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> SyncReport:
    """Make the directory `target` equal to `source`, verified and sealed.

    source: any fsspec URL or path. changes: fields of SyncSettings, e.g. `workers=32`.
    Objects that fail are in the report (`failures`), which then has `sealed=False`; all others arrive.
    Raises CacheError: SourceError, TargetError, UsageError, Incomplete (the listing failed), Refused, NoSpace,
    Interrupted.
    """
    began = time.monotonic()
    settings = replace(settings or SyncSettings(), **changes)
    place = Target(target_path(target), settings.durability)
    refuse_store(place.root)
    with progress or Progress() as watcher:
        store = open_for(source, place, settings)
        listing: Listing | None = None
        if not place.meta.is_dir():  # leave no trace before it is clear that nothing speaks against the plan
            listing = list_source(store, place, settings, watcher)
            plan = make_plan(listing.manifest, look(place.root), settings)
            check_space(place, plan, Holdings(), settings)
            ssd.prepare(place)
        with locked(place) as lock:
            holdings = look(place.root)
            if (
                listing is None or not holdings.is_fresh
            ):  # nobody else writes from here on, so this listing is not stale
                listing = list_source(store, place, settings, watcher)
            if settings.reverify:
                watcher.say("reading every byte that is there")
                holdings = without_damaged(place.root, holdings, watcher)
            plan = make_plan(listing.manifest, holdings, settings)
            check_space(place, plan, holdings, settings)
            ssd.prepare(place)
            for note in holdings.troubles:
                watcher.say(f"note: {note}")
            run = _Run(store, place, settings, watcher, listing, holdings, plan)
            return replace(run.carry_out(lock), seconds=time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class _Run:
    """One run, from a plan that may be carried out to its report."""

    store: Source
    place: Target
    settings: SyncSettings
    watcher: Progress
    listing: Listing
    holdings: Holdings
    plan: Plan

    def carry_out(self, lock: int) -> SyncReport:
        deletes = self.plan.delete if self.settings.delete else Manifest()
        as_is = self._whole(Outcome())
        if self.plan.is_done and not len(deletes) and not self.holdings.damaged and self._seal_holds(as_is):
            sealing.forget(self.place)
            return self._report(Outcome(), as_is, sealed=True)
        sealing.unseal(self.place)  # before the first byte changes
        book = Journal(self.place, self.holdings.replay)
        try:
            if self.holdings.damaged:
                book.record([["doubt", key] for key in self.holdings.damaged], sync=True)
            outcome = self._copy(book, lock)
            manifest = self._whole(outcome)
            if outcome.failures:
                return self._report(outcome, manifest, sealed=False)
            if len(deletes):
                ssd.move_to_trash(self.place, deletes.keys)
                book.record([["gone", key] for key in deletes.keys], sync=True)
            self._verify(manifest, outcome, book)
        finally:
            book.close()
        sealing.publish(self.place, self._statement(manifest), manifest, self._leftovers(manifest))
        return self._report(outcome, manifest, sealed=True)

    def _copy(self, book: Journal, lock: int) -> Outcome:
        plan, begun = self.plan, self.holdings.replay.open
        claims = {key: claim for key, claim in begun.items() if key in plan.copy or key in plan.check}
        sealing.sweep(self.place, {partial_name(claim.entry) for claim in claims.values()})
        if plan.is_done:
            return Outcome()
        self.watcher.start(plan.copy.bytes + plan.check.bytes, len(plan.copy) + len(plan.check))
        engine = Engine(
            self.store,
            self.place,
            book,
            copy_settings(self.settings, self.store, self.plan),
            self.watcher,
            share=(lock,),
        )
        return engine.copy(plan, self.holdings.files, claims)

    def _whole(self, outcome: Outcome) -> Manifest:
        """Return the manifest of what lies in the target as the source lists it, out of the filters' reach too."""
        copied, adopted = outcome.copied.latest(), outcome.adopted.latest()
        return Manifest.merged(self.plan.unchanged, self.plan.outside, copied, adopted)

    def _verify(self, manifest: Manifest, outcome: Outcome, book: Journal) -> None:
        """Raise Damaged unless every file lies there as it was written. The next run fetches those that do not."""
        self.watcher.say("checking sizes" + (" and reading back what was written" if self.settings.reverify else ""))
        found = check_files(self.place.root, manifest)
        if self.settings.reverify:  # the others were read at the start
            found += check_files(self.place.root, outcome.copied.latest(), full=True)
        if bad := found.missing + found.damaged:
            book.record([["doubt", key] for key in bad], sync=True)
            raise Damaged(
                f"{len(found.missing)} files are missing and {len(found.damaged)} damaged, e.g. {bad[0]!r}",
                hint="something else writes to the target, or its disk is failing; another run fetches them anew",
            )

    def _seal_holds(self, manifest: Manifest) -> bool:
        """Whether the seal that is there says what a new one would say."""
        seal, sha256 = self.holdings.seal, self.holdings.manifest_sha256
        return (
            seal is not None
            and seal == replace(self._statement(manifest), manifest_sha256=sha256 or "", created=seal.created)
            and sha256 == digest(to_lines(manifest))
        )

    def _statement(self, manifest: Manifest) -> Seal:
        settings, complete = self.settings, len(manifest) == len(self.listing.manifest)
        return sealing.statement(self.store.url, manifest, settings.filters, complete=complete, volume=settings.volume)

    def _leftovers(self, manifest: Manifest) -> Manifest:
        """Return the files of ours outside of `manifest`: their records stay, so that a later run knows them."""
        held = self.holdings.files.proven()
        left = held.select([row for row, there in enumerate(held.rows_in(manifest)) if there < 0])
        return left.without(frozenset(self.plan.delete.keys)) if self.settings.delete else left

    def _report(self, outcome: Outcome, manifest: Manifest, *, sealed: bool) -> SyncReport:
        plan, deleted = self.plan, self.settings.delete and sealed
        return SyncReport(
            source=self.store.url,
            target=str(self.place.root),
            plan_id=plan.plan_id,
            files_total=len(plan.copy) + len(plan.check) + len(plan.unchanged),
            files_copied=len(outcome.copied),
            files_resumed=outcome.resumed,
            files_unchanged=len(plan.unchanged),
            files_adopted=len(outcome.adopted),
            files_deleted=len(plan.delete) if deleted else 0,
            bytes_total=plan.copy.bytes + plan.check.bytes + plan.unchanged.bytes,
            bytes_copied=outcome.received,
            bytes_refetched=outcome.refetched,
            sealed=sealed,
            seal=str(self.place.meta / SEAL) if sealed else "",
            splits=manifest.splits(),
            verification=manifest.level_counts(),
            failures=tuple(Failure.of(key, error) for key, error in sorted(outcome.failures.items())),
            retries=outcome.retries,
            throttled=outcome.throttled,
            markers=self.listing.markers,
            leftovers=0 if deleted else len(plan.delete),
            unexpected=len(plan.foreign),
            notes=self.holdings.troubles,
        )
