"""Run: from what a source lists and a target holds to a sealed cache, or to a plan that shards carry out."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tusz_cache import lock, plan_file, sealing, ssd
from tusz_cache.checking import check_files, without_damaged
from tusz_cache.copying.engine import Engine
from tusz_cache.copying.journal import Journal, OpenFile
from tusz_cache.copying.transfer import partial_name
from tusz_cache.copying.values import Outcome
from tusz_cache.errors import Damaged
from tusz_cache.holdings import Holdings, look
from tusz_cache.manifest import Manifest
from tusz_cache.manifest_file import digest, to_lines
from tusz_cache.plan import Plan
from tusz_cache.plan_file import StoredPlan
from tusz_cache.planning import Listing, check_space, copy_settings, list_source, make_plan, open_for
from tusz_cache.progress import Progress
from tusz_cache.report import Failure, SyncReport
from tusz_cache.seal import Seal
from tusz_cache.sealed import SEAL, refuse_store
from tusz_cache.settings import SyncSettings
from tusz_cache.ssd import Target
from tusz_cache.stores.base import Source


@contextlib.contextmanager
def prepared(
    source: str, place: Target, settings: SyncSettings, watcher: Progress, *, work: str = "", planned: bool = False
) -> "Iterator[tuple[Run, int]]":
    """Yield a run that nothing speaks against, and the target's lock.

    work: what the lock is for; holders that fell silent are then waited out. planned: the stored plan says what is
    listed, where there is one, and nothing will be copied.
    Raises as `populate_cache`; PlanDiffers.
    """
    refuse_store(place.root)
    store = open_for(source, place, settings)
    waiting = (lambda: watcher.check_stop("stopped while waiting for the lock")) if work else None
    listing: Listing | None = None
    if not place.meta.is_dir():  # leave no trace before it is clear that nothing speaks against the plan
        listing = list_source(store, place, settings, watcher)
        plan = make_plan(listing.manifest, look(place.root), settings)
        check_space(place, plan, Holdings(), settings)
        ssd.prepare(place)
    with lock.locked(place, waiting, work=work) as descriptor:
        holdings = look(place.root)
        if planned and (stored := stored_plan(place)) is not None:
            stored.check(store.url, settings.filters, settings.part_size)
            listing = Listing(stored.listed, stored.markers)
        elif listing is None or not holdings.is_fresh:  # nobody else writes from here on, so this one is not stale
            listing = list_source(store, place, settings, watcher)
        if settings.reverify:
            watcher.say("reading every byte that is there")
            holdings = without_damaged(place.root, holdings, watcher)
        plan = make_plan(listing.manifest, holdings, settings)
        if not planned:
            check_space(place, plan, holdings, settings)
        ssd.prepare(place)
        for note in holdings.troubles:
            watcher.say(f"note: {note}")
        yield Run(store, place, settings, watcher, listing, holdings, plan), descriptor


def has_plan(place: Target) -> bool:
    """Whether there is a plan for shards to carry out. One beside a seal is done with."""
    return (place.meta / plan_file.NAME).exists() and not (place.meta / SEAL).exists()


def stored_plan(place: Target) -> StoredPlan | None:
    """Return the plan that shards carry out. Raises Damaged, TargetError."""
    return plan_file.read(place.meta / plan_file.NAME) if has_plan(place) else None


@dataclass(frozen=True, slots=True)
class Run:
    """One run, from a plan that may be carried out to its report."""

    store: Source
    place: Target
    settings: SyncSettings
    watcher: Progress
    listing: Listing
    holdings: Holdings
    plan: Plan

    def carry_out(self, locks: tuple[int, ...]) -> SyncReport:
        """Copy, delete, verify and seal. locks: file descriptors that workers keep open."""
        as_is = self.whole(Outcome())
        if self._is_done_already(as_is):
            return self.report(Outcome(), as_is, sealed=True)
        deletes = self.plan.delete if self.settings.delete else Manifest()
        book = self.begin()
        try:
            outcome = self.copy(book, locks)
            manifest = self.whole(outcome)
            if outcome.failures:
                return self.report(outcome, manifest, sealed=False)
            if len(deletes):
                ssd.move_to_trash(self.place, deletes.keys)
                book.record([["gone", key] for key in deletes.keys], sync=True)
            self._verify(manifest, outcome, book)
        finally:
            book.close()
        sealing.publish(self.place, self._statement(manifest), manifest, self._leftovers(manifest))
        return self.report(outcome, manifest, sealed=True)

    def store_plan(self) -> bool:
        """Write the plan for shards to carry out. Returns False if there is nothing to do.

        Once the lock is free, `sealing.make_durable`: other machines must not find it held.
        """
        if self._is_done_already(self.whole(Outcome())):
            return False
        self.begin().close()
        ssd.write_file(self.place, self.place.meta / plan_file.NAME, plan_file.to_lines(self.to_store()))
        return True

    def to_store(self) -> StoredPlan:
        """Return what shards have to know of the plan."""
        listing, settings = self.listing, self.settings
        return StoredPlan.of(self.store.url, listing.manifest, listing.markers, settings.filters, settings.part_size)

    def _is_done_already(self, as_is: Manifest) -> bool:
        """Whether the target is as it should be, and sealed. What a killed run could not remove any more then goes."""
        deletes = len(self.plan.delete) if self.settings.delete else 0
        done = self.plan.is_done and not deletes and not self.holdings.damaged and self._seal_holds(as_is)
        if done:
            sealing.forget(self.place)
        return done

    def begin(self) -> Journal:
        """Take the seal off before the first byte changes, and go on with the journal."""
        sealing.unseal(self.place)
        book = sealing.open_journal(self.place, self.holdings)
        if self.holdings.damaged:
            book.record([["doubt", key] for key in self.holdings.damaged], sync=True)
        sealing.sweep(self.place, {partial_name(claim.entry) for claim in self.claims().values()})
        return book

    def claims(self) -> dict[str, OpenFile]:
        """Return what an earlier run began of what is to be fetched."""
        plan, begun = self.plan, self.holdings.replay.open
        return {key: claim for key, claim in begun.items() if key in plan.copy or key in plan.check}

    def copy(self, book: Journal, locks: tuple[int, ...]) -> Outcome:
        """Have the engine carry the plan out."""
        plan = self.plan
        if plan.is_done:
            return Outcome()
        self.watcher.start(plan.copy.bytes + plan.check.bytes, len(plan.copy) + len(plan.check))
        settings = copy_settings(self.settings, self.store, plan)
        engine = Engine(self.store, self.place, book, settings, self.watcher, share=locks)
        return engine.copy(plan, self.holdings.files, self.claims(), self.holdings.retimed)

    def whole(self, outcome: Outcome) -> Manifest:
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

    def report(self, outcome: Outcome, manifest: Manifest, *, sealed: bool) -> SyncReport:
        """Say what came of it. manifest: `whole`."""
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
