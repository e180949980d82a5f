"""verify --against: what differs from the source is told, nothing written; a whole cache without a seal is adopted."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cache.conftest import PART, Bucket
from tests.cache.test_servers import KEY, MIB, client, moto
from tests.support.running import META, Ran, run, state, tree
from tusz_cache import Access, Filters, VerifyReport, verify_cache
from tusz_cache.errors import EmptyListing, SourceChanged
from tusz_cache.progress import Progress

SIZES = {"dev/a.npz": 150_000, "dev/empty.npz": 0, "train/0.npz": 1000, "train/1.npz": 3 * PART + 5}
KINDS: dict[str, dict[str, Any]] = {  # level -> settings of the server
    "source-crc": {"checksum": "crc64nvme"},
    "etag-md5": {"etag": "md5"},
    "etag-parts": {"etag": "multipart:65536"},
    "own-crc": {"etag": "opaque"},
}
Verify = Callable[..., VerifyReport]


@pytest.fixture
def filled(bucket: Bucket) -> Bucket:
    for key, size in SIZES.items():
        bucket.put(key, size)
    return bucket


@pytest.fixture
def synced(filled: Bucket, target: Path) -> Bucket:
    filled.sync(target)
    return filled


@pytest.fixture
def verify(bucket: Bucket, target: Path) -> Verify:
    """Return a function that verifies the target against the bucket."""

    def against(**options: Any) -> VerifyReport:
        usual = {"against": bucket.url, "access": Access(endpoint_url=bucket.server.url), "progress": Progress("quiet")}
        return verify_cache(target, **usual | options)

    return against


@pytest.fixture
def command(bucket: Bucket, target: Path) -> Callable[..., Ran]:
    """Return a function that runs the command against the bucket."""

    def go(*options: object, where: Path = target) -> Ran:
        access = ["--against", bucket.url, "--endpoint-url", bucket.server.url]
        return run("verify", where, *access, "--json", *options)

    return go


def populate(bucket: Bucket, target: Path) -> None:
    """Fill the target as another program would: files, and nothing of ours."""
    shutil.copytree(bucket.path, target)


def flip(path: Path, at: int = 500) -> None:
    """Invert a byte and keep the file's time."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 255
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def lists(report: VerifyReport) -> dict[str, tuple[str, ...]]:
    """The lists of a report that are not empty."""
    names = ("missing", "damaged", "changed", "vanished", "added", "unexpected")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


# comparing


