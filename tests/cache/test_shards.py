"""What several runs side by side must be: one cache in the end, proven and sealed once, whoever died on the way."""

import dataclasses
import json
import os
import pickle
import shutil
import signal
import threading
import time
import uuid
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest

from tests.cache.conftest import PART, Bucket
from tests.support.running import META, state, tree
from tusz_cache import (
    Damaged,
    Durability,
    Entry,
    Filters,
    MaxDelete,
    Shard,
    UsageError,
    copy_shard,
    finish_shards,
    lock,
    populate_cache,
    sealing,
    ssd,
    verify_cache,
    write_plan,
)
from tusz_cache.copying.journal import Journal, OpenFile, Replay, replay
from tusz_cache.errors import DeleteLimit, Incomplete, Interrupted, LockHeld, PlanDiffers
from tusz_cache.holdings import look
from tusz_cache.lock import Holder, locked, locked_shard
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


def rows(target: Path) -> list[dict]:
    """Return the manifest's rows but for the times, which are of the files here."""
    lines = (target / META / "manifest.jsonl").read_bytes().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "mtime_ns"} for line in lines]


def seal_of(target: Path) -> dict:
    seal = json.loads((target / META / "seal.json").read_text())
    return {name: value for name, value in seal.items() if name not in {"created", "manifest_sha256"}}


# the way through


def test_shards_make_the_cache_that_one_run_makes(steps: Steps, filled: Bucket, tmp_path: Path):
    """Plan, shards and finish end with the bytes, the manifest and the seal of a plain sync, and nothing else."""
    plan, reports = steps.plan(), steps.shards()
    before = steps.is_sealed
    sealed = steps.finish()
    plain = tmp_path / "plain"
    filled.sync(plain)

    assert filled.contents() == tree(steps.target)
    assert (False, True) == (before, sealed.sealed)
    assert rows(plain) == rows(steps.target)
    assert seal_of(plain) == seal_of(steps.target)
    assert OURS - {"journal"} == steps.names
    assert {plan.plan_id} == {report.plan_id for report in [*reports, sealed]}
    assert sum(SIZES.values()) == sum(report.bytes_copied for report in reports)
    assert len(SIZES) == sum(report.files_copied for report in reports) == sum(report.files_total for report in reports)
    assert ["1/3", "2/3", "3/3", ""] == [report.shard for report in [*reports, sealed]]
    assert verify_cache(steps.target, level="full", strict=True, progress=QUIET).ok


def test_a_shard_rewrites_nothing_that_others_read(steps: Steps):
    """Between plan and finish only a shard's own files change below our directory; the common lock is left alone."""
    steps.plan()
    before = state(steps.target), (steps.target / META / "lock").stat().st_mtime_ns
    steps.shard(2)

    after = state(steps.target)
    assert before[1] == (steps.target / META / "lock").stat().st_mtime_ns
    assert before[0].items() - after.items() <= {
        item for item in before[0].items() if item[0].endswith((META, "partial", "target"))
    }
    ours = {Path(path).name for path in after.keys() - before[0].keys() if META in path}
    assert {"journal-2-of-3", "lock-2-of-3"} == ours


def test_more_shards_than_files_is_fine(steps: Steps):
    """A shard without files copies nothing."""
    steps.plan()
    reports = steps.shards(20)

    assert 9 == sum(not report.files_total for report in reports)
    assert steps.finish().sealed


def test_nothing_to_do_changes_nothing(steps: Steps, filled: Bucket):
    """On a whole cache the plan leaves the seal where it is, shards copy nothing, and the finisher says so."""
    filled.sync(steps.target)
    before = state(steps.target)
    assert steps.plan().is_done
    reports = steps.shards()

    assert [0, 0, 0] == [report.files_copied for report in reports]
    assert len(SIZES) == sum(report.files_unchanged for report in reports)
    assert steps.finish().sealed
    assert before == state(steps.target)


