"""Keys and sizes that look odd and are good: they arrive whole."""

import json
import os
import shutil
from pathlib import Path

import pytest
from awscrt.checksums import combine_crc64nvme, crc64nvme

from tests.support.running import META, tree
from tusz_cache import Access, Filters, verify_cache
from tusz_cache.checksum import encode_crc
from tusz_cache.progress import Progress

KEYS = (
    "/".join(["nine" * 25] * 8 + ["x" * 91]),  # 899 bytes
    "b" * 255,
    "é" * 127,
    "train/日本語/файл ñ.npz",
    "cafe\u0301.npz",  # not the same as with one code point
    "caf\u00e9.npz",
    "a b  c.npz",
    "percent%20and%.npz",
    "plus+plus.npz",
    "hash#hash.npz",
    "question?mark=3.npz",
    "amp&lt;=.npz",
    "quotes\"and'.npz",
    "new\nline.npz",
    "carriage\rreturn\ttab.npz",
    "back\\slash.npz",
    ".hidden",
    "..twodots",
    "...",
    "dots...",
    "dot.",
    " space before",
    "space after ",
    "folder /file",
    " /file",
    "-rf",
    "~",
    "$HOME;`ls`*[a-z]{x}",
    "a:b|c<d>e",
    ".tusz_cache.txt",
    "data/.tusz_cache/inner",
    "manifest.json",
    "\u200bzero width",
    "\U0001f9e0.npz",
)


def ids(key: str) -> str:
    return key.encode("unicode_escape").decode()[:20]


@pytest.fixture
def odd(bucket):
    """A bucket of files with odd names, each with other bytes."""
    for key in KEYS:
        bucket.put(key, 100)
    bucket.put("parts of it/a+b%c#d?e&f.npz", 150_000)
    return bucket


def keys_of(target: Path) -> list[str]:
    """The keys of the manifest, in its order."""
    return [json.loads(line)["key"] for line in (target / META / "manifest.jsonl").read_bytes().splitlines()]


def contents(bucket) -> dict[str, bytes]:
    """The objects, found by name: `tree` leaves out whatever has a folder of our name above it."""
    return {key: (bucket.path / key).read_bytes() for key in (*KEYS, "parts of it/a+b%c#d?e&f.npz")}


@pytest.mark.parametrize("checksum", [None, "crc64nvme"])
def test_odd_keys_arrive_whole(checksum, odd, target):
    """Keys with blanks, dots, percent signs, control characters or 900 bytes become files of that name."""
    odd.configure(checksum=checksum, page_size=7)
    report = odd.sync(target)
    assert (0, len(KEYS) + 1, ()) == (report.exit_code, report.files_copied, report.failures)
    expected = contents(odd)
    assert expected == {key: (target / key).read_bytes() for key in expected}
    assert sorted(expected, key=str.encode) == keys_of(target)
    again = odd.sync(target)
    assert (0, len(expected), True) == (again.bytes_copied, again.files_unchanged, again.sealed)
    assert verify_cache(target, level="full", strict=True, progress=Progress("quiet")).ok


def test_odd_keys_arrive_over_http(odd, target):
    """An HTML index with percent-encoded names leads to the same files."""
    source = f"{odd.server.url}/_index/{odd.name}/"
    result = odd.attempt(target, source=source, access=Access())
    assert (0, ()) == (result.code, result.report.failures)
    expected = contents(odd)
    assert expected.keys() == set(keys_of(target))
    assert expected == {key: (target / key).read_bytes() for key in expected}


def test_odd_keys_arrive_from_a_directory(odd, target):
    """A local directory with odd names leads to the same files."""
    report = odd.sync(target, source=str(odd.path), access=Access())
    assert 0 == report.exit_code
    expected = contents(odd)
    assert expected == {key: (target / key).read_bytes() for key in expected}


@pytest.mark.parametrize("key", [key for key in KEYS if not set("/?") & set(key)], ids=ids)
def test_an_odd_key_as_the_only_object(key, bucket, target):
    """A source may name one object with an odd key."""
    data = bucket.put(f"prefix/{key}", 100)
    report = bucket.sync(target, source=f"{bucket.url}/prefix/{key}")
    assert 0 == report.exit_code
    assert data == (target / key).read_bytes()


def test_a_key_that_looks_like_a_version(bucket, target):
    """A key may hold `?versionId=`, which s3fs takes for a version's name."""
    bucket.put("a.npz", 100)
    bucket.put("a.npz?versionId=3", 100)
    report = bucket.sync(target)
    assert (0, ()) == (report.exit_code, report.failures)
    assert bucket.contents() == tree(target)


def test_an_odd_prefix(bucket, target):
    """A prefix may hold odd characters."""
    data = bucket.put("my cache+v2 (ü) %41/train/a.npz", 100)
    assert 0 == bucket.sync(target, source=f"{bucket.url}/my cache+v2 (ü) %41").exit_code
    assert {"train/a.npz": data} == tree(target)


