"""The rules of sync: what a second run copies, adopts, deletes and refuses, and what survives lost records."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.running import KEYS, META, run, state, tree
from tests.support.s3server import S3Server
from tusz_cache import Access, Filters, MaxDelete, plan_copy, populate_cache, verify_cache
from tusz_cache.progress import Progress

SIZES = {f"train/{number}.npz": 1000 + number for number in range(8)} | {"dev/a.npz": 150_000, "dev/b.npz": 70_000}
TOTAL = sum(SIZES.values())


@pytest.fixture
def filled(bucket):
    """A bucket whose objects have checksums."""
    bucket.configure(checksum="crc64nvme")
    for key, size in SIZES.items():
        bucket.put(key, size)
    return bucket


@pytest.fixture
def synced(filled, target):
    """The same, after a sync."""
    assert 0 == filled.sync(target).exit_code
    return filled


def records(target: Path) -> dict[str, bytes]:
    return {name: (target / META / name).read_bytes() for name in ("manifest.jsonl", "seal.json")}


def seal(target: Path) -> dict:
    return json.loads((target / META / "seal.json").read_text())


def untouched(target: Path) -> dict:
    """The state of everything but the lock's note, which a run may rewrite."""
    return {path: about for path, about in state(target).items() if not path.endswith("/lock")}


def is_whole(target: Path) -> bool:
    return verify_cache(target, level="full", strict=True, progress=Progress("quiet")).ok


# what a second run does


def test_a_second_run_copies_nothing(synced, target):
    """A second run copies nothing and leaves manifest and seal as they are, byte for byte."""
    before = records(target)
    report = synced.sync(target)
    assert (0, 0, 0, len(SIZES), True) == (
        report.exit_code,
        report.files_copied,
        report.bytes_copied,
        report.files_unchanged,
        report.sealed,
    )
    assert before == records(target)
    assert [] == [path for path in (target / META).rglob("*") if path.name not in KNOWN]


KNOWN = {"lock", "manifest.jsonl", "seal.json", "leftovers.jsonl", "partial"}


def test_a_second_run_has_the_same_plan_id(filled, target):
    """The plan's name depends on what the source has, not on what the target holds."""
    assert filled.sync(target).plan_id == filled.sync(target).plan_id


def test_the_plan_id_changes_with_the_source(synced, target):
    """A changed source is another plan."""
    before = synced.sync(target).plan_id
    synced.put("train/0.npz", SIZES["train/0.npz"])
    assert before != synced.sync(target).plan_id


@pytest.mark.parametrize("checksum", [None, "crc64nvme", "sha256"])
@pytest.mark.parametrize("key", ["train/3.npz", "dev/a.npz"])
def test_an_edit_of_the_same_size_is_copied(checksum, key, filled, target):
    """Other bytes of the same length at the source are fetched, and only they."""
    filled.configure(checksum=checksum)
    filled.sync(target)
    filled.put(key, SIZES[key])
    report = filled.sync(target)
    assert (0, 1, SIZES[key]) == (report.exit_code, report.files_copied, report.bytes_copied)
    assert filled.contents() == tree(target)
    assert is_whole(target)


@pytest.mark.parametrize("size", [0, 500, 300_000])
def test_an_edit_of_another_size_is_copied(size, synced, target):
    """An object that shrank or grew is fetched whole."""
    synced.put("dev/a.npz", size)
    report = synced.sync(target)
    assert (1, size) == (report.files_copied, report.bytes_copied)
    assert synced.contents() == tree(target)
    assert is_whole(target)


def test_a_new_object_is_copied(synced, target):
    """A new object comes, the others stay."""
    synced.put("train/new.npz", 5000)
    assert 5000 == synced.sync(target).bytes_copied
    assert synced.contents() == tree(target)


@pytest.mark.parametrize("checksum", ["crc64nvme", "crc32c", "sha256", "composite:crc32:100000"])
def test_a_new_etag_of_the_same_bytes_is_adopted(checksum, filled, target):
    """Objects uploaded anew in other parts have other ETags; checksums tell that nothing needs to be copied."""
    filled.configure(checksum=checksum)
    filled.sync(target)
    filled.configure(etag="multipart:70000" if "composite" not in checksum else "opaque")
    report = filled.sync(target)
    assert (0, 0, len(SIZES)) == (report.exit_code, report.bytes_copied, report.files_adopted)
    assert {"source-crc": len(SIZES)} == report.verification
    assert is_whole(target)
    assert len(SIZES) == filled.sync(target).files_unchanged


