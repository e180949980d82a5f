"""populate_cache: lock, list, diff, check limits, copy, verify, seal. The whole story on one page."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from os import PathLike
from typing import Any

from tusz_cache import ssd
from tusz_cache.copying import journal
from tusz_cache.copying.committer import commit
from tusz_cache.copying.engine import Engine
from tusz_cache.copying.journal import Journal
from tusz_cache.copying.transfer import partial_name
from tusz_cache.copying.values import CopySettings, Outcome
from tusz_cache.entry import Entry
from tusz_cache.errors import Damaged
from tusz_cache.holdings import LEFTOVERS, MANIFEST, SEAL, Holdings, look
from tusz_cache.lock import locked
from tusz_cache.manifest import Manifest, digest, to_bytes
from tusz_cache.plan import Plan
from tusz_cache.planning import Listing, check_space, list_source, make_plan, open_for
from tusz_cache.progress import Progress
from tusz_cache.report import Failure, SyncReport
from tusz_cache.seal import Seal, check_manifest, count_levels
from tusz_cache.seal import to_bytes as seal_to_bytes
from tusz_cache.settings import SyncSettings, cores
from tusz_cache.ssd import Target
from tusz_cache.stores import Source, target_path
from tusz_cache.verifying import check_files, without_damaged
from tusz_cache.version import __version__

MOST_PROCESSES = 4  # together beyond any network card, and with the parent below 300 MB


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
    with progress or Progress() as watcher:
        store = open_for(source, place, settings)
        watcher.say(f"listing {store.url}")
        listing = list_source(store, place, settings, watcher)
        with _held(place, listing.manifest, settings) as (lock, holdings, plan):
            for trouble in holdings.troubles:
                watcher.say(f"note: {trouble}")
            run = _Run(store, place, settings, watcher, listing, holdings, plan)
            return replace(run.carry_out(lock), seconds=time.monotonic() - began)


@contextlib.contextmanager
def _held(place: Target, source: Manifest, settings: SyncSettings) -> Iterator[tuple[int, Holdings, Plan]]:
    """Lock the target and plan. A target that is not ours yet is first touched when nothing speaks against the plan."""
    if not (place.meta).is_dir():
        plan = make_plan(source, look(place.root), settings)
        check_space(place, plan, Holdings(), settings)
        ssd.prepare(place)
    with locked(place) as lock:
        holdings = look(place.root)
        if settings.reverify:
            holdings = without_damaged(place.root, holdings)
        plan = make_plan(source, holdings, settings)
        check_space(place, plan, holdings, settings)
        ssd.prepare(place)
        yield lock, holdings, plan


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
        deletes = self.plan.delete if self.settings.delete else ()
        if self.plan.is_done and not deletes and self._seal_holds():
            return self._report(Outcome(), self._whole(Outcome()), sealed=True)
        ssd.remove(self.place, self.place.meta / SEAL)  # the old seal goes before the first byte changes
        book = Journal(self.place, self.holdings.replay)
        try:
            outcome = self._copy(book, lock)
            if not outcome.failures and deletes:
                ssd.move_to_trash(self.place, [entry.key for entry in deletes])
                book.record([["gone", entry.key] for entry in deletes], sync=True)
            manifest = self._whole(outcome)
            if not outcome.failures:
                self._verify(manifest, outcome, book)
        finally:
            book.close()
        if outcome.failures:
            return self._report(outcome, self._whole(outcome), sealed=False)
        self._seal(manifest)
        return self._report(outcome, manifest, sealed=True)

    def _copy(self, book: Journal, lock: int) -> Outcome:
        entries = (*self.plan.copy, *self.plan.check)
        claims = {
            entry.key: claim for entry in entries if (claim := self.holdings.replay.open.get(entry.key)) is not None
        }
        self._sweep({partial_name(claim.entry) for claim in claims.values()})
        if not entries:
            return Outcome()
        self.watcher.start(sum(entry.size for entry in entries), len(entries))
        engine = Engine(self.store, self.place, book, self._copy_settings(), self.watcher, share=(lock,))
        return engine.copy(self.plan, self.holdings.files.files, claims)

    def _sweep(self, wanted: set[str]) -> None:
        """Remove partial files that no claim refers to."""
        for path in self.place.partial.iterdir():
            if path.name not in wanted:
                ssd.remove(self.place, path)

    def _copy_settings(self) -> CopySettings:
        settings = self.settings
        processes = settings.processes
        if processes is None:
            processes = min(cores(), MOST_PROCESSES) if self.store.uses_tls() else 0
        return CopySettings(
            workers=settings.workers or min(32, max(8, 4 * cores())),
            processes=processes,
            part_size=settings.part_size,
            retries=settings.retries,
            stall_timeout=settings.stall_timeout,
            bwlimit=settings.bwlimit,
            adopt=settings.adopt,
        )

    def _whole(self, outcome: Outcome) -> Manifest:
        """Return the manifest of what now lies in the target and is wanted there."""
        kept = {entry.key: entry for entry in self.plan.unchanged}
        held = kept | outcome.copied | outcome.adopted
        return Manifest({key: held[key] for key in self.listing.manifest.files if key in held})

    def _verify(self, manifest: Manifest, outcome: Outcome, book: Journal) -> None:
        """Raise Damaged unless every file lies there as it was written. The next run fetches those that do not."""
        self.watcher.say("checking sizes" + (" and reading back what was written" if self.settings.reverify else ""))
        found = check_files(self.place.root, manifest)
        if self.settings.reverify:  # the others were read at the start
            found += check_files(self.place.root, Manifest(outcome.copied), full=True)
        if bad := found.missing + found.damaged:
            book.record([["doubt", key] for key in bad], sync=True)
            raise Damaged(
                f"{len(found.missing)} files are missing and {len(found.damaged)} damaged, e.g. {bad[0]!r}",
                hint="something else writes to the target, or its disk is failing; another run fetches them anew",
            )

    def _seal_holds(self) -> bool:
        seal, data = self.holdings.seal, self.holdings.manifest_bytes
        if seal is None or data is None:
            return False
        try:
            check_manifest(seal, data)
        except Damaged:
            return False
        return (
            data == to_bytes(self._whole(Outcome()))
            and self._statement(data, self._whole(Outcome()), seal.created) == seal
        )

    def _statement(self, data: bytes, manifest: Manifest, created: str) -> Seal:
        filters = self.settings.filters.as_dict()
        return Seal(
            source=self.store.url,
            manifest_sha256=digest(data),
            files=len(manifest),
            bytes=manifest.bytes,
            splits=manifest.splits(),
            verification=count_levels(manifest),
            filters=filters,
            complete=not filters,
            created=created,
            tusz_cache=__version__,
            volume=self.settings.volume,
        )

    def _seal(self, manifest: Manifest) -> None:
        """Publish manifest, leftovers and seal, in this order; then forget journal and trash."""
        meta = self.place.meta
        data = to_bytes(manifest)
        leftovers = Manifest({entry.key: entry for entry in self._leftovers()})
        ssd.write_file(self.place, meta / LEFTOVERS, to_bytes(leftovers))
        ssd.write_file(self.place, meta / MANIFEST, data)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        ssd.write_file(self.place, meta / SEAL, seal_to_bytes(self._statement(data, manifest, now)))
        if self.place.durability.commit is not None:
            commit(self.place.durability.commit)
        ssd.remove(self.place, meta / journal.NAME)
        self._sweep(set())
        ssd.empty_trash(self.place)

    def _leftovers(self) -> Iterator[Entry]:
        """Files of ours outside the manifest: their records stay, so that a later run knows them."""
        gone = {entry.key for entry in self.plan.delete} if self.settings.delete else set()
        for entry in self.holdings.files:
            wanted = entry.key in self.listing.manifest.files and self.settings.filters.admit(entry.key)
            if entry.proof is not None and not wanted and entry.key not in gone:
                yield entry

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
            bytes_total=sum(entry.size for entry in (*plan.copy, *plan.check, *plan.unchanged)),
            bytes_copied=outcome.received,
            bytes_refetched=outcome.refetched,
            sealed=sealed,
            seal=str(self.place.meta / SEAL) if sealed else "",
            splits=manifest.splits(),
            verification=count_levels(manifest),
            failures=tuple(Failure.of(key, error) for key, error in sorted(outcome.failures.items())),
            retries=outcome.retries,
            throttled=outcome.throttled,
            markers=self.listing.markers,
            leftovers=0 if deleted else len(plan.delete),
            unexpected=len(plan.foreign),
            notes=self.holdings.troubles,
        )
