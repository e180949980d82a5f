"""Files whose times are others than recorded, as on a volume seen from elsewhere: read, and judged by their bytes."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cache.conftest import Bucket
from tests.cache.shards.conftest import SIZES, Steps, populate, seal_of
from tests.support.running import META, tree
from tusz_cache import Damaged
from tusz_cache.errors import Incomplete


def touch_all(target: Path) -> None:
    """Give every file another time, as a volume may that shows it to another machine."""
    for path in target.rglob("*.npz"):
        os.utime(path, ns=(0, path.stat().st_mtime_ns - 1_234_567_891))


def test_other_times_are_no_damage(steps: Steps, filled: Bucket):
    """If all that differs is files' times, the finisher reads them and seals, with the times that they have now."""
    steps.plan()
    steps.shards()
    touch_all(steps.target)
    sent = filled.server.stats()["bytes"]

    assert steps.finish().sealed
    lines = map(json.loads, (steps.target / META / "manifest.jsonl").read_bytes().splitlines())
    times = {row["key"]: row["mtime_ns"] for row in lines}
    assert {key: (steps.target / key).stat().st_mtime_ns for key in SIZES} == times
    assert {"source-crc": len(SIZES)} == {name: n for name, n in seal_of(steps.target)["verification"].items() if n}
    assert len(SIZES) == filled.sync(steps.target).files_unchanged
    assert sent == filled.server.stats()["bytes"]


def test_other_bytes_under_another_time_are_damage(steps: Steps, filled: Bucket):
    """Among files whose times all changed, the one whose bytes did, too, is found and named: exit 7, no seal."""
    steps.plan()
    steps.shards()
    path = steps.target / "train/p3.npz"
    data = bytearray(path.read_bytes())
    data[100_000] ^= 1
    path.write_bytes(data)
    touch_all(steps.target)
    with pytest.raises(Damaged, match=r"1 files.*train/p3\.npz") as caught:
        steps.finish()

    assert not steps.is_sealed
    [number] = [n for n in (1, 2, 3) if f"shards {n}/3 again" in caught.value.hint]
    assert 1 == steps.shard(number).files_copied
    assert steps.finish().sealed
    assert filled.contents() == tree(steps.target)


def test_a_sealed_cache_under_other_times_is_finished_again(steps: Steps, filled: Bucket):
    """A finisher on a sealed cache reads what was touched: whole, it is sealed anew; damaged, it is exit 7, no seal."""
    filled.sync(steps.target)
    touch_all(steps.target)
    assert steps.finish().sealed
    path = steps.target / "dev/a.npz"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(Damaged, match=r"dev/a\.npz"):
        steps.finish()
    assert not steps.is_sealed
    assert [1] == [report.files_copied for report in steps.shards(2) if report.files_copied]
    assert steps.finish().sealed


def test_nothing_is_read_before_all_is_there(steps: Steps, monkeypatch: pytest.MonkeyPatch):
    """A finisher that has to refuse anyway does not first read files whose times changed."""
    steps.plan()
    steps.shard(2)
    touch_all(steps.target)
    monkeypatch.setattr("tusz_cache.checking.recorded_proof", lambda *_: pytest.fail("was read"))
    with pytest.raises(Incomplete) as caught:
        steps.finish()
    assert "shards 1/3, 3/3 again" in caught.value.hint


@pytest.mark.parametrize("how", ["sync", "shards", "executor"])
def test_other_times_fetch_nothing(bucket: Bucket, target: Path, how: str):
    """Whoever meets a whole cache under other times fetches nothing, also where the source tells no checksums."""
    bucket.configure(etag="opaque")
    for key, size in SIZES.items():
        bucket.put(key, size)
    steps = Steps(bucket, target)
    bucket.sync(target)
    touch_all(target)
    sent = bucket.server.stats()["bytes"]
    if how == "sync":
        assert bucket.sync(target).sealed
    elif how == "shards":
        steps.plan()
        assert [0, 0, 0] == [report.files_copied for report in steps.shards()]
        assert steps.finish().sealed
    else:
        with ThreadPoolExecutor(2) as threads:
            assert populate(steps, threads).sealed

    assert sent == bucket.server.stats()["bytes"]
