"""Comparing: what a cache holds with what its source has, by listing and byte for byte. Reads only."""

import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tusz_cache.checking import Fault, Found, judge_files
from tusz_cache.copying.lanes import crc_at_source
from tusz_cache.copying.opening import ask
from tusz_cache.copying.rate import backoff
from tusz_cache.copying.rereading import own_proof, proof_at
from tusz_cache.entry import Entry, Proof
from tusz_cache.errors import CacheError, EmptyListing
from tusz_cache.manifest import Manifest
from tusz_cache.plan import Filters
from tusz_cache.progress import Progress
from tusz_cache.settings import SyncSettings
from tusz_cache.stores.base import Source

AT_ONCE = 16  # files that the source is asked about


@dataclass(frozen=True, slots=True)
class Differences:
    """How a source's listing differs from a manifest: keys, in order."""

    changed: tuple[str, ...] = ()  # of another size or version
    vanished: tuple[str, ...] = ()  # no longer at the source
    added: tuple[str, ...] = ()  # new at the source, and within the filters


def compare(manifest: Manifest, listed: Manifest, filters: Filters) -> Differences:
    """Say how `listed`, all that a source has, differs from `manifest`, made with `filters`. Pure.

    Raises EmptyListing if it lists nothing though there should be something.
    """
    if len(manifest) and not len(listed):
        raise EmptyListing("the source lists no objects at all", hint="check the URL for typing errors")
    changed, vanished = [], []
    for row, there in enumerate(manifest.rows_in(listed)):
        if there < 0:
            vanished.append(manifest.keys[row])
        elif (manifest.sizes[row], manifest.etags[row]) != (listed.sizes[there], listed.etags[there]):
            changed.append(manifest.keys[row])
    wanted = filters.within(listed)
    added = [key for key, there in zip(wanted.keys, wanted.rows_in(manifest), strict=True) if there < 0]
    return Differences(tuple(changed), tuple(vanished), tuple(added))


@dataclass(frozen=True, slots=True)
class Prover:
    """Proves that files are what a source has."""

    store: Source
    settings: SyncSettings

    def prove(self, entry: Entry, path: Path, known: Entry) -> Proof | None:
        """Return a proof that the file at `path` is what the source has as `entry`, or None if it is not.

        known: what was proven of the file when it was written. Where the source keeps no checksum, its version mark
        tells that the object is still the one that came; else the object is read there. Raises CacheError.
        """
        facts = ask(self.store, entry)
        if facts.expectation.algorithm is not None:
            return proof_at(self.store, entry, path, facts, None)
        found = own_proof(path, entry.size)
        if found is None:
            return None
        same_version = entry.etag is not None and known.etag == entry.etag
        wanted = known.proof.crc64nvme if known.proof and same_version else self._crc(entry)
        return found if found.crc64nvme == wanted else None

    def _crc(self, entry: Entry) -> int:
        """Return the CRC64NVME of the bytes that the source has. Raises CacheError after so many retries."""
        attempt = 0
        while True:
            try:
                return crc_at_source(entry, self.store.fetch(entry), self.settings.stall_timeout)
            except CacheError as error:
                attempt += 1
                if attempt > self.settings.retries or not error.temporary:
                    raise
                time.sleep(backoff(attempt))


def check_against(root: Path, manifest: Manifest, listed: Manifest, prover: Prover, progress: Progress) -> Found:
    """Read every file of `manifest` below `root`, and say which are not as it says, or not as the source has them.

    listed: all that the source has. Raises as `Prover.prove`, SourceChanged if it is changed meanwhile, Interrupted.
    """

    def differs(known: Entry, path: Path) -> Fault:
        there, proof = listed.get(known.key), None
        if there is not None and there.size == known.size:
            proof = prover.prove(there, path, known)
        found = proof or own_proof(path, known.size)
        assert known.proof is not None
        if found is None or found.crc64nvme != known.proof.crc64nvme:
            return "damaged"
        return "changed" if proof is None and there is not None else ""

    return judge_files(manifest, partial(_judge, root, differs), threads=AT_ONCE, progress=progress)


def prove_files(root: Path, listed: Manifest, prover: Prover, progress: Progress) -> tuple[Found, Manifest]:
    """Read every file below `root` that is `listed`. Returns those that are not as the source has them, and the others.

    The others come with proof. Raises as `check_against`.
    """
    proofs: dict[str, Proof] = {}

    def differs(entry: Entry, path: Path) -> Fault:
        proof = prover.prove(entry, path, entry)
        if proof is None:
            return "damaged"
        proofs[entry.key] = proof
        return ""

    found = judge_files(listed, partial(_judge, root, differs), threads=AT_ONCE, progress=progress)
    return found, Manifest.of(replace(entry, proof=proofs[entry.key]) for entry in listed if entry.key in proofs)


def _judge(root: Path, differs: Callable[[Entry, Path], Fault], manifest: Manifest, row: int) -> Fault:
    """Judge a file by its size, and by `differs` if that is right."""
    path = root / manifest.keys[row]
    try:
        seen = path.lstat()  # a link may lead anywhere: it is no file of the cache
        is_there = stat.S_ISREG(seen.st_mode) and seen.st_size == manifest.sizes[row]
        return differs(manifest.at(row), path) if is_there else "damaged"
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError:
        return "damaged"  # the disk does not give the bytes back
