"""verify --repair: only what is damaged is fetched, published whole, and the same manifest is sealed again."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cache.conftest import PART, Bucket
from tests.cache.test_verify_against import KINDS, flip, lists
from tests.support.running import META, run, start, state, tree
from tests.support.s3server import S3Server
from tusz_cache import Access, Durability, VerifyReport, verify_cache
from tusz_cache.errors import Damaged, Incomplete, SourceChanged, SourceError
from tusz_cache.progress import Progress

BIG = 5 * PART + 7
SIZES = {"dev/a.npz": 1000, "dev/empty.npz": 0, "train/big.npz": BIG, "train/c.npz": 2 * PART}


@pytest.fixture(params=KINDS)
def synced(request: pytest.FixtureRequest, bucket: Bucket, target: Path) -> Bucket:
    bucket.configure(**KINDS[request.param])
    for key, size in SIZES.items():
        bucket.put(key, size)
    bucket.sync(target)
    bucket.server.reset()
    return bucket


Repair = Callable[..., VerifyReport]


@pytest.fixture
def repair(bucket: Bucket, target: Path) -> Repair:
    """Return a function that repairs the target from where it came."""

    def go(**options: Any) -> VerifyReport:
        access = Access(endpoint_url=bucket.server.url)
        usual = {"repair": True, "access": access, "durability": Durability("none"), "progress": Progress("quiet")}
        return verify_cache(target, **usual | options)

    return go


def records(target: Path) -> tuple[bytes, bool]:
    """The manifest, and whether there is a seal."""
    return (target / META / "manifest.jsonl").read_bytes(), (target / META / "seal.json").exists()


def check_repaired(bucket: Bucket, target: Path, manifest: bytes) -> None:
    """The bytes are the source's, the manifest is the same, nothing is left behind, and sync has nothing to do."""
    assert bucket.contents() == tree(target)
    assert (manifest, True) == records(target)
    assert verify_cache(target, level="full", strict=True, progress=Progress("quiet")).ok
    kept = {"lock", "manifest.jsonl", "seal.json", "leftovers.jsonl", "partial"}
    assert kept == {path.name for path in (target / META).rglob("*")}
    report = bucket.sync(target)
    assert (0, 0, len(SIZES)) == (report.exit_code, report.bytes_copied, report.files_unchanged)


def test_a_flipped_byte_costs_one_part(synced, target, repair):
    """Of a file with one damaged part only that part is fetched; the server's own count says so."""
    manifest, _ = records(target)
    flip(target / "train/big.npz", at=2 * PART + 9)
    report = repair()
    assert (("train/big.npz",), PART, 0, {}) == (
        report.repaired,
        report.bytes_fetched,
        report.exit_code,
        lists(report),
    )
    assert PART == synced.received("train/big.npz")
    assert [2 * PART] == [at for at, _ in synced.server.stats()["ranges"][f"{synced.name}/train/big.npz"]]
    check_repaired(synced, target, manifest)


def damage(target: Path) -> None:
    """Cut one file, lose one, make two longer, of which one was empty."""
    big = target / "train/big.npz"
    big.write_bytes(big.read_bytes()[: 3 * PART + 1])
    (target / "dev/a.npz").unlink()
    (target / "train/c.npz").write_bytes((target / "train/c.npz").read_bytes() + b"more")
    (target / "dev/empty.npz").write_bytes(b"x")


def test_cut_missing_and_grown_files_are_repaired(synced, target, repair):
    """Parts that are there are kept, whatever happened to the file's end; what is missing comes whole."""
    manifest, _ = records(target)
    damage(target)
    report = repair()
    assert (tuple(sorted(SIZES)), 0) == (tuple(sorted(report.repaired)), report.exit_code)
    assert (BIG - 3 * PART, 1000, 0) == tuple(map(synced.received, ("train/big.npz", "dev/a.npz", "train/c.npz")))
    check_repaired(synced, target, manifest)


def test_a_whole_cache_is_left_alone(synced, target, repair):
    """Where nothing is damaged nothing is fetched, asked or written; strange files stay."""
    (target / "note.txt").write_text("mine")
    before = state(target)
    report = repair()
    assert ((), 0, "full", ("note.txt",), 0) == (
        report.repaired,
        report.bytes_fetched,
        report.level,
        report.unexpected,
        synced.server.stats()["bytes"],
    )
    assert before == state(target)