def test_the_old_seal_goes_with_the_plan(steps: Steps, filled: Bucket):
    """Where something is to be done, the seal is gone before a shard begins; unchanged files are no shard's work."""
    filled.sync(steps.target)
    filled.put("train/new.npz", 5000)
    plan = steps.plan()

    assert ["train/new.npz"] == plan.copy.keys
    assert not steps.is_sealed
    assert [1] == [report.files_copied for report in steps.shards() if report.files_copied]
    assert steps.finish().sealed


def test_a_shard_again_copies_nothing(steps: Steps):
    """A shard that was done finds its files there."""
    steps.plan()
    first, again = steps.shard(1), steps.shard(1)

    assert (first.files_copied, 0) == (again.files_unchanged, again.files_copied)


def test_without_a_stored_plan_the_first_shard_makes_it(steps: Steps):
    """`--plan` may be left out: the first shard lists, the others read its plan."""
    reports = steps.shards()

    assert 1 == len({report.plan_id for report in reports})
    assert steps.finish().sealed


def test_shards_without_a_plan_at_the_same_time(steps: Steps, filled: Bucket):
    """Several shards that start at once agree on one plan, and none is refused."""
    filled.configure(checksum="crc64nvme", latency=0.1)
    with ThreadPoolExecutor(5) as threads:
        reports = list(threads.map(lambda index: steps.shard(index, 5), range(1, 6)))

    assert len(SIZES) == sum(report.files_copied for report in reports)
    assert steps.finish().sealed
    assert filled.contents() == tree(steps.target)


class Stopping(Progress):
    """Asks to stop, as a signal does, when so many bytes have come."""

    def __init__(self, after: int) -> None:
        super().__init__("quiet")
        self.left = after

    def advance(self, received: int, files: int = 0) -> None:
        self.left -= received
        if self.left <= 0:
            self.stop_signal = signal.SIGTERM


@pytest.mark.parametrize(
    "then",
    ["the shards", "plan, the shards", "plan, plan, another split", "sync", "plan, sync", "stopped sync, sync"],
)
def test_parts_of_a_file_are_gone_on_from(bucket: Bucket, target: Path, then: str):
    """What a stopped shard has of an unfinished file is used by whoever goes on: no byte comes twice."""
    bucket.configure(checksum="crc64nvme")
    for key in ("a", "b", "c"):
        bucket.put(f"train/{key}.npz", 40 * PART)
    steps = Steps(bucket, target)
    steps.plan()
    for index in (1, 2):
        settings = bucket.settings(workers=1)
        with pytest.raises(Interrupted):
            copy_shard(bucket.url, target, Shard(index, 2), settings=settings, progress=Stopping(9 * PART))
    for step in then.split(", "):
        if step == "plan":
            steps.plan()
        elif step == "sync":
            bucket.sync(target)
        elif step == "stopped sync":
            with pytest.raises(Interrupted):
                populate_cache(bucket.url, target, settings=bucket.settings(), progress=Stopping(100 * PART))
        else:
            steps.shards(2 if step == "the shards" else 3)

    assert steps.finish().sealed
    assert bucket.contents() == tree(target)
    assert 120 * PART == bucket.server.stats()["bytes"]


def test_numbers_taken_over_are_not_given_again(place: Target):
    """A file that is begun after shards' journals were taken over has a number of its own."""
    ssd.prepare(place)
    for name in ("journal-1-of-2", "journal-2-of-2"):
        book = Journal(place, Replay(), name)
        book.claim([OpenFile(-1, Entry(f"train/{name}", 40, "e"), 10, {0: (10, 7)})])
        book.close()
    book = sealing.open_journal(place, look(place.root))
    book.claim([OpenFile(-1, Entry("train/new", 40, "e"), 10)])
    book.close()

    claims = replay((place.meta / "journal").read_bytes()).open
    assert {"journal", "partial"} == {path.name for path in place.meta.iterdir()}
    assert 3 == len(claims) == len({claim.number for claim in claims.values()})
    assert {"train/journal-1-of-2", "train/journal-2-of-2"} == {key for key, claim in claims.items() if claim.parts}


# what the finisher refuses


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


# other plans


