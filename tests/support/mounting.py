"""Real mounts for tests: in a mount namespace of the test's own, so that none outlives it, whatever happens.

Servers die with the test process, by SIGKILL, which reaches a stopped one too. The test itself never looks into a mount
that may hang: only processes that it can kill do.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import fuseserver
from tests.support.running import Ran, environment

CLONE_FS, CLONE_NEWNS = 0x200, 0x20000
LIFETIME = 240  # seconds that a server lives at most
PATIENCE = 30  # seconds for a server to come up, and for a command to end; nothing here takes more than a few


def needs(*programs: str, fuse: bool = False, loop: bool = False) -> None:
    """Skip the test where this machine cannot mount what it needs."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting needs Linux and root")
    for device, wanted in (("/dev/fuse", fuse), ("/dev/loop-control", loop)):
        if wanted and not os.path.exists(device):
            pytest.skip(f"there is no {device}")
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def _call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


@contextmanager
def private_mounts() -> Iterator[None]:
    """Give this thread and what it starts a mount namespace for the time of the context. Skips where that is denied."""
    needs("mount", "setpriv", "timeout")
    home, here = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY), os.getcwd()
    try:
        try:
            _call("unshare", CLONE_NEWNS)
        except PermissionError:
            pytest.skip("no permission to mount")
        try:
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            yield
        finally:
            _call("unshare", CLONE_FS)  # a thread that shares its directory with others may not change over
            _call("setns", home, CLONE_NEWNS)
            os.chdir(here)
    finally:
        os.close(home)


def mount(fstype: str, source: object, target: Path, options: str = "rw", *, cwd: Path | None = None) -> Path:
    """Mount and return `target`, which is made. Skips if the kernel lacks the file system."""
    target.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-n", "-i", "-t", fstype, "-o", options, str(source), str(target)]
    done = subprocess.run(command, check=False, cwd=cwd, stderr=subprocess.PIPE, text=True)
    if "unknown filesystem type" in done.stderr:
        pytest.skip(f"the kernel has no {fstype}")
    assert 0 == done.returncode, done.stderr
    return target


