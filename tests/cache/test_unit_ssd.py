"""What writing to a target must be: synced before named, whole or absent, and with errors that say what to do."""

import errno
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tusz_cache import ssd
from tusz_cache.disk_errors import translated
from tusz_cache.durability import Durability
from tusz_cache.entry import META
from tusz_cache.errors import CacheError, NoSpace, TargetError, UsageError
from tusz_cache.ssd import Target


@pytest.fixture
def target(tmp_path: Path) -> Target:
    made = Target(tmp_path / "cache", Durability("fsync"))
    ssd.prepare(made)
    return made


class Log:
    """What was done to files, in order, as (verb, path below the root)."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls = root, []

    def add(self, verb: str, path: str | Path) -> None:
        self.calls.append((verb, os.path.relpath(path, self.root)))

    def positions(self, verb: str) -> dict[str, int]:
        """Return where each path stands in the log; the first time counts."""
        found: dict[str, int] = {}
        for number, (what, path) in enumerate(self.calls):
            if what == verb:
                found.setdefault(path, number)
        return found


@pytest.fixture
def log(target: Target, monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log(target.root)

    def watch(module: object, name: str, verb: str, path_of: Callable) -> None:
        true = getattr(module, name)

        def watched(*args, **how):
            made.add(verb, path_of(args[0]))
            return true(*args, **how)

        monkeypatch.setattr(module, name, watched)

    def path_of(descriptor: int) -> str:
        return os.readlink(f"/proc/self/fd/{descriptor}")

    watch(os, "fdatasync", "data", path_of)
    watch(os, "fsync", "entries", path_of)
    watch(Path, "unlink", "unlink", str)
    true_replace, true_mkdir = Path.replace, Path.mkdir

    def replace(self: Path, to: Path) -> Path:
        made.add("rename", to)
        return true_replace(self, to)

    def mkdir(self: Path, *args, **how) -> None:
        if not self.exists():
            made.add("mkdir", self)
        true_mkdir(self, *args, **how)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(Path, "mkdir", mkdir)
    real = ssd._libc

    def syncfs(descriptor: int) -> int:
        made.add("all data", path_of(descriptor))
        return real.syncfs(descriptor)

    monkeypatch.setattr(ssd, "_libc", types.SimpleNamespace(syncfs=syncfs, fallocate=real.fallocate))
    return made


def partials(target: Target, *keys: str) -> list[tuple[Path, Path]]:
    """Write a partial file for each key, and return the moves."""
    moves = []
    for number, key in enumerate(keys):
        partial = target.partial / str(number)
        partial.write_bytes(key.encode())
        moves.append((partial, target.path(key)))
    return moves


# order


def test_a_name_appears_after_its_data_and_before_its_directory(target: Target, log: Log):
    """Data is synced, then renamed, then the directories are synced, and nothing else comes between."""
    ssd.publish(target, partials(target, "a", "b"))

    assert [
        ("data", f"{META}/partial/0"),
        ("data", f"{META}/partial/1"),
        ("rename", "a"),
        ("rename", "b"),
        ("entries", "."),
    ] == log.calls
    assert b"a" == target.path("a").read_bytes()


@pytest.mark.parametrize("keys", [("x/y/a",), ("x/a", "x/y/z/b", "w/c"), ("x/y/a", "x/b")])
def test_new_directories_survive_too(target: Target, log: Log, keys: tuple[str, ...]):
    """Every directory on the way to a new name is synced after the last rename, from the root down to the name."""
    ssd.publish(target, partials(target, *keys))

    last_rename = max(log.positions("rename").values())
    last_data = max(log.positions("data").values())
    above = {os.path.relpath(parent, target.root) for key in keys for parent in target.path(key).parents}
    needed = {path for path in above if not path.startswith("..")}
    synced = {path for number, (verb, path) in enumerate(log.calls) if verb == "entries" and number > last_rename}
    assert set() == needed - synced
    assert last_data < min(log.positions("rename").values())


def test_a_directory_that_was_there_needs_no_sync_of_its_parent(target: Target, log: Log):
    """Publishing into an existing directory syncs that directory only."""
    target.path("train").mkdir()
    log.calls.clear()
    ssd.publish(target, partials(target, "train/a"))

    assert {"train"} == set(log.positions("entries"))


@pytest.mark.parametrize("count", [1, 15, 16, 40])
def test_many_files_are_synced_together(target: Target, log: Log, count: int):
    """From sixteen files on one sync of the file system stands for all, still before the first rename."""
    ssd.publish(target, partials(target, *(f"k{i}" for i in range(count))))

    verbs = [verb for verb, _ in log.calls]
    synced = verbs[: verbs.index("rename")]
    assert (["data"] * count if count < 16 else ["all data"]) == synced
    assert count == verbs.count("rename")


def test_without_syncfs_each_file_is_synced(target: Target, log: Log, monkeypatch: pytest.MonkeyPatch):
    """Where the system cannot sync a file system, every file is synced by itself."""
    monkeypatch.setattr(ssd, "_libc", types.SimpleNamespace(syncfs=None, fallocate=None))
    ssd.publish(target, partials(target, *(f"k{i}" for i in range(20))))

    assert ["data"] * 20 == [verb for verb, _ in log.calls][:20]


def test_a_failed_sync_of_the_file_system_is_an_error(target: Target, log: Log, monkeypatch: pytest.MonkeyPatch):
    """When syncing fails nothing is renamed: the bytes may not be on the disk."""
    monkeypatch.setattr(ssd, "_libc", types.SimpleNamespace(syncfs=lambda _: -1, fallocate=None))

    with pytest.raises(CacheError):
        ssd.publish(target, partials(target, *(f"k{i}" for i in range(20))))
    assert {} == log.positions("rename")


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failed_sync_of_a_file_is_an_error(target: Target, monkeypatch: pytest.MonkeyPatch, code: int):
    """When syncing one file fails nothing is renamed."""

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(NoSpace if code == errno.ENOSPC else TargetError):
        ssd.publish(target, partials(target, "a", "b"))
    assert not target.path("a").exists()


@pytest.mark.parametrize("durability", [Durability("none"), Durability("commit", commit=lambda: None)])
def test_other_policies_never_sync(target: Target, log: Log, durability: Durability):
    """Without the policy "fsync" nothing is synced anywhere: on some volumes it hangs."""
    relaxed = Target(target.root, durability)
    ssd.prepare(relaxed)
    ssd.publish(relaxed, partials(relaxed, "x/a", *(f"k{i}" for i in range(20))))
    ssd.write_file(relaxed, relaxed.meta / "seal.json", b"{}")
    ssd.move_to_trash(relaxed, ["x/a"])
    ssd.remove(relaxed, relaxed.path("k0"))
    ssd.tidy(relaxed)
    appender = ssd.Appender(relaxed, relaxed.meta / "journal", keep_bytes=0)
    appender.append(b"x")
    appender.sync()
    appender.close()

    assert set() == {verb for verb, _ in log.calls} - {"rename", "mkdir", "unlink"}


def test_publishing_tells_what_lies_there(target: Target):
    """The stats returned are those of the files under their final names, in the order of the moves."""
    stats = ssd.publish(target, partials(target, "b", "a", "x/long"))

    assert [1, 1, 6] == [stat.st_size for stat in stats]
    assert [target.path(key).stat().st_mtime_ns for key in ("b", "a", "x/long")] == [s.st_mtime_ns for s in stats]


def test_a_new_target_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Making a target syncs each directory made, and the one in which it was made."""
    synced = []
    true = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), true(fd)))
    target = Target(tmp_path / "cache")
    ssd.prepare(target)

    assert {str(p) for p in (tmp_path, target.root, target.meta, target.partial)} <= set(synced)


