"""The hands: what touches a file system that may hang, in a process that may be killed for it.

It answers requests on a socket, one after the other, and gives a sign of life while it works on one.
The standard library only, and little of it, so that the process is up in 10 ms.
"""

import errno
import marshal
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator

from tusz_cache.guarding.beneath import MNT_ID_UNIQUE, O_PATH, Root, StatfsRow, darwin_answer, mount_id, statfs

META = ".tusz_cache"  # as entry.META: importing that takes longer than the rest
SIGN = 0.2  # seconds between two signs of life
SLOW = 100e-6  # seconds for one file; from here on threads pay
SAMPLE = 64  # files looked at before that is judged
THREADS = 16
READ = 4096  # bytes; what one read of the probe asks for
BLOCK = 1 << 20  # bytes read at once

TYPE_CHECKING = False  # as typing's, which takes 5 ms
if TYPE_CHECKING:
    import _socket
    from typing import Any

FaultRow = tuple[str, str, str]  # see values.FileFault


class Hands:
    """Answers requests. Each public method is one; `sign` is called while it goes on."""

    def __init__(self, sign: Callable[[], None]) -> None:
        self._sign = sign
        self._root: Root | None = None

    @property
    def root(self) -> Root:
        """The directory that was opened."""
        assert self._root is not None
        return self._root

    def open(self, path: bytes) -> tuple[object, ...]:
        """Open a directory; return the fields of reaching.Opened."""
        fd = os.open(path, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._root = Root(fd)
        link = f"/proc/self/fd/{fd}"
        has_link = os.path.lexists(link)
        real = os.readlink(link) if has_link else os.path.realpath(os.fsdecode(path))  # noqa: PTH115 - pathlib takes 5 ms
        seen = os.fstat(fd)
        deleted = seen.st_nlink == 0 or (real.endswith(" (deleted)") and not os.path.lexists(real))
        ids = mount_id(fd), mount_id(fd, MNT_ID_UNIQUE)
        return fd, real, *ids, seen.st_dev, seen.st_ino, deleted, statfs(fd), darwin_answer(fd)

    def realpath(self, path: str) -> str | None:
        """Return where `path` leads, None if nowhere."""
        try:
            return os.path.realpath(path, strict=True)
        except OSError:
            return None

    def number(self, path: str) -> str | None:
        """Return "major:minor" of a block device, None if it is none."""
        try:
            seen = os.stat(path)  # noqa: PTH116 - likewise
        except OSError:
            return None
        return f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}" if stat.S_ISBLK(seen.st_mode) else None

    def read(self, key: str) -> bytes | None:
        """Return a file's bytes, None if it is not there."""
        try:
            fd = self.root.open(key, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "it is no file", key)
            blocks = []
            while block := os.read(fd, BLOCK):
                blocks.append(block)
                self._sign()
            return b"".join(blocks)
        finally:
            os.close(fd)

    def tree(self) -> tuple[list[str], list[FaultRow]]:
        """Return the keys of everything below the root that is no directory, ours left out, and what cannot be read."""
        keys: list[str] = []
        faults: list[FaultRow] = []
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                fd = self.root.open(folder.rstrip("/") or ".", os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                faults.append((folder, *_fault(error)))
                continue
            try:
                with os.scandir(fd) as rows:
                    for row in rows:
                        self._sign()
                        if row.is_dir(follow_symlinks=False):
                            folders += [f"{folder}{row.name}/"] if folder or row.name != META else []
                        else:
                            keys.append(folder + row.name)
            finally:
                os.close(fd)
        return sorted(keys), faults

    def look(
        self, keys: list[str], sizes: list[int] | None, each: bool
    ) -> tuple[list[FaultRow], list[StatfsRow], str, list[int], list[int]]:
        """Look at every file. Return faults, what statfs said, how it was done, sizes in bytes, and change times in ns.

        sizes: as they must be; None: any will do. each: ask statfs of each file, not of the root alone.
        """
        work = _Look(self.root, keys, sizes, each)
        began = time.monotonic()
        for _ in work.over(range(min(SAMPLE, len(keys)))):
            self._sign()
        if time.monotonic() - began > SLOW * SAMPLE and len(keys) > SAMPLE:
            self._spread(work, len(keys))
        else:
            for _ in work.over(range(SAMPLE, len(keys))):
                self._sign()
        return work.faults, list(work.said.values()), self.root.method, work.sizes, work.changed

    def _spread(self, work: "_Look", count: int) -> None:
        import threading  # noqa: PLC0415 - takes 3 ms, and most checks need none

        done, errors = [0] * THREADS, list[BaseException]()

        def run(number: int) -> None:
            try:
                for _ in work.over(range(SAMPLE + number, count, THREADS)):
                    done[number] += 1
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

        threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        before = 0
        for thread in threads:
            while thread.is_alive():
                thread.join(SIGN / 2)
                if sum(done) > before:
                    before = sum(done)
                    self._sign()
        for error in errors:
            raise error

    def probe(self, reads: list[tuple[str, int]]) -> list[float]:
        """Read once in each file, at an offset. Return the seconds that each took, past the page cache if possible."""
        taken = []
        for key, offset in reads:
            fd = self.root.open(key, os.O_RDONLY | os.O_NONBLOCK)
            try:
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # one page, no read-ahead
                    os.posix_fadvise(fd, offset, READ, os.POSIX_FADV_DONTNEED)
                began = time.perf_counter()
                os.pread(fd, READ, offset)
                taken.append(time.perf_counter() - began)
            finally:
                os.close(fd)
            self._sign()
        return taken


class _Look:
    """What a look at files has told so far."""

    def __init__(self, root: Root, keys: list[str], sizes: list[int] | None, each: bool) -> None:
        self.faults: list[FaultRow] = []
        self.sizes, self.changed = [-1] * len(keys), [0] * len(keys)
        self.said: dict[tuple[object, ...], StatfsRow] = {}
        self._root, self._keys, self._wanted, self._each = root, keys, sizes, each
        self._user, self._groups = os.geteuid(), {os.getegid(), *os.getgroups()}
        self._note(root.fd)

    def over(self, rows: range) -> Iterator[None]:
        """Look at the files of these rows, one at each step."""
        folder, below = "", self._root
        try:
            for row in rows:
                key = self._keys[row]
                here, _, name = key.rpartition("/")
                try:
                    if here != folder:
                        opened = Root(self._root.open(here or ".", O_PATH), self._root)
                        self._leave(below)
                        folder, below = here, opened
                    self._one(row, key, below.open(name, O_PATH))
                except OSError as error:
                    self.faults.append((key, *_fault(error)))
                yield
        finally:
            self._leave(below)

    def _leave(self, folder: Root) -> None:
        if folder is not self._root:
            os.close(folder.fd)

    def _one(self, row: int, key: str, fd: int) -> None:
        try:
            seen = os.fstat(fd)
            if not stat.S_ISREG(seen.st_mode):
                kind = _KINDS.get(stat.S_IFMT(seen.st_mode), "no regular file")
                self.faults.append((key, "no file", f"it is {kind}"))
                return
            self.sizes[row], self.changed[row] = seen.st_size, seen.st_ctime_ns
            if self._wanted is not None and seen.st_size != self._wanted[row]:
                self.faults.append((key, "size", f"{seen.st_size} bytes, {self._wanted[row]} expected"))
            if self._user and not self._may_read(seen):
                os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))  # an access list may allow what the mode does not
            if self._each:
                self._note(fd)
        finally:
            os.close(fd)

    def _may_read(self, seen: os.stat_result) -> bool:
        owner, group = seen.st_uid == self._user, seen.st_gid in self._groups
        return bool(seen.st_mode & (stat.S_IRUSR if owner else stat.S_IRGRP if group else stat.S_IROTH))

    def _note(self, fd: int) -> None:
        kind, bsize, frsize, blocks, bfree, files, ffree = row = statfs(fd)
        self.said.setdefault((kind, bsize, frsize, blocks, bfree == blocks, files, ffree == files), row)