def bind(source: Path, target: Path) -> Path:
    """Make `source`, a file or directory, appear at `target`, which must be there if it is a file."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-n", "--bind", str(source), str(target)], check=True)
    return target


def overlay(target: Path, lower: object, *, cwd: Path | None = None) -> Path:
    """Mount a writable overlay over `lower`, whose upper layer lies on the file system of `target`."""
    upper, work = (target.with_name(f"{target.name}-{name}") for name in ("upper", "work"))
    upper.mkdir()
    work.mkdir()
    return mount("overlay", "overlay", target, f"lowerdir={lower},upperdir={upper},workdir={work}", cwd=cwd)


def stacked(target: Path, *layers: tuple[str, Path]) -> Path:
    """Mount an overlay whose layers are named one by one, as newer programs do. Skips where the kernel cannot."""
    target.mkdir()
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    fsopen, fsconfig, fsmount, move_mount = 430, 431, 432, 429
    set_string, create, empty_path, here = 1, 6, 4, -100
    context = syscall(fsopen, b"overlay", 0)
    for name, path in layers:
        if syscall(fsconfig, context, set_string, name.encode(), bytes(path), 0):
            pytest.skip(f"the kernel's overlay has no {name}: {os.strerror(ctypes.get_errno())}")
    assert 0 == syscall(fsconfig, context, create, None, None, 0), os.strerror(ctypes.get_errno())
    made = syscall(fsmount, context, 0, 0)
    assert 0 == syscall(move_mount, made, b"", here, bytes(target), empty_path), os.strerror(ctypes.get_errno())
    os.close(made)
    os.close(context)
    return target


IMAGES = {
    "ext4": (16, ["mkfs.ext4", "-q", "-F"]),
    "xfs": (320, ["mkfs.xfs", "-q"]),
    "btrfs": (128, ["mkfs.btrfs", "-q"]),
}  # size in MiB, of a file with holes; command


def image(fstype: str, path: Path, holding: Path | None = None) -> Path:
    """Make a file that holds an empty file system, or a copy of `holding` (ext4 only). Skips without its mkfs."""
    size, command = IMAGES[fstype]
    needs(command[0], loop=True)
    with path.open("wb") as file:
        file.truncate(size * 2**20)
    if holding is not None:
        command = [*command, "-d", str(holding)]
    subprocess.run([*command, str(path)], check=True, stdout=subprocess.DEVNULL)
    return path


@contextmanager
def attached(file: Path, *options: str) -> Iterator[str]:
    """Make a file a block device for the time of the context, and yield its name."""
    needs("losetup", loop=True)
    command = ["losetup", "-f", "--show", *options, str(file)]
    device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def mounted(path: Path) -> bool:
    """Whether something is mounted there. Asks no server."""
    escaped = "".join(f"\\{ord(sign):03o}" if sign in " \t\n\\" else sign for sign in str(path))
    return any(line.split(" ")[4] == escaped for line in Path("/proc/thread-self/mountinfo").read_text().splitlines())


@contextmanager
def serving(command: list[str], mountpoint: Path | None = None, **options: Any) -> Iterator[int]:
    """Run a server in the foreground until the end of the context, and yield its process id.

    It dies by SIGKILL: then, with this process, or after its LIFETIME, stopped or not.
    """
    bound = ["setpriv", "--pdeathsig", "KILL"]
    whole = [*bound, "timeout", "--signal=KILL", str(LIFETIME), *bound, *command]
    watch = subprocess.Popen(whole, **options)
    try:
        children = Path(f"/proc/{watch.pid}/task/{watch.pid}/children")
        _wait(lambda: watch.poll() is None and bool(children.read_text()), f"{command[0]} did not start")
        pid = int(children.read_text())
        if mountpoint is not None:
            _wait(lambda: watch.poll() is not None or mounted(mountpoint), f"{command[0]} did not mount")
        assert watch.poll() is None, f"{command[0]} ended at once"
        yield pid
    finally:
        watch.kill()
        watch.wait()


def _wait(until: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, otherwise
        time.sleep(0.01)


@dataclass(frozen=True)
class Bucket:
    """A fake bucket mount."""

    path: Path
    pid: int  # of its server
    log: Path

    def forget(self) -> None:
        """Drop what was asked so far."""
        os.truncate(self.log, 0)

    def asked(self) -> set[str]:
        """Return the operations that were asked of the server, as in "READ"."""
        return {line.split()[0] for line in self.log.read_text(errors="surrogateescape").splitlines()}

    @property
    def opened(self) -> set[str]:
        """The operations asked that open or read a file, or would change something: none is what a guard may do."""
        return self.asked() & (fuseserver.WRITING | {"OPEN", "READ"})

    def stop(self) -> None:
        """Let the server hang: whoever asks waits forever."""
        os.kill(self.pid, signal.SIGSTOP)

    def kill(self) -> None:
        """Let the server die: whoever asks is told that it is not connected."""
        os.kill(self.pid, signal.SIGKILL)


@contextmanager
def bucket(
    directory: Path,
    path: Path,
    *options: str,
    fstype: str = "fuse",
    source: str = "mountpoint-s3",
    like: str = "mountpoint-s3",
) -> Iterator[Bucket]:
    """Mount `directory` at `path` by a server of our own that passes for a bucket's client."""
    needs(fuse=True)
    path.mkdir(parents=True, exist_ok=True)
    log = path.with_name(f"{path.name}.log")
    log.touch()
    command = [sys.executable, "-I", "-S", fuseserver.__file__, str(directory), str(path)]
    command += ["--fstype", fstype, f"--source={source}", "--like", like, "--log", str(log), *options]
    with serving(command, path) as pid:
        found = Bucket(path, pid, log)
        _wait(lambda: "INIT" in found.asked(), "the kernel asked nothing")
        yield found


def guard(path: object, *options: object) -> Ran:
    """Run `python -m tusz_cache.guard PATH --json` to its end, or kill it. Raises TimeoutExpired if it hangs."""
    return python("-m", "tusz_cache.guard", path, "--json", *options)


def python(*arguments: object) -> Ran:
    """Run Python to its end, or kill it. Raises TimeoutExpired if it hangs."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, check=False, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    return Ran(done.returncode, done.stdout, done.stderr)


def beside() -> set[str]:
    """Return the commands of other processes that live in this thread's mount namespace."""
    here = os.readlink("/proc/thread-self/ns/mnt")
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns/mnt") == here and int(process.name) != os.getpid():
                found.add((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it ended meanwhile
            continue
    return found
