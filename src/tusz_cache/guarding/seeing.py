"""Seeing: gather what `classify` needs. A child touches the suspect file system; the kernel's own are read here."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tusz_cache.errors import CacheError
from tusz_cache.guarding.arguments import platform_mounts
from tusz_cache.guarding.classify import wanted
from tusz_cache.guarding.reaching import Opened, Reach
from tusz_cache.guarding.values import (
    BlockDevice,
    DeclaredMount,
    Evidence,
    PlatformMount,
    Seen,
    Wanted,
)

ROUNDS = 32  # of questions that lead to further ones; stacks of devices and layers are not that deep
MODAL_TABLE = "MODAL_CONTAINER_ARGUMENTS_PATH"
_MOUNTINFO = Path("/proc/self/mountinfo")
_BLOCK = Path("/sys/dev/block")
_ATTRIBUTES = ("device/model", "device/vendor", "device/transport", "dm/name", "dm/uuid", "queue/rotational", "backend")


def mountinfo() -> str:
    """Return the text of /proc/self/mountinfo, "" where there is none."""
    try:
        return _MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def see(
    reach: Reach, opened: Opened, path: str, declared: tuple[DeclaredMount, ...]
) -> tuple[Seen, tuple[Evidence, ...]]:
    """Return what is known of a directory, and remarks. path: absolute, as it was asked for.

    Raises Unresponsive.
    """
    platform, remarks = platform_table()
    devices: dict[str, BlockDevice | None] = {}
    real_paths: dict[str, str | None] = {}
    text = mountinfo()  # after the directory was opened: that may have mounted it
    for _ in range(ROUNDS):
        seen = Seen(
            path=path,
            real_path=opened.real_path,
            mountinfo=text,
            mount_id=opened.mount_id,
            statfs=opened.statfs,
            deleted=opened.deleted,
            devices=devices,
            real_paths=real_paths,
            declared=declared or None,
            platform=platform,
            answer=opened.darwin,
        )
        missing = wanted(seen)
        if not (missing.devices or missing.paths):
            break
        devices, real_paths = _found(reach, missing, devices, real_paths)
    return seen, remarks


def _found(
    reach: Reach,
    missing: Wanted,
    devices: Mapping[str, BlockDevice | None],
    real_paths: Mapping[str, str | None],
) -> tuple[dict[str, BlockDevice | None], dict[str, str | None]]:
    return (
        {**devices, **{name: _device(reach, name) for name in missing.devices}},
        {**real_paths, **{path: reach.realpath(path) for path in missing.paths}},
    )


def _device(reach: Reach, name: str) -> BlockDevice | None:
    """Return a device by its number or by its path, None if it cannot be read."""
    if not name.startswith("/"):
        return block_device(name)
    kernel_name = name.removeprefix("/dev/").replace("/", "!")
    # a container's /dev has few devices, but its /sys has all
    number = reach.number(name) or line(Path("/sys/class/block") / kernel_name / "dev")
    device = block_device(number) if number else None
    return device and replace(device, siblings=_siblings(device))


def block_device(number: str, root: Path = _BLOCK) -> BlockDevice | None:
    """Return what /sys tells of "major:minor", None if nothing."""
    try:
        sysfs = (root / number).resolve(strict=True)
    except OSError:
        return None
    found = {name: line(sysfs / name) for name in _ATTRIBUTES}
    paths = [line(path / "transport") for path in _children(sysfs / "device") if path.name.startswith("nvme")]
    found["device/transport"] = found["device/transport"] or " ".join(filter(None, paths))  # of a disk with many
    return BlockDevice(
        number=number,
        sysfs=str(sysfs),
        slaves=tuple(filter(None, (line(slave / "dev") for slave in _children(sysfs / "slaves")))),
        backing_file=line(sysfs / "loop" / "backing_file") if sysfs.name.startswith("loop") else None,
        attributes={name.rpartition("/")[2]: text for name, text in found.items() if text},
    )


def _siblings(device: BlockDevice) -> tuple[str, ...]:
    """Return the numbers of the other devices of a btrfs file system."""
    name = Path(device.sysfs).name
    for members in _children(Path("/sys/fs/btrfs")):
        numbers = {row.name: line(row / "dev") for row in _children(members / "devices")}
        if name in numbers:
            return tuple(number for other, number in numbers.items() if number and other != name)
    return ()


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def line(path: Path) -> str:
    """Return a small file's text, "" if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").strip("\n").strip()
    except OSError:
        return ""


def platform_table() -> tuple[tuple[PlatformMount, ...] | None, tuple[Evidence, ...]]:
    """Return the platform's own mounts, None if it tells none, and a remark if its table cannot be read."""
    place = os.environ.get(MODAL_TABLE)
    if not place:
        return None, ()
    try:
        return platform_mounts(Path(place).read_bytes()), ()
    except (OSError, CacheError) as error:
        return None, (Evidence("platform", place, "note", f"the platform's mounts cannot be read: {error}"),)
