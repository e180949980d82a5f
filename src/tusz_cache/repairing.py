"""Repairing: fetch what is missing or damaged of a sealed cache, damaged parts only, and seal the same manifest again.

A repair is a copy that an earlier run seems to have begun: the good parts of a damaged file are put into a partial file
and claimed in the journal; the engine fetches the others. What comes has to have the manifest's own checksum.
"""

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tusz_cache import sealing, ssd
from tusz_cache.checking import check_files
from tusz_cache.checksum import Expectation, spans, uniform_parts
from tusz_cache.copying.engine import Engine
from tusz_cache.copying.journal import Journal, OpenFile
from tusz_cache.copying.rereading import hash_file
from tusz_cache.copying.streams import read_range
from tusz_cache.copying.transfer import partial_name
from tusz_cache.copying.values import Outcome
from tusz_cache.entry import Entry, Proof
from tusz_cache.errors import BadResponse, Damaged, Incomplete, SourceChanged
from tusz_cache.holdings import look
from tusz_cache.manifest import Manifest
from tusz_cache.plan import Plan
from tusz_cache.planning import check_space, copy_settings
from tusz_cache.progress import Progress
from tusz_cache.seal import Seal
from tusz_cache.settings import SyncSettings
from tusz_cache.ssd import Target
from tusz_cache.stores.base import Facts, Fetch, Source


class AsSealed:
    """A source that says of its objects' bytes what a manifest says. A Source."""

    def __init__(self, source: Source, manifest: Manifest) -> None:
        self.url = source.url
        self._source, self._manifest = source, manifest

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        return self._source.entries()

    def facts(self, entry: Entry) -> Facts:
        """See Source."""
        proof = _proof(self._manifest, entry.key)
        expected = Expectation(proof.verified, "crc64nvme", proof.crc64nvme.to_bytes(8, "big"))
        return replace(self._source.facts(entry), expectation=expected, part_sizes=())

    def fetch(self, entry: Entry) -> Fetch:
        """See Source."""
        return self._source.fetch(entry)

    def part_sizes(self, entry: Entry, count: int) -> tuple[int, ...]:
        """See Source."""
        return self._source.part_sizes(entry, count)

    def crosses_processes(self) -> bool:
        """See Source."""
        return self._source.crosses_processes()

    def uses_tls(self) -> bool:
        """See Source."""
        return self._source.uses_tls()

    def refresh(self) -> None:
        """See Source."""
        self._source.refresh()


def _proof(manifest: Manifest, key: str) -> Proof:
    proof = manifest[key].proof
    assert proof is not None
    return proof


