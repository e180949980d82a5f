"""What a block device stands on, as /sys tells it: hardware, other devices, a file, or a network."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tusz_cache.guarding.findings import Finding, found, noted
from tusz_cache.guarding.values import BlockDevice, Ruling, Wanted

_DEEPEST = 16  # devices on devices
_MAJORS = {"7": "loop", "43": "nbd", "147": "drbd"}  # those that say what a device is even without /sys
_REMOTE_NAMES = {
    "nbd": "a network block device",
    "rbd": "a Ceph block device",
    "drbd": "replicated over the network",
    "ublkb": "served by a program",
    "etherd": "ATA over Ethernet",
    "scini": "a PowerFlex volume",
}
_REMOTE_PATHS = {
    r"/session\d+/": "an iSCSI disk",
    r"/rport-": "a Fibre Channel disk",
    r"/nvme-fabrics/": "NVMe over a network",
}
_REMOTE_TRANSPORTS = {"tcp", "rdma", "fc", "loop"}
_CLOUD = ("Amazon Elastic Block Store", "nvme_card-pd", "PersistentDisk", "MSFT NVMe Accelerator")
_PARTITION = re.compile(r".*/(?:block/(?P<disk>[^/]+)|(?P<nvme>nvme\d+n\d+))/(?P<name>[^/]+)")


class Backing(NamedTuple):
    """A file that a device is made of. Where it lies is another question."""

    subject: str
    file: str

    @classmethod
    def of(cls, subject: str, file: str) -> "Backing":
        """Return the file, and the beginning of what will be said of its directory."""
        return cls(f"{subject}, whose file lies in {posixpath.dirname(file)}, which", file)


def judge_device(
    key: str, subject: str, devices: Mapping[str, BlockDevice | None], above: tuple[str, ...] = ()
) -> Iterator[Finding | Backing]:
    """Yield what a device comes to, down to the hardware. Keys are as in `Seen.devices`; `above` are those passed."""
    if key in above or len(above) >= _DEEPEST:
        yield _refused(Ruling.REFUSE_UNKNOWN, subject, key, "stacked too deep to follow")
    elif key not in devices:
        lacks = Wanted(frozenset({key}), frozenset())
        yield _refused(Ruling.REFUSE_UNKNOWN, subject, key, "not looked at")._replace(lacks=lacks)
    elif (device := devices[key]) is None:
        yield _unseen(key, subject)
    else:
        below = _below(device, () if above else device.siblings)
        yield _judged(key, subject, device, stands=bool(below))
        for one in below:
            yield from judge_device(one, subject, devices, (*above, key))


def _judged(key: str, subject: str, device: BlockDevice, *, stands: bool) -> Finding | Backing:
    name = device.sysfs.rpartition("/")[2]
    model = device.attributes.get("model", "").strip()
    detail = f"{device.sysfs}{f', {model}' if model else ''}"
    if remote := _remote(name, device):
        return _refused(Ruling.REFUSE_NETWORK, subject, key, f"{remote} ({name})", detail)
    if device.backing_file:
        return Backing.of(f"{subject} is on {name}", device.backing_file)
    if stands:
        return noted("block stack", _where(key), f"{detail}: stands on other devices")
    if device.backing_file == "" or name.startswith("loop"):
        return _refused(Ruling.REFUSE_UNKNOWN, subject, key, f"{name}, and the file behind it is hidden", detail)
    if re.match(r"zram|ram\d", name):
        return found(Ruling.ACCEPT_MEMORY, "block stack", _where(key), f"{subject} is in memory ({name})", detail)
    known = device.attributes.get("transport") or name.startswith("zd")  # NVMe by several paths, or a ZFS volume
    if "/devices/virtual/" in device.sysfs and not known:
        return _refused(Ruling.REFUSE_UNKNOWN, subject, key, f"{name}, and what is behind it is hidden", detail)
    return _local(key, subject, device, model, detail)


def _local(key: str, subject: str, device: BlockDevice, model: str, detail: str) -> Finding:
    finding = found(Ruling.ACCEPT_LOCAL_BLOCK, "block stack", _where(key), f"{subject} is on local disk", detail)
    if model.startswith(_CLOUD):
        remark = "network-attached block storage of the cloud, taken for a disk"
    elif "/virtio" in device.sysfs or "/vbd-" in device.sysfs:
        remark = "a guest's disk: what the host keeps it on cannot be seen"
    else:
        return finding
    return finding._replace(evidence=noted("block stack", _where(key), f"{detail}: {remark}").evidence)


def _remote(name: str, device: BlockDevice) -> str:
    """Return what makes a device remote, or nothing."""
    by_path = next((what for pattern, what in _REMOTE_PATHS.items() if re.search(pattern, device.sysfs)), "")
    transports = set(re.split(r"[\s,]+", device.attributes.get("transport", "").lower()))
    return _remote_name(name) or by_path or ("NVMe over a network" if transports & _REMOTE_TRANSPORTS else "")


def _remote_name(name: str) -> str:
    return next((what for start, what in _REMOTE_NAMES.items() if re.match(rf"{start}(?![a-z]{{2}})", name)), "")


def _below(device: BlockDevice, siblings: tuple[str, ...]) -> tuple[str, ...]:
    """Return the devices that a device is made of, or a part of, or a file system's part beside."""
    disk = _PARTITION.fullmatch(device.sysfs)
    parent = (f"/dev/{(disk['disk'] or disk['nvme']).replace('!', '/')}",) if disk else ()
    return (*device.slaves, *siblings, *parent)


def _unseen(key: str, subject: str) -> Finding:
    """Without /sys only a name or a number is left; a device of no special name may be a disk."""
    name = key.rpartition("/")[2] if key.startswith("/") else _MAJORS.get(key.partition(":")[0], "")
    if remote := _remote_name(name):
        return _refused(Ruling.REFUSE_NETWORK, subject, key, f"{remote} ({name})")
    if name.startswith("loop"):
        return _refused(Ruling.REFUSE_UNKNOWN, subject, key, "a loop device, and the file behind it is hidden")
    return noted("block stack", _where(key), f"nothing is shown of device {key}")


def _refused(ruling: Ruling, subject: str, key: str, what: str, detail: str = "") -> Finding:
    return found(ruling, "block stack", _where(key), f"{subject} is on a block device that is {what}", detail or what)


def _where(key: str) -> str:
    return key if key.startswith("/") else f"/sys/dev/block/{key}"
