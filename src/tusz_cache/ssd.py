"""The only code that writes to a target: preallocate, pwrite, sync, publish by rename, trash.

The order is the contract: a name appears only after its bytes are synced, and whoever records the name does so after
the directory is synced too.
"""

import contextlib
import ctypes
import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tusz_cache.disk_errors import translated
from tusz_cache.durability import Durability
from tusz_cache.entry import META

_libc = ctypes.CDLL(None, use_errno=True)
_SYNCFS_FROM = 16  # files; from here on one sync of the file system is cheaper than one for each file
_NO_FALLOCATE = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class Target:
    """A directory that holds a cache, and how its bytes are made to last."""

    root: Path
    durability: Durability = field(default_factory=Durability)

    @property
    def meta(self) -> Path:
        """Our own directory below the root."""
        return self.root / META

    @property
    def partial(self) -> Path:
        """Where files lie until they are whole."""
        return self.meta / "partial"

    @property
    def trash(self) -> Path:
        """Where deleted files wait for the seal."""
        return self.meta / "trash"

    def path(self, key: str) -> Path:
        """Where the object `key` lies under its final name."""
        return self.root / key


def prepare(target: Target) -> None:
    """Make the target's directories. Raises TargetError."""
    with translated(target.root):
        sync_directories(target, make_directories([target.partial]) | {target.partial})


def folds_case(target: Target) -> bool:
    """Whether the target takes "A" and "a" for one name. Read-only: looks at the nearest directory that exists."""
    here = target.root
    while not here.exists():
        here = here.parent
    swapped = here.with_name(here.name.swapcase())
    return swapped != here and swapped.exists() and swapped.samefile(here)


def free_bytes(target: Target) -> int:
    """Return the bytes that an ordinary user may still write at the nearest directory that exists."""
    here = target.root
    while not here.exists():
        here = here.parent
    stat = os.statvfs(here)
    return stat.f_bavail * stat.f_frsize


