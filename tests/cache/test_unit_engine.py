"""What carrying out a plan must be: recorded after it is durable, in the order that a volume wants, and stoppable."""

import contextlib
import io
import os
import queue
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

import tusz_cache
from tests.support.running import tree
from tusz_cache import Durability, populate_cache, ssd
from tusz_cache.copying import committer as committer_module
from tusz_cache.copying import engine as engine_module
from tusz_cache.copying import lanes as lanes_module
from tusz_cache.copying.committer import GROUP, Committed, Committer
from tusz_cache.copying.journal import replay
from tusz_cache.copying.lanes import Request
from tusz_cache.copying.pieces import Failed, Piece, Result
from tusz_cache.copying.transfer import Transfer
from tusz_cache.entry import META, Entry, Proof
from tusz_cache.errors import Interrupted, TargetError, TransferError, exit_status
from tusz_cache.progress import Progress
from tusz_cache.ssd import Target

MIB = 1024**2
KIB = 1024


def fill(root: Path, sizes: dict[str, int], seed: int = 0) -> Path:
    """Write files of random bytes."""
    chance = random.Random(seed)
    for key, size in sizes.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(size))
    return root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return fill(tmp_path / "source", {"dev/a.npz": 200 * KIB, "dev/b.npz": 10, "train/c.npz": 0, "x.json": 70 * KIB})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "target"


# the committer


class Book:
    """A journal that remembers what it was told, and when."""

    def __init__(self, log: list) -> None:
        self.log = log

    def record(self, records: list, *, sync: bool = False) -> None:
        self.log.append(("record", len(list(records)), sync))

    def sync(self) -> None:
        """Records of what is about to be published survive from here on."""


class Bench:
    """A committer with everything around it watched."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability, log: list) -> None:
        self.target, self.log = Target(root, durability), log
        ssd.prepare(self.target)
        self.gate = threading.Event()
        self.gate.set()
        self.delivered: queue.SimpleQueue[Committed | BaseException] = queue.SimpleQueue()
        true_publish, true_sync = committer_module.publish, committer_module.sync_files

        def publish(target: Target, moves: list) -> list[os.stat_result]:
            assert self.gate.wait(60)
            if moves:
                log.append(("publish", len(moves)))
            return true_publish(target, moves)

        def sync_files(paths: list[Path]) -> None:
            log.append(("sync", len(paths)))
            true_sync(paths)

        monkeypatch.setattr(committer_module, "publish", publish)
        monkeypatch.setattr(committer_module, "sync_files", sync_files)
        self.committer = Committer(self.target, Book(log), self.deliver)

    def deliver(self, what: Committed | BaseException) -> None:
        self.log.append("deliver")
        self.delivered.put(what)

    def transfer(self, number: int, size: int = 40) -> Transfer:
        partial = self.target.partial / str(number)
        partial.write_bytes(bytes(size))
        transfer = Transfer(Entry(f"k{number}", size, "e"), number, partial, size or 1)
        transfer.have(0, 7, b"")
        return transfer

    def kept(self, number: int) -> Entry:
        self.target.path(f"kept{number}").write_bytes(b"x")
        return Entry(f"kept{number}", 1, "e", Proof(1, "own-crc", 1))


def test_a_file_is_recorded_after_it_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With fsync a file is published, then recorded and the record synced, and only then counted as done."""
    bench = Bench(tmp_path, monkeypatch, Durability("fsync"), log := [])
    bench.committer.add(bench.transfer(0))
    done = bench.delivered.get(timeout=60)
    bench.committer.close()

    assert [("publish", 1), ("record", 1, True), "deliver"] == log
    [(transfer, entry)] = done.copied
    mtime_ns = bench.target.path("k0").stat().st_mtime_ns
    assert (0, Entry("k0", 40, "e", Proof(7, "own-crc", mtime_ns))) == (transfer.number, entry)


@pytest.mark.parametrize(("policy", "synced"), [("fsync", [("sync", 1)]), ("none", [])])
def test_a_kept_file_is_synced_before_it_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, synced: list
):
    """A file that lay there already may never have been synced, so it is before a record says that it is durable."""
    bench = Bench(tmp_path, monkeypatch, Durability(policy), log := [])
    bench.committer.add(kept := bench.kept(0))
    done = bench.delivered.get(timeout=60)
    bench.committer.close()

    assert [*synced, ("record", 1, True), "deliver"] == log
    assert ((), (kept,)) == (done.copied, done.kept)