@pytest.mark.parametrize("at_once", [True, False], ids=["listed", "amid"])
def test_a_changed_source_is_no_source_of_repairs(at_once, synced, target, repair):
    """Exit 4 with the way to sync; a change that the listing shows leaves the cache as it is, seal and all."""
    flip(target / "train/big.npz")
    before = state(target)
    if at_once:
        synced.put("train/big.npz", BIG)
    else:
        synced.faults({"do": "change", "method": "GET", "key": "train/big.npz"})
    with pytest.raises(SourceChanged, match="train/big") as caught:
        repair()
    assert f"tusz_cache.sync {synced.url} {target}" in caught.value.hint
    assert not at_once or before == state(target)
    assert at_once == records(target)[1]
    synced.faults()
    assert 0 == synced.sync(target).exit_code
    assert synced.contents() == tree(target)


def test_a_source_that_sends_other_bytes_repairs_nothing(synced, target, repair):
    """Bytes that are not those that were sealed are never published; what lay there stays, without a seal."""
    manifest, _ = records(target)
    flip(target / "train/big.npz")
    before = tree(target)
    synced.faults({"do": "flip", "arg": 5, "key": "train/big.npz", "times": -1})
    with pytest.raises(Incomplete):
        repair()
    assert (before, False) == (tree(target), records(target)[1])
    synced.faults()
    assert ("train/big.npz",) == repair().repaired
    check_repaired(synced, target, manifest)


def test_a_source_that_is_gone_is_told(synced, target, repair):
    """The seal's source cannot be listed: exit 2, the hint names --against, and the seal stays."""
    flip(target / "train/big.npz")
    before = state(target)
    synced.path.rename(synced.path.with_name(f"{synced.name}-gone"))
    with pytest.raises(SourceError, match="seal names") as caught:
        repair()
    assert "--against" in caught.value.hint
    assert before == state(target)


def test_another_source_may_be_named(synced, target, repair, tmp_path):
    """--against names where to fetch from, and its differences are told, too."""
    flip(target / "train/big.npz")
    synced.put("dev/new.npz", 3)
    report = repair(against=synced.url)
    assert ({"missing": ("dev/new.npz",), "added": ("dev/new.npz",)}, ("train/big.npz",), 7) == (
        lists(report),
        report.repaired,
        report.exit_code,
    )


def test_without_a_seal_there_is_nothing_to_repair_by(synced, target, repair):
    """No seal is exit 7, with the way to get one."""
    (target / META / "seal.json").unlink()
    with pytest.raises(Damaged) as caught:
        repair()
    assert "tusz_cache.sync" in caught.value.hint


def test_a_link_that_leads_nowhere_is_replaced(synced, target, repair):
    """What a file's name leads to does not matter: the name gets a file of its own."""
    (target / "dev/a.npz").unlink()
    (target / "dev/a.npz").symlink_to(target / "nowhere")
    assert ("dev/a.npz",) == repair().repaired
    assert not (target / "dev/a.npz").is_symlink()
    assert synced.contents() == tree(target)


def test_a_volume_commits_before_the_seal_counts(synced, target, repair):
    """With policy "commit" the caller's function is called for what came, and again for the seal."""
    manifest, _ = records(target)
    flip(target / "train/big.npz")
    sealed_at = []
    repair(durability=Durability("commit", commit=lambda: sealed_at.append(records(target)[1])))
    assert [False, True] == sealed_at
    check_repaired(synced, target, manifest)


def test_a_quick_repair_reads_every_byte(synced, target, repair):
    """--repair with level quick is a full one: it seals, so it must have looked."""
    flip(target / "train/big.npz")
    assert (("train/big.npz",), "full") == ((report := repair(level="quick")).repaired, report.level)


# the command


def big_source(root: Path) -> dict[str, bytes]:
    for number in range(4):
        path = root / "bucket" / "train" / f"p{number}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(2_000_000))
    return tree(root / "bucket")