def test_a_changed_object_is_exit_4(steps: Steps, filled: Bucket):
    """An object that was changed after the plan fails its shard with exit 4; a new plan takes all other work over."""
    steps.plan()
    steps.shard(1)
    steps.shard(2)
    changed = next(key for key in SIZES if not (steps.target / key).exists())
    filled.put(changed, SIZES[changed])
    report = steps.shard(3)

    assert 4 == report.exit_code
    assert [changed] == [failure.key for failure in report.failures]
    assert "--plan instead of --shard" in report.next_step
    with pytest.raises(Incomplete, match=changed):
        steps.finish()
    plan = steps.plan()
    assert [changed] == plan.copy.keys
    assert 1 == sum(report.files_copied for report in steps.shards(4))
    assert steps.finish().sealed
    assert filled.contents() == tree(steps.target)


@pytest.mark.parametrize("changes", [{"part_size": 2 * 64 * 1024}, {"filters": Filters(("train/*",))}])
def test_other_settings_are_exit_4(steps: Steps, changes: dict):
    """A shard or a finisher that was started with what makes another plan stops, exit 4."""
    steps.plan()
    for step in (lambda: steps.shard(1, **changes), lambda: steps.finish(**changes)):
        with pytest.raises(PlanDiffers) as caught:
            step()
        assert 4 == caught.value.exit_code


def test_another_source_is_exit_4(steps: Steps, filled: Bucket):
    """A shard of another source does not carry out this source's plan."""
    steps.plan()
    with pytest.raises(PlanDiffers, match="source"):
        copy_shard(f"{filled.url}/train", steps.target, Shard(1, 3), settings=filled.settings(), progress=QUIET)


def test_another_number_of_shards_is_exit_4(steps: Steps):
    """Two ways to split one plan never mix; writing the plan anew takes over what was done, and any number goes."""
    steps.plan()
    done = steps.shard(1, 3)
    with pytest.raises(PlanDiffers, match="journal-1-of-3"):
        steps.shard(2, 4)
    assert "journal-2-of-4" not in steps.names
    steps.shard(2, 3)
    plan = steps.plan()

    assert len(plan.unchanged) > done.files_copied
    assert {"journal", "lock", "partial", "plan.jsonl"} == steps.names - {"leftovers.jsonl", "manifest.jsonl"}
    steps.shards(4)
    assert steps.finish().sealed


def test_a_journal_of_another_plan_is_exit_4(steps: Steps, filled: Bucket, tmp_path: Path):
    """Shards that planned apart, on machines that do not see each other, are found out: exit 4, and nothing is lost."""
    steps.plan()
    steps.shard(1)
    elsewhere = Steps(filled, tmp_path / "elsewhere")
    shutil.copytree(steps.target, elsewhere.target)
    filled.put("dev/a.npz", 150_000)
    elsewhere.plan()
    shutil.copy(elsewhere.target / META / "plan.jsonl", steps.target / META / "plan.jsonl")  # the last writer won
    for step in (lambda: steps.shard(1), steps.finish):
        with pytest.raises(PlanDiffers, match="plan"):
            step()
    steps.plan()
    steps.shards()

    assert steps.finish().sealed
    assert filled.contents() == tree(steps.target)


def test_a_plan_anew_loses_nothing(steps: Steps, filled: Bucket):
    """Writing the plan again, as a platform that retries does, keeps what shards have copied."""
    first = steps.plan()
    reports = steps.shards()
    again = steps.plan()

    assert first.plan_id == again.plan_id
    assert sum(report.files_copied for report in reports) == len(again.unchanged)
    sent = filled.server.stats()["bytes"]
    assert steps.finish().sealed
    assert sent == filled.server.stats()["bytes"]


def test_a_torn_plan_is_written_anew(steps: Steps):
    """A plan that cannot be read stops a shard with exit 7; `--plan` mends that."""
    steps.plan()
    path = steps.target / META / "plan.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(Damaged):
        steps.shard(1)
    steps.plan()
    steps.shards()

    assert steps.finish().sealed


