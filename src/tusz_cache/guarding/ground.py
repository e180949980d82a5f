"""Follow a directory down to what carries it: mounts, layers of overlays, images, block devices."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tusz_cache.guarding.block import Backing, judge_device
from tusz_cache.guarding.findings import Finding, found, noted
from tusz_cache.guarding.kinds import Kind
from tusz_cache.guarding.mountinfo import SOURCE, Mount, MountTable, layers
from tusz_cache.guarding.values import MountKind, Ruling, Seen, Wanted

_DEEPEST = 8  # mounts on mounts
_PLAIN = {  # what the type alone tells
    Kind.LOCAL: (Ruling.ACCEPT_LOCAL_BLOCK, "on local disk ({})"),
    Kind.MEMORY: (Ruling.ACCEPT_MEMORY, "in memory ({}): fast, and gone when the machine stops"),
    Kind.NETWORK: (Ruling.REFUSE_NETWORK, "on a network file system ({})"),
    Kind.OBJECT_STORE: (Ruling.REFUSE_OBJECT_STORE, "an object store mount ({}), which is read over the network"),
    Kind.NO_DATA: (Ruling.REFUSE_UNKNOWN, "no place for data ({})"),
    Kind.UNKNOWN: (Ruling.REFUSE_UNKNOWN, "on an unknown type of file system ({})"),
}
_HINTS = {"autofs": "list a directory below it, so that the automounter mounts what belongs there, then ask again"}


@dataclass(frozen=True, slots=True)
class Way:
    """How a look came to where it is."""

    subject: str  # begins the sentence that says what is there
    vouched: MountKind | None = None  # a declaration that holds for it
    passed: tuple[Mount, ...] = ()


def under(seen: Seen, table: MountTable, vouched: MountKind | None) -> Iterator[Finding]:
    """Yield what carries the directory itself."""
    mount = table.find(seen.real_path, seen.mount_id)
    yield from _Ground(seen, table).of_mount(mount, Way(seen.path, vouched))


def below(seen: Seen, table: MountTable) -> Iterator[Finding]:
    """Yield what is mounted below the directory. What would not be accepted as a cache makes it a mixed one."""
    for mount in table.below(seen.real_path):
        way = Way(f"{seen.path} has a mount below it, and {mount.point}")
        for finding in _Ground(seen, table).of_mount(mount, way):
            if finding.refuses:
                yield finding._replace(ruling=Ruling.REFUSE_MIXED, hint="")
            else:
                yield finding._replace(ruling=None, evidence=replace(finding.evidence, says="note"))


@dataclass(frozen=True, slots=True)
class _Ground:
    """What may lie under a directory, as far as it was seen."""

    seen: Seen
    table: MountTable

    def of_mount(self, mount: Mount | None, way: Way) -> Iterator[Finding]:
        """Yield what a mount comes to."""
        if mount is None:
            yield found(Ruling.REFUSE_UNKNOWN, "mount record", SOURCE, f"{way.subject} is on a mount that is not shown")
        elif mount in way.passed or len(way.passed) >= _DEEPEST:
            yield _judged(Ruling.REFUSE_UNKNOWN, mount, f"{way.subject} is on mounts stacked too deep to follow")
        elif mount.kind is Kind.STACKED:
            yield from self._of_layers(mount, way)
        elif mount.kind is Kind.SHARED:
            yield _shared(mount, way)
        else:
            ruling, what = _PLAIN[mount.kind]
            reason = f"{way.subject} is {what.format(mount.label)}"
            yield _judged(ruling, mount, reason, _HINTS.get(mount.fstype, ""))
            if mount.kind is Kind.LOCAL:
                yield from self._of_source(mount, way)

    def _of_source(self, mount: Mount, way: Way) -> Iterator[Finding]:
        """Yield what the devices of a mount come to."""
        if not mount.device.startswith("0:"):
            yield from self._of_devices([mount.device], mount, way)
        elif mount.source.startswith("/dev/"):  # btrfs; bcachefs joins several by colons
            parts = mount.source.split(":")
            joined = all(part.startswith("/dev/") for part in parts)
            yield from self._of_devices(parts if joined else [mount.source], mount, way)
        elif mount.source.startswith("/"):  # an image, mounted without a loop device
            yield from self._of_file(Backing.of(f"{way.subject} is an image", mount.source), (*way.passed, mount))
        elif mount.fstype in {"zfs", "ubifs"}:
            yield noted("block stack", SOURCE, f"which devices {mount.label} is made of is not shown")
        else:
            yield _judged(Ruling.REFUSE_UNKNOWN, mount, f"{way.subject} is on no device that is shown ({mount.label})")

    def _of_devices(self, keys: list[str], mount: Mount, way: Way) -> Iterator[Finding]:
        for key in keys:
            for one in judge_device(key, way.subject, self.seen.devices):
                if isinstance(one, Backing):
                    yield from self._of_file(one, (*way.passed, mount))
                else:
                    yield one

    def _of_file(self, backing: Backing, passed: tuple[Mount, ...]) -> Iterator[Finding]:
        """Yield what a file comes to that a file system is made of."""
        subject, file = backing
        if file not in self.seen.real_paths:
            yield _missing(file, subject)
        elif (real := self.seen.real_paths[file]) is None:
            yield found(Ruling.REFUSE_UNKNOWN, "block stack", file, f"{subject} is out of sight")
        else:
            yield from self.of_mount(self.table.find(real), Way(subject, passed=passed))

    def _of_layers(self, mount: Mount, way: Way) -> Iterator[Finding]:
        """Yield what the layers of an overlay come to."""
        passed = (*way.passed, mount)
        parts = layers(mount) if mount.fstype == "overlay" else []
        yield noted("mount record", SOURCE, str(mount))
        if not parts:
            yield _hidden(mount, way, "other directories, which are not shown")
        for part in parts:
            subject = f"{way.subject} is an overlay, whose layer {part}"
            if part is not None and part not in self.seen.real_paths:
                yield _missing(part, subject)
                continue
            real = self.seen.real_paths[part] if part is not None else None
            carrier = self.table.find(real) if real is not None else None
            if carrier is None or carrier in passed:  # on the host, relative, or itself
                yield _hidden(mount, way, f"layers, of which {part or 'one'} is out of sight")
            else:
                yield from self.of_mount(carrier, Way(subject, passed=passed))


def _hidden(mount: Mount, way: Way, what: str) -> Finding:
    if way.vouched == "ephemeral" and mount.point == "/":
        return _own_disk(mount, way)
    return _judged(Ruling.REFUSE_UNKNOWN, mount, f"{way.subject} is made of {what} ({mount.label})")


def _shared(mount: Mount, way: Way) -> Finding:
    """A shared directory is what its declaration says; the container's own disk is where nothing else is mounted."""
    if way.vouched == "volume":
        return _judged(Ruling.ACCEPT_DECLARED, mount, f"{way.subject} is on a volume, as declared ({mount.label})")
    if way.vouched != "ephemeral":
        what = f"a shared file system ({mount.label}), which may lead anywhere; no valid declaration says where"
    elif mount.point == "/":
        return _own_disk(mount, way)
    else:
        what = f"a mount of its own ({mount.label} at {mount.point}), not the container's own disk, as declared"
    return _judged(Ruling.REFUSE_UNKNOWN, mount, f"{way.subject} is on {what}")


def _own_disk(mount: Mount, way: Way) -> Finding:
    reason = f"{way.subject} is on the container's own disk, as declared ({mount.label})"
    return _judged(Ruling.ACCEPT_DECLARED, mount, reason)


def _judged(ruling: Ruling, mount: Mount, reason: str, hint: str = "") -> Finding:
    return found(ruling, "mount record", SOURCE, reason, str(mount), hint=hint)


def _missing(path: str, subject: str) -> Finding:
    lacks = Wanted(frozenset(), frozenset({path}))
    return found(Ruling.REFUSE_UNKNOWN, "mount record", path, f"{subject} was not looked at", lacks=lacks)