def test_commit_comes_before_records_after_every_bytes_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With policy "commit" files wait for `every_bytes`, or the end; then commit() is called, then they count."""
    log: list = []
    durability = Durability("commit", commit=lambda: log.append("commit"), every_bytes=100)
    bench = Bench(tmp_path, monkeypatch, durability, log)
    for number in range(3):  # 120 bytes
        bench.committer.add(bench.transfer(number))
    first = bench.delivered.get(timeout=60)
    for number in range(3, 5):  # 80 bytes
        bench.committer.add(bench.transfer(number))
    bench.committer.close()
    second = bench.delivered.get(timeout=60)

    assert ["k0", "k1", "k2"] == [entry.key for _, entry in first.copied]
    assert ["k3", "k4"] == [entry.key for _, entry in second.copied]
    acts = [act for act in log if act[0] != "publish"]
    assert ["commit", ("record", 3, True), "deliver", "commit", ("record", 2, True), "deliver"] == acts
    assert 5 == sum(act[1] for act in log if act[0] == "publish")
    assert "publish" == log[log.index("commit") - 1][0]


def test_nothing_to_record_is_no_reason_to_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A committer that was given nothing neither commits nor records."""
    bench = Bench(tmp_path, monkeypatch, Durability("commit", commit=lambda: log.append("commit")), log := [])
    bench.committer.close()

    assert [] == log


def test_a_failed_commit_records_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """When commit() raises, the error arrives and no record claims what may not survive."""

    def fail() -> None:
        raise ConnectionError("volume")

    bench = Bench(tmp_path, monkeypatch, Durability("commit", commit=fail), log := [])
    bench.committer.add(bench.transfer(0))
    bench.committer.close()

    assert TargetError is type(bench.delivered.get(timeout=60))
    assert [("publish", 1), "deliver"] == log


def test_a_failed_publication_records_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """When a file cannot be published, the error arrives and nothing of its group is recorded."""
    bench = Bench(tmp_path, monkeypatch, Durability("none"), log := [])
    lost = bench.transfer(0)
    lost.partial.unlink()
    bench.committer.add(lost)
    bench.committer.close()

    assert isinstance(bench.delivered.get(timeout=60), tusz_cache.CacheError)
    assert [("publish", 1), "deliver"] == log


def test_files_that_wait_together_are_recorded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """While the disk is busy files gather, and are then published in groups of bounded size, each recorded once."""
    bench = Bench(tmp_path, monkeypatch, Durability("none"), log := [])
    bench.gate.clear()
    for number in range(2 * GROUP + 10):
        bench.committer.add(bench.transfer(number, 1))
    bench.gate.set()
    bench.committer.close()

    groups = [act[1] for act in log if act[0] == "publish"]
    assert 2 * GROUP + 10 == sum(groups)
    assert GROUP == max(groups)
    assert groups == [act[1] for act in log if act[0] == "record"]


# a volume that wants commits


class Writes:
    """What was written to partial files: path -> [(offset, length)] in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_file: dict[str, list[tuple[int, int]]] = defaultdict(list)
        true = os.pwrite

        def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
            written = true(descriptor, data, offset)
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if "/partial/" in path:
                self.by_file[path].append((offset, written))
            return written

        monkeypatch.setattr(os, "pwrite", pwrite)

    def ends(self) -> list[int]:
        """Return where each file's writing ended, after checking that every write follows the one before."""
        for writes in self.by_file.values():
            at = 0
            for offset, length in writes:
                assert at == offset
                at += length
        return sorted(sum(length for _, length in writes) for writes in self.by_file.values())


@pytest.mark.parametrize("part_size", [16 * MIB, 10 * MIB])
def test_a_volume_gets_large_blocks_from_front_to_back(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, part_size: int
):
    """With policy "commit" each file is written in order, in blocks of at least 8 MiB but for its last one."""
    sizes = {"train/a.npz": 37 * MIB, "train/b.npz": 17 * MIB + 1, "dev/c.npz": 9 * MIB, "dev/d.npz": 100, "e": 0}
    source = fill(tmp_path / "source", sizes)
    writes = Writes(monkeypatch)
    durability = Durability("commit", commit=lambda: None)
    report = populate_cache(str(source), place, durability=durability, part_size=part_size, progress=Progress("quiet"))

    assert report.sealed
    assert tree(source) == tree(place)
    assert sorted(size for size in sizes.values() if size) == writes.ends()
    assert 8 * MIB <= min(length for blocks in writes.by_file.values() for _, length in blocks[:-1])