@dataclass(frozen=True, slots=True)
class Repair:
    """What is to be repaired, and from where. The target's lock is held."""

    place: Target
    lock: int
    seal: Seal
    manifest: Manifest
    bad: tuple[str, ...]  # keys of files that are missing or damaged
    store: Source
    listed: Manifest  # all that the source has
    settings: SyncSettings
    watcher: Progress

    def carry_out(self) -> Outcome:
        """Fetch what is bad, check it, seal the manifest again. Raises CacheError; until sealed, a later run goes on.

        SourceChanged if the source no longer has what was sealed, before anything is touched.
        """
        wanted = self._as_listed()
        links = frozenset(key for key in self.bad if self.place.path(key).is_symlink())  # whatever they lead to
        plan = Plan(copy=wanted.where(links.__contains__), check=wanted.without(links))
        holdings = look(self.place.root)
        check_space(self.place, Plan(copy=wanted), holdings, replace(self.settings, volume=self.seal.volume))
        ssd.prepare(self.place)
        book = sealing.open_journal(self.place, holdings)
        try:
            book.record([["doubt", key] for key in self.bad], sync=True)  # a run that finds no seal believes no record
            sealing.set_aside(self.place, self.seal)  # before the first byte changes
            claims = {key: claim for key, claim in holdings.replay.open.items() if claim.entry == wanted.get(key)}
            sealing.sweep(self.place, {partial_name(claim.entry) for claim in claims.values()})
            for entry in wanted:
                if entry.key not in claims and (claim := self._claim(entry, book)) is not None:
                    claims[entry.key] = claim
            self.watcher.start(wanted.bytes, len(wanted))
            source = AsSealed(self.store, self.manifest)
            settings = copy_settings(self.settings, self.store, Plan(copy=wanted))
            engine = Engine(source, self.place, book, settings, self.watcher, share=(self.lock,))
            outcome = engine.copy(plan, Manifest.of(wanted), claims)
        finally:
            book.close()
        self._check(outcome)
        restore(self.place, self.seal, self.manifest, (*self.bad, *holdings.replay.done.keys))
        return outcome

    def _as_listed(self) -> Manifest:
        """Return the source's entries of what is bad."""
        wanted = self.listed.where(frozenset(self.bad).__contains__)
        sealed = self.manifest.where(frozenset(self.bad).__contains__)
        fits = {(entry.key, entry.size, entry.etag) for entry in wanted}
        if other := [entry.key for entry in sealed if (entry.key, entry.size, entry.etag) not in fits]:
            raise self._changed(f"the source no longer has {other[0]!r} as it was sealed ({len(other)} files)")
        return wanted

    def _changed(self, message: str) -> SourceChanged:
        way = shlex.join(["python", "-m", "tusz_cache.sync", self.store.url, str(self.place.root)])
        return SourceChanged(message, hint=way)

    def _claim(self, entry: Entry, book: Journal) -> OpenFile | None:
        """Put the good parts of a damaged file into a partial file. Returns the claim to them, if there are any."""
        proof, path = _proof(self.manifest, entry.key), self.place.path(entry.key)
        claim = OpenFile(-1, entry, proof.part_size)  # numbered when it is recorded
        ranges = spans(uniform_parts(entry.size, proof.part_size)) if proof.part_crcs else ()
        for index, ((start, length), crc) in enumerate(zip(ranges, proof.part_crcs, strict=True)):
            try:
                [(found, _)] = hash_file(path, [(start, length)], None)
            except BadResponse:
                continue
            if found == crc:
                claim.parts[index] = (length, crc)
        if not claim.parts:
            return None
        self._copy_parts(entry, [ranges[index] for index in claim.parts])
        book.claim([claim])
        return claim

    def _copy_parts(self, entry: Entry, ranges: Sequence[tuple[int, int]]) -> None:
        path, partial = self.place.path(entry.key), self.place.partial / partial_name(entry)
        preallocate = not self.place.durability.front_to_back
        there = ssd.open_partial(partial, entry.size, preallocate=preallocate)
        try:
            here = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                for start, length in ranges:
                    at = start
                    for block in read_range(here, start, length, path):
                        ssd.write_at(there, block, at, partial)
                        at += len(block)
            finally:
                os.close(here)
        finally:
            os.close(there)

    def _check(self, outcome: Outcome) -> None:
        """Raise SourceChanged, Incomplete or Damaged unless all that was bad has come and lies there as sealed."""
        for key, error in outcome.failures.items():
            if isinstance(error, SourceChanged):
                raise self._changed(f"{key!r} was changed at the source during the repair") from error
        for key, error in outcome.failures.items():
            raise Incomplete(
                f"{len(outcome.failures)} files could not be repaired, e.g. {key!r}: {error}",
                hint=f"{error.hint}; then run the same command again: what came is kept",
            ) from error
        self.watcher.say("reading back what was repaired")
        found = check_files(self.place.root, self.manifest)
        found += check_files(self.place.root, self.manifest.where(frozenset(self.bad).__contains__), full=True)
        if found.bad:
            raise Damaged(
                f"{found.bad[0]!r} is damaged again",
                hint="something else writes to the cache, or its disk is failing: check the kernel log, then run again",
            )


def restore(place: Target, seal: Seal, manifest: Manifest, keys: Sequence[str]) -> None:
    """Seal `manifest`, which lies there, again. keys: of files that were repaired; they get the time it has of them.

    So the manifest stays the same, and with it every digest of it that others keep.
    """
    ssd.prepare(place)
    for key in frozenset(keys):
        if (row := manifest.row(key)) is not None:
            ssd.set_time(place.path(key), manifest.mtimes[row])
    sealing.seal(place, seal)
