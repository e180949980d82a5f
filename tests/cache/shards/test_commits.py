"""Durability "commit": no commit of a volume has a record without the bytes it speaks of."""

import os
import shutil
from pathlib import Path

from tests.cache.shards.conftest import Steps
from tests.support.running import META, tree
from tusz_cache import Durability
from tusz_cache.copying.journal import replay


class Volume:
    """A directory whose commits can be seen: a copy of it at each."""

    def __init__(self, root: Path, copies: Path) -> None:
        self.root, self.copies, self.count = root, copies, 0

    def commit(self) -> None:
        self.count += 1
        shutil.copytree(self.root, self.copies / str(self.count))

    @property
    def latest(self) -> Path:
        return self.copies / str(self.count)


def test_what_is_recorded_was_committed(steps: Steps, tmp_path: Path):
    """On a volume with commits, no shard's record is older than the bytes it speaks of; the last records are there."""
    volume = Volume(steps.target, tmp_path / "commits")
    durability = Durability("commit", volume.commit, every_bytes=200_000)
    steps.plan(durability=durability)
    committed = volume.latest / META
    assert (committed / "plan.jsonl").exists()
    assert b"" == (committed / "lock").read_bytes()
    steps.shards(durability=durability)
    assert all(b"" == path.read_bytes() for path in (volume.latest / META).glob("lock*"))
    # a finisher in another container sees what was committed, and nothing else
    other = Steps(steps.bucket, tmp_path / "other")
    shutil.copytree(volume.latest, other.target)
    for path in other.target.rglob("*.npz"):
        times = (steps.target / path.relative_to(other.target)).stat()
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert other.finish(reverify=True).sealed
    assert steps.bucket.contents() == tree(other.target)
    for number in range(1, volume.count + 1):
        seen = volume.copies / str(number)
        for path in (seen / META).glob("journal-*"):
            done = replay(path.read_bytes()).done
            assert list(done.sizes) == [(seen / key).stat().st_size for key in done.keys]


def test_taken_over_records_are_committed_before_they_go(steps: Steps, tmp_path: Path):
    """Where shards' journals are folded into the target's, that is committed first: no commit lacks both."""
    volume = Volume(steps.target, tmp_path / "commits")
    durability = Durability("commit", volume.commit)
    steps.plan(durability=durability)
    reports = steps.shards(durability=durability)
    count = volume.count
    steps.finish(durability=durability)

    first = volume.copies / str(count + 1) / META
    assert (first / "journal-1-of-3").exists()
    assert sum(report.files_copied for report in reports) == (first / "journal").read_bytes().count(b'["kept"')