def test_a_volume_is_written_in_order_despite_failures(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch):
    """With policy "commit" a part that has to be fetched again is written before those that follow it."""
    source = fill(tmp_path / "source", {"a": 20 * MIB, "b": 9 * MIB, "c": 5})
    failed: set[tuple[str, int]] = set()
    true = lanes_module.fetch

    def fetch(order: Piece, request: Request) -> Result:
        if (order.entry.key, order.start) not in failed:
            failed.add((order.entry.key, order.start))
            return Failed(order.ticket, TransferError("torn", hint="again"))
        return true(order, request)

    monkeypatch.setattr(lanes_module, "fetch", fetch)
    monkeypatch.setattr(engine_module, "backoff", lambda attempt: 0.3)
    writes = Writes(monkeypatch)
    durability = Durability("commit", commit=lambda: None)
    populate_cache(str(source), place, durability=durability, part_size=8 * MIB, progress=Progress("quiet"))

    assert {("a", 0), ("a", 8 * MIB), ("a", 16 * MIB), ("b", 0), ("b", 8 * MIB), ("c", 0)} == failed
    assert tree(source) == tree(place)
    assert [5, 9 * MIB, 20 * MIB] == writes.ends()


def test_a_volume_is_committed_before_records_and_after_the_seal(source: Path, place: Path):
    """With policy "commit" no record is of uncommitted files, no seal stands meanwhile, and the seal is committed."""
    seen = []

    def commit() -> None:
        done = set(replay((place / META / "journal").read_bytes()).done.keys)
        seen.append((set(tree(place)), done, (place / META / "seal.json").exists()))

    durability = Durability("commit", commit=commit, every_bytes=1)
    keys = set(tree(source))
    for number in range(2):  # a first copy, and one onto an old seal
        fill(source, {"x.json": 80 * KIB}, seed=number)
        seen.clear()
        report = populate_cache(str(source), place, durability=durability, workers=1, progress=Progress("quiet"))

        *copying, (there, recorded, sealed) = seen
        assert report.sealed
        assert copying
        assert (keys, True) == (there, sealed)
        assert [False] * len(copying) == [standing for _, _, standing in copying]
        durable: set[str] = set()
        for present, claimed, _ in copying:
            assert claimed <= durable
            durable = present
        assert recorded <= durable


def test_a_volume_that_cannot_commit_leaves_no_seal(source: Path, place: Path):
    """When commit() fails the run fails, without seal and records; the next run finds what lies there by its parts."""

    def fail() -> None:
        raise ConnectionError("volume")

    with pytest.raises(TargetError):
        populate_cache(str(source), place, durability=Durability("commit", commit=fail), progress=Progress("quiet"))
    assert not (place / META / "seal.json").exists()
    assert [] == list(replay((place / META / "journal").read_bytes()).done)

    again = populate_cache(str(source), place, durability=Durability("none"), progress=Progress("quiet"))
    assert (True, 0, len(tree(source))) == (again.sealed, again.bytes_copied, again.files_adopted)
    assert tree(source) == tree(place)


# stopping


class Stopper(Progress):
    """Asks to stop when so many bytes have arrived."""

    def __init__(self, after: int, signum: int, stream: io.StringIO | None = None) -> None:
        super().__init__("quiet", stream)
        self.after, self.signum, self.received, self.files = after, signum, 0, 0

    def advance(self, received: int, files: int = 0) -> None:
        super().advance(received, files)
        self.received += received
        self.files += files
        if self.received >= self.after:
            self.stop_signal = self.signum


