"""Faults of the server: what arrives under a final name is right, or nothing is, and the exit code says so."""

import signal
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from tests.cache.conftest import PART
from tests.support.running import META, tree
from tusz_cache import MaxDelete, populate_cache
from tusz_cache.copying.rate import SPEED_SAMPLES
from tusz_cache.errors import Interrupted
from tusz_cache.progress import Progress

EVERYTHING = MaxDelete.parse("100%")
PARTS, WHOLE = "train/parts.npz", "dev/whole.npz"  # fetched in five ranges, and in one piece


@dataclass(frozen=True)
class Case:
    """A fault of the answers to GET, and the exit codes that it must lead to."""

    do: str
    arg: float | None = None
    once: int = 0
    always: int = 3
    whole: int | None = None  # `always`, for a file fetched in one piece, where that is another code

    def __str__(self) -> str:
        return self.do if self.arg is None else f"{self.do}-{self.arg}"

    def as_fault(self, key: str, times: int) -> dict[str, Any]:
        return {"do": self.do, "arg": self.arg, "key": key, "times": times}


CASES = (
    Case("short", 1000),
    Case("short_chunkless", 1000),
    Case("short_length", 1000),
    Case("short_length", 0),
    Case("flip", 500),
    Case("dup", 0),
    Case("ignore_range", whole=0),
    Case("status200_with_content_range", always=0),
    Case("wrong_content_range", whole=0),
    Case("no_etag"),
    Case("other_etag", once=4, always=4),
    Case("status", 500),
    Case("status", 503),
    Case("status", 429),
    Case("status", 403),
    Case("status", 404, once=4, always=4),
    Case("stall", 2),
    Case("trickle", 200),
    Case("reset"),
    Case("slow", 0.2, always=0),
    Case("slow", 2),
    Case("change", once=4, always=4),
    Case("delete", once=4, always=4),
)


@pytest.fixture
def filled(bucket):
    """A bucket whose objects have checksums."""
    bucket.configure(checksum="crc64nvme")
    bucket.put(PARTS, 300_000)
    bucket.put(WHOLE, 50_000)
    bucket.put("dev/empty.npz", 0)
    return bucket


def impatient(case: Case) -> dict[str, Any]:
    return {"stall_timeout": 0.5} if case.do in {"stall", "trickle", "slow"} else {}


def check_kept(target: Path, planned: dict[str, bytes], code: int) -> None:
    """Nothing wrong or short lies under a final name, and only a finished run has a seal."""
    here = tree(target)
    assert {key: planned[key] for key in here} == here
    assert (code == 0) == (target / META / "seal.json").exists()
    assert code != 0 or planned == here


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_once_is_healed_or_told(case, filled, target, healthy):
    """A fault that happens once costs a retry, or ends in exit 4 if it says that the source changed."""
    planned = filled.contents()
    filled.faults(case.as_fault(PARTS, 1), case.as_fault(WHOLE, 1))
    result = filled.attempt(target, **impatient(case))
    assert case.once == result.code
    check_kept(target, planned, result.code)
    if case.once == 0 and case.always:
        assert (1 if case.whole == 0 else 2) <= result.report.retries
    if case.once:
        assert [WHOLE, PARTS] == [failure["key"] for failure in result.json["failures"]]
    healthy(filled, target)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_that_persists_fails_its_objects_alone(case, filled, target, healthy):
    """A fault that persists leaves its objects out, names them in the report, and lets the others arrive."""
    planned = filled.contents()
    filled.faults(case.as_fault(PARTS, -1), case.as_fault(WHOLE, -1))
    codes = {WHOLE: case.always if case.whole is None else case.whole, PARTS: case.always}
    result = filled.attempt(target, retries=1, **impatient(case))
    assert case.always == result.code
    check_kept(target, planned, result.code)
    failed = [key for key, code in codes.items() if code]
    assert failed == [failure["key"] for failure in result.json["failures"]]
    assert all(failure["error"] and failure["hint"] for failure in result.json["failures"])
    assert planned.keys() - set(failed) == tree(target).keys()
    healthy(filled, target)


