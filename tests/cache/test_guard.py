"""What the guard must do: admit a whole cache on local disk, say why it refuses any other, and leave nothing behind."""

import asyncio
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.caches import make_cache, seal_cache
from tests.support.running import META, environment, run
from tusz_cache import AdmittedCache, Allow, CacheGuard, CacheRefused, DeclaredMount, Verdict
from tusz_cache.errors import CacheError, Damaged, TargetError, UsageError
from tusz_cache.guard import main
from tusz_cache.guarding import beneath
from tusz_cache.guarding.hands import THREADS, Hands
from tusz_cache.guarding.reaching import Reach
from tusz_cache.guarding.seeing import MODAL_TABLE, block_device
from tusz_cache.guarding.values import BlockDevice, Ruling

FIRST, SECOND, DEV = (
    "train/aaaaaaac_s001_t000_windows.npz",
    "train/aaaaaaac_s002_t000_windows.npz",
    "dev/aaaaaabb_s001_t000_windows.npz",
)
CONTENTS = {FIRST: b"1" * 5000, SECOND: b"22", DEV: b"", "train/manifest.json": b"{}"}


@pytest.fixture
def cache(room: Path) -> Path:
    """Return a sealed cache."""
    return make_cache(room / "the cache", CONTENTS)


def said(verdict: Verdict, layer: str) -> list[str]:
    return [seen.says for seen in verdict.evidence if seen.layer == layer]


# what is admitted


def test_a_whole_cache_on_local_disk_is_admitted(cache: Path):
    """A sealed cache is admitted, its path with a blank in it, and the evidence tells of mount, files and seal."""
    verdict = CacheGuard(expect={"train": 2, "dev": 1}).check(cache)

    assert (True, str(cache), str(cache.resolve())) == (verdict.admitted, verdict.path, verdict.real_path)
    assert {"mount record", "statfs", "containment", "seal"} <= {seen.layer for seen in verdict.evidence}
    assert ["accept", "accept"] == said(verdict, "seal")


