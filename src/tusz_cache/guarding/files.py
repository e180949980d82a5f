"""The files of a directory whose place was accepted: its records, a look at every file, cold reads."""

import errno
import io
import random
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tusz_cache.entry import META, Entry
from tusz_cache.errors import Damaged
from tusz_cache.guarding.hands import READ
from tusz_cache.guarding.identity import mismatch, no_seal, store_refused, with_evidence
from tusz_cache.guarding.layered import Marks, marks
from tusz_cache.guarding.reaching import Reach
from tusz_cache.guarding.stages import judge_files
from tusz_cache.guarding.values import Evidence, Ruling, Says, Verdict
from tusz_cache.manifest import Manifest
from tusz_cache.manifest_file import from_lines
from tusz_cache.seal import Seal
from tusz_cache.sealed import MANIFEST, PACKING, SEAL, read_records

READS = 24  # files that the probe reads in
SLOW = 0.005  # seconds
MANY = 0.25  # share of slow reads that is worth a warning: 6 of 24, by chance once in 160,000 SSDs with 2 % slow reads

_CONTENT = {Ruling.REFUSE_NO_SEAL, Ruling.REFUSE_SEAL_MISMATCH, Ruling.REFUSE_MIXED}  # for what lies there, not where

# where the mount proves that every file lies where its root does; elsewhere each file is asked
_PROVEN = {Ruling.ACCEPT_LOCAL_BLOCK, Ruling.ACCEPT_MEMORY}


class Records(NamedTuple):
    """What a cache says of itself, and what the verdict is in view of it."""

    verdict: Verdict
    seal: Seal | None = None
    manifest: Manifest | None = None  # None: there is none


def sealed_records(reach: Reach, verdict: Verdict) -> Records:
    """Return the seal and its manifest; the verdict refuses if one is missing or they do not fit."""
    try:
        if _read(reach, SEAL) is None:
            return Records(no_seal(verdict))
        return Records(verdict, *read_records(lambda name: _opened(reach, name), Path(verdict.path)))
    except Damaged as error:
        return Records(mismatch(verdict, str(error)))


def bare_records(reach: Reach, verdict: Verdict) -> Records:
    """Return the manifest, if one is there, whatever the seal says."""
    verdict = with_evidence(verdict, "note", "not asked for")
    try:
        return Records(verdict, None, from_lines(_opened(reach, MANIFEST), path=f"{verdict.path}/{META}/{MANIFEST}"))
    except FileNotFoundError:
        return Records(verdict)
    except Damaged as error:
        return Records(with_evidence(verdict, "note", f"all files are looked at, for {error}"))


def _opened(reach: Reach, name: str) -> BinaryIO:
    data = _read(reach, name)
    if data is None:
        raise FileNotFoundError(errno.ENOENT, "there is no such file", name)
    return io.BytesIO(data)


def _read(reach: Reach, name: str) -> bytes | None:
    """Return one of our records, None if it is not there. Raises Damaged if it is anything but a file of the cache."""
    key = f"{META}/{name}"
    try:
        return reach.read(key)
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.EXDEV, errno.EINVAL}:
            raise
        raise Damaged(f"{key} is a link, on another mount, or no file", hint="remove it, and run sync again") from error


def look(reach: Reach, verdict: Verdict, manifest: Manifest | None) -> tuple[Verdict, Manifest, Marks]:
    """Look at every file of the manifest, or of the tree if there is none. Return the verdict, and what there is."""
    each = verdict.ruling not in _PROVEN
    if manifest is not None:
        looked = reach.look(manifest.keys, manifest.sizes, each=each)
        return judge_files(verdict, looked.files), manifest, marks(manifest.keys, looked)
    keys, faults = reach.tree()
    looked = reach.look(keys, None, each=each)
    verdict = judge_files(verdict, replace(looked.files, faults=(*faults, *looked.files.faults)))
    there = marks(keys, looked)
    return verdict, Manifest.of(Entry(key, size, None) for key, (size, _) in there.items()), there


def for_store(reach: Reach, verdict: Verdict) -> Verdict:
    """Return the refusal of a directory with a hint that helps a packed store, if one lies there: it has no source."""
    if verdict.ruling not in _CONTENT:
        return verdict
    try:
        if _read(reach, PACKING) is None:
            return verdict
    except Damaged:  # a link in place of our note makes no store of a cache
        return verdict
    return store_refused(verdict)


def probe(reach: Reach, verdict: Verdict, manifest: Manifest) -> Verdict:
    """Time one read in each of some files. It may warn; what is fast may still be a cached bucket."""
    rows = [row for row, size in enumerate(manifest.sizes) if size]
    chosen = random.sample(rows, min(READS, len(rows)))
    places = [(manifest.keys[row], random.randrange(0, max(1, manifest.sizes[row] - READ))) for row in chosen]  # noqa: S311 - no secret
    taken = sorted(reach.probe(places))
    slow = sum(seconds > SLOW for seconds in taken)
    median = taken[len(taken) // 2] * 1000 if taken else 0.0
    detail = f"{slow} of {len(taken)} took more than {SLOW * 1000:.0f} ms, the median is {median:.2f} ms"
    says: Says = "warn" if taken and slow >= MANY * len(taken) else "note"
    seen = Evidence("probe", f"reads of {READ} bytes, one in each of some files", says, detail)
    return replace(verdict, evidence=(*verdict.evidence, seen))
