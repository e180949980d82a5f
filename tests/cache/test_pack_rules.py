"""What packing does around the windows: reports, refusals, resuming, sealing, and the users' two JSON files."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support import mounting
from tests.support.caches import seal_cache
from tests.support.killpack import contents, make_source, start_pack
from tests.support.recordings import (
    Arrays,
    as_numpy_has_it,
    name_of,
    recording,
    same_bits,
    small_cache,
    write_split,
)
from tests.support.running import META, run, state, tree, weighed
from tusz_cache import CacheGuard, Durability, open_store, pack_cache, read_window_manifest
from tusz_cache.copying import journal
from tusz_cache.errors import BadRecording, Damaged, ForeignTarget, TargetError, UsageError
from tusz_cache.packing import splitting
from tusz_cache.progress import Progress
from tusz_cache.synth import SIZES, write_cache
from tusz_cache.tusz_windows import Category, from_bytes

SHARD = 3_000_000  # bytes: two of the small recordings


@pytest.fixture
def cache(room: Path) -> Path:
    return small_cache(room / "cache")


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make shards small, so that a small cache has several."""
    monkeypatch.setattr(splitting, "SHARD_BYTES", SHARD)


def is_whole(cache: Path, store: Path) -> bool:
    """Whether the store is sealed, whole, and has the cache's windows."""
    assert run("verify", store, "--level", "full", "--strict", "--quiet").code == 0
    for split in ("train", "dev"):
        for window, (x_CT, y_T) in zip(as_numpy_has_it(cache, split), open_store(store, split), strict=True):
            assert same_bits(window.window, x_CT)
            assert same_bits(window.labels, y_T)
    return CacheGuard().check(store).admitted


# what it says


def test_the_report_is_one_object(cache: Path, room: Path):
    """`pack --json` prints what the contract says of each split, with the sizes of the files."""
    ran = run("pack", cache, room / "store", "--json")

    assert 0 == ran.code, ran.err
    assert {"store", "splits", "seconds", "verified"} <= ran.json.keys()
    assert (str(room / "store"), True, 6) == (ran.json["store"], ran.json["verified"], ran.json["packed"])
    assert {"train", "dev"} == ran.json["splits"].keys()
    train = ran.json["splits"]["train"]
    sizes = [path.stat().st_size for path in (cache / "train").glob("*.npz")]
    assert (5, 10, sum(sizes), 0) == tuple(
        train[key] for key in ("recordings", "windows", "bytes_in", "plain_recordings")
    )
    assert sum(map(len, tree(room / "store" / "train").values())) == train["bytes_out"]


def test_the_table_says_what_is_odd(room: Path):
    """A person is told of recordings that could not be folded, and of files that were made anew."""
    apart = recording(2)
    apart["windows"][1] *= np.float32(1.5)
    write_split(room / "cache", "train", {name_of(0): apart})
    seal_cache(room / "cache")
    ran = run("pack", room / "cache", room / "store")

    assert "1 recordings do not overlap bit for bit" in ran.out
    assert "train/manifest.json was made anew" in ran.out
    assert "bit for bit" in ran.out


# what it refuses


def test_a_cache_without_a_seal_is_refused(cache: Path, room: Path):
    """The guard's refusal is exit 5 with its reason and hint, and nothing is written."""
    (cache / META / "seal.json").unlink()
    ran = run("pack", cache, room / "store", "--json")

    assert (5, "CacheRefused") == (ran.code, ran.json["kind"])
    assert "seal" in ran.json["error"] + ran.json["hint"]
    assert not (room / "store").exists()


def test_a_cache_that_was_admitted_without_its_seal_is_refused(cache: Path, room: Path):
    """Where the guard was told to ignore the seal there is nothing to bind a store to."""
    with CacheGuard(seal="ignore").admit(cache) as admitted, pytest.raises(UsageError, match="without its seal"):
        pack_cache(admitted, room / "store")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--splits", "eval"], "eval"),
        (["--splits", "train,val"], "val"),
        (["--workers", "0"], "workers"),
        (["--dtype", "float16"], "float16"),
    ],
)
def test_wrong_options_are_exit_2(cache: Path, room: Path, options: list[str], said: str):
    """A split that is not there, no workers, an unknown type: exit 2 that names it, and nothing is written."""
    ran = run("pack", cache, room / "store", *options)

    assert 2 == ran.code
    assert said in ran.err
    assert not (room / "store").exists()


