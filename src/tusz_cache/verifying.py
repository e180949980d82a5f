"""Verifying: compare what lies in a cache with its manifest. Reads only."""

import itertools
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Literal

from tusz_cache.checksum import crc64nvme
from tusz_cache.copying.lanes import read_range
from tusz_cache.entry import Entry
from tusz_cache.errors import BadResponse, CacheError, TargetError, UsageError
from tusz_cache.holdings import Holdings
from tusz_cache.manifest import BARE, Manifest
from tusz_cache.progress import Progress
from tusz_cache.report import VerifyReport
from tusz_cache.sealed import read_sealed
from tusz_cache.settings import cores
from tusz_cache.stores.local import walk
from tusz_cache.stores.opening import target_path

AT_ONCE = 4096  # tasks handed to the threads together
GLANCES = 256  # files of which one task compares the sizes

VerifyLevel = Literal["quick", "full"]


@dataclass(frozen=True, slots=True)
class Found:
    """Keys of files that are not as the manifest says, in its order."""

    missing: tuple[str, ...]
    damaged: tuple[str, ...]

    def __add__(self, other: "Found") -> "Found":
        return Found(self.missing + other.missing, self.damaged + other.damaged)


def verify_cache(
    target: str | PathLike[str],
    *,
    level: VerifyLevel = "quick",
    expect: Mapping[str, int] | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check a cache against its seal and manifest.

    level: "quick" compares seal, manifest and sizes; "full" reads and checks every byte.
    expect: npz files that each split must have, e.g. {"train": 4667, "dev": 1832}.
    strict: unexpected files are a fault.
    Raises Damaged if there is no seal or it does not fit the manifest; UsageError.
    """
    if level not in {"quick", "full"}:
        raise UsageError(f"level {level!r} does not exist", hint="use quick or full")
    began = time.monotonic()
    root = target_path(target)
    _, manifest = read_sealed(root)
    with progress or Progress() as watcher:
        watcher.start(manifest.bytes, len(manifest))
        found = check_files(root, manifest, full=level == "full", progress=watcher)
    have = manifest.splits()
    return VerifyReport(
        target=str(root),
        level=level,
        files=len(manifest),
        bytes=manifest.bytes,
        seconds=time.monotonic() - began,
        missing=found.missing,
        damaged=found.damaged,
        unexpected=_unexpected(root, manifest),
        expected={split: (want, have[split].npz if split in have else 0) for split, want in (expect or {}).items()},
        strict=strict,
    )


def _unexpected(root: Path, manifest: Manifest) -> tuple[str, ...]:
    try:
        return tuple(sorted(key for key, _ in walk(root) if key not in manifest))
    except OSError as error:
        raise TargetError(f"cannot read {error.filename}: {error.strerror}", hint="check its permissions") from error


def check_files(root: Path, manifest: Manifest, *, full: bool = False, progress: Progress | None = None) -> Found:
    """Say which files of `manifest` are missing or damaged below `root`. full: read every byte; else sizes only."""

    faults: dict[str, list[str]] = {"missing": [], "damaged": []}
    look = _has_checksum if full else _has_size

    def check(rows: range) -> list[tuple[str, str]]:
        return [
            (manifest.keys[row], fault)
            for row in rows
            if not stopped() and (fault := _fault(look, root, manifest, row))
        ]

    def stopped() -> bool:
        return progress is not None and progress.stop_signal is not None

    together = 1 if full else GLANCES
    batches = (range(row, min(row + together, len(manifest))) for row in range(0, len(manifest), together))
    with ThreadPoolExecutor(2 * cores()) as pool:
        while some := list(itertools.islice(batches, AT_ONCE)):  # not all: a million waiting results are a gigabyte
            for rows, found in zip(some, pool.map(check, some), strict=True):
                for key, fault in found:
                    faults[fault].append(key)
                if progress is not None:
                    progress.advance(sum(manifest.sizes[rows.start : rows.stop]), len(rows))
            if progress is not None:
                progress.check_stop("stopped while checking")
    return Found(tuple(faults["missing"]), tuple(faults["damaged"]))


def without_damaged(root: Path, holdings: Holdings, progress: Progress) -> Holdings:
    """Read every file that `holdings` has a proof of; those whose bytes do not fit it lose it. Raises Interrupted."""
    proven = holdings.files.proven()
    progress.start(proven.bytes, len(proven))
    found = check_files(root, proven, full=True, progress=progress)
    bad = found.damaged + found.missing
    bare = Manifest.of(Entry(key, proven[key].size, None) for key in bad)
    return replace(holdings, files=Manifest.merged(holdings.files, bare), damaged=bad)


Look = Callable[[str, Manifest, int], bool]  # (path, manifest, row): not an Entry, a million of them take seconds


def _fault(look: Look, root: Path, manifest: Manifest, row: int) -> Literal["", "missing", "damaged"]:
    try:
        return "" if look(f"{root}/{manifest.keys[row]}", manifest, row) else "damaged"
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError:
        return "damaged"  # the disk does not give the bytes back


def _has_size(path: str, manifest: Manifest, row: int) -> bool:
    return os.stat(path).st_size == manifest.sizes[row]  # noqa: PTH116 - likewise, of Path


def _has_checksum(path: str, manifest: Manifest, row: int) -> bool:
    assert manifest.levels[row] != BARE
    size = manifest.sizes[row]
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
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