def open_partial(path: Path, size: int, *, preallocate: bool) -> int:
    """Open `path` for positioned writes, made `size` bytes long with its blocks reserved. Returns the file descriptor.

    Raises NoSpace at once, not after hours, where the file system can reserve.
    """
    with translated(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if preallocate and size:
                _reserve(descriptor, size)
            if os.fstat(descriptor).st_size != size:
                os.ftruncate(descriptor, size)
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        return descriptor


def open_existing(path: Path) -> int:
    """Open a partial file that is there already. Returns the file descriptor. Raises TargetError."""
    with translated(path):
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _reserve(descriptor: int, size: int) -> None:
    # not os.posix_fallocate: where the file system cannot reserve, glibc would write every block instead
    fallocate = getattr(_libc, "fallocate", None)
    if fallocate is None:
        return
    if fallocate(descriptor, 0, ctypes.c_int64(0), ctypes.c_int64(size)) != 0:
        code = ctypes.get_errno()
        if code not in _NO_FALLOCATE:
            raise OSError(code, os.strerror(code))


def write_at(descriptor: int, data: memoryview, offset: int, path: Path) -> None:
    """Write all of `data` at `offset`. path: for the message. Raises NoSpace, TargetError."""
    with translated(path):
        while data:
            written = os.pwrite(descriptor, data, offset)
            data = data[written:]
            offset += written


def write_new(path: Path, data: memoryview) -> None:
    """Make the file `path` of exactly `data`; nothing is left of it on failure. Raises NoSpace, TargetError."""
    with translated(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            write_at(descriptor, data, 0, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)


def publish(target: Target, moves: Sequence[tuple[Path, Path]]) -> list[os.stat_result]:
    """Give whole files their final names, so that they survive. Returns a stat of each file under its final name.

    moves: (partial path, final path), partial and final on one file system. Raises TargetError, NoSpace.
    """
    with translated(target.root):
        if target.durability.syncs:
            sync_files([partial for partial, _ in moves])
        made = make_directories({final.parent for _, final in moves})
        for partial, final in moves:
            if target.durability.commit is not None:
                _to_whole_seconds(partial)
            partial.replace(final)
        sync_directories(target, {final.parent for _, final in moves} | made)
        return [final.stat() for _, final in moves]


def _to_whole_seconds(path: Path) -> None:
    """Drop the fraction of a file's time: a volume that is committed may show others none, and proofs bear the time."""
    seconds = path.stat().st_mtime_ns // 10**9 * 10**9
    os.utime(path, ns=(seconds, seconds))


def sync_files(paths: Sequence[Path]) -> None:
    """Bring the data of all `paths` (on one file system) to the disk."""
    syncfs = getattr(_libc, "syncfs", None)
    together = syncfs is not None and len(paths) >= _SYNCFS_FROM
    for path in paths[:1] if together else paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not together:
                os.fdatasync(descriptor)
            elif syncfs is not None and syncfs(descriptor) != 0:
                raise OSError(ctypes.get_errno(), "syncfs failed")
        finally:
            os.close(descriptor)


def make_directories(directories: Iterable[Path]) -> set[Path]:
    """Make `directories` and those above them; returns those whose entries changed, for syncing.

    Raises TargetError, NoSpace.
    """
    changed: set[Path] = set()
    for directory in directories:
        with translated(directory):
            missing = directory
            while not missing.is_dir():
                changed.add(missing.parent)
                missing = missing.parent
            directory.mkdir(parents=True, exist_ok=True)
    return changed


def check_writable(directories: Iterable[Path]) -> None:
    """Make `directories`, and in each a file that is removed again. Raises TargetError, NoSpace."""
    for directory in directories:
        make_directories([directory])
        draft = directory / f"{uuid.uuid4().hex}.draft"
        with translated(directory):
            try:
                draft.touch(exist_ok=False)
                draft.unlink()
            except OSError as error:
                raise OSError(error.errno, error.strerror) from error  # of the directory, and not of the trial


def sync_directories(target: Target, directories: Iterable[Path]) -> None:
    """Make renames in `directories` survive, where the policy wants that."""
    if not target.durability.syncs:
        return
    for directory in directories:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_file(target: Target, path: Path, data: bytes | Iterable[bytes]) -> None:
    """Put `data` at `path` so that readers see all of it or the old file. data: may come in pieces.

    Raises TargetError, NoSpace.
    """
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.draft")
    with translated(path):
        try:
            with draft.open("wb") as file:
                file.writelines([data] if isinstance(data, bytes) else data)
            publish(target, [(draft, path)])
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def remove(target: Target, path: Path) -> None:
    """Remove `path` if it is there, and make that survive."""
    with translated(path):
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_directories(target, [path.parent])


def set_time(path: Path, mtime_ns: int) -> None:
    """Give a file the modification time that a record has of it. Raises TargetError."""
    with translated(path):
        os.utime(path, ns=(mtime_ns, mtime_ns))


def move_to_trash(target: Target, keys: Sequence[str]) -> None:
    """Take files out of the tree; they can be had back from the trash until the seal. Empty folders go as well."""
    here = target.trash / uuid.uuid4().hex  # an earlier run's trash may hold a file where this one needs a folder
    with translated(target.trash):
        bins = {(here / key).parent for key in keys}
        made = make_directories(bins)
        for key in keys:
            target.path(key).replace(here / key)
        left = {target.path(key).parent for key in keys}
        sync_directories(target, bins | made | left)
    for folder in left:
        _remove_empty(target, folder)


def _remove_empty(target: Target, folder: Path) -> None:
    with contextlib.suppress(OSError):  # not empty, or gone with another one
        while folder != target.root:
            folder.rmdir()
            folder = folder.parent


def tidy(target: Target) -> None:
    """Delete for good what the trash holds, and drafts that a killed run left."""
    with translated(target.trash):
        if target.trash.exists():
            shutil.rmtree(target.trash)
        for draft in target.meta.glob("*.draft"):
            draft.unlink()


def open_note(path: Path) -> int:
    """Open a small file for reading and `rewrite`. Returns the file descriptor."""
    with translated(path):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def rewrite(descriptor: int, data: bytes, path: Path) -> None:
    """Replace what a note says. Neither atomic nor synced. path: for the message."""
    with translated(path):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, data, 0)


class Appender:
    """A file that only grows, written by one process. Not thread-safe."""

    def __init__(self, target: Target, path: Path, *, keep_bytes: int) -> None:
        """Open `path`, cutting it to its first `keep_bytes`. Raises TargetError, NoSpace."""
        self._target, self._path = target, path
        with translated(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            os.ftruncate(self._descriptor, keep_bytes)
            sync_directories(target, [path.parent])

    def append(self, data: bytes) -> None:
        """Add `data`. It survives this process at once, power loss only after `sync`."""
        with translated(self._path):
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        """Make what was appended survive power loss, where the policy wants that."""
        if self._target.durability.syncs:
            with translated(self._path):
                os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