@pytest.mark.parametrize("store", ["cache", "cache/store", "cache/train", "."])
def test_a_store_does_not_lie_in_its_cache_nor_around_it(cache: Path, room: Path, store: str):
    """A store inside of the cache, or the cache inside of it, is exit 5, and the cache stays as it was."""
    before = state(cache)
    ran = run("pack", cache, room / store)

    assert 5 == ran.code
    assert "hint:" in ran.err
    assert before == state(cache)


@pytest.mark.parametrize("holding", ["thesis.tex", "train/a.npz", f"{META}/seal.json", f"{META}/partial/0123"])
def test_a_directory_that_holds_something_else_is_left_alone(cache: Path, room: Path, holding: str):
    """A directory with a user's files, or with another cache, is exit 5 and untouched."""
    path = room / "store" / holding
    path.parent.mkdir(parents=True)
    path.write_text("all of it")
    before = state(room / "store")
    ran = run("pack", cache, room / "store")

    assert 5 == ran.code
    assert before == state(room / "store")


def test_a_patient_of_two_splits_is_refused(room: Path):
    """A store must not hold a patient in train and dev."""
    for split in ("train", "dev"):
        write_split(room / "cache", split, {name_of(0): recording(1)})
    seal_cache(room / "cache")
    ran = run("pack", room / "cache", room / "store", "--json")

    assert (5, "PatientOverlap") == (ran.code, ran.json["kind"])


def lacking_a_shard(store: Path) -> None:
    next(store.glob("train/*.npy")).unlink()


def linked_out(store: Path) -> None:
    shard = next(store.glob("train/*.npy"))
    shard.rename(store.parent / "elsewhere.npy")
    shard.symlink_to(store.parent / "elsewhere.npy")


def unsealed(store: Path) -> None:
    (store / META / "seal.json").unlink()


def with_another_manifest(store: Path) -> None:
    (store / META / "manifest.jsonl").write_bytes(b"")


@pytest.mark.parametrize("fault", [lacking_a_shard, linked_out, unsealed, with_another_manifest])
def test_a_store_that_is_refused_is_packed_again(cache: Path, room: Path, fault: Callable[[Path], None]):
    """The guard's hint leads somewhere: to pack, since sync and repair are refused for a store. That makes it whole."""
    store = room / "store"
    pack_cache(cache, store)
    fault(store)

    verdict = CacheGuard().check(store)
    assert (False, True) == (verdict.admitted, f"tusz_cache.pack CACHE {store} " in verdict.hint)
    assert [] == [verb for verb in ("verify", "sync") if f"tusz_cache.{verb}" in verdict.hint]

    pack_cache(cache, store)
    assert is_whole(cache, store)


def test_a_store_has_no_npz_files_to_expect(cache: Path, room: Path):
    """Counts that are expected of a store are refused with a hint that says whose they are."""
    pack_cache(cache, room / "store")

    assert "of the cache, not of its store" in CacheGuard(expect={"train": 4}).check(room / "store").hint


def test_two_packs_do_not_write_to_one_store(cache: Path, room: Path):
    """While a store is locked, another pack is exit 5."""
    from tusz_cache import ssd
    from tusz_cache.lock import locked

    place = ssd.Target(room / "store")
    ssd.prepare(place)
    with locked(place):
        assert 5 == run("pack", cache, room / "store").code


def test_a_broken_recording_is_named_and_nothing_is_lost(cache: Path, room: Path, shards: None):
    """A flipped byte in the last recording is exit 7 that names it; after the repair the run goes on from there."""
    last = splitting.in_store_order(path.name for path in (cache / "train").glob("*.npz"))[-1]
    path = cache / "train" / last
    good, stat = path.read_bytes(), path.stat()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    path.write_bytes(bad)
    with pytest.raises(BadRecording, match=last) as raised:
        pack_cache(cache, room / "store")
    assert "verify" in raised.value.hint
    assert 7 == run("pack", cache, room / "other").code
    path.write_bytes(good)
    os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    report = pack_cache(cache, room / "store")

    assert 2 == report.packed  # this one, and the one in dev
    assert is_whole(cache, room / "store")