@pytest.mark.parametrize(("signum", "status"), [(2, 130), (15, 143)])
@pytest.mark.parametrize("after", [0, 64 * KIB, 130 * KIB, 230 * KIB])
@pytest.mark.parametrize("policy", ["none", "commit"])
def test_a_stopped_run_goes_on_where_it_was(
    source: Path, place: Path, signum: int, status: int, after: int, policy: str
):
    """A run that is asked to stop ends with the signal's status, and the next one fetches only what is missing."""
    durability = Durability(policy, commit=(lambda: None) if policy == "commit" else None)
    settings = {"durability": durability, "part_size": 64 * KIB, "workers": 1}
    stopper = Stopper(after, signum)
    if after == 0:
        stopper.stop_signal = signum
    with pytest.raises(Interrupted) as caught:
        populate_cache(str(source), place, progress=stopper, **settings)
    assert status == exit_status(caught.value)
    assert not (place / META / "seal.json").exists()

    total = sum(map(len, tree(source).values()))
    assert after <= stopper.received <= total
    report = populate_cache(str(source), place, progress=Progress("quiet"), **settings)
    assert (True, total - stopper.received) == (report.sealed, report.bytes_copied)
    assert tree(source) == tree(place)


def test_a_run_stopped_after_its_last_byte_is_still_interrupted(source: Path, place: Path):
    """A wish to stop that comes with the last byte is honoured before sealing; nothing has to be fetched again."""
    total = sum(map(len, tree(source).values()))
    with pytest.raises(Interrupted):
        populate_cache(str(source), place, progress=Stopper(total, 2), durability=Durability("none"))

    report = populate_cache(str(source), place, progress=Progress("quiet"), durability=Durability("none"))
    assert (True, 0) == (report.sealed, report.bytes_copied)


def test_a_quiet_run_says_nothing(source: Path, place: Path, capsys: pytest.CaptureFixture[str]):
    """A quiet run writes neither to its stream nor to stdout or stderr."""
    stream = io.StringIO()
    populate_cache(str(source), place, progress=Progress("quiet", stream), durability=Durability("none"))

    assert ("", "", "") == (stream.getvalue(), *capsys.readouterr())


def test_no_thread_stays_behind(source: Path, place: Path):
    """A run leaves no thread of its own running, whether it ends well or is stopped."""
    before = set(threading.enumerate())
    for watcher in (Stopper(1, 2), Progress("quiet")):
        with contextlib.suppress(Interrupted):
            populate_cache(str(source), place, progress=watcher, durability=Durability("none"))
        assert set() == {thread.name for thread in set(threading.enumerate()) - before}


def test_every_file_counts_once(source: Path, place: Path):
    """Progress counts every byte and every file of the plan once."""
    counter = Stopper(10**12, 2)
    populate_cache(str(source), place, progress=counter, durability=Durability("none"), part_size=64 * KIB)

    assert (sum(map(len, tree(source).values())), len(tree(source))) == (counter.received, counter.files)


@pytest.mark.parametrize("make", [lambda: ValueError("a bug"), lambda: KeyError("another")])
def test_a_bug_in_a_worker_is_not_hidden(
    source: Path, place: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Exception]
):
    """What no one raises on purpose ends the run as it is, and no seal is written."""
    error = make()

    def broken(order: Piece, request: Request) -> None:
        raise error

    monkeypatch.setattr(lanes_module, "fetch", broken)
    with pytest.raises(type(error)):
        populate_cache(str(source), place, progress=Progress("quiet"), durability=Durability("none"))
    assert not (place / META / "seal.json").exists()


def test_a_part_that_fails_too_often_fails_its_file_only(source: Path, place: Path, monkeypatch: pytest.MonkeyPatch):
    """A part is tried once and `retries` times more; then its file has failed and all others arrive."""
    tries: list[float] = []
    true = lanes_module.fetch

    def fetch(order: Piece, request: Request) -> Result:
        if order.entry.key == "dev/a.npz" and order.start == 64 * KIB:
            tries.append(time.monotonic())
            return Failed(order.ticket, TransferError("torn", hint="again"), 5)
        return true(order, request)

    monkeypatch.setattr(lanes_module, "fetch", fetch)
    monkeypatch.setattr(engine_module, "backoff", lambda attempt: 0.0)
    settings = {"retries": 2, "part_size": 64 * KIB, "durability": Durability("none")}
    report = populate_cache(str(source), place, progress=Progress("quiet"), **settings)

    assert (3, False, ["dev/a.npz"]) == (report.exit_code, report.sealed, [f.key for f in report.failures])
    assert (3, 15) == (len(tries), report.bytes_refetched)
    assert {"dev/b.npz", "train/c.npz", "x.json"} == set(tree(place))