def test_a_new_etag_alone_proves_parts_too(filled, target):
    """Without checksums a multipart ETag proves the bytes that lie there."""
    filled.configure(checksum=None)
    filled.sync(target)
    filled.configure(etag="multipart:70000")
    report = filled.sync(target)
    assert (0, {"etag-parts": len(SIZES)}) == (report.bytes_copied, report.verification)


def test_a_new_etag_that_proves_nothing_is_copied(filled, target):
    """Without any proof that the bytes are the same they are fetched anew, never taken for the same by size."""
    filled.configure(checksum=None)
    filled.sync(target)
    filled.configure(etag="opaque")
    report = filled.sync(target)
    assert (TOTAL, {"own-crc": len(SIZES)}) == (report.bytes_copied, report.verification)


# filters


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["dev/*"], [], {"dev/a.npz", "dev/b.npz"}),
        ([], ["train/*"], {"dev/a.npz", "dev/b.npz"}),
        (["*/a.npz", "train/0*"], [], {"dev/a.npz", "train/0.npz"}),
        (["dev/*"], ["*/b.npz"], {"dev/a.npz"}),
    ],
)
def test_filters(include, exclude, expected, filled, target, command):
    """--include and --exclude choose by glob, exclude wins, and the seal says that the cache is a part."""
    options = [word for glob in include for word in ("--include", glob)]
    options += [word for glob in exclude for word in ("--exclude", glob)]
    ran = command(filled.url, target, "--endpoint-url", filled.server.url, "--json", "--quiet", *options)
    assert (0, len(expected)) == (ran.code, ran.json["files"]["total"])
    assert expected == tree(target).keys()
    filters = {name: globs for name, globs in (("include", include), ("exclude", exclude)) if globs}
    assert (filters, False) == (seal(target)["filters"], seal(target)["complete"])


def test_a_filter_taken_away_completes_the_cache(filled, target):
    """After a filtered run an unfiltered one brings the rest, and the seal says complete."""
    filled.sync(target, filters=Filters(include=("dev/*",)))
    report = filled.sync(target)
    assert (TOTAL - 220_000, 2) == (report.bytes_copied, report.files_unchanged)
    assert (True, {}) == (seal(target)["complete"], seal(target)["filters"])


def test_a_filter_never_deletes_what_it_leaves_out(synced, target):
    """Files outside a filter are neither compared nor deleted, and stay sealed as long as the source lists them so."""
    report = synced.sync(target, filters=Filters(include=("dev/*",)), delete=True, max_delete=MaxDelete.parse("100%"))
    assert (0, 0, 0) == (report.exit_code, report.files_deleted, report.bytes_copied)
    assert synced.contents() == tree(target)
    assert (len(SIZES), True) == (seal(target)["files"], seal(target)["complete"])
    report = synced.sync(target)
    assert (0, 0, len(SIZES)) == (report.exit_code, report.bytes_copied, report.files_unchanged)


# deleting


def test_nothing_is_deleted_unasked(synced, target):
    """What the source lost stays in the target, is counted, and is not sealed."""
    synced.drop("train/0.npz")
    report = synced.sync(target)
    assert (0, 0, 1, True) == (
        report.exit_code,
        report.files_deleted,
        report.as_dict()["files"]["leftover"],
        report.sealed,
    )
    assert (target / "train/0.npz").exists()
    assert len(SIZES) - 1 == seal(target)["files"]


def test_delete(synced, target):
    """With --delete what the source lost goes."""
    synced.drop("train/0.npz")
    report = synced.sync(target, delete=True)
    assert (0, 1, 0) == (report.exit_code, report.files_deleted, report.leftovers)
    assert synced.contents() == tree(target)
    assert is_whole(target)
    assert not (target / META / "trash").exists()


def test_leftovers_survive_a_seal(synced, target):
    """A leftover of one run is deleted by a later run that is asked to."""
    synced.drop("train/0.npz")
    synced.sync(target)
    synced.put("train/new.npz", 10)
    synced.sync(target)
    report = synced.sync(target, delete=True)
    assert (0, 1) == (report.exit_code, report.files_deleted)
    assert synced.contents() == tree(target)


