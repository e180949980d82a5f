"""AdmittedCache: a cache that the guard let through, held open. The only way to its files."""

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from tusz_cache.errors import CacheError, CacheRefused, Damaged, Unresponsive, UsageError
from tusz_cache.guarding.beneath import Root
from tusz_cache.guarding.identity import mismatch
from tusz_cache.guarding.reaching import Opened, Reach
from tusz_cache.guarding.seeing import line, mountinfo
from tusz_cache.guarding.stages import unresponsive
from tusz_cache.guarding.values import Verdict
from tusz_cache.manifest import Manifest
from tusz_cache.seal import Seal
from tusz_cache.tusz import split_of


class Token(NamedTuple):
    """What tells a directory from any other, as long as the machine runs and nothing is mounted over it."""

    boot: str
    namespace: str  # of mounts
    mount: int | None  # its unique id; an id that may come again where the kernel has no better one
    device: int
    inode: int

    @classmethod
    def of(cls, opened: Opened) -> "Token":
        """Return the token of a directory that was just opened."""
        link = "/proc/self/ns/mnt"
        mount = opened.mount_id if opened.unique_id is None else opened.unique_id
        return cls(
            line(Path("/proc/sys/kernel/random/boot_id")),
            os.readlink(link) if os.path.lexists(link) else "",  # noqa: PTH115 - pathlib opens no magic links
            mount,
            opened.device,
            opened.inode,
        )


class Guard(Protocol):
    """What a CacheGuard is to the caches that it admits."""

    @property
    def deadline(self) -> float:
        """Seconds of silence after which a file system counts as hung."""

    def admit(self, path: str) -> "AdmittedCache":
        """Check again. Raises CacheRefused."""


class AdmittedCache:
    """A cache that training may read. Made by `CacheGuard.admit`.

    It holds the directory open, so that what is mounted over its path later is not read by mistake. A pickled one is
    opened again where it arrives, and checked again if its path leads elsewhere there. A context manager.
    """

    def __init__(self, guard: Guard, opened: Opened, verdict: Verdict, seal: Seal | None, manifest: Manifest) -> None:
        """opened: its descriptor is this object's from now on. seal: None where the guard was told to ignore it."""
        self.verdict, self.seal, self.manifest = verdict, seal, manifest
        self._guard = guard
        self._hold(opened)

    def _hold(self, opened: Opened) -> None:
        self._root: Root | None = Root(opened.fd)
        self._token = Token.of(opened)

    @property
    def root(self) -> Path:
        """The directory, as it was asked for. To show it: files are opened by `open`."""
        return Path(self.verdict.path)

    @property
    def real_path(self) -> Path:
        """The directory, all symbolic links resolved."""
        return Path(self.verdict.real_path)

    def files(self, split: str | None = None) -> list[str]:
        """Return the keys of all files, or of a split's, sorted."""
        keys = self.manifest.keys
        return list(keys) if split is None else [key for key in keys if split_of(key) == split]

    def open(self, key: str) -> int:
        """Return a descriptor of a file, for reading; it is the caller's.

        Raises UsageError for a key that the manifest does not have, Damaged if the file is no longer there.
        """
        if key not in self.manifest:
            raise UsageError(f"{key!r} is no file of the cache {self.root}", hint="use the keys that `files` returns")
        if self._root is None:
            raise UsageError(f"the cache {self.root} is closed", hint="admit it again")
        try:
            fd = self._root.open(key, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in its place must not make us wait
        except OSError as error:
            raise Damaged(
                f"cannot open {key!r} of {self.root}: {error.strerror}",
                hint=f"python -m tusz_cache.verify {self.root} tells what is missing, and what to do",
            ) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Damaged(
                f"{key!r} of {self.root} is no file any more",
                hint=f"python -m tusz_cache.verify {self.root} tells what else is damaged, and what to do",
            )
        return fd

    def read_bytes(self, key: str) -> bytes:
        """Return a file's bytes. Raises what `open` raises."""
        with os.fdopen(self.open(key), "rb") as file:
            return file.read()

    def recheck(self) -> Verdict:
        """Make sure that the path still leads here; if not, have the guard check what it leads to, and hold that.

        Not while other threads open files. Raises CacheRefused.
        """
        self._renew()
        return self.verdict

    def _renew(self) -> None:
        """Hold the directory anew if it still is the one that was admitted; otherwise ask the guard."""
        deadline = self._guard.deadline
        try:
            with Reach(deadline) as reach:
                opened = reach.open(self.verdict.path)
                if Token.of(opened) == self._token:
                    if self._root is None:  # else it stays: other threads may be reading
                        reach.release(opened)
                        self._hold(opened)
                    return
        except Unresponsive as error:  # to ask once more would take as long again
            verdict = unresponsive(self.verdict.path, mountinfo(), deadline)
            raise CacheRefused(verdict.reason, hint=verdict.hint, verdict=verdict) from error
        except (OSError, CacheError):
            pass  # the guard tells it better
        fresh = self._guard.admit(self.verdict.path)
        if not _same_content(fresh.manifest, self.manifest):
            fresh.close()
            verdict = mismatch(fresh.verdict, "another cache lies there now")
            raise CacheRefused(verdict.reason, hint=verdict.hint, verdict=verdict)
        self.__dict__, fresh.__dict__ = fresh.__dict__, self.__dict__
        fresh.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_root": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._renew()  # opens the directory in this process

    def close(self) -> None:
        """Let go of the directory."""
        root, self._root = self._root, None
        if root is not None:
            os.close(root.fd)

    def __del__(self) -> None:
        if getattr(self, "_root", None) is not None:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<AdmittedCache {self.root}: {len(self.manifest)} files, {self.verdict.ruling}>"


def _same_content(one: Manifest, other: Manifest) -> bool:
    """Whether two manifests name the same files; when each was written does not matter."""
    return (one.keys, one.sizes, one.crcs) == (other.keys, other.sizes, other.crcs)
