"""What survives when the power fails: at every moment, what the records claim is on the disk under its final name.

The model is the worst disk: a file's data is there only after fdatasync, fsync or syncfs, a directory's entries after
fsync of the directory. All else may be lost, or may have reached the disk early: both are checked.
"""

import os
import random
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tusz_cache import populate_cache, ssd
from tusz_cache.checksum import crc64nvme
from tusz_cache.copying.journal import replay
from tusz_cache.entry import META
from tusz_cache.manifest import Manifest
from tusz_cache.manifest_file import digest, from_bytes
from tusz_cache.plan import MaxDelete
from tusz_cache.progress import Progress
from tusz_cache.seal import check_manifest
from tusz_cache.seal import from_bytes as seal_from_bytes

JOURNAL, MANIFEST, SEAL = f"{META}/journal", f"{META}/manifest.jsonl", f"{META}/seal.json"


@dataclass
class Moment:
    """What an event made durable, and how things looked to a running system just after it."""

    what: str
    data: dict[int, bytes] = field(default_factory=dict)  # inode -> content, now durable
    entries: dict[int, dict[str, int]] = field(default_factory=dict)  # directory inode -> names, now durable
    journal: bytes = b""  # as a running system reads it
    files: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # key -> (inode, content), likewise


class Recorder:
    """Watches a target through the calls that make things durable or visible."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.moments = root, []
        self._lock = threading.RLock()
        true_libc = ssd._libc
        calls = {"fdatasync": os.fdatasync, "fsync": os.fsync, "write": os.write}

        def descriptor_call(name: str):
            def call(descriptor: int, *rest: object) -> object:
                path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
                if not path.is_relative_to(root):
                    return calls[name](descriptor, *rest)
                with self._lock:
                    moment = Moment(f"{name} {path.relative_to(root)}")
                    if name != "write" and path.is_dir():
                        moment.entries[path.stat().st_ino] = names(path)
                    elif name != "write":
                        moment.data[path.stat().st_ino] = path.read_bytes()
                    return self._done(moment, calls[name](descriptor, *rest))

            return call

        def syncfs(descriptor: int) -> int:
            with self._lock:
                moment = Moment("syncfs")
                for directory, _, files in os.walk(root):
                    moment.entries[os.stat(directory).st_ino] = names(Path(directory))
                    for name in files:
                        path = Path(directory, name)
                        moment.data[path.stat().st_ino] = path.read_bytes()
                return self._done(moment, true_libc.syncfs(descriptor))

        def path_call(name: str):
            true = getattr(Path, name)

            def call(path: Path, *rest: object, **how: object) -> object:
                if not path.is_relative_to(root):
                    return true(path, *rest, **how)
                with self._lock:
                    what = f"{name} {Path(rest[0] if rest else path).relative_to(root)}"
                    return self._done(Moment(what), true(path, *rest, **how))

            return call

        for name in calls:
            monkeypatch.setattr(os, name, descriptor_call(name))
        for name in ("replace", "unlink"):
            monkeypatch.setattr(Path, name, path_call(name))
        monkeypatch.setattr(ssd, "_libc", types.SimpleNamespace(fallocate=true_libc.fallocate, syncfs=syncfs))

    def _done(self, moment: Moment, result: object) -> object:
        journal = self.root / JOURNAL
        moment.journal = journal.read_bytes() if journal.exists() else b""
        for path in self.root.rglob("*"):
            key = path.relative_to(self.root).as_posix()
            if path.is_file() and not key.startswith(META):
                moment.files[key] = (path.stat().st_ino, path.read_bytes())
        self.moments.append(moment)
        return result


def names(directory: Path) -> dict[str, int]:
    return {entry.name: entry.inode() for entry in os.scandir(directory)}


class Disk:
    """What a machine finds after the power failed."""

    def __init__(self, root: Path) -> None:
        self._root = root.stat().st_ino
        self._data: dict[int, bytes] = {}
        self._entries: dict[int, dict[str, int]] = {}

    def absorb(self, moment: Moment) -> None:
        self._data |= moment.data
        self._entries |= moment.entries

    def read(self, key: str) -> bytes | None:
        """Return the durable bytes of `key`; None if its name or its data did not survive."""
        inode: int | None = self._root
        for name in key.split("/"):
            inode = self._entries.get(inode, {}).get(name) if inode is not None else None
        return self.content(inode) if inode is not None else None

    def content(self, inode: int) -> bytes | None:
        return self._data.get(inode)


def claims(journal: bytes) -> Iterator[tuple[str, int, int]]:
    for entry in replay(journal).done:
        assert entry.proof is not None
        yield entry.key, entry.size, entry.proof.crc64nvme


def is_there(content: bytes | None, size: int, crc: int) -> bool:
    return content is not None and len(content) == size and crc64nvme(content, 0) == crc


def check(disk: Disk, moment: Moment, known: set[str], deleted: set[str]) -> None:
    """Check everything that records may be relied on for, if the power fails right now."""
    surviving = disk.read(JOURNAL) or b""
    # a record that survives, or that may survive, is of bytes that do
    for journal in (surviving, moment.journal):
        for key, size, crc in claims(journal):
            assert is_there(disk.read(key), size, crc), f"{key} is recorded, but would be lost after: {moment.what}"
    # a name that may survive is of bytes that do
    for key, (inode, content) in moment.files.items():
        assert content == disk.content(inode), f"{key} has its name, but not its bytes, after: {moment.what}"
    # a seal that survives is of a cache that does, and that nothing has touched
    manifest_bytes, seal_bytes = disk.read(MANIFEST), disk.read(SEAL)
    manifest = from_bytes(manifest_bytes or b"", path="m")
    if seal_bytes is not None:
        assert manifest_bytes is not None
        check_manifest(seal_from_bytes(seal_bytes, path="s"), digest(manifest_bytes))
        check_sealed(disk, moment, manifest)
    # what was known once stays known
    found = {key for key, _, _ in claims(surviving)} | set(manifest.keys)
    assert set() == known - found - deleted, f"forgotten after: {moment.what}"
    known |= found


def check_sealed(disk: Disk, moment: Moment, manifest: Manifest) -> None:
    for entry in manifest:
        assert entry.proof is not None
        lying = moment.files.get(entry.key, (0, None))[1]
        for content in (disk.read(entry.key), lying):
            assert is_there(content, entry.size, entry.proof.crc64nvme), f"{entry.key} sealed, after: {moment.what}"


def fill(root: Path, keys: list[str], seed: int) -> None:
    chance = random.Random(seed)
    for number, key in enumerate(keys):
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(200_000 if number == 3 else number * 100))


@pytest.mark.parametrize("count", [6, 40])
def test_at_every_moment_the_records_tell_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int):
    """Wherever the power fails in two runs, names have whole bytes, records have durable names, a seal has it all."""
    source, target = tmp_path / "source", tmp_path / "target"
    keys = [f"{('train', 'dev/deep', 'dev')[i % 3]}/{i:02d}.npz" for i in range(count)] + ["index.json"]
    fill(source, keys, 0)
    target.mkdir()
    recorder = Recorder(target, monkeypatch)
    settings = {"part_size": 64 * 1024, "delete": True, "progress": Progress("quiet")}
    populate_cache(str(source), target, **settings)
    first = len(recorder.moments)
    fill(source, [*keys[:2], "new/deep/er.npz"], 1)  # two change, one is new
    (source / keys[4]).unlink()
    populate_cache(str(source), target, max_delete=MaxDelete(count=5), **settings)
    monkeypatch.undo()

    assert 10 < first < len(recorder.moments)
    disk, known = Disk(target), set()
    for moment in recorder.moments:
        disk.absorb(moment)
        check(disk, moment, known, deleted={keys[4]})
    for key in [*keys[:4], *keys[5:], "new/deep/er.npz"]:
        assert key in known