def test_a_leftover_that_the_source_has_again_is_ours(synced, target):
    """A leftover that comes back at the source with its bytes is kept, without a fetch."""
    data = synced.contents()["train/0.npz"]
    synced.drop("train/0.npz")
    synced.sync(target)
    synced.put("train/0.npz", data)
    report = synced.sync(target)
    assert (0, 0, 10) == (report.exit_code, report.bytes_copied, report.files_total)
    assert is_whole(target)


LIMITS = "- 1 0, - 2 5, 10% 2 5, 20% 2 0, 19.9% 2 5, 1 2 5, 2 2 0, 0 1 5, 0% 1 5"  # --max-delete, files lost, exit code


@pytest.mark.parametrize("case", LIMITS.split(", "))
def test_the_delete_limit(case, synced, target, command):
    """More deletions than --max-delete allows, 10% if it is not given, are exit 5 before anything changes."""
    limit, lost, code = case.split()
    for number in range(int(lost)):
        synced.drop(f"train/{number}.npz")
    synced.put("train/new.npz", 10)
    before = untouched(target)
    options = ["--max-delete", limit] if limit != "-" else []
    ran = command(synced.url, target, "--endpoint-url", synced.server.url, "--delete", *options)
    assert int(code) == ran.code
    if ran.code:
        assert before == untouched(target)
        assert "--max-delete" in ran.err.partition("hint:")[2]
    else:
        assert synced.contents() == tree(target)


def test_nothing_is_deleted_while_an_object_fails(synced, target):
    """A run in which an object failed deletes nothing."""
    synced.drop("train/0.npz")
    synced.put("train/new.npz", 10)
    synced.faults({"do": "status", "arg": 500, "key": "train/new.npz", "times": -1})
    result = synced.attempt(target, delete=True, retries=0)
    assert (3, 0) == (result.code, result.json["files"]["deleted"])
    assert (target / "train/0.npz").exists()


def test_an_empty_source_deletes_nothing(synced, target):
    """A source that suddenly lists nothing is refused, and even --allow-empty meets the limit."""
    for key in SIZES:
        synced.drop(key)
    before = untouched(target)
    assert 5 == synced.attempt(target, delete=True, max_delete=MaxDelete.parse("100%")).code
    assert 5 == synced.attempt(target, delete=True, allow_empty=True).code
    assert before == untouched(target)
    report = synced.sync(target, delete=True, allow_empty=True, max_delete=MaxDelete.parse("100%"))
    assert (0, {}) == (report.exit_code, tree(target))


# files that are not ours


def test_a_foreign_directory_is_refused(filled, target, command):
    """A directory with files that no sync wrote is exit 5, and nothing is made in it."""
    target.mkdir()
    (target / "thesis.tex").write_text("precious")
    before = state(target)
    ran = command(filled.url, target, "--endpoint-url", filled.server.url, "--delete")
    assert (5, True) == (ran.code, "--adopt" in ran.err)
    assert before == state(target)


@pytest.mark.parametrize("same", [True, False])
def test_a_directory_with_files_in_the_way_is_refused(same, filled, target):
    """Even files with the source's names are not taken without --adopt."""
    path = target / "train/0.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(filled.contents()["train/0.npz"] if same else b"precious")
    before = state(target)
    assert 5 == filled.attempt(target).code
    assert before == state(target)


def test_an_empty_directory_is_a_target(filled, target):
    """An empty directory is nobody's."""
    target.mkdir()
    (target / "train").mkdir()
    assert 0 == filled.sync(target).exit_code


def test_adopt(filled, target, command):
    """With --adopt equal files are kept without a fetch, differing ones replaced, strangers left alone."""
    shutil.copytree(filled.path, target)
    (target / "thesis.tex").write_text("precious")
    (target / "dev/b.npz").write_bytes(bytes(SIZES["dev/b.npz"]))
    (target / "train/0.npz").write_bytes(b"short")
    ran = command(filled.url, target, "--endpoint-url", filled.server.url, "--adopt", "--json")
    assert (0, 8, 2) == (ran.code, ran.json["files"]["adopted"], ran.json["files"]["copied"])
    assert SIZES["dev/b.npz"] + SIZES["train/0.npz"] == ran.json["bytes"]["copied"]
    assert filled.contents() | {"thesis.tex": b"precious"} == tree(target)
    assert 1 == ran.json["files"]["unexpected"]


