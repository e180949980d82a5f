"""What was seen of a directory, and what follows from it. Values only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from tusz_cache.errors import Refused
from tusz_cache.layout import as_html, as_table, printable


class Ruling(StrEnum):
    """What a verdict comes to. Anything that is not an accept refuses."""

    ACCEPT_LOCAL_BLOCK = "ACCEPT_LOCAL_BLOCK"  # a file system on a block device of this machine
    ACCEPT_MEMORY = "ACCEPT_MEMORY"  # tmpfs and its like: fast, gone with the machine
    ACCEPT_DECLARED = "ACCEPT_DECLARED"  # declared by the wrapper, and nothing contradicts it: a Modal volume
    ACCEPT_OVERRIDE = "ACCEPT_OVERRIDE"  # the user allowed exactly this mount
    REFUSE_OBJECT_STORE = "REFUSE_OBJECT_STORE"  # a bucket, by URL or by mount
    REFUSE_NETWORK = "REFUSE_NETWORK"  # a network file system or a remote block device
    REFUSE_UNKNOWN = "REFUSE_UNKNOWN"  # nothing speaks for it
    REFUSE_MIXED = "REFUSE_MIXED"  # some files lie elsewhere
    REFUSE_UNRESPONSIVE = "REFUSE_UNRESPONSIVE"  # it does not answer in time
    REFUSE_NO_SEAL = "REFUSE_NO_SEAL"  # never completed, or a run is under way
    REFUSE_SEAL_MISMATCH = "REFUSE_SEAL_MISMATCH"  # not the cache that was sealed

    @property
    def admitted(self) -> bool:
        """Whether training may read."""
        return self.name.startswith("ACCEPT_")


Layer = Literal[
    "declared", "platform", "mount record", "statfs", "block stack", "containment", "probe", "seal", "policy"
]
Says = Literal["accept", "refuse", "warn", "note"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that was seen. Secrets are redacted in it."""

    layer: Layer
    source: str  # where it was seen: "/proc/self/mountinfo", "fstatfs", "/sys/dev/block/8:1", a declaration, ...
    says: Says
    detail: str