def test_a_new_target_far_below_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Making a target several directories below the last existing one syncs that one too."""
    synced = []
    true = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), true(fd)))
    ssd.prepare(Target(tmp_path / "a" / "b" / "cache"))

    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= set(synced)


# small files


def test_a_small_file_is_written_synced_and_renamed(target: Target, log: Log):
    """A small file is synced under another name before it gets its own, and its directory after that."""
    ssd.write_file(target, target.meta / "seal.json", b"new")

    (first, draft), *rest = log.calls
    assert ("data", True) == (first, draft.startswith(f"{META}/seal.json."))
    assert [("rename", f"{META}/seal.json"), ("entries", META)] == rest
    assert b"new" == (target.meta / "seal.json").read_bytes()


@pytest.mark.parametrize("name", ["fdatasync", "fsync", "replace", "write"])
@pytest.mark.parametrize("kind", [OSError(errno.EIO, "bad disk"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_a_small_file_is_the_old_one_or_the_new_one(
    target: Target, monkeypatch: pytest.MonkeyPatch, name: str, kind: BaseException
):
    """Whatever step fails, readers find the old bytes or the new ones, and no draft stays behind."""
    path = target.meta / "seal.json"
    path.write_bytes(b"old")

    def fail(*args: object) -> None:
        raise kind

    def pieces() -> Iterator[bytes]:
        yield bytes(1 << 20)
        if name == "write":
            fail()

    if name != "write":
        monkeypatch.setattr(os if name.startswith("f") else Path, name, fail)
    with pytest.raises(KeyboardInterrupt if isinstance(kind, KeyboardInterrupt) else CacheError):
        ssd.write_file(target, path, pieces())
    monkeypatch.undo()

    assert (bytes(1 << 20) if name == "fsync" else b"old") == path.read_bytes()
    assert {"seal.json", "partial"} == {entry.name for entry in target.meta.iterdir()}


def test_removal_survives(target: Target, log: Log):
    """Removing a file syncs its directory; a file or directory that is not there is no error."""
    path = target.meta / "seal.json"
    path.write_bytes(b"x")
    ssd.remove(target, path)
    assert [("unlink", f"{META}/seal.json"), ("entries", META)] == log.calls
    assert not path.exists()

    ssd.remove(target, path)
    ssd.remove(target, target.root / "nowhere" / "file")


def test_an_appender_cuts_grows_and_syncs(target: Target, log: Log):
    """Opening cuts the file to what is kept; every byte appended is there at once, and synced when asked."""
    path = target.meta / "journal"
    path.write_bytes(b"kept|torn")
    book = ssd.Appender(target, path, keep_bytes=5)
    book.append(b"one|")
    assert b"kept|one|" == path.read_bytes()
    assert [("entries", META)] == log.calls

    book.append(b"two|" * 100_000)
    book.sync()
    book.close()
    assert b"kept|one|" + b"two|" * 100_000 == path.read_bytes()
    assert ("data", f"{META}/journal") == log.calls[-1]


def test_a_note_is_rewritten_whole(target: Target):
    """A note says what was written last, also when that is shorter."""
    path = target.meta / "lock"
    descriptor = ssd.open_note(path)
    ssd.rewrite(descriptor, b"a long note", path)
    ssd.rewrite(descriptor, b"short", path)
    os.close(descriptor)

    assert b"short" == path.read_bytes()


# partial files


@pytest.mark.parametrize("preallocate", [True, False])
@pytest.mark.parametrize("size", [0, 1, 1_000_000])
def test_a_partial_file_has_its_final_size(target: Target, preallocate: bool, size: int):
    """A partial file is as long as it will be, with its blocks reserved where asked."""
    path = target.partial / "p"
    os.close(ssd.open_partial(path, size, preallocate=preallocate))

    assert size == path.stat().st_size
    if size > 4096 and not preallocate:
        assert path.stat().st_blocks * 512 < size
    if preallocate and fallocate_works(target.root):
        assert path.stat().st_blocks * 512 >= size


def fallocate_works(root: Path) -> bool:
    descriptor = os.open(root / "probe", os.O_RDWR | os.O_CREAT)
    try:
        return ssd._libc.fallocate(descriptor, 0, ssd.ctypes.c_int64(0), ssd.ctypes.c_int64(65536)) == 0
    finally:
        os.close(descriptor)
        os.unlink(root / "probe")


def test_a_longer_old_partial_file_is_cut(target: Target):
    """A partial file that is too long becomes as long as it should be."""
    path = target.partial / "p"
    path.write_bytes(b"x" * 100)
    os.close(ssd.open_partial(path, 10, preallocate=True))

    assert b"x" * 10 == path.read_bytes()


def test_an_existing_partial_file_is_not_made(target: Target):
    """Opening a partial file that should be there does not make one."""
    with pytest.raises(TargetError):
        ssd.open_existing(target.partial / "p")

    assert [] == list(target.partial.iterdir())


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_that_cannot_reserve_is_no_obstacle(target: Target, monkeypatch: pytest.MonkeyPatch, code: int):
    """Where blocks cannot be reserved the file is made all the same."""
    monkeypatch.setattr(ssd, "_libc", types.SimpleNamespace(fallocate=lambda *_: -1))
    monkeypatch.setattr(ssd.ctypes, "get_errno", lambda: code)
    os.close(ssd.open_partial(target.partial / "p", 1000, preallocate=True))

    assert 1000 == (target.partial / "p").stat().st_size


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_shows_at_once(target: Target, monkeypatch: pytest.MonkeyPatch, code: int):
    """Where blocks can be reserved but are not there, NoSpace comes before the first byte and leaves no file."""
    monkeypatch.setattr(ssd, "_libc", types.SimpleNamespace(fallocate=lambda *_: -1))
    monkeypatch.setattr(ssd.ctypes, "get_errno", lambda: code)

    with pytest.raises(NoSpace):
        ssd.open_partial(target.partial / "p", 1000, preallocate=True)
    assert [] == list(target.partial.iterdir())
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    assert [] == [link for link in links if os.path.lexists(link) and str(target.root) in os.readlink(link)]


def test_a_write_goes_on_after_a_short_one(target: Target, monkeypatch: pytest.MonkeyPatch):
    """When the system writes only some of the bytes, the rest follows behind them."""
    true, sizes = os.pwrite, []

    def short(descriptor: int, data: memoryview, offset: int) -> int:
        sizes.append(len(data))
        return true(descriptor, data[:3], offset)

    path = target.partial / "p"
    descriptor = ssd.open_partial(path, 10, preallocate=False)
    monkeypatch.setattr(os, "pwrite", short)
    ssd.write_at(descriptor, memoryview(b"abcdefgh"), 1, path)
    os.close(descriptor)

    assert b"\0abcdefgh\0" == path.read_bytes()
    assert [8, 5, 2] == sizes


# errors


@pytest.mark.parametrize(
    ("code", "kind", "word"),
    [
        (errno.ENOSPC, NoSpace, "free space"),
        (errno.EDQUOT, NoSpace, "free space"),
        (errno.EXDEV, TargetError, "one file system"),
        (errno.EROFS, TargetError, "writable"),
        (errno.EACCES, TargetError, "writable"),
        (errno.EPERM, TargetError, "writable"),
        (errno.EIO, TargetError, "kernel log"),
        (errno.EISDIR, TargetError, "move it away"),
    ],
)
def test_the_systems_errors_become_ours(target: Target, monkeypatch: pytest.MonkeyPatch, code, kind, word):
    """What the system says of a write becomes an error with the right exit code, the path, and what to do."""

    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    path = target.partial / "p"
    descriptor = ssd.open_partial(path, 1, preallocate=False)
    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(CacheError) as caught:
        ssd.write_at(descriptor, memoryview(b"x"), 0, path)
    os.close(descriptor)

    assert (kind, 6 if kind is NoSpace else 2) == (type(caught.value), caught.value.exit_code)
    assert str(path) in str(caught.value)
    assert word in caught.value.hint


@pytest.mark.parametrize("act", [lambda path: ssd.make_directories([path]), lambda path: ssd.check_writable([path])])
@pytest.mark.parametrize("below", ["", "a/b"])
def test_a_file_where_a_folder_must_be_is_named(tmp_path: Path, act: Callable[[Path], object], below: str):
    """A directory that is to be made at a file, or below one, is an error that names this file and what to do."""
    (tmp_path / "file").touch()
    with pytest.raises(TargetError, match=rf"{tmp_path}/file is in the way") as raised:
        act(tmp_path / "file" / below)

    assert "move it away" in raised.value.hint


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.EROFS, TargetError), (errno.EACCES, TargetError), (errno.ENOSPC, NoSpace)]
)
@pytest.mark.parametrize("call", ["mkdir", "touch"])
def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type, call: str
):
    """Whether a folder can be made and written is tried; the error names the folder, and no trial is left in it."""

    def fail(path: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    ssd.check_writable([tmp_path / "a" / "b"])
    assert [tmp_path / "a", tmp_path / "a" / "b"] == sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(Path, call, fail)
    with pytest.raises(kind, match=rf"{tmp_path}/c(:|$)"):
        ssd.check_writable([tmp_path / "c"])


def test_an_error_names_the_file_that_the_system_names():
    """Of a rename between file systems, the name that cannot be made is told."""
    with pytest.raises(TargetError, match="/ssd/other/a lies on another file system"), translated(Path("/ssd")):
        raise OSError(errno.EXDEV, "cross-device", "/ssd/partial", None, "/ssd/other/a")


@pytest.fixture
def mounts() -> None:
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no permission to mount")


FULL = """
import os, sys
from pathlib import Path
from tusz_cache import ssd
from tusz_cache.durability import Durability
from tusz_cache.errors import CacheError
target = ssd.Target(Path(sys.argv[1]) / "cache")
ssd.prepare(target)