PROOFS = (("crc64nvme", "opaque"), ("sha256", "opaque"), (None, "md5"), (None, "multipart:70000"))


@pytest.mark.parametrize(("checksum", "etag"), PROOFS)
def test_adopting_everything_copies_nothing(checksum, etag, filled, target):
    """A whole copy made by another tool is sealed without a single byte fetched, where the source has checksums."""
    filled.configure(checksum=checksum, etag=etag)
    shutil.copytree(filled.path, target)
    report = filled.sync(target, adopt=True)
    assert (0, 0, len(SIZES), True) == (report.exit_code, report.bytes_copied, report.files_adopted, report.sealed)
    assert 0 == filled.server.stats()["bytes"]
    assert is_whole(target)


def test_a_stranger_in_our_target_is_never_deleted(synced, target):
    """A file that we never wrote stays, whatever may be deleted; it is counted."""
    (target / "train/notes.txt").write_text("precious")
    synced.drop("train/0.npz")
    report = synced.sync(target, delete=True, max_delete=MaxDelete.parse("100%"))
    assert (0, 1, 1) == (report.exit_code, report.files_deleted, report.as_dict()["files"]["unexpected"])
    assert synced.contents() | {"train/notes.txt": b"precious"} == tree(target)


@pytest.mark.parametrize("data", [b"precious", bytes(5000)], ids=["other size", "same size"])
def test_a_stranger_in_the_way_of_a_new_object_is_not_overwritten(data, synced, target):
    """A file that we never wrote, with the name of a new object, is exit 5 and stays until --adopt."""
    (target / "train/new.npz").write_bytes(data)
    synced.put("train/new.npz", 5000)
    assert 5 == synced.attempt(target).code
    assert data == (target / "train/new.npz").read_bytes()
    assert 0 == synced.sync(target, adopt=True).exit_code
    assert synced.contents() == tree(target)


@pytest.mark.parametrize("filled_with", ["precious", None], ids=["full", "empty"])
def test_a_directory_in_the_way_of_an_object(filled_with, synced, target):
    """A directory where a file belongs is told as our error, and its content stays."""
    (target / "train/new.npz").mkdir()
    if filled_with:
        (target / "train/new.npz/notes").write_text(filled_with)
    synced.put("train/new.npz", 5000)
    result = synced.attempt(target)
    assert (5 if filled_with else 2, True) == (result.code, bool(result.error.hint))
    assert (target / "train/new.npz").is_dir()
    assert not filled_with or filled_with == (target / "train/new.npz/notes").read_text()


def test_a_file_that_became_a_folder_at_the_source(synced, target):
    """A file in the place of a new folder is refused before anything changes; once it is gone the sync goes on."""
    synced.drop("train/0.npz")
    synced.put("train/0.npz/inner.npz", 100)
    before = untouched(target)
    assert 5 == synced.attempt(target, delete=True).code
    assert before == untouched(target)
    (target / "train/0.npz").unlink()
    assert 0 == synced.sync(target).exit_code
    assert synced.contents() == tree(target)


# damage behind our back


