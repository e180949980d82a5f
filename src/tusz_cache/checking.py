"""Checking: compare what lies in a cache with its manifest. Reads only."""

import itertools
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from tusz_cache.checksum import crc64nvme
from tusz_cache.copying.rereading import recorded_proof
from tusz_cache.copying.streams import read_range
from tusz_cache.entry import Entry, Proof
from tusz_cache.errors import BadResponse, CacheError, TargetError
from tusz_cache.holdings import Holdings
from tusz_cache.manifest import BARE, Manifest
from tusz_cache.progress import Progress
from tusz_cache.settings import cores
from tusz_cache.stores.local import walk

AT_ONCE = 4096  # tasks handed to the threads together
GLANCES = 256  # files of which one task compares the sizes

VerifyLevel = Literal["quick", "full"]
Fault = Literal["", "missing", "damaged", "changed"]
Judge = Callable[[Manifest, int], Fault]  # (manifest, row): not an Entry, a million of them take seconds


@dataclass(frozen=True, slots=True)
class Found:
    """Keys of files that are not as they must be, in the manifest's order."""

    missing: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()  # as the manifest says, but not as the source has it

    def __add__(self, other: "Found") -> "Found":
        return Found(self.missing + other.missing, self.damaged + other.damaged, self.changed + other.changed)

    @property
    def bad(self) -> tuple[str, ...]:
        """Keys of files that are not as the manifest says."""
        return self.missing + self.damaged


def check_files(root: Path, manifest: Manifest, *, full: bool = False, progress: Progress | None = None) -> Found:
    """Say which files of `manifest` are missing or damaged below `root`. full: read every byte; else sizes only."""
    look = _has_checksum if full else _has_size
    return judge_files(manifest, partial(_fault, look, root), together=1 if full else GLANCES, progress=progress)


def judge_files(
    manifest: Manifest,
    judge: Judge,
    *,
    together: int = 1,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Found:
    """Have threads judge every file of `manifest`. together: files of one task. Raises Interrupted, and as `judge`."""
    faults: dict[str, list[str]] = {"missing": [], "damaged": [], "changed": []}

    def check(rows: range) -> list[tuple[str, str]]:
        return [(manifest.keys[row], fault) for row in rows if not stopped() and (fault := judge(manifest, row))]

    def stopped() -> bool:
        return progress is not None and progress.stop_signal is not None

    batches = (range(row, min(row + together, len(manifest))) for row in range(0, len(manifest), together))
    with ThreadPoolExecutor(threads or 2 * cores()) as pool:
        while some := list(itertools.islice(batches, AT_ONCE)):  # not all: a million waiting results are a gigabyte
            try:
                for rows, found in zip(some, pool.map(check, some), strict=True):
                    for key, fault in found:
                        faults[fault].append(key)
                    if progress is not None:
                        progress.advance(sum(manifest.sizes[rows.start : rows.stop]), len(rows))
            except CacheError:
                pool.shutdown(cancel_futures=True)
                raise
            if progress is not None:
                progress.check_stop("stopped while checking")
    return Found(**{fault: tuple(keys) for fault, keys in faults.items()})


def without_damaged(root: Path, holdings: Holdings, progress: Progress) -> Holdings:
    """Read every file that `holdings` has a proof of; those whose bytes do not fit it lose it. Raises Interrupted."""
    proven = holdings.files.proven()
    progress.start(proven.bytes, len(proven))
    bad = check_files(root, proven, full=True, progress=progress).bad
    bare = Manifest.of(Entry(key, proven[key].size, None) for key in bad)
    return replace(holdings, files=Manifest.merged(holdings.files, bare), damaged=bad)


def with_retimed(root: Path, holdings: Holdings, wanted: Manifest, progress: Progress) -> Holdings:
    """Read the files of `wanted` whose records fit but for the time; where the bytes do, the records are proof again.

    The others are damaged. A file of another version than `wanted` has is not read. Raises Interrupted.
    """
    retimed = holdings.retimed.where(lambda key: key in wanted and wanted[key].etag == holdings.retimed[key].etag)
    proofs: dict[str, Proof] = {}

    def judge(records: Manifest, row: int) -> Fault:
        known = records.at(row)
        proof = recorded_proof(root / known.key, known)
        if proof is None:
            return "damaged"
        proofs[known.key] = proof
        return ""

    progress.start(retimed.bytes, len(retimed))
    bad = judge_files(retimed, judge, progress=progress).bad
    proven = Manifest.of(replace(entry, proof=proofs[entry.key]) for entry in retimed if entry.key in proofs)
    unread = holdings.retimed.without(frozenset(retimed.keys))
    return replace(
        holdings, files=Manifest.merged(holdings.files, proven), retimed=unread, damaged=holdings.damaged + bad
    )


def strangers(root: Path, manifest: Manifest) -> tuple[str, ...]:
    """Return the keys of files below `root` that `manifest` does not have. Raises TargetError."""
    try:
        return tuple(sorted(key for key, _ in walk(root) if key not in manifest))
    except OSError as error:
        raise TargetError(f"cannot read {error.filename}: {error.strerror}", hint="check its permissions") from error


Look = Callable[[str, Manifest, int], bool]  # (path, manifest, row)


def _fault(look: Look, root: Path, manifest: Manifest, row: int) -> Fault:
    try:
        return "" if look(f"{root}/{manifest.keys[row]}", manifest, row) else "damaged"
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError:
        return "damaged"  # the disk does not give the bytes back


def _has_size(path: str, manifest: Manifest, row: int) -> bool:
    seen = os.lstat(path)  # a link may lead anywhere: the guard refuses one, so it is no file of the cache
    return stat.S_ISREG(seen.st_mode) and seen.st_size == manifest.sizes[row]


def _has_checksum(path: str, manifest: Manifest, row: int) -> bool:
    assert manifest.levels[row] != BARE
    size = manifest.sizes[row]
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_size != size:
            return False
        crc = 0
        for block in read_range(descriptor, 0, size, Path(path)):
            crc = crc64nvme(block, crc)
        return crc == manifest.crcs[row]
    except BadResponse:
        return False
    except CacheError as error:
        raise OSError(str(error)) from error  # from here on a damaged file like any other
    finally:
        os.close(descriptor)