_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
_FAULTS = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.ELOOP: "elsewhere",
    errno.EXDEV: "elsewhere",
}
_DETAILS = {
    errno.ELOOP: "a symbolic link leads to it",
    errno.EXDEV: "it lies on another mount, or outside",
}


def _fault(error: OSError) -> tuple[str, str]:
    number = error.errno or 0
    return _FAULTS.get(number, "unreadable"), _DETAILS.get(number, error.strerror or str(error))


# speaking


def serve(line: int) -> None:
    """Answer what is asked on the socket `line` until its other end closes."""
    import _socket  # noqa: PLC0415 - only the program needs it; `socket` takes 6 ms

    connection = _socket.socket(fileno=line)

    def say(kind: str, value: "Any", fds: bytes = b"") -> None:
        frame = marshal.dumps((kind, value))
        head = len(frame).to_bytes(8, "little")
        connection.sendmsg([head], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)] if fds else [])
        connection.sendall(frame)

    last = 0.0

    def sign() -> None:
        nonlocal last
        if (now := time.monotonic()) - last > SIGN:
            last = now
            say("sign", None)

    hands = Hands(sign)
    say("ready", None)
    while head := _received(connection, 8):
        request = _received(connection, int.from_bytes(head, "little"))
        verb, *arguments = marshal.loads(request)  # noqa: S302 - from the process that started us
        try:
            value = getattr(hands, verb)(*arguments)
        except OSError as error:
            say("error", (error.errno, error.strerror))
            continue
        say("done", value, value[0].to_bytes(4, sys.byteorder) if verb == "open" else b"")


def _received(connection: "_socket.socket", size: int) -> bytes:
    """Return `size` bytes, none if the other end has closed."""
    data = b""
    while len(data) < size and (some := connection.recv(size - len(data))):
        data += some
    return data if len(data) == size else b""