def damage(path: Path, *, hidden: bool = False) -> None:
    """Change a byte; hidden: and put the time of the last change back."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    later = stat.st_mtime_ns if hidden else stat.st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))


@pytest.mark.parametrize("checksum", [None, "crc64nvme"])
@pytest.mark.parametrize("key", ["train/0.npz", "dev/a.npz"])
def test_a_file_edited_in_the_target_is_fetched_again(checksum, key, filled, target):
    """An edit of the same size in the target is noticed, and undone by the next sync."""
    filled.configure(checksum=checksum)
    filled.sync(target)
    damage(target / key)
    report = filled.sync(target)
    assert (0, 1, SIZES[key]) == (report.exit_code, report.files_copied, report.bytes_copied)
    assert filled.contents() == tree(target)
    assert is_whole(target)


def test_a_file_that_was_only_touched_is_adopted(synced, target):
    """A file with another time and the same bytes is read, not fetched."""
    os.utime(target / "dev/a.npz", ns=(1, 1))
    report = synced.sync(target)
    assert (0, 0, 1) == (report.exit_code, report.bytes_copied, report.files_adopted)
    assert is_whole(target)


def test_a_file_removed_from_the_target_is_fetched_again(synced, target):
    """A file that is gone from the target comes back."""
    (target / "dev/a.npz").unlink()
    (target / "train/1.npz").write_bytes(b"short")
    report = synced.sync(target)
    assert (0, 2) == (report.exit_code, report.files_copied)
    assert synced.contents() == tree(target)


def test_reverify_finds_what_times_and_sizes_hide(synced, target):
    """A byte that changed under an old time is found by --reverify, and no later run seals it."""
    damage(target / "dev/a.npz", hidden=True)
    synced.attempt(target, reverify=True)
    for _ in range(2):
        result = synced.attempt(target)
        assert (result.code == 0) == (target / META / "seal.json").exists()
        assert result.code != 0 or synced.contents() == tree(target)


def test_reverify_damage_is_healed_by_another_run(synced, target):
    """After --reverify found damage, a run as its hint says brings the right bytes."""
    damage(target / "dev/a.npz", hidden=True)
    synced.attempt(target, reverify=True)
    assert 0 == synced.attempt(target, reverify=True).code
    assert synced.contents() == tree(target)
    assert is_whole(target)


# lost records

LOSSES = {
    "no manifest": lambda meta: (meta / "manifest.jsonl").unlink(),
    "no seal": lambda meta: (meta / "seal.json").unlink(),
    "neither": lambda meta: [(meta / name).unlink() for name in ("manifest.jsonl", "seal.json")],
    "no leftovers": lambda meta: (meta / "leftovers.jsonl").unlink(missing_ok=True),
    "empty manifest": lambda meta: (meta / "manifest.jsonl").write_bytes(b""),
    "cut manifest": lambda meta: os.truncate(meta / "manifest.jsonl", 700),
    "garbled manifest": lambda meta: (meta / "manifest.jsonl").write_bytes(b"\xff\x00not json\n[1]\n"),
    "wrong rows": lambda meta: (meta / "manifest.jsonl").write_text('{"key": 3}\n{"key": "x", "size": "many"}\nnull\n'),
    "one wrong checksum": lambda meta: edit(meta / "manifest.jsonl", '"crc64nvme":"', '"crc64nvme":"AAAA'),
    "empty seal": lambda meta: (meta / "seal.json").write_bytes(b""),
    "garbled seal": lambda meta: (meta / "seal.json").write_bytes(b"\xff{"),
    "seal that is a list": lambda meta: (meta / "seal.json").write_text("[]"),
    "seal without splits": lambda meta: (meta / "seal.json").write_text('{"format": 1}'),
    "seal of the future": lambda meta: edit(meta / "seal.json", '"format": 1', '"format": 99'),
    "seal of another manifest": lambda meta: edit(meta / "seal.json", '"manifest_sha256": "', '"manifest_sha256": "00'),
    "garbled journal": lambda meta: (meta / "journal").write_bytes(b"garbage\n" * 10),
    "binary journal": lambda meta: (meta / "journal").write_bytes(bytes(range(256)) * 4),
    "no partial": lambda meta: (meta / "partial").rmdir(),
    "stray partial": lambda meta: (meta / "partial" / "stray").write_bytes(b"x"),
    "no folder": shutil.rmtree,
}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("loss", LOSSES)
def test_lost_records_are_made_anew(loss, synced, target):
    """Lost or damaged records cost no byte where the source has checksums: the next sync proves and seals again."""
    LOSSES[loss](target / META)
    report = synced.sync(target, adopt=loss == "no folder")
    assert (0, 0, True) == (report.exit_code, report.bytes_copied, report.sealed)
    assert synced.contents() == tree(target)
    assert is_whole(target)


@pytest.mark.parametrize("how", ["cut", "garbled", "gone", "flipped"])
def test_a_damaged_journal_of_an_unfinished_run(how, filled, target):
    """A journal that was torn costs at most what it told of: the next run finishes, and whole files are not fetched."""
    filled.faults({"do": "status", "arg": 500, "key": "dev/a.npz", "times": -1, "skip": 1})
    assert 3 == filled.attempt(target, workers=1, retries=0).code
    journal = target / META / "journal"
    data = journal.read_bytes()
    middle = len(data) // 2
    match how:
        case "cut":
            journal.write_bytes(data[: middle + 3])
        case "garbled":
            journal.write_bytes(b"\0" * len(data))
        case "flipped":
            journal.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        case "gone":
            journal.unlink()
    filled.faults()
    report = filled.sync(target)
    assert (0, True) == (report.exit_code, report.sealed)
    assert report.bytes_copied <= SIZES["dev/a.npz"]
    assert filled.contents() == tree(target)
    assert is_whole(target)


@pytest.mark.parametrize("what", ["partial bytes", "partial gone", "partial short"])
def test_damaged_parts_of_an_unfinished_run(what, filled, target):
    """Parts that an earlier run claims are believed only as far as their bytes are there."""
    filled.faults({"do": "status", "arg": 500, "key": "dev/a.npz", "times": -1, "skip": 2})
    assert 3 == filled.attempt(target, workers=1, retries=0).code
    (part,) = (target / META / "partial").iterdir()
    match what:
        case "partial bytes":
            data = bytearray(part.read_bytes())
            data[100] ^= 1
            part.write_bytes(data)
        case "partial gone":
            part.unlink()
        case "partial short":
            os.truncate(part, 1000)
    filled.faults()
    filled.server.reset()
    report = filled.sync(target)
    assert (0, True) == (report.exit_code, report.sealed)
    fetched = {"partial bytes": 150_000 - 65_536}.get(what, 150_000)
    assert fetched == filled.received("dev/a.npz") == report.bytes_copied
    assert filled.contents() == tree(target)


def test_an_unfinished_run_has_no_seal(synced, target):
    """The old seal goes before the first byte changes, and a run that fails leaves none; verify says exit 7."""
    synced.put("dev/a.npz", SIZES["dev/a.npz"])
    seen = []
    synced.faults({"do": "status", "arg": 500, "key": "dev/a.npz", "times": -1})
    result = synced.attempt(target, retries=0, act=lambda: seen.append((target / META / "seal.json").exists()))
    assert (3, [False], False) == (result.code, seen, (target / META / "seal.json").exists())
    ran = run("verify", target)
    assert (7, True) == (ran.code, "hint:" in ran.err)


def test_an_unfinished_part_of_another_version_is_not_continued(filled, target):
    """Parts of an object that has changed since are not mixed with parts of the new one."""
    filled.faults({"do": "status", "arg": 500, "key": "dev/a.npz", "times": -1, "skip": 2})
    assert 3 == filled.attempt(target, workers=1, retries=0).code
    filled.faults()
    filled.put("dev/a.npz", SIZES["dev/a.npz"])
    report = filled.sync(target)
    assert (0, SIZES["dev/a.npz"], 0) == (report.exit_code, report.bytes_copied, report.files_resumed)
    assert filled.contents() == tree(target)


def test_another_part_size_goes_on_with_the_old_parts(filled, target):
    """A run with another --part-size finishes what was begun, without fetching its parts again."""
    filled.faults({"do": "status", "arg": 500, "key": "dev/a.npz", "times": -1, "skip": 2})
    assert 3 == filled.attempt(target, workers=1, retries=0).code
    filled.faults()
    report = filled.sync(target, part_size=100_000)
    assert (0, 150_000 - 2 * 65_536) == (report.exit_code, report.bytes_copied)
    assert filled.contents() == tree(target)


# ways to run


@pytest.mark.parametrize("known", [False, True], ids=["new", "synced"])
def test_a_dry_run_changes_nothing(known, filled, target, command):
    """--dry-run tells the plan, under the name that the real run has, and changes nothing at all."""
    if known:
        filled.sync(target)
        filled.drop("train/0.npz")
        filled.put("train/1.npz", SIZES["train/1.npz"])
        filled.put("train/new.npz", 10)
    before = state(target) if known else None
    call = (filled.url, target, "--endpoint-url", filled.server.url, "--json", "--quiet", "--delete")
    dry = command(*call, "--dry-run")
    assert (0, True) == (dry.code, dry.json["dry_run"])
    assert before == (state(target) if target.exists() else None)
    assert (["train/0.npz"] if known else []) == dry.json["delete"]
    assert (["train/new.npz"] if known else sorted(SIZES)) == dry.json["copy"]
    real = command(*call)
    assert (0, dry.json["plan_id"]) == (real.code, real.json["plan_id"])


def test_a_dry_run_for_people(filled, target, command):
    """Without --json the plan is text that names files and splits."""
    ran = command(filled.url, target, "--endpoint-url", filled.server.url, "--dry-run")
    assert 0 == ran.code
    assert {"train", "dev"} <= set(ran.out.replace(":", " ").split())
    assert not target.exists()


def test_a_dry_run_refuses_what_the_real_run_refuses(synced, target, command):
    """--dry-run of a plan that a rule forbids has the real run's exit code."""
    for number in range(5):
        synced.drop(f"train/{number}.npz")
    assert 5 == command(synced.url, target, "--endpoint-url", synced.server.url, "--delete", "--dry-run").code


