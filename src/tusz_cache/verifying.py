"""verify_cache: check a cache against its seal and its source, adopt one that has none, repair what is damaged."""

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

from tusz_cache.adopting import adopt
from tusz_cache.checking import Found, VerifyLevel, check_files, strangers
from tusz_cache.comparing import Differences, Prover, check_against, compare
from tusz_cache.durability import Durability
from tusz_cache.errors import Damaged, SourceError, UsageError
from tusz_cache.holdings import look
from tusz_cache.lock import locked
from tusz_cache.manifest import Manifest
from tusz_cache.plan import Filters
from tusz_cache.planning import Listing, list_source, open_for
from tusz_cache.progress import Progress
from tusz_cache.repairing import Repair, restore
from tusz_cache.seal import Seal
from tusz_cache.sealed import is_store, read_sealed, read_set_aside, refuse_store
from tusz_cache.settings import SyncSettings
from tusz_cache.ssd import Target
from tusz_cache.stores.base import Access, Source
from tusz_cache.stores.opening import target_path
from tusz_cache.verify_report import VerifyReport


def verify_cache(
    target: str | PathLike[str],
    *,
    level: VerifyLevel = "quick",
    against: str | None = None,
    repair: bool = False,
    expect: Mapping[str, int] | None = None,
    strict: bool = False,
    access: Access | None = None,
    durability: Durability | None = None,
    volume: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check a cache against its seal and manifest, and against a source.

    level: "quick" compares seal, manifest and sizes; "full" reads and checks every byte.
    against: any fsspec URL or path. What the seal's filters left out is not compared. A cache without a seal is adopted
    if it is whole at level "full": manifest and seal are written.
    repair: read every byte, and fetch missing files and damaged parts from `against`, or else the seal's source.
    expect: npz files that each split must have, e.g. {"train": 4667, "dev": 1832}.
    strict: unexpected files, and files that the source no longer has, are a fault.
    access: how to reach the source. durability: of what is written. volume: as for `populate_cache`, when adopting.
    Raises Damaged if there is no seal or it does not fit the manifest; SourceChanged if damaged files are no longer
    there as they were sealed; UsageError; with `against` or `repair` as `populate_cache`.
    """
    if level not in {"quick", "full"}:
        raise UsageError(f"level {level!r} does not exist", hint="use quick or full")
    began = time.monotonic()
    settings = SyncSettings(access=access or Access(), durability=durability or Durability(), volume=volume)
    place = Target(target_path(target), settings.durability)
    if repair or against is not None:
        refuse_store(place.root)
    with progress or Progress() as watcher:
        work = _Work(place, against, settings, watcher, full=repair or level == "full")
        seen = work.repaired() if repair else work.seen()
    manifest = seen.manifest
    have = manifest.splits()
    absent = [key for key in seen.differences.added if not place.path(key).is_file()]
    return VerifyReport(
        target=str(place.root),
        level="full" if repair else level,
        files=len(manifest),
        bytes=manifest.bytes,
        seconds=time.monotonic() - began,
        missing=(*seen.found.missing, *absent),
        damaged=seen.found.damaged,
        unexpected=strangers(place.root, manifest),
        expected={split: (want, have[split].npz if split in have else 0) for split, want in (expect or {}).items()},
        strict=strict,
        source=seen.source,
        compared=against is not None,
        changed=seen.found.changed,
        vanished=seen.differences.vanished,
        added=seen.differences.added,
        adopted=seen.adopted,
        sealed=seen.sealed,
        is_store=is_store(place.root),
        repaired=seen.repaired,
        bytes_fetched=seen.bytes_fetched,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What came of it."""

    manifest: Manifest
    found: Found
    source: str  # of the seal, or the one that was named
    differences: Differences = field(default_factory=Differences)
    sealed: bool = True
    adopted: bool = False
    repaired: tuple[str, ...] = ()
    bytes_fetched: int = 0


@dataclass(frozen=True, slots=True)
class _Work:
    place: Target
    against: str | None
    settings: SyncSettings
    watcher: Progress
    full: bool

    def seen(self) -> _Seen:
        """Check, and adopt what has no seal."""
        root = self.place.root
        try:
            seal, manifest = read_sealed(root)
        except Damaged as error:
            if self.against is not None and self.full and root.is_dir():
                return self._adopted(self.against)
            raise Damaged(str(error), hint=self._way_to_a_seal(error)) from error
        if self.against is None:
            self.watcher.start(manifest.bytes, len(manifest))
            found = check_files(root, manifest, full=self.full, progress=self.watcher)
            return _Seen(manifest=manifest, found=found, source=seal.source)
        store, listing, differences = self._compared(self.against, seal, manifest)
        self.watcher.start(manifest.bytes, len(manifest))
        if self.full:
            found = check_against(root, manifest, listing.manifest, Prover(store, self.settings), self.watcher)
        else:
            found = check_files(root, manifest, progress=self.watcher) + Found(changed=differences.changed)
        return _Seen(manifest=manifest, found=found, source=store.url, differences=differences)

    def _way_to_a_seal(self, error: Damaged) -> str:
        command = f"python -m tusz_cache.verify {shlex.quote(str(self.place.root))}"
        if read_set_aside(self.place.root) is not None:
            return f"a repair was interrupted: {command} --repair"
        if self.against is not None:
            return f"{command} --level full --against {shlex.quote(self.against)} seals it if it is whole"
        return error.hint

    def _adopted(self, source: str) -> _Seen:
        store, listing = self._listed(source, Filters())
        found, manifest = adopt(self.place, store, listing, self.settings, self.watcher)
        is_whole = not found.bad
        return _Seen(
            manifest=manifest if is_whole else listing.manifest,
            found=found,
            source=store.url,
            sealed=is_whole,
            adopted=is_whole,
        )

    def _listed(self, source: str, filters: Filters) -> tuple[Source, Listing]:
        settings = replace(self.settings, filters=filters)
        store = open_for(source, self.place, settings)
        return store, list_source(store, self.place, settings, self.watcher)

    def _compared(self, source: str, seal: Seal, manifest: Manifest) -> tuple[Source, Listing, Differences]:
        filters = Filters(tuple(seal.filters.get("include", ())), tuple(seal.filters.get("exclude", ())))
        store, listing = self._listed(source, filters)
        return store, listing, compare(manifest, listing.manifest, filters)

    def repaired(self) -> _Seen:
        """Read every byte under the lock, fetch what is missing or damaged, and seal again."""
        root = self.place.root
        self._read(root)  # without a seal there is nothing to lock
        with locked(self.place) as lock:
            seal, manifest, is_broken = self._read(root)
            self.watcher.start(manifest.bytes, len(manifest))
            found = check_files(root, manifest, full=True, progress=self.watcher)
            seen = _Seen(manifest=manifest, found=Found(), source=self.against or seal.source)
            if self.against is None and not found.bad:
                if is_broken:  # an interrupted repair had come to its end
                    restore(self.place, seal, manifest, look(root).replay.done.keys)
                return seen
            try:
                store, listing, differences = self._compared(self.against or seal.source, seal, manifest)
            except SourceError as error:
                if self.against is not None:
                    raise
                raise SourceError(
                    f"the source that the seal names cannot be used: {error}",
                    hint=f"{error.hint}; or name one: --repair --against SOURCE",
                ) from error
            seen = replace(seen, source=store.url, differences=differences if self.against else Differences())
            if found.bad:
                work = Repair(
                    self.place, lock, seal, manifest, found.bad, store, listing.manifest, self.settings, self.watcher
                )
                outcome = work.carry_out()
                seen = replace(seen, repaired=found.bad, bytes_fetched=outcome.received + outcome.refetched)
            elif is_broken:
                restore(self.place, seal, manifest, look(root).replay.done.keys)
            return replace(seen, found=Found(changed=seen.differences.changed))

    def _read(self, root: Path) -> tuple[Seal, Manifest, bool]:
        """Return seal and manifest, and whether an interrupted repair took the seal off. Raises Damaged."""
        try:
            return *read_sealed(root), False
        except Damaged:
            if (records := read_set_aside(root)) is None:
                raise
            return *records, True
