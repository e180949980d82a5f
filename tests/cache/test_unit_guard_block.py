"""What the guard must make of block devices: down to hardware they are local, and a network anywhere below refuses."""

import pytest

from tests.support.seeing import PCI, ROOT, VIRTUAL, disk, rule
from tusz_cache.guarding.values import BlockDevice, Ruling

LOCAL, NETWORK, UNKNOWN = Ruling.ACCEPT_LOCAL_BLOCK, Ruling.REFUSE_NETWORK, Ruling.REFUSE_UNKNOWN
DATA = "70 27 9:9 / /data rw,relatime - ext4 /dev/x rw"
NVME = "/sys/devices/pci0000:00/0000:02:00.0/nvme/nvme0/nvme0n1"
ISCSI = "/sys/devices/platform/host2/session1/target2:0:0/2:0:0:1/block/sdb"
FABRICS = "/sys/devices/virtual/nvme-fabrics/ctl/nvme1/nvme1n1"
SUBSYSTEM = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1"
CHANNEL = "/sys/devices/pci0000:00/0000:03:00.0/host5/rport-5:0-1/target5:0:0/5:0:0:0/block/sdc"


def ruling(*devices: BlockDevice) -> Ruling:
    """Return the ruling on ext4 on the first of these devices."""
    there = {"9:9": devices[0]} | {one.number: one for one in devices}
    there |= {f"/dev/{one.sysfs.rpartition('/')[2]}": one for one in devices}
    return rule("/data", ROOT, DATA, devices=there).ruling


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (disk("8:0"), LOCAL),
        (disk("259:0", NVME, attributes={"transport": "pcie"}), LOCAL),
        (disk("259:0", f"{NVME}/nvme0n1p1"), LOCAL),
        (disk("252:1", "/sys/devices/pci0000:00/0000:00:04.0/virtio2/block/vda/vda1"), LOCAL),
        (disk("202:1", "/sys/devices/vbd-768/block/xvda"), LOCAL),
        (disk("230:0", f"{VIRTUAL}/zd0"), LOCAL),
        (disk("252:0", f"{VIRTUAL}/zram0"), Ruling.ACCEPT_MEMORY),
        *((disk("43:0", f"{VIRTUAL}/nbd0{part}"), NETWORK) for part in ("", "/nbd0p1")),
        *((disk("9:0", f"{VIRTUAL}/{name}"), NETWORK) for name in ("rbd0", "drbd1", "ublkb0", "etherd!e0.0")),
        *((disk("8:16", f"{path}{part}"), NETWORK) for path in (ISCSI, CHANNEL) for part in ("", "/sdb1")),
        (disk("259:1", FABRICS), NETWORK),
        *((disk("259:1", SUBSYSTEM, attributes={"transport": one}), NETWORK) for one in ("tcp", "rdma", "fc", "fc fc")),
        (disk("259:1", SUBSYSTEM, attributes={"transport": "pcie"}), LOCAL),
        (disk("259:1", SUBSYSTEM), UNKNOWN),
        (disk("9:1", f"{VIRTUAL}/md0"), UNKNOWN),  # of what is hidden
        (disk("9:1", f"{VIRTUAL}/dm-0"), UNKNOWN),
        (disk("9:1", f"{VIRTUAL}/newdev0"), UNKNOWN),
        (disk("7:1", f"{VIRTUAL}/loop1"), UNKNOWN),
    ],
)
def test_a_device_is_what_its_place_in_sysfs_says(device: BlockDevice, expected: Ruling):
    """Hardware is local; devices of known network drivers are not; a virtual device nobody knows is unknown."""
    assert expected == ruling(device)


STACKS = {name: disk("253:0", f"{VIRTUAL}/{name}", slaves=("8:0", "8:16")) for name in ("dm-0", "md127", "bcache0")}


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (disk("8:16", f"{PCI}/ata2/block/sdb"), LOCAL),
        (disk("8:16", ISCSI), NETWORK),
        (disk("8:16", f"{VIRTUAL}/nbd3"), NETWORK),
        (disk("8:16", f"{ISCSI}/sdb1"), NETWORK),
    ],
)
def test_a_stacked_device_is_as_good_as_all_below(stack: BlockDevice, second: BlockDevice, expected: Ruling):
    """LVM, RAID and bcache are local only over local devices."""
    assert expected == ruling(stack, disk("8:0"), second)


def test_a_partition_is_as_good_as_its_disk():
    """A partition of a RAID has no devices below of its own; those of its disk count."""
    raid = disk("9:0", f"{VIRTUAL}/md0", slaves=("8:16",))

    assert NETWORK == ruling(disk("259:5", f"{VIRTUAL}/md0/md0p1"), raid, disk("8:16", ISCSI))
    assert LOCAL == ruling(disk("259:5", f"{VIRTUAL}/md0/md0p1"), raid, disk("8:16", f"{PCI}/ata2/block/sdb"))


def test_the_other_devices_of_a_file_system_count():
    """One iSCSI disk among a btrfs file system's devices makes it a network one."""
    assert NETWORK == ruling(disk("8:0", siblings=("8:16",)), disk("8:16", ISCSI))
    assert LOCAL == ruling(disk("8:0", siblings=("8:16",)), disk("8:16", siblings=("8:0",)))


def test_devices_that_stand_on_each_other_end_no_search():
    """A circle and a tower of devices are refused, not followed for ever."""
    circle = [disk(f"253:{at}", f"{VIRTUAL}/dm-{at}", slaves=(f"253:{1 - at}",)) for at in (0, 1)]
    tower = [disk(f"253:{at}", f"{VIRTUAL}/dm-{at}", slaves=(f"253:{at + 1}",)) for at in range(40)]

    assert [UNKNOWN, UNKNOWN] == [ruling(*tower), ruling(*circle)]


@pytest.mark.parametrize(
    ("number", "expected"), [("8:1", LOCAL), ("7:3", UNKNOWN), ("43:0", NETWORK), ("147:1", NETWORK)]
)
def test_without_sysfs_a_device_is_what_its_number_says(number: str, expected: Ruling):
    """A hidden /sys is a note and no refusal, but for numbers that are known to be remote or made of files."""
    line = f"70 27 {number} / /data rw - ext4 /dev/x rw"

    assert expected == rule("/data", ROOT, line, devices={number: None}).ruling


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("Amazon Elastic Block Store", "network-attached"),
        ("nvme_card-pd", "network-attached"),
        ("PersistentDisk", "network-attached"),
        ("MSFT NVMe Accelerator v1.0", "network-attached"),
        ("Amazon EC2 NVMe Instance Storage", ""),
        ("Samsung SSD 990 PRO", ""),
    ],
)
def test_a_clouds_disk_is_local_with_a_note(model: str, said: str):
    """A cloud's block storage is a disk to the system; the evidence says what it is."""
    device = disk("259:0", NVME, attributes={"model": f"{model}   "})
    verdict = rule("/data", ROOT, DATA, devices={"9:9": device})
    details = [one.detail for one in verdict.evidence if one.layer == "block stack"]

    assert LOCAL == verdict.ruling
    assert [True] == [model in detail for detail in details]
    assert bool(said) == any("network-attached" in detail for detail in details)