def test_a_plan_as_a_value(filled, target):
    """`plan_copy` tells without touching what `populate_cache` would do."""
    plan = plan_copy(filled.url, target, settings=filled.settings())
    assert (TOTAL, len(SIZES), False) == (plan.bytes_to_copy, len(plan.copy), target.exists())
    assert filled.sync(target).plan_id == plan.plan_id


def test_a_bandwidth_limit(bucket, target):
    """--bwlimit keeps a run from being much faster than it says."""
    bucket.put("train/a.npz", 300_000)
    began = time.monotonic()
    assert 0 == bucket.sync(target, bwlimit=300_000).exit_code
    assert time.monotonic() - began >= 0.5
    assert bucket.contents() == tree(target)


def test_inside_a_running_event_loop(filled, target):
    """A notebook's event loop is no obstacle."""

    async def cell():
        return filled.sync(target)

    assert 0 == asyncio.run(cell()).exit_code
    assert filled.contents() == tree(target)


def test_reports_show_in_notebooks(filled, target):
    """Reports have HTML that names source and target, with markup escaped."""
    report = filled.sync(target)
    page = report._repr_html_()
    assert ("<table" in page, filled.url in page, str(target) in page) == (True, True, True)
    assert "&lt;b&gt;" in replace(report, source="<b>")._repr_html_()
    assert "<table" in verify_cache(target, progress=Progress("quiet"))._repr_html_()