@pytest.mark.parametrize("etag", ["md5", "multipart:100000"])
def test_a_flip_that_persists_is_never_published(etag, filled, target, healthy):
    """Bytes that never match the ETag are not published, though no checksum header helps."""
    filled.configure(checksum=None, etag=etag)
    planned = filled.contents()
    filled.faults({"do": "flip", "arg": 500, "times": -1})
    result = filled.attempt(target)
    assert 3 == result.code
    check_kept(target, planned, result.code)
    assert ["dev/empty.npz"] == list(tree(target))
    healthy(filled, target)


@pytest.mark.parametrize("faults", [[], [{"do": "ignore_if_match", "times": -1}]], ids=["honest", "ignore_if_match"])
@pytest.mark.parametrize("etag", ["md5", "opaque", "multipart:100000"])
def test_an_object_changed_after_the_listing_is_told(faults, etag, filled, target, healthy):
    """Other bytes of the same size between listing and GET are exit 4, even if the server ignores If-Match."""
    filled.configure(etag=etag, checksum=None)
    planned = filled.contents()
    filled.faults(*faults)
    result = filled.attempt(target, act=lambda: [filled.put(key, len(planned[key])) for key in (PARTS, WHOLE)])
    assert 4 == result.code
    check_kept(target, planned, result.code)
    assert ["dev/empty.npz"] == list(tree(target))
    healthy(filled, target)


@pytest.mark.parametrize("ignored", [False, True], ids=["honest", "ignore_if_match"])
def test_an_object_changed_between_two_parts_is_never_mixed(ignored, filled, target, healthy):
    """A change after two of five parts is exit 4, and no mixture of both versions is published."""
    planned = filled.contents()
    changing = {"do": "change", "key": PARTS, "skip": 2}
    filled.faults(changing, *[{"do": "ignore_if_match", "key": PARTS, "times": -1}] * ignored)
    result = filled.attempt(target, workers=1)
    assert 4 == result.code
    check_kept(target, planned, result.code)
    assert planned[PARTS] != filled.contents()[PARTS]
    healthy(filled, target)


def test_an_object_deleted_after_the_listing_is_told(filled, target, healthy):
    """Objects that go between listing and GET are exit 4, and the others arrive."""
    planned = filled.contents()
    result = filled.attempt(target, act=lambda: [filled.drop(key) for key in (PARTS, WHOLE)])
    assert 4 == result.code
    check_kept(target, planned, result.code)
    assert ["dev/empty.npz"] == list(tree(target))
    healthy(filled, target)


def test_an_object_that_changes_size_after_the_listing_is_told(filled, target, healthy):
    """An object that grew between listing and GET is exit 4."""
    planned = filled.contents()
    result = filled.attempt(target, act=lambda: filled.put(WHOLE, 60_000))
    assert 4 == result.code
    check_kept(target, planned, result.code)
    healthy(filled, target)


def test_a_storm_of_503_is_ridden_out(filled, target):
    """A server that asks for fewer requests gets them, and the report says so."""
    filled.faults({"do": "status", "arg": 503, "times": 5})
    result = filled.attempt(target, retries=5)
    assert 0 == result.code
    assert 5 == result.json["throttled"]
    assert filled.contents() == tree(target)


def test_what_came_before_a_failure_is_not_fetched_again(filled, target):
    """After a run that failed in one part, the next one does not fetch those before it."""
    filled.faults({"do": "status", "arg": 500, "key": PARTS, "times": -1, "skip": 1})
    assert 3 == filled.attempt(target, workers=1, retries=0).code
    filled.faults()
    filled.server.reset()
    report = filled.sync(target)
    assert (0, 1) == (report.exit_code, report.files_resumed)
    assert 300_000 - 65_536 == filled.received(PARTS) == report.bytes_copied
    assert filled.contents() == tree(target)


