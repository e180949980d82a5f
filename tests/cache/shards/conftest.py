"""Shards from one bucket to one target: the three steps, and what is looked at afterwards."""

import json
from pathlib import Path

import pytest

from tests.cache.conftest import Bucket
from tests.support.running import META
from tusz_cache import Durability, Shard, copy_shard, finish_shards, populate_cache, write_plan
from tusz_cache.progress import Progress
from tusz_cache.ssd import Target

SIZES = {f"train/p{n}.npz": 3000 + 40_000 * n for n in range(9)} | {"dev/a.npz": 150_000, "dev/b.npz": 70_000}
QUIET = Progress("quiet")
OURS = {"journal", "leftovers.jsonl", "lock", "manifest.jsonl", "partial", "seal.json"}


@pytest.fixture
def filled(bucket: Bucket) -> Bucket:
    """A bucket whose objects have checksums."""
    bucket.configure(checksum="crc64nvme")
    for key, size in SIZES.items():
        bucket.put(key, size)
    return bucket


class Steps:
    """The three steps, from one bucket to one target."""

    def __init__(self, bucket: Bucket, target: Path) -> None:
        self.bucket, self.target = bucket, target

    def plan(self, **changes):
        return write_plan(self.bucket.url, self.target, settings=self.bucket.settings(**changes), progress=QUIET)

    def shard(self, index: int, count: int = 3, **changes):
        settings = self.bucket.settings(**changes)
        return copy_shard(self.bucket.url, self.target, Shard(index, count), settings=settings, progress=QUIET)

    def shards(self, count: int = 3, **changes):
        return [self.shard(index, count, **changes) for index in range(1, count + 1)]

    def finish(self, **changes):
        return finish_shards(self.bucket.url, self.target, settings=self.bucket.settings(**changes), progress=QUIET)

    @property
    def names(self) -> set[str]:
        return {path.name for path in (self.target / META).iterdir()}

    @property
    def is_sealed(self) -> bool:
        return (self.target / META / "seal.json").exists()


@pytest.fixture
def steps(filled: Bucket, target: Path) -> Steps:
    return Steps(filled, target)


@pytest.fixture
def place(target: Path) -> Target:
    return Target(target, Durability("none"))


def rows(target: Path) -> list[dict]:
    """Return the manifest's rows but for the times, which are of the files here."""
    lines = (target / META / "manifest.jsonl").read_bytes().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "mtime_ns"} for line in lines]


def seal_of(target: Path) -> dict:
    seal = json.loads((target / META / "seal.json").read_text())
    return {name: value for name, value in seal.items() if name not in {"created", "manifest_sha256"}}


def populate(steps: Steps, executor: object, **changes):
    settings = steps.bucket.settings(**changes)
    return populate_cache(
        steps.bucket.url, steps.target, settings=settings, progress=QUIET, executor=executor, shards=4
    )
