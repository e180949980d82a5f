"""pack_cache: admit, survey, fold, lay, index, seal. The whole story on one page."""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from tusz_cache import sealing, ssd
from tusz_cache.checking import check_files, without_damaged
from tusz_cache.copying import journal
from tusz_cache.copying.journal import Journal
from tusz_cache.entry import META, Entry
from tusz_cache.errors import Damaged, ForeignTarget
from tusz_cache.guarding.admitted import AdmittedCache
from tusz_cache.guarding.guard import CacheGuard
from tusz_cache.holdings import Holdings, look
from tusz_cache.lock import locked
from tusz_cache.manifest import Manifest
from tusz_cache.packing.blocks import SCALE, WINDOW_BLOCKS
from tusz_cache.packing.claims import read_claims, read_index, read_job
from tusz_cache.packing.folding import Folded, fold
from tusz_cache.packing.index import INDEX, Index, Shard
from tusz_cache.packing.index import to_bytes as index_to_bytes
from tusz_cache.packing.manifests import DATASET_INDEX, WINDOW_MANIFEST, users_files
from tusz_cache.packing.npz import check_windows, float_rows, float_values, open_npz
from tusz_cache.packing.packed import PackedStore
from tusz_cache.packing.report import PackedSplit, PackReport
from tusz_cache.packing.rows import Directory
from tusz_cache.packing.splitting import Laid, SplitWriter, in_store_order
from tusz_cache.packing.survey import PackSettings, Survey, check_space, survey
from tusz_cache.plan import Filters
from tusz_cache.progress import Progress
from tusz_cache.sealed import PACKING, read_sealed
from tusz_cache.settings import cores
from tusz_cache.ssd import Target
from tusz_cache.stores.opening import target_path
from tusz_cache.tusz import split_of

AHEAD = 2  # recordings for each worker that may wait to be laid in their order

T = TypeVar("T")
R = TypeVar("R")