# other commands in between


def test_a_plain_sync_takes_finished_work_over(steps: Steps, filled: Bucket):
    """`sync` on a target with a plan and journals of shards copies the rest only, and seals."""
    steps.plan()
    done = steps.shard(1).files_copied
    report = filled.sync(steps.target)

    assert (done, len(SIZES) - done, True) == (report.files_unchanged, report.files_copied, report.sealed)
    assert OURS - {"journal"} == steps.names
    assert filled.contents() == tree(steps.target)


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


def test_a_source_without_marks_is_finished(target: Path, monkeypatch: pytest.MonkeyPatch):
    """Where a store tells no versions, shards check again what they find, and the finisher takes what they recorded."""
    monkeypatch.setattr("tusz_cache.stores.schemes.Scheme.mark", lambda *_: None)
    filesystem, folder = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    for key in ("train/a.npz", "train/b.npz"):
        filesystem.pipe_file(f"{folder}/{key}", key.encode())
    try:
        copy_shard(f"memory:/{folder}", target, Shard(1, 2), progress=QUIET)
        with pytest.raises(Incomplete):
            finish_shards(f"memory:/{folder}", target, progress=QUIET)
        copy_shard(f"memory:/{folder}", target, Shard(2, 2), progress=QUIET)
        assert finish_shards(f"memory:/{folder}", target, progress=QUIET).sealed
        assert {"train/a.npz": b"train/a.npz", "train/b.npz": b"train/b.npz"} == tree(target)
    finally:
        filesystem.rm(folder, recursive=True)


# locks


@pytest.fixture
def place(target: Path) -> Target:
    return Target(target, Durability("none"))


def test_shards_share_and_exclude_all_else(steps: Steps, place: Target):
    """While a shard works, others do, too; but not the same one, nor a planner, finisher, sync or repair."""
    steps.plan()
    with locked_shard(place, "1-of-3"):
        steps.shard(2)
        alone = (steps.finish, steps.plan, lambda: steps.shard(1), lambda: steps.bucket.sync(steps.target))
        for step in alone:
            with pytest.raises(LockHeld, match=f"process {os.getpid()}") as caught:
                step()
            assert 5 == caught.value.exit_code


def test_a_shard_does_not_work_beside_a_sync(steps: Steps, place: Target, monkeypatch: pytest.MonkeyPatch):
    """While another run has the target alone, a shard is refused, with a plan and without."""
    monkeypatch.setattr("tusz_cache.sharding.REFUSALS", 1)
    steps.target.joinpath(META).mkdir(parents=True)
    for _ in range(2):
        with locked(place), pytest.raises(LockHeld):
            steps.shard(1)
        steps.plan()


ELSEWHERE = Holder(1, "22222222-0000", "elsewhere")


def leave(path: Path, *, age: float = 0.0, work: str = "") -> None:
    """Leave the note of a process on another machine."""
    path.write_bytes(dataclasses.replace(ELSEWHERE, work=work).as_note())
    os.utime(path, (time.time() - age,) * 2)


def test_a_shard_on_another_machine_is_respected(steps: Steps, monkeypatch: pytest.MonkeyPatch):
    """The fresh note of a shard elsewhere keeps a plain sync out, also where the kernel knows nothing of it."""
    steps.plan()
    leave(steps.target / META / "lock-1-of-3")
    with pytest.raises(LockHeld, match="elsewhere"):
        steps.bucket.sync(steps.target)

    steps.shard(2)  # is another one
    leave(steps.target / META / "lock-1-of-3", age=lock.SILENT + 1)
    assert steps.bucket.sync(steps.target).sealed


def test_a_silent_shard_is_waited_out(steps: Steps, monkeypatch: pytest.MonkeyPatch):
    """After a preemption the same shard may start elsewhere while the old note is fresh: it waits until that lapses."""
    steps.plan()
    monkeypatch.setattr(lock, "SILENT", 1.0)
    monkeypatch.setattr(lock, "LOOK", 0.1)
    leave(steps.target / META / "lock-1-of-3")

    assert steps.shard(1).files_copied