@pytest.mark.parametrize("then", ["repair", "sync"])
def test_a_killed_repair_leaves_no_seal_and_a_later_run_completes(then, tmp_path, target):
    """SIGKILL amid a repair: no seal, no wrong file under a final name; repair or sync goes on with what came."""
    wanted = big_source(tmp_path / "source")
    with S3Server(tmp_path / "source", checksum="crc64nvme") as server:
        access = ["--endpoint-url", server.url]
        assert 0 == run("sync", "s3://bucket", target, *access, "--part-size", "64KiB", "--quiet").code
        for key in ("train/p1.npz", "train/p2.npz", "train/p3.npz"):
            data = bytearray((target / key).read_bytes())
            data[500_000:1_500_000] = bytes(1_000_000)  # sixteen parts or so
            times = (target / key).stat().st_mtime_ns
            (target / key).write_bytes(data)
            os.utime(target / key, ns=(times, times))
        damaged = tree(target)
        server.reset()
        server.configure(bytes_per_second=400_000)
        process = start("verify", target, "--repair", *access)
        while server.stats()["bytes"] < 500_000:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.kill()
        process.communicate()
        server.configure(bytes_per_second=None)
        here = tree(target)
        assert not (target / META / "seal.json").exists()
        assert all(here[key] in {damaged[key], wanted[key]} for key in wanted)
        plain = run("verify", target, "--quiet")
        assert (7, True) == (plain.code, "--repair" in plain.err)
        if then == "repair":
            ran = run("verify", target, "--repair", *access, "--json")
            assert (0, True) == (ran.code, bool(ran.json["repaired"])), ran.err
        else:
            assert 0 == run("sync", "s3://bucket", target, *access, "--quiet").code
        assert wanted == tree(target)
        assert 0 == run("verify", target, "--level", "full", "--strict", "--quiet").code
        parts = server.stats()["bytes"]
        idle = run("sync", "s3://bucket", target, *access, "--json")
    assert parts < 3 * 2_000_000, "whole files were fetched where parts would do"
    assert (0, 0) == (idle.code, idle.json["bytes"]["copied"])
    assert not (target / META / "repair.json").exists()


def test_an_adopted_cache_is_repaired_from_a_directory(tmp_path, target):
    """Adoption remembers parts, too: a cache of large files that lay there is repaired by parts, over any lane."""
    source = tmp_path / "source"
    size = 16 * 1024**2 + 5
    (source / "train").mkdir(parents=True)
    (source / "train/a.npz").write_bytes(os.urandom(size))
    (target / "train").mkdir(parents=True)
    (target / "train/a.npz").write_bytes((source / "train/a.npz").read_bytes())
    adopted = run("verify", target, "--level", "full", "--against", source, "--durability", "none", "--json")
    assert (0, True) == (adopted.code, adopted.json["adopted"]), adopted.err
    flip(target / "train/a.npz", at=size - 1)
    ran = run("verify", target, "--repair", "--durability", "none", "--json")
    assert (0, 5) == (ran.code, ran.json["bytes_fetched"]), ran.err
    assert tree(source) == tree(target)


def test_a_repair_is_told_to_a_person(synced, target, repair):
    """The text names what was repaired, the verdict of a damaged cache names --repair."""
    (target / "dev/a.npz").unlink()
    verdict = verify_cache(target, progress=Progress("quiet"))
    assert (7, True) == (verdict.exit_code, f"verify {target} --repair" in verdict.as_text())
    assert "dev/a.npz" in repair().as_text()


def test_a_link_is_no_file_of_the_cache(synced, target, repair, tmp_path):
    """A file that became a link to equal bytes elsewhere is damage, which repair fetches: the guard admits no links."""
    manifest, _ = records(target)
    path = target / "train" / "c.npz"
    path.rename(tmp_path / "elsewhere.npz")
    path.symlink_to(tmp_path / "elsewhere.npz")

    for level in ("quick", "full"):
        assert ("train/c.npz",) == verify_cache(target, level=level, progress=Progress("quiet")).damaged
    assert ("train/c.npz",) == repair().repaired
    assert not path.is_symlink()
    check_repaired(synced, target, manifest)