@pytest.mark.parametrize("options", [{}, {"fault": True}], ids=["clean", "flip"])
def test_worker_processes(options, filled, target):
    """Two worker processes do what threads do, faults included."""
    if options:
        filled.faults({"do": "flip", "arg": 5, "key": "dev/a.npz"}, {"do": "status", "arg": 500, "key": "train/0.npz"})
    report = filled.sync(target, processes=2)
    assert (0, True, bool(options)) == (report.exit_code, report.sealed, report.retries > 0)
    assert filled.contents() == tree(target)
    assert is_whole(target)


@pytest.mark.parametrize("workers", [1, 2, 64])
def test_any_number_of_workers(workers, filled, target):
    """One worker or many, the bytes are the same."""
    assert 0 == filled.sync(target, workers=workers).exit_code
    assert filled.contents() == tree(target)


def test_fsync_is_the_default(filled, target):
    """With settings left alone the run succeeds and its files are readable."""
    report = populate_cache(
        filled.url, target, access=Access(endpoint_url=filled.server.url), progress=Progress("quiet")
    )
    assert (0, TOTAL) == (report.exit_code, report.bytes_copied)
    assert is_whole(target)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
@pytest.mark.parametrize("trusted", [True, False])
def test_tls(trusted, aws, tmp_path, target):
    """A certificate named by AWS_CA_BUNDLE is trusted by control and data plane; an unknown one is told."""
    key, certificate, root = tmp_path / "key.pem", tmp_path / "certificate.pem", tmp_path / "root"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    make += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(make.split(), check=True, capture_output=True)
    (root / "bucket/train").mkdir(parents=True)
    (root / "bucket/train/a.npz").write_bytes(os.urandom(300_000))
    (root / "bucket/train/b.npz").write_bytes(os.urandom(1000))
    with S3Server(root, tls=(str(certificate), str(key))) as server:
        env = KEYS | {"AWS_CA_BUNDLE": str(certificate) if trusted else None, "AWS_MAX_ATTEMPTS": "1"}
        options = ["--endpoint-url", server.url, "--part-size", "64KiB", "--quiet", "--json", "--workers", 4]
        ran = run("sync", "s3://bucket", target, *options, env=env)
    if trusted:
        assert (0, 301_000) == (ran.code, ran.json["bytes"]["copied"])
        assert tree(root / "bucket") == tree(target)
    else:
        assert (2, False) == (ran.code, target.exists())
        assert "certificate" in ran.err.partition("hint:")[2]
