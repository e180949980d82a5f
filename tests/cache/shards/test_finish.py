"""What the finisher refuses, deletes and leaves; and that it can be run again wherever it died."""

import os
import shutil

import pytest

from tests.cache.conftest import Bucket
from tests.cache.shards.conftest import OURS, Steps
from tests.support.running import state, tree
from tusz_cache import Damaged, MaxDelete
from tusz_cache.errors import DeleteLimit, Incomplete


def test_finish_names_the_shards_that_are_missing(steps: Steps):
    """Before all shards are done, the finisher seals nothing, changes nothing, exits 3 and says which to run."""
    steps.plan()
    steps.shard(2)
    before = state(steps.target)
    with pytest.raises(Incomplete) as caught:
        steps.finish()

    assert 3 == caught.value.exit_code
    assert "shards 1/3, 3/3 again" in caught.value.hint
    assert before == state(steps.target)

    steps.shard(1)
    steps.shard(3)
    assert steps.finish().sealed


def test_finish_without_anything(steps: Steps):
    """Nothing was planned and nothing copied: exit 3, and no trace."""
    with pytest.raises(Incomplete):
        steps.finish()

    assert not steps.target.exists()


def test_finish_before_the_first_shard(steps: Steps):
    """A plan alone is no cache."""
    steps.plan()
    with pytest.raises(Incomplete, match="11 files"):
        steps.finish()


def test_a_file_that_was_cut_is_damage(steps: Steps):
    """A file that is not as its shard left it is exit 7; that shard, run again, mends it."""
    steps.plan()
    steps.shards()
    path = steps.target / "train/p3.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Damaged) as caught:
        steps.finish()

    assert (7, False) == (caught.value.exit_code, steps.is_sealed)
    [number] = [n for n in (1, 2, 3) if f"shards {n}/3 again" in caught.value.hint]
    assert 1 == steps.shard(number).files_copied
    assert steps.finish().sealed


def test_reverify_finds_a_flipped_byte(steps: Steps, filled: Bucket):
    """With `reverify` every byte is read: what size and time hide is found, put in doubt, and mended by its shard."""
    steps.plan()
    steps.shards()
    path = steps.target / "dev/a.npz"
    times, data = path.stat(), bytearray(path.read_bytes())
    data[77_777] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(Damaged, match=r"dev/a\.npz") as caught:
        steps.finish(reverify=True)
    [number] = [n for n in (1, 2, 3) if f"shards {n}/3 again" in caught.value.hint]

    with pytest.raises(Incomplete):  # it stays in doubt
        steps.finish()
    assert 1 == steps.shard(number).files_copied
    assert steps.finish(reverify=True).sealed
    assert filled.contents() == tree(steps.target)


def test_only_the_finisher_deletes(steps: Steps, filled: Bucket):
    """What the source no longer has lies there until the finisher is asked to delete, within its limit."""
    filled.sync(steps.target)
    filled.drop("dev/b.npz")
    filled.put("train/new.npz", 5000)
    steps.plan(delete=True)
    steps.shards(delete=True)

    assert (steps.target / "dev/b.npz").exists()
    with pytest.raises(DeleteLimit):
        steps.finish(delete=True, max_delete=MaxDelete(count=0, percent=None))
    assert (steps.target / "dev/b.npz").exists()
    assert 1 == steps.finish(delete=True).files_deleted
    assert filled.contents() == tree(steps.target)


def test_leftovers_stay_without_delete(steps: Steps, filled: Bucket):
    """A finisher that is not asked to delete leaves what is left over, and remembers that it is ours."""
    filled.sync(steps.target)
    filled.drop("dev/b.npz")
    filled.put("train/new.npz", 5000)
    steps.plan()
    steps.shards()

    assert (1, 0) == ((report := steps.finish()).leftovers, report.files_deleted)
    assert (1, True) == ((report := filled.sync(steps.target, delete=True)).files_deleted, report.sealed)


def test_the_limit_holds_when_the_plan_is_written(steps: Steps, filled: Bucket):
    """A plan that would delete too much is refused before the seal goes."""
    filled.sync(steps.target)
    for n in range(5):
        filled.drop(f"train/p{n}.npz")
    with pytest.raises(DeleteLimit):
        steps.plan(delete=True)

    assert steps.is_sealed


def test_a_killed_finisher_is_run_again(steps: Steps, monkeypatch: pytest.MonkeyPatch):
    """Whatever the finisher was doing when it died, the next one ends sealed with all gone that is of no use."""
    steps.plan()
    steps.shards()
    true = finish_steps()
    for name in true:
        place = steps.target.parent / name.rpartition(".")[2]
        shutil.copytree(steps.target, place)
        with monkeypatch.context() as patch:
            patch.setattr(name, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                Steps(steps.bucket, place).finish()
        again = Steps(steps.bucket, place)
        assert again.finish().sealed
        assert OURS - {"journal"} == again.names
        assert tree(steps.target) == tree(place)


def finish_steps() -> list[str]:
    return [
        "tusz_cache.sealing.sweep",
        "tusz_cache.run.check_files",
        "tusz_cache.sealing.publish",
        "tusz_cache.sealing.seal",
        "tusz_cache.sealing.forget",
        "tusz_cache.ssd.tidy",
    ]


def test_a_plan_beside_a_seal_is_done_with(steps: Steps, filled: Bucket, monkeypatch: pytest.MonkeyPatch):
    """A finisher that died right after sealing leaves a plan; shards then begin anew, and not under the seal."""
    steps.plan()
    steps.shards()
    with monkeypatch.context() as patch:
        patch.setattr("tusz_cache.sealing.forget", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            steps.finish()
    assert {"plan.jsonl", "seal.json", "journal"} <= steps.names
    (steps.target / "dev/a.npz").unlink()
    report = steps.shards()

    assert 1 == sum(each.files_copied for each in report)
    assert not steps.is_sealed
    assert steps.finish().sealed