def test_parts_of_a_request_that_broke_are_kept(bucket, target):
    """Where a request for several parts breaks, those that came by it are not fetched again."""
    bucket.put(PARTS, 40 * PART)
    bucket.faults({"do": "short", "arg": 3 * PART + 1000, "key": PARTS, "times": -1, "skip": SPEED_SAMPLES})
    assert 3 == bucket.attempt(target, workers=1, retries=0).code
    bucket.faults()
    bucket.server.reset()
    report = bucket.sync(target)
    assert (0, 1) == (report.exit_code, report.files_resumed)
    assert (40 - SPEED_SAMPLES - 3) * PART == bucket.received(PARTS) == report.bytes_copied
    assert bucket.contents() == tree(target)


def requests_for(bucket, key):
    """Return (first byte, bytes sent) of each answer to a GET of an object."""
    return sorted(map(tuple, bucket.server.stats()["ranges"][f"{bucket.name}/{key}"]))


def test_parts_that_come_fast_share_a_request(bucket, target):
    """Parts that follow one another come by one request, in the end by requests of their own, and each comes once."""
    bucket.put(PARTS, 40 * PART)
    bucket.sync(target, workers=2)
    asked = requests_for(bucket, PARTS)
    assert len(asked) < 30
    assert (39 * PART, PART) == asked[-1]
    assert list(accumulate(sent for _, sent in asked[:-1])) == [start for start, _ in asked[1:]]
    assert bucket.contents() == tree(target)


def test_parts_that_come_slowly_have_requests_of_their_own(bucket, target):
    """Where a part takes half a second, a request brings no other one: it could not be moved to a faster connection."""
    bucket.put(PARTS, 16 * PART)
    bucket.faults({"do": "slow", "arg": 0.6, "key": PARTS, "times": -1})
    bucket.sync(target, workers=4)
    assert [PART] * 16 == [sent for _, sent in requests_for(bucket, PARTS)]


class StopAfter(Progress):
    """Quiet progress that asks for a stop when so many bytes have come."""

    def __init__(self, most: int) -> None:
        super().__init__("quiet")
        self.most, self.came = most, 0

    def advance(self, received: int, files: int = 0) -> None:
        self.came += received
        if self.came >= self.most:
            self.stop_signal = signal.SIGTERM


@pytest.mark.parametrize("processes", [0, 1])
def test_a_stop_waits_for_parts_under_way_only(bucket, target, processes):
    """What a request for many parts would still bring is not waited for, and is fetched by the next run."""
    bucket.put(PARTS, 60 * PART)
    bucket.configure(bytes_per_second=40 * PART)
    stopping = StopAfter((SPEED_SAMPLES + 2) * PART)
    with pytest.raises(Interrupted):
        populate_cache(bucket.url, target, settings=bucket.settings(workers=1, processes=processes), progress=stopping)
    asked = requests_for(bucket, PARTS)
    bucket.configure(bytes_per_second=None)
    report = bucket.sync(target)
    assert len(asked) == SPEED_SAMPLES + 1
    assert stopping.came < (SPEED_SAMPLES + 10) * PART
    assert 60 * PART - stopping.came == report.bytes_copied
    assert bucket.contents() == tree(target)


def test_a_slow_connection_does_not_hold_what_others_could_bring(bucket, target):
    """In the end a request that would take long for all its parts is cut, though none of them takes long by itself."""
    bucket.put(PARTS, 100 * PART)
    bucket.faults({"do": "trickle", "arg": PART, "key": PARTS, "skip": SPEED_SAMPLES + 4})
    report = bucket.sync(target, workers=4)
    assert (True, 1) == (report.sealed, report.retries)
    assert bucket.contents() == tree(target)


def test_other_bytes_received_twice_are_counted(filled, target):
    """`bytes.copied` counts each byte once, `refetched` those that came again."""
    filled.faults({"do": "flip", "arg": 500, "key": WHOLE})
    report = filled.sync(target)
    assert sum(map(len, filled.contents().values())) == report.bytes_copied
    assert 50_000 == report.bytes_refetched