@pytest.mark.parametrize("level", ["quick", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_that_is_its_source_is_whole(kind, level, filled, target, verify):
    """Whatever the source tells of its bytes, a cache just synced from it is as it is, and nothing is written."""
    filled.configure(**KINDS[kind])
    filled.sync(target)
    before = state(target)
    report = verify(level=level)
    assert ({}, True, True, 0) == (lists(report), report.ok, report.compared, report.exit_code)
    assert before == state(target)


def test_what_differs_is_told(synced, target, verify):
    """Files lost here, lost there, changed there, new there and strange here each have their own list; exit 7."""
    (target / "dev/empty.npz").unlink()
    synced.drop("train/0.npz")
    synced.put("dev/a.npz", SIZES["dev/a.npz"])
    synced.put("dev/new.npz", 10)
    (target / "note.txt").write_text("mine")
    before = state(target)
    for level in ("quick", "full"):
        report = verify(level=level)
        wanted = {
            "missing": ("dev/empty.npz", "dev/new.npz"),
            "changed": ("dev/a.npz",),
            "vanished": ("train/0.npz",),
            "added": ("dev/new.npz",),
            "unexpected": ("note.txt",),
        }
        assert (wanted, 7) == (lists(report), report.exit_code)
        assert "--repair" in report.verdict
    assert before == state(target)


def test_a_changed_source_asks_for_a_sync(synced, target, verify):
    """Where only the source has changed the cache is exit 7, and the next step is sync."""
    synced.put("dev/a.npz", 7)
    report = verify()
    assert ({"changed": ("dev/a.npz",)}, 7) == (lists(report), report.exit_code)
    assert f"tusz_cache.sync {synced.url} {target}" in report.verdict


def test_what_the_source_lost_is_a_fault_only_with_strict(synced, verify):
    """A vanished object is reported; with strict it is exit 7."""
    synced.drop("train/0.npz")
    assert ({"vanished": ("train/0.npz",)}, 0) == (lists(verify()), verify().exit_code)
    assert ("1 of its files" in verify().verdict, 7) == (True, verify(strict=True).exit_code)


@pytest.mark.parametrize("kind", KINDS)
def test_full_finds_a_byte_that_quick_does_not_see(kind, filled, target, verify):
    """A flipped byte under the old time and size is damage at level full."""
    filled.configure(**KINDS[kind])
    filled.sync(target)
    flip(target / "dev/a.npz")
    assert {} == lists(verify())
    assert {"damaged": ("dev/a.npz",)} == lists(verify(level="full"))


def test_full_looks_at_bytes_not_versions(synced, verify):
    """An object written again with the same bytes has another version for quick, and is the same for full."""
    synced.configure(etag="opaque")
    assert tuple(SIZES) == verify().changed
    synced.configure(etag="opaque", checksum="crc32c")
    assert {} == lists(verify(level="full"))


def test_a_directory_without_checksums_is_compared_byte_by_byte(tmp_path, target, filled):
    """A local source keeps no checksums: at level full other times do not matter, and other bytes do."""
    populate(filled, tmp_path / "source")
    assert 0 == run("sync", tmp_path / "source", target, "--durability", "none").code
    options: dict[str, Any] = {"against": str(tmp_path / "source"), "level": "full", "progress": Progress("quiet")}
    os.utime(tmp_path / "source/dev/a.npz")
    assert {} == lists(verify_cache(target, **options))
    flip(tmp_path / "source/dev/a.npz")
    assert {"changed": ("dev/a.npz",)} == lists(verify_cache(target, **options))


def test_the_seals_filters_apply(filled, target, verify):
    """What was left out with --include is not missed, and what came otherwise is compared."""
    filled.sync(target, filters=Filters(include=("train/*",)))
    assert ({}, 0) == (lists(verify(level="full")), verify().exit_code)
    filled.put("dev/new.npz", 5)
    filled.put("train/new.npz", 5)
    assert {"missing": ("train/new.npz",), "added": ("train/new.npz",)} == lists(verify())


def test_an_empty_listing_is_no_comparison(synced, target, verify):
    """A prefix with a typing error lists nothing, which is refused instead of telling that all has vanished."""
    with pytest.raises(EmptyListing):
        verify(against=f"{synced.url}/typo")


def test_a_source_that_changes_meanwhile_is_told(synced, target, verify):
    """An object that is another one when it is asked for its checksum is exit 4."""
    synced.faults({"do": "other_etag", "method": "HEAD", "key": "dev/a.npz", "times": -1})
    with pytest.raises(SourceChanged):
        verify(level="full")


def test_the_command_takes_the_options_of_sync(synced, target, command):
    """The command reaches the source as sync does, prints one object, and exits 0 or 7."""
    assert (0, True) == ((ran := command("--expect", "train=2")).code, ran.json["compared"])
    synced.put("dev/a.npz", 7)
    ran = command("--level", "full")
    assert (7, ["dev/a.npz"], False) == (ran.code, ran.json["changed"], ran.json["ok"])
    assert 2 == run("verify", target, "--against", "s3://nowhere", "--endpoint-url", synced.server.url).code


# adopting


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_cache_without_a_seal_is_adopted(kind, filled, target, command):
    """verify --level full --against seals it, at the honest level; then it is whole, and sync copies nothing."""
    filled.configure(**KINDS[kind])
    populate(filled, target)
    ran = command("--level", "full")
    assert (0, True, True) == (ran.code, ran.json["adopted"], ran.json["ok"]), ran.err
    seal = json.loads((target / META / "seal.json").read_text())
    assert {kind: len(SIZES)} == seal["verification"]
    assert (filled.url, len(SIZES), True) == (seal["source"], len(SIZES), seal["complete"])
    assert filled.contents() == tree(target)
    assert 0 == run("verify", target, "--level", "full", "--strict").code
    report = filled.sync(target)
    assert (0, 0, len(SIZES), True) == (
        report.exit_code,
        report.bytes_copied,
        report.files_unchanged,
        report.sealed,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["missing", "short", "flipped"])
def test_a_cache_with_a_fault_is_not_adopted(fault, kind, filled, target, verify):
    """One missing, short or flipped file, and nothing at all is written; exit 7 tells which."""
    filled.configure(**KINDS[kind])
    populate(filled, target)
    path = target / "train/1.npz"
    if fault == "flipped":
        flip(path)
    elif fault == "short":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    before = state(target)
    report = verify(level="full")
    wanted = {"missing" if fault == "missing" else "damaged": ("train/1.npz",)}
    assert (wanted, 7, False, False) == (lists(report), report.exit_code, report.adopted, report.sealed)
    assert "--adopt" in report.next_step
    assert before == state(target)


def test_strange_files_do_not_prevent_adoption(filled, target, verify):
    """A file that the source does not have is reported, stays, and is not in the manifest; --strict fails."""
    populate(filled, target)
    (target / "note.txt").write_text("mine")
    report = verify(level="full")
    assert ({"unexpected": ("note.txt",)}, 0, True) == (lists(report), report.exit_code, report.adopted)
    assert "note.txt" not in (target / META / "manifest.jsonl").read_text()
    assert "mine" == (target / "note.txt").read_text()
    assert 7 == verify(strict=True).exit_code


def test_uneven_parts_are_asked_for_before_a_file_is_called_damaged(filled, target, verify):
    """A file uploaded in parts of different lengths is adopted by its composite ETag."""
    sizes = {"dev/a.npz": [70_000, 30_000, 50_000]}
    filled.configure(etag="multipart:65536", multipart_parts=sizes)
    populate(filled, target)
    assert verify(level="full").adopted


def test_moto_checksums_prove_an_adopted_cache(tmp_path, target):
    """Against a server that others wrote: one object put whole, one uploaded in parts."""
    with moto() as endpoint:
        store = client(endpoint)
        store.create_bucket(Bucket="adopted")
        body = os.urandom(MIB)
        store.put_object(Bucket="adopted", Key=KEY, Body=body)
        upload = store.create_multipart_upload(Bucket="adopted", Key="tusz/dev/b.npz")["UploadId"]
        bodies = [os.urandom(5 * MIB), os.urandom(100)]
        parts = []
        for number, piece in enumerate(bodies, start=1):
            asked = {"Bucket": "adopted", "Key": "tusz/dev/b.npz", "UploadId": upload, "PartNumber": number}
            parts.append({"PartNumber": number, "ETag": store.upload_part(**asked, Body=piece)["ETag"]})
        store.complete_multipart_upload(
            Bucket="adopted", Key="tusz/dev/b.npz", UploadId=upload, MultipartUpload={"Parts": parts}
        )
        for key, data in ((KEY.removeprefix("tusz/"), body), ("dev/b.npz", b"".join(bodies))):
            (target / key).parent.mkdir(parents=True)
            (target / key).write_bytes(data)
        access = ["--against", "s3://adopted/tusz", "--endpoint-url", endpoint]
        ran = run("verify", target, "--level", "full", *access, "--json")
        again = run("sync", access[1], target, *access[2:], "--json")
    assert (0, True) == (ran.code, ran.json["adopted"]), ran.err
    assert (0, 0) == (again.code, again.json["bytes"]["copied"])
    assert "own-crc" not in json.loads((target / META / "seal.json").read_text())["verification"]


@pytest.mark.parametrize("options", [{"level": "quick"}, {"against": None}])
def test_without_a_full_comparison_nothing_is_adopted(options, filled, target, command):
    """No seal is exit 7 with a hint, unless every byte is compared with a source."""
    populate(filled, target)
    before = state(target)
    ran = command() if "level" in options else run("verify", target, "--level", "full")
    assert 7 == ran.code
    assert ("--level full --against" if "level" in options else "tusz_cache.sync") in ran.err.partition("hint:")[2]
    assert before == state(target)


def test_a_target_that_is_not_there_is_not_adopted(filled, target, command):
    """A path with a typing error is a cache without a seal, and is not made."""
    assert (7, False) == (command("--level", "full").code, target.exists())


def test_a_broken_seal_is_replaced_by_adoption(synced, target, verify):
    """A cache whose records are unreadable is proven anew, byte by byte, and sealed."""
    (target / META / "seal.json").write_text("{")
    (target / META / "manifest.jsonl").write_text("nonsense\n")
    assert verify(level="full").adopted
    assert verify_cache(target, level="full", strict=True, progress=Progress("quiet")).ok


def test_adoption_respects_the_lock(filled, target, command):
    """A cache that another run writes to is not adopted."""
    import fcntl

    populate(filled, target)
    (target / META).mkdir()
    with (target / META / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert 5 == command("--level", "full").code
    assert not (target / META / "seal.json").exists()


def test_the_text_says_that_a_cache_was_adopted(filled, target, verify):
    """A person is told that manifest and seal were written."""
    populate(filled, target)
    text = verify(level="full").as_text()
    assert ("adopted" in text, "whole, and as the source has it" in text) == (True, True)
