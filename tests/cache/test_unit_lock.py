"""What the lock must be: one writer for each target, gone with its holder, and fair to machines with another kernel."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from tusz_cache import lock, ssd
from tusz_cache.durability import Durability
from tusz_cache.errors import LockHeld
from tusz_cache.lock import SILENT, Holder, locked, may_be_alive
from tusz_cache.ssd import Target

HOLD = """
import subprocess, sys
from pathlib import Path
from tusz_cache.durability import Durability
from tusz_cache.lock import locked
from tusz_cache.ssd import Target
with locked(Target(Path(sys.argv[1]), Durability("none"))) as descriptor:
    if sys.argv[2] == "with child":
        child = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        print(subprocess.Popen(child, pass_fds=[descriptor], stdin=0, stdout=2).pid, flush=True)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def target(tmp_path: Path) -> Target:
    made = Target(tmp_path, Durability("none"))
    ssd.prepare(made)
    return made


@contextmanager
def holder(target: Target, how: str = "alone") -> Iterator[subprocess.Popen[str]]:
    """Run another process that holds the lock until its standard input closes."""
    command = [sys.executable, "-c", HOLD, str(target.root), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.child = int(process.stdout.readline()) if how == "with child" else None
            assert "held\n" == process.stdout.readline()
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()


def note_of(target: Target) -> bytes:
    return (target.meta / "lock").read_bytes()


def leave_note(target: Target, note: Holder | None, age: float = 0.0) -> None:
    """Leave what another holder would, `age` seconds ago."""
    path = target.meta / "lock"
    path.write_text(json.dumps(asdict(note)) if note else "")
    then = time.time() - age
    os.utime(path, (then, then))


def test_the_second_process_is_refused(target: Target):
    """While one process holds the lock, another is refused with exit 5 and told who holds it."""
    with holder(target) as process, pytest.raises(LockHeld) as caught, locked(target):
        pass

    assert 5 == caught.value.exit_code
    assert f"process {process.pid} on {os.uname().nodename}" in str(caught.value)
    assert "kill" in caught.value.hint


def test_a_refusal_changes_nothing(target: Target):
    """Being refused leaves the holder's note as it is."""
    with holder(target):
        before = note_of(target), (target.meta / "lock").stat().st_mtime_ns
        with pytest.raises(LockHeld), locked(target):
            pass
        assert before == (note_of(target), (target.meta / "lock").stat().st_mtime_ns)


def test_two_in_one_process_are_refused_too(target: Target):
    """The lock also keeps apart two runs in one process."""
    with locked(target), pytest.raises(LockHeld), locked(target):
        pass


def test_containers_at_modal_are_machines(target: Target, monkeypatch: pytest.MonkeyPatch):
    """Modal's containers share a host's name and no kernel: the note of another one counts, one's own does not."""
    monkeypatch.setenv("MODAL_TASK_ID", "ta-1")
    leave_note(target, Holder.me())
    monkeypatch.setenv("MODAL_TASK_ID", "ta-2")
    with pytest.raises(LockHeld, match="on ta-1"), locked(target):
        pass
    monkeypatch.setenv("MODAL_TASK_ID", "ta-1")
    with locked(target):
        pass


def test_the_lock_is_free_after_its_holder(target: Target):
    """When the holder is done the note is empty, and the next one gets the lock."""
    with holder(target):
        pass
    with locked(target):
        pass

    assert b"" == note_of(target)


def test_the_lock_is_free_after_an_exception(target: Target):
    """A run that fails leaves the lock free and the note empty."""
    with pytest.raises(ZeroDivisionError), locked(target):
        raise ZeroDivisionError

    assert b"" == note_of(target)
    with locked(target):
        pass


def test_the_lock_ends_with_a_killed_holder(target: Target):
    """After SIGKILL of the holder the lock can be had at once, though the note was left behind."""
    with holder(target) as process:
        process.kill()
        process.wait()
        assert process.pid == json.loads(note_of(target))["pid"]
        with locked(target):
            assert os.getpid() == json.loads(note_of(target))["pid"]


def test_the_note_says_who_holds_the_lock(target: Target):
    """The note names process, boot and host."""
    with holder(target) as process:
        note = json.loads(note_of(target))

    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert {"pid": process.pid, "boot_id": boot_id, "host": os.uname().nodename} == note
    assert json.loads(Holder.me().as_note()) | {"pid": process.pid} == note


def test_the_note_is_refreshed(target: Target, monkeypatch: pytest.MonkeyPatch):
    """As long as the lock is held the note's time moves on, so that other machines see a living holder."""
    beats = threading.Semaphore(0)
    true_utime = os.utime
    monkeypatch.setattr(lock, "BEAT", 0.001)
    monkeypatch.setattr(lock.os, "utime", lambda *args, **how: (true_utime(*args, **how), beats.release()))
    with locked(target):
        true_utime(target.meta / "lock", (0, 0))
        while beats.acquire(blocking=False):
            pass  # beats from before
        assert all(beats.acquire(timeout=60) for _ in range(2))  # the first may have begun before
        assert (target.meta / "lock").stat().st_mtime > 0

    assert "lock-note" not in {thread.name for thread in threading.enumerate()}


# a child that holds the descriptor


def test_the_lock_is_shared_with_a_child(target: Target, monkeypatch: pytest.MonkeyPatch):
    """After the holder is killed, its worker still writes, so the lock stays held until the worker ends."""
    monkeypatch.setattr(lock, "GRACE", 0.2)
    with holder(target, "with child") as process:
        process.kill()
        process.wait()
        with pytest.raises(LockHeld), locked(target):
            pass
        os.kill(process.child, signal.SIGKILL)
        monkeypatch.setattr(lock, "GRACE", 60.0)
        with locked(target):
            pass


def test_workers_of_a_killed_holder_are_waited_for(target: Target):
    """A lock that is freed within the grace, because the dead holder's worker ends, is taken without an error."""
    with holder(target, "with child") as process:
        process.kill()
        process.wait()
        threading.Timer(0.3, os.kill, (process.child, signal.SIGKILL)).start()
        with locked(target):
            pass


def test_the_lock_is_not_left_to_forked_children(target: Target):
    """A process that the holder forked, and that outlives it, does not hold the lock: it is no worker on the target."""
    (reading, writing), (told, telling) = os.pipe(), os.pipe()
    with locked(target):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.write(telling, b"here")
            os.read(reading, 1)  # until the parent closes
            os._exit(0)
        assert b"here" == os.read(told, 4)
    try:
        with locked(target):
            pass
    finally:
        for descriptor in (writing, reading, told, telling):
            os.close(descriptor)
        os.waitpid(child, 0)


def test_a_beat_that_fails_ends_nothing(target: Target, monkeypatch: pytest.MonkeyPatch):
    """Where the note cannot be refreshed at the moment, as on a volume that is being committed, the next beat is."""
    tries = threading.Semaphore(0)
    true_utime, fails = os.utime, [OSError(5, "busy")] * 2

    def utime(*arguments: object) -> None:
        tries.release()
        if fails:
            raise fails.pop()
        true_utime(*arguments)

    monkeypatch.setattr(lock, "BEAT", 0.001)
    monkeypatch.setattr(lock.os, "utime", utime)
    with locked(target):
        assert all(tries.acquire(timeout=60) for _ in range(4))


# notes that were left behind

ME = Holder.me()
OTHER_BOOT = Holder(1, "11111111-0000", ME.host)
OTHER_MACHINE = Holder(1, "22222222-0000", "elsewhere")


@pytest.mark.parametrize("age", [0.0, 10 * SILENT])
def test_a_note_of_an_earlier_boot_is_taken_over(target: Target, age: float):
    """A note that this host left before it was rebooted means nothing, however fresh."""
    leave_note(target, OTHER_BOOT, age)

    with locked(target):
        assert os.getpid() == json.loads(note_of(target))["pid"]


def test_a_fresh_note_of_another_machine_is_respected(target: Target):
    """A machine whose kernel does not see our lock counts as alive while it refreshes its note; the note stays."""
    leave_note(target, OTHER_MACHINE, SILENT / 2)
    before = note_of(target)

    with pytest.raises(LockHeld, match="process 1 on elsewhere"), locked(target):
        pass
    assert before == note_of(target)


def test_who_waits_takes_over_when_the_note_lapses(target: Target, monkeypatch: pytest.MonkeyPatch):
    """Who is willing to wait gets the lock of a machine that is gone as soon as its note is silent for long enough."""
    monkeypatch.setattr(lock, "LOOK", 0.0)
    leave_note(target, OTHER_MACHINE, SILENT / 2)
    looks: list[int] = []

    def waiting() -> None:
        looks.append(1)
        if len(looks) == 3:
            monkeypatch.setattr(lock, "SILENT", SILENT / 4)

    with locked(target, waiting):
        assert os.getpid() == json.loads(note_of(target))["pid"]
    assert 3 == len(looks)


def test_who_waits_is_refused_when_the_holder_lives(target: Target, monkeypatch: pytest.MonkeyPatch):
    """A note that is refreshed meanwhile is that of a living holder: nobody waits for its end."""
    monkeypatch.setattr(lock, "LOOK", 0.0)
    leave_note(target, OTHER_MACHINE, SILENT / 2)

    with (
        pytest.raises(LockHeld, match="process 1 on elsewhere"),
        locked(target, lambda: leave_note(target, OTHER_MACHINE)),
    ):
        pass


def test_a_silent_note_of_another_machine_is_taken_over(target: Target):
    """A machine that has not refreshed its note for SILENT seconds counts as gone."""
    leave_note(target, OTHER_MACHINE, SILENT + 1)

    with locked(target):
        assert os.getpid() == json.loads(note_of(target))["pid"]


def test_a_note_from_the_future_is_respected(target: Target):
    """A note whose time lies ahead, because clocks differ, counts as fresh."""
    leave_note(target, OTHER_MACHINE, -60.0)

    with pytest.raises(LockHeld), locked(target):
        pass


@pytest.mark.parametrize("note", [b"", b"{", b"null", b"[]", b'{"pid": 1}', b'{"pid": 1, "more": 2}', b"\xff", b"7"])
def test_a_torn_note_means_nothing(target: Target, note: bytes):
    """A note that cannot be read holds no one up: the kernel's lock decides."""
    (target.meta / "lock").write_bytes(note)

    with locked(target):
        pass


@pytest.mark.parametrize(
    ("boot_id", "host", "silent_for", "alive"),
    [
        ("b", "h", 0.0, False),  # same kernel: its lock was free
        ("b", "other", 0.0, False),  # another container on the same kernel
        ("c", "h", 0.0, False),  # rebooted
        ("c", "other", 0.0, True),
        ("c", "other", SILENT - 1, True),
        ("c", "other", SILENT, False),
        ("", "h", 0.0, False),  # no boot id: the host decides
        ("", "other", 0.0, True),
        ("", "other", SILENT, False),
    ],
)
def test_who_may_be_alive(boot_id: str, host: str, silent_for: float, alive: bool):
    """With the kernel's lock free, only a holder on another machine that was heard of lately may be alive."""
    assert alive == may_be_alive(Holder(1, boot_id, host), Holder(2, "b", "h"), silent_for)