def test_a_recording_that_is_cut_off_is_named_before_anything_is_written(cache: Path, room: Path):
    """What the headers show is found by the survey: exit 7, and there is no store."""
    path = cache / "train" / name_of(0)
    path.write_bytes(path.read_bytes()[:-5000])
    seal_cache(cache)
    ran = run("pack", cache, room / "store", "--json")

    assert (7, "BadRecording") == (ran.code, ran.json["kind"])
    assert name_of(0) in ran.json["error"]
    assert not (room / "store").exists()


def test_a_disk_that_is_too_small_is_found_at_once(cache: Path, room: Path):
    """Where the store cannot fit, it is exit 6 with what it takes and what is free, and nothing is written."""
    with mounting.private_mounts():
        disk = mounting.mount("tmpfs", "tmpfs", room / "disk", "size=4m")
        ran = mounting.python("-m", "tusz_cache.pack", cache, disk / "store", "--json")

        assert (6, "NoSpace") == (ran.code, ran.json["kind"])
        assert "--dtype int16" in ran.json["hint"]
        assert [] == list(disk.iterdir())


def test_a_disk_that_fills_up_keeps_what_was_packed(cache: Path, room: Path, monkeypatch: pytest.MonkeyPatch):
    """No space in the middle is exit 6; with room again the run goes on where it stopped."""
    from tusz_cache.packing import writer

    monkeypatch.setattr(writer, "check_space", lambda *_: None)
    with mounting.private_mounts():
        disk = mounting.mount("tmpfs", "tmpfs", room / "disk", "size=4m")
        with pytest.raises(Exception, match="no space left") as raised:
            pack_cache(cache, disk / "store")
        assert 6 == raised.value.exit_code
        mounting.mount("tmpfs", "tmpfs", disk, "remount,size=40m")
        report = pack_cache(cache, disk / "store")

        assert 0 < report.packed < 6
        assert is_whole(cache, disk / "store")


# going on


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_gently_and_the_next_run_goes_on(room: Path, signum: int, code: int):
    """After SIGINT or SIGTERM there is no seal, what was packed is kept, and the same command finishes."""
    cache = make_source(room / "cache")
    process = start_pack(cache, room / "store", "--workers", 1)
    while process.poll() is None and not any((room / "store").rglob("train.shard-*.npy")):
        time.sleep(0.005)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)

    assert code == process.returncode, err
    assert "hint:" in err
    assert not CacheGuard().check(room / "store").admitted
    out, _ = start_pack(cache, room / "store").communicate(timeout=60)
    assert 0 < json.loads(out)["packed"] < 61
    assert is_whole(cache, room / "store")


def test_packing_again_touches_nothing(cache: Path, room: Path):
    """A second run finds all there: nothing is packed, and no file's time changes."""
    first = pack_cache(cache, room / "store")
    before = state(room / "store")
    again = pack_cache(cache, room / "store", splits=("dev", "train"))

    assert (6, 0) == (first.packed, again.packed)
    assert first.splits == again.splits
    assert before == state(room / "store")


def test_a_copied_store_is_not_packed_again(cache: Path, room: Path):
    """Files that only have another time are read, found whole, and given their time back."""
    pack_cache(cache, room / "store")
    shutil.copytree(room / "store", room / "copy", copy_function=shutil.copyfile)
    report = pack_cache(cache, room / "copy")

    assert 0 == report.packed
    assert contents(room / "store") == contents(room / "copy")
    assert is_whole(cache, room / "copy")


