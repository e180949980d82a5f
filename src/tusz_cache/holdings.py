"""Holdings: what a target holds, as its records tell and its files confirm. Reads only."""

import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from tusz_cache.copying import journal
from tusz_cache.copying.journal import Replay
from tusz_cache.entry import META
from tusz_cache.errors import Damaged, TargetError
from tusz_cache.manifest import Draft, Manifest
from tusz_cache.manifest_file import digest, from_lines
from tusz_cache.seal import Seal
from tusz_cache.seal import from_bytes as seal_from_bytes
from tusz_cache.sealed import MANIFEST, SEAL
from tusz_cache.stores.local import walk

LEFTOVERS = "leftovers.jsonl"  # files we wrote that the source no longer has: same form as the manifest


@dataclass(frozen=True, slots=True)
class Holdings:
    """A target's state."""

    is_ours: bool = False  # our directory is there
    files: Manifest = field(default_factory=Manifest)  # as they lie there; proof only where nothing touched them
    retimed: Manifest = field(default_factory=Manifest)  # records of files that differ from them in time only
    ours: frozenset[str] = frozenset()  # keys that this tool wrote
    replay: Replay = field(default_factory=Replay)  # numbers and length are those of the run's own journal
    elsewhere: Replay = field(default_factory=Replay)  # of `replay`, what other journals say
    manifest_sha256: str | None = None  # of the manifest's file, whether or not it can be read; None: there is none
    seal: Seal | None = None
    damaged: tuple[str, ...] = ()  # keys whose bytes were found to be wrong (--reverify)
    troubles: tuple[str, ...] = ()  # records that could not be read: the files are checked instead

    @property
    def is_fresh(self) -> bool:
        """Whether no run has left anything."""
        return self.seal is None and self.manifest_sha256 is None and not self.has_journal

    @property
    def has_journal(self) -> bool:
        """Whether a run was interrupted, or is under way."""
        return bool(self.replay.good_bytes or self.elsewhere.good_bytes)


def look(root: Path, shard: str = "") -> Holdings:
    """Read a target's records and stat its files. A target that does not exist holds nothing. Raises TargetError.

    shard: suffix of the shard that looks: it reads the target's journal and its own. "": the journals of all.
    """
    if not root.is_dir():
        return Holdings()
    meta = root / META
    troubles: list[str] = []
    try:
        replay, elsewhere = _replays(meta, shard)
        leftovers, _ = _manifest(meta / LEFTOVERS, troubles)
        manifest, manifest_sha256 = _manifest(meta / MANIFEST, troubles)
        older = Manifest.merged(leftovers, manifest).without(replay.gone | replay.doubted)
        records = Manifest.merged(older, replay.done)
        files, retimed = _as_they_lie(root, records)
        seal = _seal(meta / SEAL, troubles)
    except OSError as error:
        raise TargetError(
            f"cannot read {error.filename or root}: {error.strerror}", hint="check its permissions and its disk"
        ) from error
    ours = frozenset(records.keys) | replay.started
    return Holdings(
        meta.is_dir(), files, retimed, ours, replay, elsewhere, manifest_sha256, seal, troubles=tuple(troubles)
    )


def shard_journals(meta: Path) -> list[Path]:
    """Return the journals of shards, by name."""
    return sorted(meta.glob(f"{journal.NAME}-*"))


def _replays(meta: Path, shard: str) -> tuple[Replay, Replay]:
    """Return what all journals say together, and those that are not the run's own.

    Whoever has the target alone folds the shards' journals into its own, so what they say is later.
    """
    common = _replay(meta / journal.NAME)
    if shard:
        return common.then(_replay(meta / f"{journal.NAME}-{shard}")), common
    elsewhere = Replay()
    for path in shard_journals(meta):
        elsewhere = elsewhere.then(_replay(path))
    both = common.then(elsewhere)
    return replace(both, files=common.files, good_bytes=common.good_bytes), elsewhere


def _replay(path: Path) -> Replay:
    with _opened(path) as file:
        return journal.replay(file)


def _opened(path: Path) -> BinaryIO:
    return path.open("rb") if path.exists() else io.BytesIO()


def _manifest(path: Path, troubles: list[str]) -> tuple[Manifest, str | None]:
    """Return a manifest, empty if it cannot be read, and the digest of its file, if there is one."""
    if not path.exists():
        return Manifest(), None
    with path.open("rb") as file:
        sha256 = digest(file)
        file.seek(0)
        try:
            return from_lines(file, path=str(path)), sha256
        except Damaged as error:
            troubles.append(str(error))
            return Manifest(), sha256


def _seal(path: Path, troubles: list[str]) -> Seal | None:
    try:
        return seal_from_bytes(path.read_bytes(), path=str(path)) if path.exists() else None
    except Damaged as error:
        troubles.append(str(error))
        return None


def _as_they_lie(root: Path, records: Manifest) -> tuple[Manifest, Manifest]:
    """Return the records of files that are as they were when recorded, and bare entries of all other files.

    With it the records of those others that differ in time only: they may still have the recorded bytes.
    """
    intact, retimed = bytearray(len(records)), bytearray(len(records))
    others = Draft()
    for key, stat in walk(root):
        row = records.row(key)
        has_size = row is not None and records.sizes[row] == stat.st_size
        if row is not None and has_size and records.mtimes[row] == stat.st_mtime_ns:
            intact[row] = 1
            continue
        others.append(key, stat.st_size, None)
        if row is not None and has_size:
            retimed[row] = 1
    return Manifest.merged(_marked(records, intact), others.latest()), _marked(records, retimed).proven()


def _marked(records: Manifest, marks: bytearray) -> Manifest:
    return records.select([row for row, is_marked in enumerate(marks) if is_marked])