# listings


@dataclass(frozen=True)
class Broken:
    """A fault of the answers to LIST, and the exit codes that it must lead to."""

    do: str
    arg: float | None = None
    once: int = 0
    always: int = 3
    skip: int = 0

    def __str__(self) -> str:
        return f"{self.do}-{self.arg or ''}-page{self.skip + 1}"

    def as_fault(self, times: int) -> dict[str, Any]:
        return {"do": self.do, "arg": self.arg, "method": "LIST", "times": times, "skip": self.skip}


LISTINGS = (
    Broken("truncate_xml"),
    Broken("truncate_xml", skip=1),
    Broken("drop_page"),
    Broken("drop_page", skip=1),
    Broken("empty_list", once=5, always=5),
    Broken("status", 500),
    Broken("status", 503),
    Broken("status", 503, skip=1),
    Broken("short", 100),
    Broken("reset"),
)


@pytest.fixture
def mirrored(bucket, target):
    """A bucket of five objects on three pages, synced to `target`, which then lost one of them and got another."""
    bucket.configure(page_size=2, checksum="crc64nvme")
    for number in range(5):
        bucket.put(f"train/{number}.npz", 1000 + number)
    bucket.sync(target)
    bucket.drop("train/0.npz")
    bucket.put("train/9.npz", 2000)
    return bucket


def untouched(target: Path) -> dict[str, tuple[bytes, int]]:
    """Everything below the target but the lock's note, with its bytes."""
    files = [path for path in target.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("case", LISTINGS, ids=str)
def test_a_listing_that_stays_broken_changes_nothing(case, mirrored, target, tmp_path, monkeypatch):
    """A listing that stays broken deletes and copies nothing, the old seal stands, and a new target is not made."""
    before = untouched(target)
    mirrored.faults(case.as_fault(-1))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the libraries' own retries take seconds
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    result = mirrored.attempt(target, delete=True, max_delete=EVERYTHING)
    assert case.always == result.code
    assert result.error.hint
    assert before == untouched(target)
    mirrored.faults(case.as_fault(-1))
    assert case.always == mirrored.attempt(tmp_path / "new").code
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("case", LISTINGS, ids=str)
def test_a_listing_that_breaks_once_is_asked_again(case, mirrored, target):
    """A listing that breaks once is asked for again; one that says that nothing is there is believed by no one."""
    before = untouched(target)
    mirrored.faults(case.as_fault(1))
    result = mirrored.attempt(target, delete=True, max_delete=EVERYTHING)
    assert case.once == result.code
    assert (mirrored.contents() == tree(target)) if result.code == 0 else (before == untouched(target))


def test_an_empty_second_page_does_not_pass_the_delete_limit(mirrored, target):
    """A listing that ends early without saying so meets the limit on deletions, and nothing changes."""
    before = untouched(target)
    mirrored.faults({"do": "empty_list", "method": "LIST", "skip": 1, "times": -1})
    assert 5 == mirrored.attempt(target, delete=True).code
    assert before == untouched(target)


@pytest.mark.parametrize("processes", [0, 1])
def test_a_straggler_is_asked_for_again(bucket, target, processes):
    """When all else has come, a part that takes far longer than others did is cut off and asked for once more."""
    half = 512 * 1024
    bucket.put("train/long.npz", 40 * half)
    bucket.faults({"do": "trickle", "arg": 2000, "key": "train/long.npz", "skip": 20})
    report = bucket.sync(
        target, part_size=half, stall_timeout=600, processes=processes
    )  # at this rate nothing is stalled

    assert (True, 1) == (report.sealed, report.retries)
    starts = [start for start, _ in requests_for(bucket, "train/long.npz")]
    assert 1 == len(starts) - len(set(starts))
    assert bucket.contents() == tree(target)