def test_a_living_shard_elsewhere_is_not_waited_for(steps: Steps, monkeypatch: pytest.MonkeyPatch):
    """A note that is refreshed is of a process that lives: the shard is refused."""
    steps.plan()
    note, ended = steps.target / META / "lock-1-of-3", threading.Event()
    leave(note)
    monkeypatch.setattr(lock, "SILENT", 30.0)

    def refresh() -> None:
        while not ended.wait(0.3):
            os.utime(note)

    beat = threading.Thread(target=refresh)
    beat.start()
    try:
        with pytest.raises(LockHeld, match="elsewhere"):
            steps.shard(1)
    finally:
        ended.set()
        beat.join()


def test_a_sync_elsewhere_keeps_a_shard_out(steps: Steps, monkeypatch: pytest.MonkeyPatch):
    """The note in the common lock counts for shards as well, and is not overwritten."""
    steps.plan()
    monkeypatch.setattr(lock, "SILENT", 30.0)
    path, ended = steps.target / META / "lock", threading.Event()
    leave(path)
    beat = threading.Thread(target=lambda: [os.utime(path) for _ in iter(lambda: ended.wait(0.3), True)])
    beat.start()
    try:
        with pytest.raises(LockHeld, match="elsewhere"):
            steps.shard(1)
    finally:
        ended.set()
        beat.join()
    assert ELSEWHERE.as_note() == path.read_bytes()


# durability "commit"


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


# executors


def populate(steps: Steps, executor: object, **changes):
    settings = steps.bucket.settings(**changes)
    return populate_cache(
        steps.bucket.url, steps.target, settings=settings, progress=QUIET, executor=executor, shards=4
    )


