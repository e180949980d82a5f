"""Holdings: what a target holds, as its records tell and its files confirm. Reads only."""

from dataclasses import dataclass, field
from pathlib import Path

from tusz_cache.copying import journal
from tusz_cache.copying.journal import Replay
from tusz_cache.entry import META, Entry
from tusz_cache.errors import Damaged, TargetError
from tusz_cache.manifest import Manifest, from_bytes
from tusz_cache.seal import Seal
from tusz_cache.seal import from_bytes as seal_from_bytes
from tusz_cache.stores import walk

MANIFEST = "manifest.jsonl"
LEFTOVERS = "leftovers.jsonl"  # files we wrote that the source no longer has: same form as the manifest
SEAL = "seal.json"


@dataclass(frozen=True, slots=True)
class Holdings:
    """A target's state."""

    is_ours: bool = False  # our directory is there
    files: Manifest = field(
        default_factory=lambda: Manifest({})
    )  # as they lie there; proof only where nothing touched them
    ours: frozenset[str] = frozenset()  # keys that this tool wrote
    replay: Replay = field(default_factory=Replay)
    manifest_bytes: bytes | None = None
    seal: Seal | None = None
    damaged: tuple[str, ...] = ()  # keys whose bytes were found to be wrong (--reverify)
    troubles: tuple[str, ...] = ()  # records that could not be read: the files are checked instead

    @property
    def is_fresh(self) -> bool:
        """Whether no run has left anything."""
        return self.seal is None and self.manifest_bytes is None and not self.replay.good_bytes


def look(root: Path) -> Holdings:
    """Read a target's records and stat its files. A target that does not exist holds nothing. Raises TargetError."""
    if not root.is_dir():
        return Holdings()
    meta = root / META
    troubles: list[str] = []
    records: dict[str, Entry] = {}
    try:
        replay = journal.replay(_read(meta / journal.NAME) or b"")
        manifest_bytes = _read(meta / MANIFEST)
        for path, data in ((meta / LEFTOVERS, _read(meta / LEFTOVERS)), (meta / MANIFEST, manifest_bytes)):
            try:
                records |= from_bytes(data or b"", path=str(path)).files
            except Damaged as error:
                troubles.append(str(error))
        for key in replay.gone | replay.doubted:
            records.pop(key, None)
        records |= replay.done
        files = Manifest.of(
            _as_it_lies(key, stat.st_size, stat.st_mtime_ns, records.get(key)) for key, stat in walk(root)
        )
        seal = _seal(meta / SEAL, troubles)
    except OSError as error:
        raise TargetError(
            f"cannot read {error.filename or root}: {error.strerror}", hint="check its permissions and its disk"
        ) from error
    ours = frozenset(records) | replay.started
    return Holdings(meta.is_dir(), files, ours, replay, manifest_bytes, seal, tuple(troubles))


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _seal(path: Path, troubles: list[str]) -> Seal | None:
    data = _read(path)
    try:
        return None if data is None else seal_from_bytes(data, path=str(path))
    except Damaged as error:
        troubles.append(str(error))
        return None


def _as_it_lies(key: str, size: int, mtime_ns: int, record: Entry | None) -> Entry:
    """Return the record if the file is as it was when the record was made, else the bare file."""
    if record is not None and record.proof is not None and (record.size, record.proof.mtime_ns) == (size, mtime_ns):
        return record
    return Entry(key, size, None)