def attempt(what):
    try:
        what()
    except CacheError as error:
        print(type(error).__name__, flush=True)
    else:
        print("done", flush=True)

big, path = memoryview(bytes(4 << 20)), target.partial / "p"
attempt(lambda: ssd.open_partial(path, len(big), preallocate=True))
print(path.exists())
fd = ssd.open_partial(path, len(big), preallocate=False)
attempt(lambda: ssd.write_at(fd, big, 0, path))
attempt(lambda: ssd.write_file(target, target.meta / "seal.json", bytes(4 << 20)))
print(sorted(os.listdir(target.meta)))
os.close(fd)
path.unlink()
attempt(lambda: ssd.write_file(target, target.meta / "seal.json", b"fits"))
"""


@pytest.mark.usefixtures("mounts")
def test_a_truly_full_disk_is_no_space(tmp_path: Path):
    """On a small file system reserving, writing and publishing end in NoSpace, and what fits is written after."""
    script = 'mount -t tmpfs -o size=1M tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-m", "sh", "-c", script, "-", str(tmp_path), sys.executable, FULL]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)

    assert ["NoSpace", "False", "NoSpace", "NoSpace", "['partial']", "done"] == ran.stdout.splitlines()


MOUNTED = """
import sys
from pathlib import Path
from tusz_cache import ssd
from tusz_cache.errors import CacheError
target = ssd.Target(Path(sys.argv[1]))
partial = target.partial / "p"
try:
    if not partial.exists():
        ssd.prepare(target)
        partial.write_bytes(b"x")
    ssd.publish(target, [(partial, target.path("dev/a"))])