@pytest.mark.parametrize("how", ["size", "bytes", "gone"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_damaged_shard_is_packed_again_alone(cache: Path, room: Path, shards: None, number: int, how: str):
    """A shard that was cut, changed or lost is made anew of its recordings; the others' files are not touched."""
    pack_cache(cache, room / "store")
    before, whole = state(room / "store" / "train"), contents(room / "store")
    index = open_store(room / "store", "train").index
    shard = room / "store" / "train" / index.shards[number].file
    if how == "size":
        os.truncate(shard, 10_000)
    elif how == "bytes":
        with shard.open("r+b") as file:
            file.seek(50_000)
            file.write(b"wrong")
    else:
        shard.unlink()
    report = pack_cache(cache, room / "store")

    assert sum(row.shard == number for row in index.recordings) == report.packed
    after = state(room / "store" / "train")
    redone = {shard.name, index.shards[number].labels, "index.json", "manifest.json", "_dataset_index.json"}
    assert {path for path in before if before[path] != after[path]} <= {str(shard.parent / name) for name in redone}
    assert whole == contents(room / "store")
    assert is_whole(cache, room / "store")


def test_an_index_that_was_edited_is_not_believed(cache: Path, room: Path):
    """An index that claims other labels or places than were packed does not survive the next run."""
    pack_cache(cache, room / "store")
    whole = contents(room / "store")
    path = room / "store" / "train" / "index.json"
    path.write_text(path.read_text().replace('"labels": "uint8"', '"labels": null   '))
    pack_cache(cache, room / "store")

    assert whole == contents(room / "store")


def test_a_cache_that_changed_is_packed_anew(cache: Path, room: Path):
    """When the cache has another manifest, the store is made of it, and nothing of the old one stays."""
    pack_cache(cache, room / "store")
    write_split(cache, "train", {name_of(0): recording(1, seed=77)})
    (cache / "train" / name_of(1)).unlink()
    seal_cache(cache)
    report = pack_cache(cache, room / "store")

    assert (4, 7) == (report.splits["train"].recordings, report.splits["train"].windows)
    assert is_whole(cache, room / "store")


def test_splits_come_and_go(cache: Path, room: Path):
    """A store gets the splits that are asked for; those that are there stay as they are."""
    pack_cache(cache, room / "store", splits=("train",))
    before = state(room / "store" / "train")
    assert ["train"] == sorted(path.name for path in (room / "store").iterdir() if path.name != META)
    report = pack_cache(cache, room / "store")

    assert 1 == report.packed
    assert [] == [
        path for path, was in before.items() if path.endswith(".npy") and state(Path(path).parent)[path] != was
    ]
    assert is_whole(cache, room / "store")
    pack_cache(cache, room / "store", splits=("dev",))
    assert {"dev"} == {key.partition("/")[0] for key in tree(room / "store")}


def test_another_type_is_another_store(cache: Path, room: Path):
    """The same directory with another type is packed anew, and ends as a fresh one does."""
    pack_cache(cache, room / "store")
    pack_cache(cache, room / "store", dtype="int16")
    pack_cache(cache, room / "fresh", dtype="int16")

    assert contents(room / "fresh") == contents(room / "store")


def test_the_number_of_workers_changes_no_byte(cache: Path, room: Path, shards: None):
    """One worker or five: files and manifest are the same."""
    for workers in (1, 5):
        pack_cache(cache, room / str(workers), workers=workers)

    assert contents(room / "1") == contents(room / "5")


def test_a_run_that_was_killed_before_its_first_note_is_no_foreign_directory(cache: Path, room: Path):
    """Our own empty directory, which a run leaves that is killed at once, may be packed into."""
    (room / "store" / META / "partial").mkdir(parents=True)
    (room / "store" / META / "pack.json.0123.draft").touch()

    assert 6 == pack_cache(cache, room / "store").packed


def test_a_volume_s_commit_comes_before_what_is_said_to_be_there(cache: Path, room: Path, shards: None):
    """With a commit of the caller's, no record names a file as lying there that no commit has covered."""
    covered: set[str] = set()
    store = room / "store"

    def claimed() -> set[str]:
        with (store / META / "journal").open("rb") as file:
            return set(journal.replay(file).done.keys)

    def commit() -> None:
        assert claimed() <= covered
        covered.update(tree(store))

    pack_cache(cache, store, durability=Durability("commit", commit=commit, every_bytes=3_000_000))

    assert set(tree(store)) <= covered
    assert is_whole(cache, store)


# the seal


def test_a_store_is_sealed_like_a_cache(cache: Path, room: Path):
    """`verify` and `guard` take a store as they take a cache, and what is admitted opens."""
    run("pack", cache, room / "store", "--quiet")

    assert 0 == run("verify", room / "store", "--level", "full", "--strict").code
    assert 0 == run("guard", room / "store", "--probe").code
    with CacheGuard().admit(room / "store") as admitted:
        store = open_store(admitted, "train")
        assert same_bits(as_numpy_has_it(cache, "train")[3].window, store[3][0])
        assert "mmap" == store.backend
        with pytest.raises(UsageError, match="eval"):
            open_store(admitted, "eval")


def test_a_damaged_store_is_not_admitted(cache: Path, room: Path):
    """A shard of another size is seen by the guard, other bytes by `verify --level full`."""
    pack_cache(cache, room / "store")
    shard = room / "store" / "train" / "shard-00000.npy"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    assert 7 == run("verify", room / "store", "--level", "full", "--quiet").code
    os.truncate(shard, len(data) - 1)

    assert 5 == run("guard", room / "store", "--quiet").code


def test_what_mirrors_a_source_leaves_a_store_alone(cache: Path, room: Path):
    """Sync, repair and comparison with a source refuse a store with exit 5, and name the command that mends it."""
    pack_cache(cache, room / "store")
    before = state(room / "store")
    for ran in (
        run("sync", cache, room / "store"),
        run("verify", room / "store", "--repair"),
        run("verify", room / "store", "--against", cache),
    ):
        assert 5 == ran.code
        assert "tusz_cache.pack" in ran.err
    assert before == state(room / "store")


# window manifest and dataset index


def test_the_users_files_go_with_the_store(room: Path):
    """Where manifest.json and _dataset_index.json fit the recordings, the store has them byte for byte, sealed."""
    write_cache(room / "cache", SIZES["tiny"])
    seal_cache(room / "cache")
    report = pack_cache(room / "cache", room / "store")

    for split in ("train", "dev"):
        assert () == report.splits[split].rebuilt
        for name in ("manifest.json", "_dataset_index.json"):
            assert (room / "cache" / split / name).read_bytes() == (room / "store" / split / name).read_bytes()
        expected = from_bytes((room / "cache" / split / "manifest.json").read_bytes(), path="")
        assert expected == read_window_manifest(room / "cache", split) == read_window_manifest(room / "store", split)
        with CacheGuard().admit(room / "store") as admitted:
            assert {f"{split}/manifest.json", f"{split}/_dataset_index.json"} <= set(admitted.files(split))
            assert expected == read_window_manifest(admitted, split)


@pytest.mark.parametrize("fault", ["absent", "stale", "broken"])
def test_a_manifest_that_does_not_fit_is_made_anew(room: Path, fault: str):
    """Absent, stale or broken files are rebuilt as the users' tool would write them, and the report says so."""
    write_cache(room / "cache", SIZES["tiny"])
    for split in ("train", "dev"):
        for name in ("manifest.json", "_dataset_index.json"):
            path = room / "cache" / split / name
            if fault == "absent":
                path.rename(room / f"{split}-{name}")
            else:
                shutil.copy(path, room / f"{split}-{name}")
                path.write_text(
                    '{"partial_seizure": [], "full_seizure": [], "no_seizure": []}' if fault == "stale" else "{"
                )
    seal_cache(room / "cache")
    report = pack_cache(room / "cache", room / "store")

    for split in ("train", "dev"):
        assert {f"{split}/manifest.json", f"{split}/_dataset_index.json"} == set(report.splits[split].rebuilt)
        expected = from_bytes((room / f"{split}-manifest.json").read_bytes(), path="")
        assert expected == read_window_manifest(room / "cache", split) == read_window_manifest(room / "store", split)
        assert len(expected) > 0
        index = json.loads((room / "store" / split / "_dataset_index.json").read_text())
        assert (
            json.loads((room / f"{split}-_dataset_index.json").read_text())["window_counts"] == index["window_counts"]
        )
    again = pack_cache(room / "cache", room / "store")
    assert report.splits == again.splits


@pytest.mark.parametrize("step", [1, 3, 6])
def test_shares_of_seizures_come_out_of_blocks_as_out_of_windows(room: Path, step: int):
    """Whatever the stride and kind of labels, the rebuilt manifest names the windows that the labels show."""
    made: dict[str, Arrays] = {name_of(number): recording(4, step, seed=number) for number in range(6)}
    made[name_of(6)] = {"windows": recording(2)["windows"]}
    made[name_of(7)] = recording(0)
    made[name_of(8)] = recording(2) | {"labels": np.full((2, 15360), 0.5, np.float32)}
    made[name_of(9)] = recording(2) | {"labels": np.full((2, 15360), -1, np.float32)}
    write_split(room / "cache", "train", made)
    seal_cache(room / "cache")
    pack_cache(room / "cache", room / "store")
    found = read_window_manifest(room / "store", "train")

    wanted: dict[Category, set[tuple[str, int]]] = {category: set() for category in Category}
    for window in as_numpy_has_it(room / "cache", "train"):
        if window.labels is not None:
            share = np.count_nonzero(window.labels > 0) / 15360
            category = Category.FULL if share >= 0.99 else Category.PARTIAL if share > 0 else Category.NONE
            wanted[category].add((window.cache_file, window.number))
    for category in Category:
        rows = found.rows(category)
        files, windows = found.file_numbers[rows], found.windows[rows]
        assert wanted[category] == {
            (found.files[file], int(window)) for file, window in zip(files, windows, strict=True)
        }
    assert found == read_window_manifest(room / "cache", "train")


# bounds


def test_two_files_a_shard_are_open_at_most(room: Path, shards: None):
    """Recordings with labels of their own kind, which have a file each, are not held open."""
    made = {name_of(number): recording(1, seed=number) for number in range(8)}
    for arrays in made.values():
        arrays["labels"] = np.full_like(arrays["labels"], 0.5)
    write_split(room / "cache", "train", made)
    seal_cache(room / "cache")
    pack_cache(room / "cache", room / "store")
    for backend in ("mmap", "pread"):
        before = len(os.listdir("/proc/self/fd"))
        store = open_store(room / "store", "train", backend=backend)
        store.read_batch(range(8))
        assert len(os.listdir("/proc/self/fd")) - before <= 2 * len(store.index.shards)
        del store
        assert before == len(os.listdir("/proc/self/fd"))


def test_packing_holds_few_files_open(room: Path):
    """However many recordings have labels of their own kind, a pack has a handful of files open."""
    made = {name_of(number): recording(1, seed=number) for number in range(40)}
    for arrays in made.values():
        arrays["labels"] = np.full_like(arrays["labels"], 0.5)
    write_split(room / "cache", "train", made)
    seal_cache(room / "cache")

    class Watching(Progress):
        most = 0

        def advance(self, received: int, files: int = 0) -> None:
            self.most = max(self.most, len(os.listdir("/proc/self/fd")))

    watching, before = Watching("quiet"), len(os.listdir("/proc/self/fd"))
    pack_cache(room / "cache", room / "store", workers=2, progress=watching)

    assert 0 < watching.most - before < 20


@pytest.mark.slow
def test_recordings_of_real_size_take_little_memory(room: Path):
    """Recordings of 85 MB, folded by two workers, need less than a gigabyte."""
    write_cache(room / "cache", replace(SIZES["real"], train_patients=2, dev_patients=1), workers=2)
    seal_cache(room / "cache")
    code, memory = weighed("pack", room / "cache", room / "store", "--workers", 2, "--quiet")

    assert 0 == code
    assert memory < 1_000_000  # kB


def test_a_store_that_is_not_there_is_said_so(room: Path):
    """A path without windows, and an index that belongs to another split, are clear errors."""
    with pytest.raises(UsageError, match="no windows"):
        open_store(room / "nowhere", "train")
    small_cache(room / "cache")
    pack_cache(room / "cache", room / "store")
    shutil.copy(room / "store" / "dev" / "index.json", room / "store" / "train" / "index.json")
    with pytest.raises(Damaged, match="is of dev"):
        open_store(room / "store", "train")
    with pytest.raises(UsageError, match="backend"):
        open_store(room / "store", "dev", backend="mmep")
    with pytest.raises(ForeignTarget):
        pack_cache(room / "cache", room / "cache" / "train")


def test_a_store_in_a_link_to_itself_is_told(cache: Path, tmp_path: Path):
    """A link that leads nowhere but to itself is an error of ours."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(TargetError, match="symbolic links"):
        pack_cache(cache, loop)