def test_empty_objects(bucket, target):
    """Objects of zero bytes become files of zero bytes."""
    for number in range(20):
        bucket.put(f"train/{number}.npz", 0)
    report = bucket.sync(target)
    assert (0, 20, 0, True) == (report.exit_code, report.files_copied, report.bytes_copied, report.sealed)
    assert bucket.contents() == tree(target)
    assert 20 == bucket.sync(target).files_unchanged


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 131_072, 131_073])
def test_sizes_about_a_part(size, bucket, target):
    """Sizes on both sides of a part's length arrive whole."""
    bucket.put("train/a.npz", size)
    report = bucket.sync(target)
    assert (0, size) == (report.exit_code, report.bytes_copied)
    assert bucket.contents() == tree(target)


def test_directory_markers_are_counted_and_skipped(bucket, target):
    """Zero-byte keys that end in a slash are no files; the JSON counts them."""
    bucket.put("train/a.npz", 100)
    bucket.configure(objects={"train/": {"text": ""}, "empty folder/": {"text": ""}, "train/a/b/": {"text": ""}})
    report = bucket.sync(target)
    assert (0, 3, 1) == (report.exit_code, report.as_dict()["files"]["markers"], report.files_total)
    assert bucket.contents() == tree(target)
    assert 2 == bucket.sync(target.parent / "other", source=f"{bucket.url}/train").markers


def test_a_marker_of_the_prefix_itself(bucket, target):
    """The marker of the very prefix that is asked for is skipped, too."""
    data = bucket.put("train/a.npz", 100)
    bucket.configure(objects={"train/": {"text": ""}})
    report = bucket.sync(target, source=f"{bucket.url}/train/")
    assert (0, 1) == (report.exit_code, report.markers)
    assert {"a.npz": data} == tree(target)


def test_our_own_folder_at_the_source_is_left_out(bucket, target):
    """What lies in .tusz_cache/ at the source is never mirrored, on S3 as little as elsewhere."""
    bucket.put("train/a.npz", 100)
    for key in (".tusz_cache/seal.json", ".tusz_cache/manifest.jsonl", ".tusz_cache/partial/x"):
        bucket.put(key, 10)
    report = bucket.sync(target)
    assert (0, 1) == (report.exit_code, report.files_total)
    assert ["train/a.npz"] == keys_of(target)


def test_globs_see_whole_keys(odd, target):
    """Filters are globs over whole keys, and their brackets are theirs."""
    report = odd.sync(target, filters=Filters(include=("*/日本語/*", "[.]hidden", "a b*")))
    assert (0, 3) == (report.exit_code, report.files_copied)
    assert [".hidden", "a b  c.npz", "train/日本語/файл ñ.npz"] == keys_of(target)


def test_deep_folders(bucket, target):
    """Fifty folders in one another are no trouble."""
    bucket.put("/".join(["d"] * 50 + ["f"]), 100)
    assert 0 == bucket.sync(target).exit_code
    assert bucket.contents() == tree(target)


HUGE = 5 * 1024**3


def room() -> bool:
    shm = Path("/dev/shm")
    memory = Path("/proc/meminfo")
    if not (shm.is_dir() and memory.exists()):
        return False
    available = next(line for line in memory.read_text().splitlines() if line.startswith("MemAvailable"))
    return min(shutil.disk_usage(shm).free, int(available.split()[1]) * 1024) > 8 * 1024**3


@pytest.mark.slow
@pytest.mark.skipif(not room(), reason="needs 8 GiB of memory for a file of 5 GiB in /dev/shm")
def test_an_object_larger_than_four_gibibytes(bucket):
    """A file of 5 GiB has its true size and checksum: nothing counts in 32 bits."""
    marks = {0: b"begin", (1 << 32) - 2: b"boundary", HUGE - 3: b"end"}
    with (bucket.path / "huge.npz").open("wb") as file:
        file.truncate(HUGE)
        for at, mark in marks.items():
            file.seek(at)
            file.write(mark)
    bucket.configure(etag="opaque", checksum="crc64nvme")
    target = Path("/dev/shm") / f"tusz-{os.getpid()}"
    try:
        report = bucket.sync(target, part_size=16 * 1024**2)
        assert (0, HUGE, {"source-crc": 1}) == (report.exit_code, report.bytes_copied, report.verification)
        assert HUGE == (target / "huge.npz").stat().st_size
        with (target / "huge.npz").open("rb") as file:
            assert marks == {at: os.pread(file.fileno(), len(mark), at) for at, mark in marks.items()}
        row = json.loads((target / META / "manifest.jsonl").read_text())
        assert {"crc64nvme": encode_crc(sparse_crc(marks))} == row["checksum"]
    finally:
        shutil.rmtree(target, ignore_errors=True)


def sparse_crc(marks: dict[int, bytes]) -> int:
    """The CRC of HUGE zeros with `marks` in them."""
    whole, at = 0, 0
    for start, mark in marks.items():
        whole = combine_crc64nvme(zeros(whole, start - at), crc64nvme(mark), len(mark))
        at = start + len(mark)
    return whole


def zeros(crc: int, count: int) -> int:
    """The CRC of what has `crc`, followed by `count` zeros."""
    block, length = crc64nvme(b"\0"), 1
    while count:
        if count & 1:
            crc = combine_crc64nvme(crc, block, length)
        block, length, count = combine_crc64nvme(block, block, length), 2 * length, count >> 1
    return crc
