"""Reaching for a directory with hands that may be lost: a child process that is killed if it falls silent."""

import marshal
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tusz_cache.errors import CacheError, TargetError, Unresponsive
from tusz_cache.guarding.values import DarwinAnswer, FileFault, FilesSeen, Statfs

READY = 60.0  # seconds for the child to start, on a machine that is busy; no file system is touched meanwhile
LAST = 0.5  # seconds that a killed child has to end before it is left to itself
_HEAD = 8  # bytes of a frame that tell its length

# Our packages without their __init__, which would take longer than all the rest.
_START = """
import sys
for name, path in (("tusz_cache", sys.argv[1]), ("tusz_cache.guarding", sys.argv[1] + "/guarding")):
    sys.modules[name] = package = type(sys)(name)
    package.__path__ = [path]
from tusz_cache.guarding.hands import serve
serve(int(sys.argv[2]))
"""


class Opened(NamedTuple):
    """A directory that was opened, and what is known of it."""

    fd: int
    real_path: str
    mount_id: int | None  # as in mountinfo
    unique_id: int | None  # of the mount, never used again while the machine runs
    device: int
    inode: int
    deleted: bool  # it has no name any more
    statfs: Statfs
    darwin: DarwinAnswer | None


class Looked(NamedTuple):
    """What a look at files told."""

    files: FilesSeen
    sizes: list[int]  # bytes; -1 where there is no file
    changed: list[int]  # change times in ns, which nobody can set


class Reach:
    """Touches files in a process of its own. A context manager; use it in one thread.

    Each method raises Unresponsive if nothing is heard for `deadline` seconds, and OSError as the file system says.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._fds: list[int] = []  # received, and ours to close

    def __enter__(self) -> Self:
        self._line, theirs = socket.socketpair()
        where = str(Path(__file__).parents[1])
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    [sys.executable, "-I", "-S", "-X", "utf8", "-c", _START, where, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for us; the child goes when we say so
                )
            except OSError as error:
                self._line.close()
                hint = "a process that looks at files is needed: see whether Python may start one here"
                raise TargetError(f"cannot start {sys.executable or 'Python'}: {error.strerror}", hint=hint) from error
        self._line.settimeout(READY)
        self._ready = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()
        for fd in self._fds:
            os.close(fd)
        process = self._process
        process.kill()
        try:
            process.wait(LAST)
        except subprocess.TimeoutExpired:  # it hangs in the kernel, until its server answers or is given up
            threading.Thread(target=process.wait, name="reap", daemon=True).start()

    def open(self, path: str) -> Opened:
        """Open a directory. Its descriptor is closed with this object, unless it is released."""
        _, real, mount, unique, device, inode, deleted, statfs, darwin = self._ask("open", os.fsencode(path))
        fd = self._fds[-1]
        answer = DarwinAnswer(*darwin) if darwin else None
        return Opened(fd, real, mount, unique, device, inode, deleted, Statfs(*statfs), answer)

    def release(self, opened: Opened) -> None:
        """Leave a directory's descriptor to the caller."""
        self._fds.remove(opened.fd)

    def realpath(self, path: str) -> str | None:
        """Return where `path` leads, None if nowhere."""
        found: str | None = self._ask("realpath", path)
        return found

    def number(self, path: str) -> str | None:
        """Return "major:minor" of a block device, None if it is none."""
        found: str | None = self._ask("number", path)
        return found

    def read(self, key: str) -> bytes | None:
        """Return the bytes of a file below the opened directory, None if it is not there."""
        found: bytes | None = self._ask("read", key)
        return found

    def tree(self) -> tuple[list[str], list[FileFault]]:
        """Return the keys of all files below the opened directory, ours left out, and what could not be read."""
        keys, faults = self._ask("tree")
        return keys, [FileFault(*fault) for fault in faults]

    def look(self, keys: Sequence[str], sizes: Sequence[int] | None, *, each: bool) -> Looked:
        """Look at files below the opened directory.

        sizes: in bytes, as they must be; None: any will do. each: ask statfs of each file, not of the root alone.
        """
        faults, said, method, sizes_now, changed = self._ask(
            "look", list(keys), None if sizes is None else list(sizes), each
        )
        seen = FilesSeen(
            len(keys), tuple(FileFault(*fault) for fault in faults), tuple(Statfs(*row) for row in said), method
        )
        return Looked(seen, sizes_now, changed)

    def probe(self, reads: Sequence[tuple[str, int]]) -> list[float]:
        """Read once in each (key, offset). Return the seconds that each took."""
        taken: list[float] = self._ask("probe", list(reads))
        return taken

    def _ask(self, verb: str, *arguments: Any) -> Any:
        if not self._ready:
            self._hear(READY)
            self._ready = True
        frame = marshal.dumps((verb, *arguments))
        try:
            self._line.sendall(len(frame).to_bytes(_HEAD, "little") + frame)
        except OSError as error:
            raise _gone() from error
        while (said := self._hear(self._deadline))[0] == "sign":
            pass
        kind, value = said
        if kind == "error":
            raise OSError(*value)
        return value

    def _hear(self, seconds: float) -> tuple[str, Any]:
        """Return the next frame. Raises Unresponsive if `seconds` pass without a byte."""
        self._line.settimeout(seconds)
        data = bytearray()
        length = _HEAD
        try:
            while len(data) < length:
                some, fds, _, _ = socket.recv_fds(self._line, min(length - len(data), 1 << 20), 1)
                self._fds += fds
                data += some
                if not some:
                    raise _gone()
                if len(data) == length == _HEAD:
                    length += int.from_bytes(data, "little")
        except TimeoutError as error:
            raise Unresponsive(
                f"no answer for {seconds:.0f} s", hint="check the server behind the mount, and the network"
            ) from error
        except ConnectionError as error:
            raise _gone() from error
        said: tuple[str, Any] = marshal.loads(data[_HEAD:])  # noqa: S302 - from our own child
        return said


def _gone() -> CacheError:
    return TargetError("the process that looks at files ended", hint="it may have run out of memory: run again")