def test_memory_is_told_from_disk():
    """A directory on tmpfs is admitted as what it is."""
    if " /dev/shm " not in Path("/proc/self/mountinfo").read_text():
        pytest.skip("no tmpfs at /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        root = make_cache(Path(directory), CONTENTS)

        assert Ruling.ACCEPT_MEMORY == CacheGuard().check(root).ruling


def test_a_root_may_be_a_symbolic_link(cache: Path, room: Path):
    """The root's own link is followed once: it is the target that is judged."""
    link = room / "link"
    link.symlink_to(cache)

    verdict = CacheGuard().check(link)

    assert (True, str(link), str(cache.resolve())) == (verdict.admitted, verdict.path, verdict.real_path)


def test_without_a_manifest_the_tree_is_walked(room: Path):
    """Where the seal is ignored, what lies there is what is admitted, ours left out."""
    root = room / "cache"
    for key in ("train/a.npz", "train/deep/b.npz", f"{META}/lock"):
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(b"xyz")

    with CacheGuard(seal="ignore", expect={"train": 2}).admit(root) as admitted:
        assert (None, ["train/a.npz", "train/deep/b.npz"]) == (admitted.seal, admitted.files())
        assert b"xyz" == admitted.read_bytes("train/deep/b.npz")


# what is refused


def forge(root: Path, name: str, old: bytes, new: bytes) -> None:
    path = root / META / name
    path.write_bytes(path.read_bytes().replace(old, new))


def swap(root: Path, key: str, make: Callable[[Path], object]) -> None:
    (root / key).unlink()
    make(root / key)


def outside(path: Path) -> None:
    """Put a link to a file of the right size elsewhere."""
    other = path.parents[2] / "other"
    other.write_bytes(CONTENTS[FIRST])
    path.symlink_to(other)


def folder_outside(root: Path) -> None:
    (root / "train").rename(root.parent / "elsewhere")
    (root / "train").symlink_to(root.parent / "elsewhere")


def records_outside(root: Path) -> None:
    (root / META).rename(root.parent / "records")
    (root / META).symlink_to(root.parent / "records")


FAULTS: dict[str, tuple[Ruling, Callable[[Path], object]]] = {
    "no seal": (Ruling.REFUSE_NO_SEAL, lambda root: (root / META / "seal.json").unlink()),
    "no records": (Ruling.REFUSE_NO_SEAL, lambda root: shutil.rmtree(root / META)),
    "no manifest": (Ruling.REFUSE_SEAL_MISMATCH, lambda root: (root / META / "manifest.jsonl").unlink()),
    "torn seal": (Ruling.REFUSE_SEAL_MISMATCH, lambda root: (root / META / "seal.json").write_bytes(b"{")),
    "other manifest": (Ruling.REFUSE_SEAL_MISMATCH, lambda root: forge(root, "manifest.jsonl", b"5000", b"5001")),
    "records out": (Ruling.REFUSE_SEAL_MISMATCH, records_outside),
    "pipe for a seal": (Ruling.REFUSE_SEAL_MISMATCH, lambda root: swap(root, f"{META}/seal.json", os.mkfifo)),
    "missing file": (Ruling.REFUSE_SEAL_MISMATCH, lambda root: (root / FIRST).unlink()),
    "missing folder": (Ruling.REFUSE_SEAL_MISMATCH, lambda root: shutil.rmtree(root / "train")),
    "longer file": (Ruling.REFUSE_SEAL_MISMATCH, lambda root: (root / SECOND).write_bytes(b"333")),
    "link out": (Ruling.REFUSE_MIXED, lambda root: swap(root, FIRST, outside)),
    "link within": (Ruling.REFUSE_MIXED, lambda root: swap(root, FIRST, lambda path: path.symlink_to(root / SECOND))),
    "folder out": (Ruling.REFUSE_MIXED, folder_outside),
    "pipe": (Ruling.REFUSE_MIXED, lambda root: swap(root, FIRST, os.mkfifo)),
    "folder for a file": (Ruling.REFUSE_MIXED, lambda root: swap(root, FIRST, Path.mkdir)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_cache_that_is_not_whole_is_refused(fault: str, cache: Path):
    """Whatever was changed since sealing is a refusal that says what to do, and raises where a cache is asked for."""
    ruling, act = FAULTS[fault]
    act(cache)

    verdict = CacheGuard().check(cache)
    assert (ruling, False, True) == (
        verdict.ruling,
        verdict.admitted,
        "sync" in verdict.hint or "verify" in verdict.hint,
    )
    with pytest.raises(CacheRefused) as caught:
        CacheGuard().admit(cache)
    assert (5, ruling) == (caught.value.exit_code, caught.value.verdict.ruling)
    assert ruling == pickle.loads(pickle.dumps(caught.value)).verdict.ruling


def test_a_file_that_may_not_be_read_is_refused(cache: Path):
    """Training would fail on it hours later."""
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (cache / FIRST).chmod(0)

    assert Ruling.REFUSE_SEAL_MISMATCH == CacheGuard().check(cache).ruling


def test_counts_must_be_as_expected(cache: Path):
    """A split with too few or no npz files refuses, and the reason names it."""
    for expect, named in (({"train": 3}, "train has 2 npz files, 3 expected"), ({"eval": 1}, "eval has 0 npz files")):
        verdict = CacheGuard(expect=expect).check(cache)

        assert (Ruling.REFUSE_SEAL_MISMATCH, True) == (verdict.ruling, named in verdict.reason)


def test_a_seal_of_another_volume_is_refused(cache: Path):
    """A cache that was sealed on one volume is not taken for that of another; nor does a copy off any volume hurt."""
    seal_cache(cache, volume={"kind": "volume", "name": "v", "object_id": "vo-1"})

    def ruling(object_id: str) -> Ruling:
        return CacheGuard(volume={"object_id": object_id}).check(cache).ruling

    assert Ruling.REFUSE_SEAL_MISMATCH == ruling("vo-2")
    assert ruling("vo-1").admitted
    assert CacheGuard().check(cache).admitted


def test_a_url_is_refused(capsys: pytest.CaptureFixture[str]):
    """No URL is a place to train from, whatever serves it."""
    for url in ("s3://bucket/cache", "https://host/cache", Path("s3://bucket/cache")):
        assert Ruling.REFUSE_OBJECT_STORE == CacheGuard().check(url).ruling
    assert 5 == main(["s3://bucket/cache", "--json"])
    assert "REFUSE_OBJECT_STORE" == json.loads(capsys.readouterr().out)["verdict"]


@pytest.mark.parametrize("path", ["nothing", f"the cache/{FIRST}", ""])
def test_what_is_no_directory_is_an_error(path: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    """A path that does not exist, is a file or is empty is a mistake in the call, exit status 2."""
    monkeypatch.chdir(cache.parent)
    with pytest.raises((TargetError, UsageError)) as caught:
        CacheGuard().check(path)

    assert 2 == caught.value.exit_code == main([path, "--quiet"])


def test_no_file_is_touched_where_the_place_is_refused(monkeypatch: pytest.MonkeyPatch):
    """Classify first, touch later: below a mount that is refused nothing is read, listed or looked at."""
    for name in ("read", "look", "tree", "probe"):
        monkeypatch.setattr(Reach, name, lambda *_, **__: pytest.fail("touched"))
    if not Path("/proc/self/mountinfo").exists():
        pytest.skip("needs /proc")

    assert Ruling.REFUSE_UNKNOWN == CacheGuard(seal="ignore", probe=True).check("/proc").ruling


# further evidence


def test_the_platform_s_own_table_counts(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A bucket over the path refuses; a table that is not there or makes no sense is told and decides nothing."""
    table = tmp_path / "arguments"
    monkeypatch.setenv(MODAL_TABLE, str(table))
    verdict = CacheGuard().check(cache)
    assert (True, ["note"]) == (verdict.admitted, said(verdict, "platform"))

    table.write_bytes(b"\xff\xff")
    verdict = CacheGuard().check(cache)
    assert (True, ["note"]) == (verdict.admitted, said(verdict, "platform"))

    def field(number: int, value: bytes) -> bytes:
        tag, size = number << 3 | 2, len(value)
        return bytes([tag & 0x7F | 0x80, tag >> 7, size & 0x7F | 0x80, size >> 7]) + value

    bucket = field(1, b"b") + field(2, os.fsencode(cache.resolve()))
    table.write_bytes(field(7, field(51, bucket)))
    assert Ruling.REFUSE_OBJECT_STORE == CacheGuard().check(cache).ruling


def test_cold_reads_may_only_warn(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """The probe reads in files and says what it saw; slow reads are a warning, and the cache is admitted."""
    assert ["note"] == said(CacheGuard(probe=True).check(cache), "probe")

    monkeypatch.setattr(Reach, "probe", lambda _, reads: [0.02] * len(reads))
    verdict = CacheGuard(probe=True).check(cache)
    assert (True, ["warn"]) == (verdict.admitted, said(verdict, "probe"))


def test_a_block_device_is_read_from_sys(tmp_path: Path):
    """A device's place, what it stands on, a loop device's file, and what it says of itself are found in /sys."""
    sys_root, numbers = tmp_path / "devices", tmp_path / "dev"
    numbers.mkdir()
    for name, number, texts in (
        ("block/sda", "8:0", {"device/model": "Disk  \n"}),
        ("virtual/block/dm-0", "253:0", {"slaves/sda/dev": "8:0\n", "dm/name": "root\n"}),
        ("virtual/block/loop0", "7:0", {"loop/backing_file": "/a b.img\n"}),
        ("virtual/block/loop1", "7:1", {}),
    ):
        for file, text in texts.items():
            (sys_root / name / file).parent.mkdir(parents=True, exist_ok=True)
            (sys_root / name / file).write_text(text)
        (sys_root / name).mkdir(parents=True, exist_ok=True)
        (numbers / number).symlink_to(sys_root / name)
    here = str(sys_root.resolve())

    def device(number: str) -> BlockDevice | None:
        return block_device(number, numbers)

    assert device("8:0") == BlockDevice(number="8:0", sysfs=f"{here}/block/sda", attributes={"model": "Disk"})
    assert device("253:0") == BlockDevice(
        number="253:0", sysfs=f"{here}/virtual/block/dm-0", slaves=("8:0",), attributes={"name": "root"}
    )
    assert device("7:0") == BlockDevice(number="7:0", sysfs=f"{here}/virtual/block/loop0", backing_file="/a b.img")
    assert device("7:1") == BlockDevice(number="7:1", sysfs=f"{here}/virtual/block/loop1", backing_file="")
    assert device("9:9") is None


# opening beneath a directory


@pytest.fixture(params=["openat2", "walk", "walk without mount ids"])
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Return a way to open; both must lead to the same."""
    if request.param != "openat2":
        monkeypatch.setattr(beneath, "_method", lambda _: "walk")
    if "without" in request.param:
        monkeypatch.setattr(beneath, "mount_id", lambda *_: None)
    fd = os.open(tmp_path, os.O_RDONLY)
    found = beneath.Root(fd).method
    os.close(fd)
    if not request.param.startswith(found):
        pytest.skip("this kernel has no openat2")
    return found


def test_a_look_finds_every_fault(method: str, tmp_path: Path):
    """Each kind of fault is told for what it is, by system call or step by step, few files or many in threads."""
    root = make_cache(tmp_path / "cache", CONTENTS)
    swap(root, FIRST, outside)
    swap(root, SECOND, os.mkfifo)
    (root / "gone").symlink_to("/nowhere")
    (root / "linked").symlink_to(root / "train")
    hands = Hands(lambda: None)
    fd = hands.open(os.fsencode(root))[0]
    wanted = {
        FIRST: "elsewhere",
        SECOND: "no file",
        DEV: "size",
        "gone": "elsewhere",
        "linked/manifest.json": "elsewhere",
        "nothing": "missing",
        "train/manifest.json/below": "missing",
        "../cache/dev": "elsewhere",
    }
    keys = [*wanted, "train/manifest.json"]

    faults, statfs, said, sizes, _ = hands.look(keys, [2] * len(keys), True)
    os.close(fd)

    assert wanted == {key: fault for key, fault, _ in faults}
    assert (1, method, 2) == (len(statfs), said, sizes[-1])


def test_slow_files_are_looked_at_together(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Threads see each file once, as one would."""
    contents = {f"d{n % 7}/{n}": b"x" * n for n in range(300)}
    root = make_cache(tmp_path / "cache", contents)
    (root / "d3/3").unlink()
    monkeypatch.setattr("tusz_cache.guarding.hands.SLOW", 0.0)
    hands = Hands(lambda: None)
    fd = hands.open(os.fsencode(root))[0]

    faults, _, _, sizes, _ = hands.look(sorted(contents), None, False)
    os.close(fd)

    assert [("d3/3", "missing")] == [(key, fault) for key, fault, _ in faults]
    assert {key: len(data) for key, data in contents.items() if key != "d3/3"} == {
        key: size for key, size in zip(sorted(contents), sizes, strict=True) if size >= 0
    }
    assert THREADS < len(contents)


# what was admitted


def test_an_admitted_cache_gives_its_files_and_no_others(cache: Path):
    """Files of the manifest are read; what was added later, lies in our directory or outside of it is not."""
    (cache / "train" / "later.npz").write_bytes(b"")
    with CacheGuard().admit(cache) as admitted:
        assert (cache, cache.resolve()) == (admitted.root, admitted.real_path)
        assert (sorted(CONTENTS), [DEV]) == (admitted.files(), admitted.files("dev"))
        assert CONTENTS == {key: admitted.read_bytes(key) for key in admitted.files()}
        for key in ("train/later.npz", f"{META}/seal.json", f"../{cache.name}/{FIRST}", f"{cache}/{FIRST}"):
            with pytest.raises(UsageError, match="no file of the cache"):
                admitted.open(key)

    with pytest.raises(UsageError, match="closed"):
        admitted.open(FIRST)


@pytest.mark.parametrize("make", [outside, os.mkfifo, lambda path: None], ids=["link", "pipe", "nothing"])
def test_what_is_no_longer_there_is_damaged(make: Callable[[Path], object], cache: Path):
    """A file that was swapped after the check is not read by mistake, and waits for nobody."""
    with CacheGuard().admit(cache) as admitted:
        swap(cache, FIRST, make)
        with pytest.raises(Damaged):
            admitted.open(FIRST)


def test_an_admitted_cache_stays_what_it_was(cache: Path, room: Path):
    """The directory is held: what takes over its path later is not read, until it is checked."""
    with CacheGuard().admit(cache) as admitted:
        cache.rename(room / "moved")
        make_cache(cache, CONTENTS | {FIRST: b"other"})

        assert CONTENTS[FIRST] == admitted.read_bytes(FIRST)
        with pytest.raises(CacheRefused, match="another cache"):
            admitted.recheck()


def test_a_recheck_holds_what_is_as_good(cache: Path, room: Path):
    """A path that leads to an equal cache now is checked and held; one that is not sealed is refused."""
    with CacheGuard().admit(cache) as admitted:
        assert admitted.verdict == admitted.recheck()
        cache.rename(room / "moved")
        make_cache(cache, CONTENTS)
        assert admitted.recheck().admitted
        shutil.rmtree(room / "moved")
        assert CONTENTS[FIRST] == admitted.read_bytes(FIRST)

        shutil.rmtree(cache / META)
        assert admitted.recheck().admitted, "the same directory is not checked again"
        cache.rename(room / "moved")
        shutil.copytree(room / "moved", cache)
        with pytest.raises(CacheRefused, match="no seal"):
            admitted.recheck()
        shutil.rmtree(cache)
        with pytest.raises(TargetError):
            admitted.recheck()


def test_an_admitted_cache_travels(cache: Path, room: Path):
    """Pickled, it is opened where it arrives; if its path leads elsewhere by then, it is checked there."""
    with CacheGuard().admit(cache) as admitted:
        parcel = pickle.dumps(admitted)
    with pickle.loads(parcel) as arrived:
        assert (admitted.verdict, CONTENTS[FIRST]) == (arrived.verdict, arrived.read_bytes(FIRST))

    (room / "parcel").write_bytes(parcel)
    script = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).read_bytes(sys.argv[2]).decode())"
    command = [sys.executable, "-c", script, room / "parcel", FIRST]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), timeout=60)
    assert (0, CONTENTS[FIRST].decode() + "\n", "") == (ran.returncode, ran.stdout, "")

    cache.rename(room / "moved")
    shutil.copytree(room / "moved", cache)
    shutil.rmtree(cache / META)
    with pytest.raises(CacheRefused, match="no seal"):
        pickle.loads(parcel)


FORKED = """
import os, sys
from tusz_cache import CacheGuard
cache = CacheGuard().admit(sys.argv[1])
child = os.fork()
if child == 0:
    good = len(cache.read_bytes(sys.argv[2])) == 5000 and cache.recheck().admitted
    good = good and CacheGuard().check(sys.argv[1]).admitted
    os._exit(0 if good else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or len(cache.read_bytes(sys.argv[2])) != 5000)
"""


def test_an_admitted_cache_survives_a_fork(cache: Path):
    """A forked worker reads, rechecks and guards like its parent."""
    command = [sys.executable, "-c", FORKED, str(cache), FIRST]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), timeout=60)

    assert (0, "") == (ran.returncode, ran.stderr)


# running


def left() -> tuple[set[str], set[str]]:
    """Return open descriptors and child processes."""
    children = {
        child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()
    }
    return set(os.listdir("/proc/self/fd")), children


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_nothing_is_left_behind(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """Admitted, refused, in error or in silence: no descriptor and no process remains."""
    before = left()
    CacheGuard().admit(cache).close()
    CacheGuard().check(cache)
    CacheGuard(expect={"train": 1}).check(cache)
    with pytest.raises(TargetError):
        CacheGuard().check(cache / "nothing")
    hang(monkeypatch)
    CacheGuard(deadline=0.1).check(cache)

    assert before == left()


def hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the child fall silent when a file is to be read."""
    read = Reach.read

    def stopped(reach: Reach, key: str) -> Any:
        os.kill(reach._process.pid, signal.SIGSTOP)
        return read(reach, key)

    monkeypatch.setattr(Reach, "read", stopped)


def test_what_does_not_answer_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """A file system that falls silent is refused after the deadline, and the reason says so."""
    hang(monkeypatch)

    verdict = CacheGuard(deadline=0.2).check(cache)

    assert (Ruling.REFUSE_UNRESPONSIVE, True) == (verdict.ruling, "0.2 s" in verdict.reason)


def test_a_child_that_ends_is_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """A process that is killed under our hands is no verdict."""
    monkeypatch.setattr(Reach, "realpath", Reach.realpath)

    def killed(reach: Reach, key: str) -> Any:
        reach._process.kill()
        return reach._ask("read", key)

    monkeypatch.setattr(Reach, "read", killed)
    with pytest.raises(CacheError, match="ended"):
        CacheGuard().check(cache)


def test_the_guard_works_in_threads_and_under_an_event_loop(cache: Path):
    """Several checks at once, and one where a loop runs, as in a notebook."""
    guard = CacheGuard()
    with ThreadPoolExecutor(4) as pool:
        assert {True} == {verdict.admitted for verdict in pool.map(guard.check, [cache] * 8)}

    async def cell() -> Verdict:
        return guard.check(cache)

    assert asyncio.run(cell()).admitted


def test_settings_travel_and_are_checked():
    """A guard is a value: frozen, pickled whole, and refused at once if it makes no sense."""
    guard = CacheGuard([DeclaredMount("/d", "volume", object_id="vo-1")], allow=[Allow("/d", "nfs4", "h:/x", "fast")])

    assert guard == pickle.loads(pickle.dumps(guard))
    with pytest.raises(AttributeError):
        guard.seal = "ignore"  # type: ignore[misc]
    for wrong in ({"seal": "maybe"}, {"deadline": 0}):
        with pytest.raises(UsageError):
            CacheGuard(**wrong)


# the command


def test_the_command_prints_the_verdict(cache: Path):
    """Status 0 and one JSON object of the contract's form for a cache that is admitted; 5 and the reason otherwise."""
    ran = run("guard", cache, "--json", "--expect", "train=2", "--probe")
    assert (0, "") == (ran.code, ran.err)
    assert ["path", "real_path", "admitted", "verdict", "reason", "hint", "evidence"] == list(ran.json)
    assert {("layer", "source", "says", "detail")} == {tuple(row) for row in ran.json["evidence"]}

    (cache / META / "seal.json").unlink()
    ran = run("guard", cache)
    assert (5, True) == (ran.code, "no seal" in ran.out)
    assert 0 == run("guard", cache, "--seal", "ignore").code


@pytest.mark.parametrize("option", ["--mounts", "--policy"])
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "no JSON"),
        ("{}", "no list"),
        ("[1]", "item 1"),
        ('[{"path": "/a", "novelty": ""}]', "novelty"),
        ('[{"path": "/a"}]', "must be a text"),
        ('[{"path": "a", "kind": "volume", "fstype": "x", "source": "y", "reason": "z"}]', "unknown field"),
    ],
)
def test_a_statement_that_cannot_be_read_is_an_error(
    option: str, text: str, named: str, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """What is stated in a file is read strictly: anything off is exit status 2, with what and where."""
    stated = tmp_path / "stated.json"
    stated.write_text(text)

    assert 2 == main([str(cache), option, str(stated)])
    assert named in capsys.readouterr().err
    assert 2 == main([str(cache), option, str(tmp_path / "nothing")])


def test_declared_mounts_are_believed_only_against_the_evidence(cache: Path, tmp_path: Path):
    """A path that is declared a bucket is refused, though it lies on a disk."""
    stated = tmp_path / "mounts.json"
    stated.write_text(json.dumps([{"path": str(cache.parent), "kind": "bucket", "name": "b"}]))

    assert 5 == main([str(cache), "--mounts", str(stated), "--quiet"])


def test_an_admitted_cache_explains_itself(cache: Path):
    """Its representation names the place, and nobody makes one but the guard."""
    with CacheGuard().admit(cache) as admitted:
        assert isinstance(admitted, AdmittedCache)
        assert all(part in repr(admitted) for part in (str(cache), "4 files", "ACCEPT_"))


# damaged records


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Cut, insert or replace a few bytes; or, in JSON, put something else in the place of a value."""
    if draw(st.booleans()) and data.startswith(b"{") and data.count(b"\n{") == 0:
        row = json.loads(data)
        row[draw(st.sampled_from(sorted(row)))] = draw(
            st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=4)
            | st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=2)
        )
        return json.dumps(row).encode()
    at, cut = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
    return data[:at] + draw(st.binary(max_size=20)) + data[at + cut :]


@pytest.mark.parametrize("name", ["seal.json", "manifest.jsonl"])
def test_damaged_records_are_refused_or_say_the_same(tmp_path_factory: pytest.TempPathFactory, name: str):
    """Whatever the seal or the manifest holds, the guard rules; it admits only what the manifest's digest fits."""
    root = make_cache(tmp_path_factory.mktemp("damaged"), CONTENTS)
    if not CacheGuard(seal="ignore").check(root).admitted:
        pytest.skip("no local file system here that the guard can see")
    path = root / META / name
    whole = path.read_bytes()
    digest = json.loads((root / META / "seal.json").read_bytes())["manifest_sha256"]

    @settings(max_examples=60, deadline=None)
    @given(damaged(whole))
    def any_damage(data: bytes) -> None:
        path.write_bytes(data)
        ruling = CacheGuard(expect={"train": 2, "dev": 1}).check(root).ruling

        assert ruling in {Ruling.REFUSE_SEAL_MISMATCH, Ruling.REFUSE_NO_SEAL} or ruling.admitted
        if ruling.admitted and name == "manifest.jsonl":
            assert whole == data
        elif ruling.admitted:
            assert digest == json.loads(data)["manifest_sha256"]

    any_damage()
