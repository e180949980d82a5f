"""One writer for each target: a kernel lock, and a note of who holds it for machines that do not share the kernel.

On one kernel `flock` is the truth: it ends with the holder, however that ends. A volume may also be mounted on another
machine whose kernel does not see our lock; there the note counts, as long as its holder keeps refreshing it.

Shards work side by side: each has a lock of its own, and a share of the target's lock, so that nobody has that alone.

Processes that the holder forks do not hold the lock. Those that write too are given the descriptor at their start.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tusz_cache.errors import LockHeld
from tusz_cache.ssd import Target, open_note, rewrite

NAME = "lock"
PLANNING = "makes a plan for shards"
BEAT = 15.0  # seconds between two refreshes of the note
SILENT = 120.0  # seconds after which a note from another machine counts as left behind
GRACE = 5.0  # seconds for the workers of a killed process to end
CONTAINER = "MODAL_TASK_ID"  # names a container at Modal: each has a kernel of its own, and all are host "modal"
LOOK = 1.0  # seconds between two looks at a note that may lapse

_held: set[int] = set()  # descriptors of this process's locks


def _let_go() -> None:
    """In a process that was forked: else a holder that is killed would leave its lock to its children."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who works on a target."""

    pid: int
    boot_id: str
    host: str
    work: str = ""  # what for, where somebody may wait for it

    def as_note(self) -> bytes:
        """Return what the lock's file says."""
        return json.dumps({name: value for name, value in asdict(self).items() if value or name != "work"}).encode()

    @classmethod
    def me(cls, work: str = "") -> "Holder":
        """Return this process."""
        if container := os.environ.get(CONTAINER):
            return cls(os.getpid(), "", container, work)
        return cls(os.getpid(), _boot_id(), socket.gethostname(), work)


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def may_be_alive(note: Holder, me: Holder, silent_for: float) -> bool:
    """Whether the process that left `note` can still run, given that the kernel's lock was free. Pure.

    silent_for: seconds since the note was refreshed.
    """
    same_kernel = note.boot_id == me.boot_id if note.boot_id and me.boot_id else note.host == me.host
    rebooted = note.host == me.host and not same_kernel
    return not same_kernel and not rebooted and silent_for < SILENT


Waiting = Callable[[], None]


@contextlib.contextmanager
def locked(target: Target, waiting: Waiting | None = None, *, work: str = "") -> Iterator[int]:
    """Hold the target's lock, alone. Yields its file descriptor, for workers to share. Raises LockHeld.

    waiting: the note of another machine that may be gone is waited for until it lapses, and this is called meanwhile,
    each LOOK seconds; it may raise. Without it such a note is respected at once. work: what for, for those who wait.
    """
    with _alone(target.meta / NAME, waiting, work) as descriptor:
        for path in target.meta.glob(f"{NAME}-*"):  # of shards on machines that do not share the kernel
            _refuse_living(path, waiting)
        yield descriptor


@contextlib.contextmanager
def locked_shard(target: Target, suffix: str, waiting: Waiting | None = None) -> Iterator[tuple[int, int]]:
    """Hold a shard's own lock, and its share of the target's. Yields their file descriptors. Raises LockHeld.

    Of a target's lock there are many shares, and while one is held nobody has it alone. Nothing is written there.
    """
    path = target.meta / NAME
    with _opened(path) as share:
        _acquire(share, path, fcntl.LOCK_SH)
        with _alone(target.meta / f"{NAME}-{suffix}", waiting, "") as own:
            _refuse_living(
                path, waiting
            )  # after the note of its own is left: of two that come at once one sees the other
            yield share, own


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = open_note(path)
    _held.add(descriptor)
    try:
        yield descriptor
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


@contextlib.contextmanager
def _alone(path: Path, waiting: Waiting | None, work: str) -> Iterator[int]:
    with _opened(path) as descriptor:
        _acquire(descriptor, path, fcntl.LOCK_EX)
        _refuse_living(path, waiting)
        rewrite(descriptor, Holder.me(work).as_note(), path)
        done = threading.Event()
        beat = threading.Thread(target=_refresh, args=(descriptor, done), name="lock-note", daemon=True)
        beat.start()
        try:
            yield descriptor
        finally:
            done.set()
            beat.join()
            rewrite(descriptor, b"", path)


def _refresh(descriptor: int, done: threading.Event) -> None:
    while not done.wait(BEAT):
        with contextlib.suppress(OSError):  # a volume that is being committed; the next beat may come through
            os.utime(descriptor)


def _acquire(descriptor: int, path: Path, how: int) -> None:
    """Get the kernel's lock, exclusive or shared."""
    deadline = time.monotonic() + GRACE
    while True:
        notes = _notes(path)
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            # a killed process leaves workers that end within moments, and who just got the lock says at once who it is
            alive = [note for note in notes if _runs(note.pid)]
            if alive or time.monotonic() > deadline:
                raise _refused(next(iter(alive or notes), None), path) from error
            time.sleep(0.05)
    if not path.exists() or os.fstat(descriptor).st_ino != path.stat().st_ino:
        raise _refused(None, path)  # somebody deleted the file meanwhile, and a third one may hold the new one


def _notes(path: Path) -> list[Holder]:
    """Return who may hold the lock at `path`: who has it alone, or the shards."""
    return [note for at in (path, *sorted(path.parent.glob(f"{path.name}-*"))) if (note := _read(at)) is not None]


def _refuse_living(path: Path, waiting: Waiting | None) -> None:
    """Raise LockHeld if the note at `path` is of a process on another kernel that may be alive."""
    found: float | None = None
    while (note := _read(path)) is not None:
        try:
            sign = path.stat().st_mtime
        except FileNotFoundError:
            return
        if not may_be_alive(note, Holder.me(), time.time() - sign):
            return
        if waiting is None or found not in {None, sign}:  # its holder lives: it has just refreshed it
            raise _refused(note, path)
        found = sign
        waiting()
        time.sleep(LOOK)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # released, or torn by a crash: the kernel's lock decides


def _refused(note: Holder | None, path: Path) -> LockHeld:
    if note is None:
        return LockHeld("another process works on this target", hint="wait until it ends")
    hint = "wait until it ends, or stop it: Ctrl-C or `kill` lets it keep what it has"
    if may_be_alive(note, Holder.me(), silent_for=0.0):
        hint = (
            f"wait until it ends; if that machine is gone, its lock lapses {SILENT:.0f} s after the last sign: {path}"
        )
    error = LockHeld(f"process {note.pid} on {note.host} works on this target", hint=hint)
    error.work = note.work
    return error
