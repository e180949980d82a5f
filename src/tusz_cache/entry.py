"""Entry: one object of a cache, as a source lists it or as a target holds it."""

from dataclasses import dataclass
from typing import Literal, get_args

from tusz_cache.errors import UnsafeKey

META = ".tusz_cache"  # our own directory inside a target: never mirrored, never diffed
NAME_MAX = 255  # bytes in one path component on ext4, xfs, tmpfs and overlayfs

Level = Literal["source-crc", "etag-md5", "etag-parts", "own-crc"]
LEVELS: tuple[Level, ...] = get_args(Level)  # best first


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of a file that was written and checked by this tool."""

    crc64nvme: int  # of the whole file
    verified: Level  # against what the bytes were checked
    mtime_ns: int  # of the file under its final name: a later edit shows
    part_size: int = 0  # bytes; 0: the file is one part
    part_crcs: tuple[int, ...] = ()  # crc64nvme of each part, so that repair can fetch single parts


@dataclass(frozen=True, slots=True)
class Entry:
    """One object. A value: no handle, no I/O."""

    key: str  # POSIX path below the root, e.g. "train/aaaaaaac_s001_t000_windows.npz"
    size: int  # bytes
    etag: str | None  # the source's opaque version mark, unquoted; None where the source has none
    proof: Proof | None = None  # None: listed by a source, or lying in a target unchecked


def is_directory_marker(key: str, size: int) -> bool:
    """Zero-byte keys that end in a slash are folders drawn by a console, not files."""
    return size == 0 and (key == "" or key.endswith("/"))


def is_ours(key: str) -> bool:
    """Whether `key` lies in our own directory."""
    return key == META or key.startswith(META + "/")


def check_key(key: str) -> None:
    """Raise UnsafeKey unless `key` names exactly one file below any target root."""
    if problem := _problem(key):
        raise UnsafeKey(
            f"key {key!r} {problem}", hint="rename the object at the source, or leave it out with --exclude"
        )


def _problem(key: str) -> str | None:
    components = key.split("/")
    if "\0" in key:
        return "contains a NUL byte"
    if key.startswith("/"):
        return "is an absolute path"
    if ".." in components:
        return "would leave the target directory"
    if "" in components or "." in components:
        return "has an empty or '.' component, which the file system would fold away"
    if any(len(component.encode("utf-8", "surrogatepass")) > NAME_MAX for component in components):
        return f"has a component longer than {NAME_MAX} bytes, the limit of Linux file systems"
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return None


def parents(key: str) -> tuple[str, ...]:
    """Directories above `key`, nearest first, without the root: "a/b/c" -> ("a/b", "a")."""
    found = []
    while slash := key.rfind("/") + 1:
        key = key[: slash - 1]
        found.append(key)
    return tuple(found)