MountKind = Literal["volume", "bucket", "nfs", "ephemeral"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether training may read from a directory, why, and what to do."""

    path: str  # as it was asked for
    real_path: str  # where it leads; "" if that is not known
    ruling: Ruling
    reason: str  # one line that a tired person understands
    hint: str  # what to do next
    evidence: tuple[Evidence, ...] = ()
    overruled: Ruling | None = None  # what an override turned into an accept
    declared_as: MountKind | None = None  # what a declaration that holds says it is: a volume, or ephemeral

    @property
    def admitted(self) -> bool:
        """Whether training may read."""
        return self.ruling.admitted

    @property
    def exit_code(self) -> int:
        """0, or that of a safety rule that refuses."""
        return 0 if self.admitted else Refused.exit_code

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `guard --json` prints."""
        return {
            "path": self.path,
            "real_path": self.real_path,
            "admitted": self.admitted,
            "verdict": self.ruling.value,
            "reason": self.reason,
            "hint": self.hint,
            "evidence": [
                {"layer": seen.layer, "source": seen.source, "says": seen.says, "detail": seen.detail}
                for seen in self.evidence
            ],
        }

    def as_json(self) -> str:
        """Return `as_dict` as one line."""
        return json.dumps(self.as_dict())

    def rows(self) -> list[tuple[str, str]]:
        """Return (label, value) for a person: the evidence, then what to do."""
        rows = [("verdict", self.ruling.value)]
        rows += [("leads to", self.real_path)] if self.real_path not in {"", self.path} else []
        rows += [(seen.layer, f"{seen.says}: {seen.detail} [{seen.source}]") for seen in self.evidence]
        return [*rows, ("next", self.hint)]

    @property
    def headline(self) -> str:
        """One line that says it all."""
        return printable(f"{'ADMITTED' if self.admitted else 'REFUSED'}: {self.reason}")

    def as_text(self) -> str:
        """Return the headline, then `rows` as a table."""
        return f"{self.headline}\n{as_table(self.rows())}"

    def _repr_html_(self) -> str:
        return as_html(self.headline, self.rows())


@dataclass(frozen=True, slots=True)
class DeclaredMount:
    """A mount as the one who configured it declares it: the Modal wrapper, from the same dict that it mounts."""

    path: str  # where it is mounted, as the program sees it
    kind: MountKind  # ephemeral: the container's own disk
    name: str = ""
    object_id: str = ""  # of a Modal volume: "vo-..."


@dataclass(frozen=True, slots=True)
class PlatformMount:
    """A mount as the platform's own table tells it (the container arguments at Modal)."""

    path: str
    kind: MountKind
    name: str = ""
    object_id: str = ""


@dataclass(frozen=True, slots=True)
class Allow:
    """An override: read from `path` although the guard would refuse, as long as the mount stays what it is.

    Never stretches to a hung server, a broken seal or files that lie elsewhere.
    """

    path: str  # the cache, or a directory above it
    fstype: str  # of the mount, as mountinfo says it; another one ends the override
    source: str  # likewise, e.g. "fsx.example:/tusz"
    reason: str  # recorded in the run


class Statfs(NamedTuple):
    """What fstatfs says. The counts survive gVisor; type and frsize do not."""

    type: int | None  # the file system's magic number
    bsize: int  # bytes
    frsize: int  # bytes; the unit of blocks
    blocks: int
    bfree: int
    files: int
    ffree: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDevice:
    """A block device, as /sys tells it."""

    number: str  # "major:minor"
    sysfs: str  # real path of /sys/dev/block/<number>, e.g. "/sys/devices/pci0000:00/.../block/vda/vda1"
    slaves: tuple[str, ...] = ()  # numbers of the devices below (dm, md, bcache)
    siblings: tuple[str, ...] = ()  # numbers of the other devices of the same file system (btrfs)
    backing_file: str | None = None  # of a loop device; "" where it cannot be read
    attributes: Mapping[str, str] = field(default_factory=dict)  # model, transport, ... as far as they are there


@dataclass(frozen=True, slots=True)
class DarwinAnswer:
    """What statfs(2) says on macOS."""

    fstype: str
    source: str
    local: bool  # MNT_LOCAL


@dataclass(frozen=True, slots=True)
class WindowsAnswer:
    """What Windows says of a path's root."""

    drive_type: int  # GetDriveTypeW
    remote: bool  # GetFileInformationByHandleEx(FileRemoteProtocolInfo) succeeds, as it does only for remote files


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Everything known of a directory before its files are looked at. Gathered; `classify` does no I/O."""

    path: str  # absolute, as asked for
    real_path: str  # with all symlinks resolved
    mountinfo: str = ""  # text of /proc/self/mountinfo
    mount_id: int | None = None  # of the opened directory, as in mountinfo; None: the kernel does not say
    statfs: Statfs | None = None  # of the opened directory
    deleted: bool = False  # the directory has no name any more
    devices: Mapping[str, BlockDevice | None] = field(
        default_factory=dict
    )  # by number or by "/dev/..."; None: unreadable
    real_paths: Mapping[str, str | None] = field(default_factory=dict)  # of layers and backing files; None: unreachable
    declared: tuple[DeclaredMount, ...] | None = None  # None: nobody declared anything
    platform: tuple[PlatformMount, ...] | None = None  # None: there is no such table, or it cannot be read
    answer: DarwinAnswer | WindowsAnswer | None = None  # where there is no mountinfo


class Wanted(NamedTuple):
    """Facts that `classify` would need and `Seen` does not have yet."""

    devices: frozenset[str]
    paths: frozenset[str]


Fault = Literal["missing", "size", "elsewhere", "no file", "unreadable"]


class FileFault(NamedTuple):
    """A file of the manifest that is not what, or not where, it must be."""

    key: str
    fault: Fault  # elsewhere: a symlink or a mount leads out of the cache
    detail: str


@dataclass(frozen=True, slots=True)
class FilesSeen:
    """What a look at every file of a cache told."""

    checked: int
    faults: tuple[FileFault, ...]
    statfs: tuple[Statfs, ...]  # each that occurred, of roots and files: a mount below a 9p mount has no other trace
    method: Literal["openat2", "walk"]
