"""What several runs side by side must be: one cache in the end, proven and sealed once."""

import signal
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from tests.cache.conftest import PART, Bucket
from tests.cache.shards.conftest import OURS, QUIET, SIZES, Steps, rows, seal_of
from tests.support.running import META, state, tree
from tusz_cache import Entry, Shard, copy_shard, finish_shards, populate_cache, sealing, ssd, verify_cache
from tusz_cache.copying.journal import Journal, OpenFile, Replay, replay
from tusz_cache.errors import Incomplete, Interrupted
from tusz_cache.holdings import look
from tusz_cache.progress import Progress
from tusz_cache.ssd import Target


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
    """What a stopped shard has of an unfinished file is used by whoever goes on: no part comes twice."""
    bucket.configure(checksum="crc64nvme", bytes_per_second=10 * PART)  # little more is under way than what comes
    for key in ("a", "b", "c"):
        bucket.put(f"train/{key}.npz", 40 * PART)
    steps = Steps(bucket, target)
    steps.plan()
    for index in (1, 2):
        settings = bucket.settings(workers=1)
        with pytest.raises(Interrupted):
            copy_shard(bucket.url, target, Shard(index, 2), settings=settings, progress=Stopping(9 * PART))
    if then != "stopped sync, sync":
        bucket.configure(bytes_per_second=None)
    for step in then.split(", "):
        if step == "plan":
            steps.plan()
        elif step == "sync":
            bucket.sync(target)
        elif step == "stopped sync":
            with pytest.raises(Interrupted):
                populate_cache(bucket.url, target, settings=bucket.settings(workers=1), progress=Stopping(30 * PART))
            bucket.configure(bytes_per_second=None)
        else:
            steps.shards(2 if step == "the shards" else 3)

    assert steps.finish().sealed
    assert bucket.contents() == tree(target)
    assert 120 * PART <= bucket.server.stats()["bytes"] < (120 + 9) * PART  # what was sent when a request broke is lost


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
