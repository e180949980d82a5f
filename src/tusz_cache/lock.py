"""One writer for each target: a kernel lock, and a note of who holds it for machines that do not share the kernel.

On one kernel `flock` is the truth: it ends with the holder, however that ends. A volume may also be mounted on another
machine whose kernel does not see our lock; there the note counts, as long as its holder keeps refreshing it.

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

BEAT = 15.0  # seconds between two refreshes of the note
SILENT = 120.0  # seconds after which a note from another machine counts as left behind
GRACE = 5.0  # seconds for the workers of a killed process to end
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

    @classmethod
    def me(cls) -> "Holder":
        """Return this process."""
        return cls(os.getpid(), _boot_id(), socket.gethostname())


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


@contextlib.contextmanager
def locked(target: Target, waiting: Callable[[], None] | None = None) -> Iterator[int]:
    """Hold the target's lock. Yields its file descriptor, for workers to share. Raises LockHeld.

    waiting: the note of another machine that may be gone is waited for until it lapses, and this is called meanwhile,
    each LOOK seconds; it may raise. Without it such a note is respected at once.
    """
    path = target.meta / "lock"
    descriptor = open_note(path)
    _held.add(descriptor)
    try:
        _acquire(descriptor, path, waiting)
        if not path.exists() or os.fstat(descriptor).st_ino != path.stat().st_ino:
            raise _refused(None, path)  # somebody deleted the file meanwhile, and a third one may hold the new one
        rewrite(descriptor, json.dumps(asdict(Holder.me())).encode(), path)
        done = threading.Event()
        beat = threading.Thread(target=_refresh, args=(descriptor, done), name="lock-note", daemon=True)
        beat.start()
        try:
            yield descriptor
        finally:
            done.set()
            beat.join()
            rewrite(descriptor, b"", path)
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _refresh(descriptor: int, done: threading.Event) -> None:
    while not done.wait(BEAT):
        with contextlib.suppress(OSError):  # a volume that is being committed; the next beat may come through
            os.utime(descriptor)


def _acquire(descriptor: int, path: Path, waiting: Callable[[], None] | None) -> None:
    deadline = time.monotonic() + GRACE
    while True:
        note = _read(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            # a killed process leaves workers that end within moments
            if note is None or _runs(note.pid) or time.monotonic() > deadline:
                raise _refused(note, path) from error
            time.sleep(0.05)
    me = Holder.me()
    found = os.fstat(descriptor).st_mtime
    while note is not None and may_be_alive(note, me, time.time() - found):
        if waiting is None or os.fstat(descriptor).st_mtime != found:  # its holder lives: it has just refreshed it
            raise _refused(note, path)
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


def _read(descriptor: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.pread(descriptor, 4096, 0)))
    except (ValueError, TypeError):
        return None  # released, or torn by a crash: the kernel's lock decides


def _refused(note: Holder | None, path: Path) -> LockHeld:
    if note is None:
        return LockHeld("another process works on this target", hint="wait until it ends")
    who = f"process {note.pid} on {note.host} works on this target"
    if not may_be_alive(note, Holder.me(), silent_for=0.0):
        return LockHeld(who, hint="wait until it ends, or stop it: Ctrl-C or `kill` lets it keep what it has")
    return LockHeld(
        who,
        hint=f"wait until it ends; if that machine is gone, its lock lapses {SILENT:.0f} s after the last sign: {path}",
    )