def test_an_executor_copies_the_shards(steps: Steps, filled: Bucket):
    """With processes of a pool the cache is populated as without, and the report is of the whole."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        report = populate(steps, pool)
        again = populate(steps, pool)

    assert (True, len(SIZES), sum(SIZES.values())) == (report.sealed, report.files_copied, report.bytes_copied)
    assert (True, 0, len(SIZES)) == (again.sealed, again.files_copied, again.files_unchanged)
    assert (0, "") == (report.files_unchanged, report.shard)
    assert filled.contents() == tree(steps.target)


def test_all_that_is_submitted_pickles(steps: Steps):
    """An executor in other processes or on other machines gets functions and values that survive the way."""

    class Pickling:
        def submit(self, *call):
            fn, *arguments = pickle.loads(pickle.dumps(call))
            future: Future = Future()
            future.set_result(pickle.loads(pickle.dumps(fn(*arguments))))
            return future

    assert populate(steps, Pickling()).sealed


@pytest.mark.parametrize("error", [BrokenProcessPool("a worker died"), CancelledError()])
def test_a_lost_worker_is_said(steps: Steps, error: Exception):
    """A shard whose worker is gone makes the run incomplete, exit 3; the next run goes on."""

    class Losing:
        def submit(self, fn, *arguments):
            future: Future = Future()
            if arguments[2].index == 2:
                future.set_exception(error)
            else:
                future.set_result(fn(*arguments))
            return future

    with pytest.raises(Incomplete, match="shards 2/4 were lost") as caught:
        populate(steps, Losing())
    assert (3, False) == (caught.value.exit_code, steps.is_sealed)
    with ThreadPoolExecutor(2) as threads:
        report = populate(steps, threads)
    assert (True, True) == (report.sealed, 0 < report.files_unchanged < len(SIZES))


def test_a_pool_that_breaks_at_once_is_said(steps: Steps):
    """An executor that takes no more shards because its workers died is the same."""

    class Broken:
        def submit(self, *_):
            raise BrokenProcessPool("a worker died")

    with pytest.raises(Incomplete, match="shards 1/4, 2/4, 3/4, 4/4 were lost"):
        populate(steps, Broken())


def test_what_does_not_pickle_is_said(steps: Steps):
    """A commit that cannot be sent to other processes is a mistake in the settings: another run would not help."""
    durability = Durability("commit", commit=lambda: None)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, pytest.raises(UsageError, match="pickle"):
        populate(steps, pool, durability=durability)


def test_a_bug_in_a_shard_is_a_bug(steps: Steps):
    """What is no loss of a worker comes up as it is."""
    raising = SimpleNamespace(submit=lambda *_: SimpleNamespace(result=lambda: 1 // 0))
    with pytest.raises(ZeroDivisionError):
        populate(steps, raising)


def test_failures_of_shards_are_in_the_report(steps: Steps, filled: Bucket):
    """Objects that fail are named, exit as in a plain sync, no seal."""
    filled.faults({"key": "dev/a.npz", "do": "status", "arg": 404, "method": "GET", "times": -1})
    with ThreadPoolExecutor(2) as threads:
        report = populate(steps, threads)

    assert (["dev/a.npz"], False) == ([failure.key for failure in report.failures], report.sealed)
    assert report.exit_code


def test_an_error_of_a_shard_is_that_of_the_run(steps: Steps, filled: Bucket, monkeypatch: pytest.MonkeyPatch):
    """A shard that cannot work at all ends the run with its error, after the others."""

    class Refusing(ThreadPoolExecutor):
        def submit(self, fn, *arguments):
            if arguments[2].index == 1:
                return super().submit(fn, "s3://no-such-bucket", *arguments[1:])
            return super().submit(fn, *arguments)

    with Refusing(2) as threads, pytest.raises(PlanDiffers):
        populate(steps, threads)
    assert not steps.is_sealed


def test_shards_need_an_executor(steps: Steps):
    """`shards` alone is exit 2, and so is a number that makes no sense."""
    for options in ({"shards": 4}, {"shards": 0, "executor": SimpleNamespace()}):
        with pytest.raises(UsageError):
            populate_cache(steps.bucket.url, steps.target, progress=QUIET, **options)
    assert not steps.target.exists()


# the command


@pytest.mark.parametrize(
    "options",
    [
        ["--plan", "--finish"],
        ["--plan", "--shard", "1/2"],
        ["--shard", "1/2", "--finish"],
        ["--shard", "3/2"],
        ["--shard", "1"],
        ["--plan", "--dry-run"],
        ["--shard", "1/2", "--dry-run"],
        ["--finish", "--dry-run"],
        ["--shard", "1/2", "--delete"],
        ["--shard", "1/2", "--reverify"],
    ],
)
def test_options_that_make_no_sense_together(command, target: Path, options: list[str]):
    """They are exit 2, before anything is looked at."""
    ran = command("s3://bucket", target, *options)

    assert 2 == ran.code
    assert not target.exists()


def test_the_plan_is_shown(filled: Bucket, target: Path, command):
    """`--plan` prints what is to be done, the plan's name, and how large shards would be."""
    options = [filled.url, target, "--endpoint-url", filled.server.url, "--quiet", "--plan"]
    shown, printed = command(*options, "--json").json, command(*options).out

    assert shown["plan_id"] in printed
    assert "--shard I/4" in printed
    assert len(SIZES) == shown["files"]["copy"]
    assert {"2", "4", "8", "16", "32"} == shown["shards"].keys()
    assert {sum(SIZES.values())} == {sum(part["bytes"] for part in parts) for parts in shown["shards"].values()}


def test_a_shard_is_told_by_json(filled: Bucket, target: Path, command):
    """A shard's report has the form of sync's, for its own files; the finisher's is for all."""
    options = [filled.url, target, "--endpoint-url", filled.server.url, "--quiet", "--json"]
    one, two, end = (command(*options, *how).json for how in (["--shard", "1/2"], ["--shard", "2/2"], ["--finish"]))

    assert ("1/2", "2/2", None) == (one["shard"], two["shard"], end["shard"])
    assert len(SIZES) == one["files"]["copied"] + two["files"]["copied"] == end["files"]["total"]
    assert (False, False, True) == (one["sealed"], two["sealed"], end["sealed"])
    assert one.keys() == end.keys()