def pack_cache(
    cache: AdmittedCache | str | PathLike[str],
    store: str | PathLike[str],
    *,
    settings: PackSettings | None = None,
    guard: CacheGuard | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> PackReport:
    """Write the windows of a cache as a packed store, sealed like a cache; goes on where an earlier run stopped.

    cache: what the guard admitted, or a path that `guard` is asked about. changes: fields of PackSettings.
    Raises CacheError: CacheRefused, UsageError, BadRecording (a file of the cache), NoSpace, TargetError, Interrupted.
    """
    began = time.monotonic()
    settings = replace(settings or PackSettings(), **changes)
    if not isinstance(cache, AdmittedCache):
        with (guard or CacheGuard()).admit(cache) as admitted:
            return pack_cache(admitted, store, settings=settings, progress=progress)
    place = Target(target_path(store), settings.durability)
    with progress or Progress() as watcher:
        watcher.say(f"looking at the recordings of {cache.root}")
        found = survey(cache, settings)
        _check_place(place, cache)
        check_space(place, found, settings)
        ssd.prepare(place)
        with locked(place):
            report = _Run(cache, place, settings, watcher, found).carry_out()
        return replace(report, seconds=time.monotonic() - began)


def _check_place(place: Target, cache: AdmittedCache) -> None:
    """Raise ForeignTarget unless the store's directory is empty, or holds a store."""
    root = Path(os.path.realpath(place.root))  # bears a link to itself
    if root.is_relative_to(cache.real_path) or cache.real_path.is_relative_to(root):
        raise ForeignTarget(f"{root} and the cache {cache.root} lie in each other", hint="choose a directory beside it")
    if (place.meta / PACKING).exists() or not root.is_dir():
        return
    begun = {root / META / "lock", *(root / META).glob(f"{PACKING}.*")}  # all that a run killed at its start leaves
    if any(not path.is_dir() and path not in begun for path in root.rglob("*")):
        raise ForeignTarget(f"{root} holds files, and no packed store", hint="choose an empty or a new directory")


@dataclass(frozen=True, slots=True)
class _Run:
    """One run, from a survey to its report."""

    cache: AdmittedCache
    place: Target
    settings: PackSettings
    watcher: Progress
    found: Survey

    def carry_out(self) -> PackReport:
        splits, job = self.found.recordings, self.found.job(self.settings)
        begun = read_job(self.place) == job
        if begun:
            self._believe_untouched()
        holdings = look(self.place.root)
        if begun and holdings.seal is not None:
            self.watcher.say("reading what is there")
            holdings = without_damaged(self.place.root, holdings, self.watcher)
        proven = holdings.files.proven()
        if begun and (lies := self._lies_there(proven)):
            return self._report(lies)
        sealing.unseal(self.place)
        if not begun:
            if len(holdings.files):
                self.watcher.say("removing the store of another cache, data type or choice of splits")
            holdings, proven = self._emptied(holdings), Manifest()
            ssd.write_file(self.place, self.place.meta / PACKING, job)
        claims = read_claims(self.place, splits, proven)
        self.watcher.start(sum(map(self.found.bytes_in, splits)), len(self.found.sizes))
        book = Journal(self.place, holdings.replay)
        try:
            written = {split: self._split(split, claims[split], proven, book) for split in splits}
        finally:
            book.close()
        manifest = Manifest.of(entry for split in written.values() for entry in split.entries)
        self._remove(holdings.ours - set(manifest.keys))
        stated = sealing.statement(
            self.cache.real_path.as_uri(), manifest, Filters(), complete=True, volume=self.settings.volume
        )
        sealing.publish(self.place, stated, manifest, leftovers=Manifest())
        return self._report(written)

    def _believe_untouched(self) -> None:
        """Give sealed files whose time alone has changed, as a copied store's have, their time back."""
        with contextlib.suppress(Damaged):  # not sealed: files with another time are written again
            _, manifest = read_sealed(self.place.root)
            proven = look(self.place.root).files.proven()
            touched = Manifest.of(entry for entry in manifest if entry.key not in proven)
            bad = set(check_files(self.place.root, touched, full=True).bad)
            for entry in touched:
                if entry.key not in bad and entry.proof is not None:
                    ssd.set_time(self.place.path(entry.key), entry.proof.mtime_ns)

    def _lies_there(self, proven: Manifest) -> "dict[str, _Written] | None":
        """Return what is sealed there; None if that is not all of it, whole."""
        try:
            _, manifest = read_sealed(self.place.root)
        except Damaged:
            return None
        splits = self.found.recordings
        if any(key not in proven for key in (*manifest.keys, *(f"{split}/{INDEX}" for split in splits))):
            return None
        indexes = {split: read_index(self.place.path(f"{split}/{INDEX}")) for split in splits}
        names = {split: {INDEX, WINDOW_MANIFEST, DATASET_INDEX, *index.files} for split, index in indexes.items()}
        if {f"{split}/{name}" for split, some in names.items() for name in some} != set(manifest.keys):
            return None
        entries = {split: tuple(entry for entry in manifest if split_of(entry.key) == split) for split in splits}
        return {split: _Written(index, entries[split], 0) for split, index in indexes.items()}

    def _emptied(self, holdings: Holdings) -> Holdings:
        """Remove what another job left."""
        self._remove(holdings.ours)
        ssd.remove(self.place, self.place.meta / journal.NAME)
        sealing.sweep(self.place, frozenset())
        return Holdings()

    def _remove(self, keys: Iterable[str]) -> None:
        for key in sorted(keys):
            ssd.remove(self.place, self.place.path(key))

    def _split(self, split: str, claims: Mapping[str, Laid], proven: Manifest, book: Journal) -> "_Written":
        """Lay one split's recordings, and write its index and the users' two files."""
        names = [file.name for file in self.found.recordings[split]]
        order = in_store_order(names)
        with SplitWriter(self.place, split, self.settings.dtype, book) as writer:
            left = writer.resume(order, claims, proven)
            self._advance(split, sorted(set(order) - set(left)))
            with contextlib.closing(self._folded(split, left)) as recordings:
                for name, folded in recordings:
                    writer.add(name, folded)
                    self._advance(split, [name])
                    self.watcher.check_stop("stopped while packing")
            writer.finish()
            index = self._index(split, {laid.recording.cache_file: laid for laid in writer.laid}, writer.shards)
            theirs = users_files(self.cache, PackedStore(Directory(self.place.root), index, "pread"))
            for name, file in theirs.items():
                if file.fault:
                    self.watcher.say(f"{split}/{name} is made anew: {file.fault}")
            writer.write({name: file.data for name, file in theirs.items()} | {INDEX: index_to_bytes(index)})
        return _Written(index, tuple(writer.published), len(left))

    def _index(self, split: str, laid: Mapping[str, Laid], shards: Iterable[Shard]) -> Index:
        return Index(
            split=split,
            dtype=self.settings.dtype,
            scale=SCALE if self.settings.dtype == "int16" else None,
            max_error=max((item.error for item in laid.values()), default=0.0),
            cache_manifest_sha256=self.found.cache_manifest_sha256,
            shards=tuple(shards),
            recordings=tuple(laid[name].recording for name in sorted(laid)),
        )

    def _advance(self, split: str, names: Sequence[str]) -> None:
        self.watcher.advance(sum(self.found.sizes[f"{split}/{name}"] for name in names), len(names))

    def _folded(self, split: str, names: Sequence[str]) -> Generator[tuple[str, Folded]]:
        """Yield recordings in the order of `names`, folded by several threads at once."""
        workers = self.settings.workers or cores()
        with ThreadPoolExecutor(workers, "fold") as pool:
            try:
                keys = [f"{split}/{name}" for name in names]
                yield from zip(names, ahead(pool, partial(fold_file, self.cache), keys, AHEAD * workers), strict=True)
            finally:
                pool.shutdown(cancel_futures=True)

    def _report(self, written: Mapping[str, "_Written"]) -> PackReport:
        return PackReport(
            store=str(self.place.root),
            dtype=self.settings.dtype,
            splits={split: self._counts(split, item) for split, item in written.items()},
            packed=sum(item.packed for item in written.values()),
            max_error=max((item.index.max_error for item in written.values()), default=0.0),
        )

    def _counts(self, split: str, written: "_Written") -> PackedSplit:
        rows = written.index.recordings
        return PackedSplit(
            recordings=len(rows),
            windows=written.index.windows,
            bytes_in=self.found.bytes_in(split),
            bytes_out=sum(entry.size for entry in written.entries),
            plain_recordings=sum(row.step == WINDOW_BLOCKS for row in rows),
            rebuilt=tuple(sorted(entry.key for entry in written.entries if self._is_rebuilt(entry))),
        )

    def _is_rebuilt(self, entry: Entry) -> bool:
        """Whether a file of the store is one of the users' that the cache does not have, or has otherwise."""
        theirs = self.cache.manifest.get(entry.key)
        if entry.key.rpartition("/")[2] not in {WINDOW_MANIFEST, DATASET_INDEX} or entry.proof is None:
            return False
        return theirs is None or theirs.proof is None or theirs.proof.crc64nvme != entry.proof.crc64nvme


@dataclass(frozen=True, slots=True)
class _Written:
    """A split that lies there."""

    index: Index
    entries: tuple[Entry, ...]  # of all its files, with proof
    packed: int  # recordings of this run


def fold_file(cache: AdmittedCache, key: str) -> Folded:
    """Read one recording of a cache, and fold it. Raises BadRecording."""
    with open_npz(partial(cache.open, key), name=str(cache.root / key), wanted=("windows", "labels")) as npz:
        windows, labels = check_windows(npz)
        return fold(partial(float_rows, npz, windows), windows.shape[0], float_values(npz, labels) if labels else None)


def ahead(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], most: int) -> Iterator[R]:
    """Yield `work(item)` in the order of `items`, with at most `most` of them begun before they are wanted."""
    begun: deque[Future[R]] = deque()
    for item in items:
        begun.append(pool.submit(work, item))
        if len(begun) > most:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()