except CacheError as error:
    print(type(error).__name__, error, error.hint, sep="|")
"""


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    ("mount", "word"),
    [
        ('mount -t tmpfs tmpfs "$1/dev"', "one file system"),
        ('mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"', "writable"),
    ],
)
def test_real_mounts_in_the_way_are_explained(tmp_path: Path, mount: str, word: str):
    """A split on another file system, or a target mounted read-only, is a TargetError that says what to do."""
    (tmp_path / "dev").mkdir()
    (tmp_path / META / "partial").mkdir(parents=True)
    (tmp_path / META / "partial" / "p").write_bytes(b"x")
    command = ["unshare", "-m", "sh", "-c", mount + ' && exec "$2" -c "$3" "$1"', "-", str(tmp_path)]
    ran = subprocess.run([*command, sys.executable, MOUNTED], check=True, capture_output=True, text=True)

    kind, message, hint = ran.stdout.strip().split("|")
    assert "TargetError" == kind
    assert str(tmp_path) in message
    assert word in hint


def test_the_target_may_not_be_a_file(tmp_path: Path):
    """A file where a directory should be is a TargetError."""
    (tmp_path / "cache").write_bytes(b"")

    with pytest.raises(TargetError):
        ssd.prepare(Target(tmp_path / "cache"))


# trash


@pytest.fixture
def full(target: Target) -> Iterator[Target]:
    for key in ("train/a", "train/b", "x", "dev/deep/c"):
        target.path(key).parent.mkdir(parents=True, exist_ok=True)
        target.path(key).write_bytes(key.encode())
    return target


def test_trash_can_be_had_back_until_it_is_emptied(full: Target):
    """Deleted files leave the tree, keep their bytes under their keys in the trash, and go for good with the seal."""
    ssd.move_to_trash(full, ["train/a", "x", "dev/deep/c"])
    assert ["train/b"] == sorted(
        path.relative_to(full.root).as_posix()
        for path in full.root.rglob("*")
        if path.is_file() and META not in path.parts
    )
    assert {"train/a", "x", "dev/deep/c"} == {
        path.relative_to(next(full.trash.iterdir())).as_posix() for path in full.trash.rglob("*") if path.is_file()
    }
    assert b"dev/deep/c" == next(full.trash.glob("*/dev/deep/c")).read_bytes()
    assert {"train", META} == {path.name for path in full.root.iterdir()}, "emptied folders are gone"

    ssd.tidy(full)
    ssd.tidy(full)
    assert not full.trash.exists()


def test_moving_to_trash_survives(full: Target, log: Log):
    """Both the directory that lost a file and the one that got it are synced after the move."""
    ssd.move_to_trash(full, ["train/a"])

    trash = f"{META}/trash/{next(full.trash.iterdir()).name}"
    moved = log.positions("rename")[f"{trash}/train/a"]
    synced = {path for number, (verb, path) in enumerate(log.calls) if verb == "entries" and number > moved}
    assert {"train", f"{trash}/train", trash, f"{META}/trash", META} <= synced


def test_trash_of_an_earlier_run_is_no_obstacle(full: Target):
    """What an earlier run threw away stays, under the same key or as a folder of that name."""
    ssd.move_to_trash(full, ["train/a"])
    full.path("train/a").write_bytes(b"again")
    ssd.move_to_trash(full, ["train/a"])

    assert {b"train/a", b"again"} == {path.read_bytes() for path in full.trash.glob("*/train/a")}


# what is asked about a target


def test_free_space_is_asked_of_what_exists(tmp_path: Path):
    """Free space of a target that is not there yet is that of the directory it will lie in, and nothing is made."""
    stat = os.statvfs(tmp_path)
    free = ssd.free_bytes(Target(tmp_path / "a" / "b"))

    assert abs(stat.f_bavail * stat.f_frsize - free) < 10**9
    assert [] == list(tmp_path.iterdir())


def test_linux_file_systems_tell_case_apart(tmp_path: Path):
    """A file system that tells "A" from "a" is seen as such, without writing, also before the target exists."""
    (tmp_path / "aaa").mkdir()

    assert [False] * 2 == [ssd.folds_case(Target(tmp_path / name)) for name in ("aaa", "bbb/ccc")]
    assert ["aaa"] == [path.name for path in tmp_path.iterdir()]


def test_a_file_system_that_ignores_case_is_seen(tmp_path: Path):
    """Where the swapped name is the same directory, case is ignored."""
    (tmp_path / "abc").mkdir()
    (tmp_path / "ABC").symlink_to("abc")

    assert ssd.folds_case(Target(tmp_path / "abc" / "new"))


# policies


@pytest.mark.parametrize("policy", ["always", "", "FSYNC"])
def test_an_unknown_policy_is_refused(policy: str):
    """A policy that does not exist is a usage error that names those that do."""
    with pytest.raises(UsageError) as caught:
        Durability(policy)

    assert "fsync, commit, none" in caught.value.hint


@pytest.mark.parametrize("make", [lambda: Durability("commit"), lambda: Durability("none", commit=print)])
def test_only_commit_takes_a_callable(make: Callable[[], Durability]):
    """The policy "commit" needs something to call, and the others have no use for it."""
    with pytest.raises(UsageError):
        make()


@pytest.mark.parametrize(
    ("durability", "syncs", "front_to_back"),
    [
        (Durability(), True, False),
        (Durability("none"), False, False),
        (Durability("commit", commit=print), False, True),
    ],
)
def test_what_policies_mean(durability: Durability, syncs: bool, front_to_back: bool):
    """Only fsync syncs, and only commit needs files written from front to back."""
    assert (syncs, front_to_back) == (durability.syncs, durability.front_to_back)


def test_on_a_volume_that_is_committed_times_are_whole_seconds(tmp_path: Path):
    """What is published under the policy `commit` has a time that all machines see alike; elsewhere its own."""
    for durability, fraction in ((Durability("commit", commit=lambda: None), 0), (Durability("none"), 123)):
        target = Target(tmp_path / durability.policy, durability)
        ssd.prepare(target)
        (target.root / "draft").write_bytes(b"x")
        os.utime(target.root / "draft", ns=(1, 7 * 10**9 + 123))
        (stat,) = ssd.publish(target, [(target.root / "draft", target.root / "file")])

        assert 7 * 10**9 + fraction == stat.st_mtime_ns
