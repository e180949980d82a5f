"""Read the text of /proc/self/mountinfo: the mount that a path lies on, those below it, the layers of an overlay."""

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tusz_cache.guarding.kinds import Kind, kind_of
from tusz_cache.guarding.redact import redact

SOURCE = "/proc/self/mountinfo"
_SHOWN = 300  # characters of a mount's options
_ESCAPE = re.compile(r"\\([0-3][0-7]{2})")
_FIELDS = re.compile(
    # the kernel escapes blanks in names; gVisor leaves two where optional fields are missing
    r"(?P<id>\d+)[ \t]+(?P<parent>\d+)[ \t]+(?P<device>\d+:\d+)[ \t]+(?P<root>[^ \t]+)[ \t]+(?P<point>/[^ \t]*)"
    r"[ \t]+(?P<flags>[^ \t]+)(?:[ \t]+[^ \t]+)*?[ \t]+-[ \t]+(?P<rest>.*)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    id: int
    parent: int  # the mount that it is mounted on; its own at the top of the tree
    device: str  # "major:minor", 0 where the file system has no device of its own
    root: str  # the directory of the file system that is mounted
    point: str  # where it is mounted
    fstype: str
    source: str  # free text
    options: str  # of the file system, escaped as in the line

    @property
    def kind(self) -> Kind:
        """What its type says of where the bytes lie."""
        return kind_of(self.fstype, self.source)

    @property
    def label(self) -> str:
        """Type and source, for people."""
        return f"{self.fstype} {redact(self.source)}".strip()

    def __str__(self) -> str:
        options = redact(self.options)
        shown = options if len(options) <= _SHOWN else f"{options[:_SHOWN]}…"
        return f"mount {self.id} at {self.point}: type {self.fstype}, source {redact(self.source) or 'none'}, {shown}"


@dataclass(frozen=True, slots=True)
class MountTable:
    """What mountinfo says."""

    mounts: tuple[Mount, ...]
    unread: tuple[str, ...] = ()  # lines that are no mounts

    def find(self, path: str, mount_id: int | None = None) -> Mount | None:
        """Return the mount with that id, else the one that `path` lies on; None if there is no such mount."""
        if mount_id is not None:
            return next((mount for mount in reversed(self.mounts) if mount.id == mount_id), None)
        return _covering([mount for mount in self.mounts if within(path, mount.point)])

    def below(self, path: str) -> list[Mount]:
        """Return what is mounted below `path`, of several mounts at one place the last."""
        points = {mount.point: mount for mount in self.mounts if mount.point != path and within(mount.point, path)}
        return list(points.values())


def parse(text: str) -> MountTable:
    """Read mountinfo. Lines that make no sense are kept apart."""
    mounts, unread = [], []
    for line in text.split("\n"):  # names may hold any other separator
        if not (bare := line.strip(" \t")):
            continue
        if (match := _FIELDS.fullmatch(bare)) is None:
            unread.append(bare)
            continue
        rest = re.split(r"[ \t]+", match["rest"], maxsplit=2)
        fstype, source, options = rest if len(rest) == 3 else (rest[0], "", rest[-1] if len(rest) == 2 else "")
        root, point, fstype, source = (unescaped(name) for name in (match["root"], match["point"], fstype, source))
        ids = int(match["id"]), int(match["parent"])
        mounts.append(Mount(*ids, match["device"], root, point, fstype, source, options))
    return MountTable(tuple(mounts), tuple(unread))


def unescaped(name: str) -> str:
    r"""Return a name without octal escapes: "\040" is a blank."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), name)


def within(path: str, above: str) -> bool:
    """Return whether `path` is `above` or lies below it, by whole components."""
    return path == above or path.startswith(above.rstrip("/") + "/")


def absolute(path: str) -> str:
    """Return `path` without empty components, "." and "..", as far as its text tells."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _covering(candidates: Sequence[Mount]) -> Mount | None:
    """Of mounts at or above a path, return the one that a walk from the root ends on.

    Usually the longest, and of those the last. But what is mounted over a directory hides what was mounted below it.
    """
    ids = {mount.id for mount in candidates}
    tops = [mount for mount in candidates if mount.parent == mount.id or mount.parent not in ids]
    here = max(reversed(tops or candidates), key=lambda mount: len(mount.point), default=None)
    left = [mount for mount in reversed(candidates) if mount is not here]
    while here is not None and (above := [mount for mount in left if mount.parent == here.id]):
        here = min(above, key=lambda mount: len(mount.point))
        left.remove(here)
    return here


def layers(mount: Mount) -> list[str | None]:
    """Return the directories that an overlay is made of. None stands for one that cannot be found by its text."""
    found = list(_layers(mount.options.split(",")))
    return [path if path.startswith("/") else None for path in found]


def _layers(options: Iterable[str]) -> Iterator[str]:
    for option in options:
        name, _, value = option.partition("=")
        path = unescaped(value)
        if name == "lowerdir":  # a:b::c, a colon in a name is "\:"
            yield from (_plain(part) for part in re.findall(r"(?:\\.|[^:\\])+", path, re.DOTALL))
        elif name == "upperdir":
            yield _plain(path)
        elif name in {"lowerdir+", "datadir+"}:  # one directory each, as it is
            yield path


def _plain(path: str) -> str:
    return re.sub(r"\\(.)", r"\1", path, flags=re.DOTALL)
