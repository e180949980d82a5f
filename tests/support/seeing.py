"""What a machine might show of a directory, for tests of the guard: mount tables, devices, and a gatherer over them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tusz_cache.guarding.classify import classify, wanted
from tusz_cache.guarding.values import Allow, BlockDevice, Seen, Statfs, Verdict

ROOT = "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw"  # an ordinary machine's own disk

# real lines, as mounted on Linux 6.18, 6.1, and under gVisor
S3 = "42 27 0:39 / /mnt/m rw,nosuid,nodev,relatime - fuse mountpoint-s3 rw,user_id=0,group_id=0,default_permissions"
S3_BOUND = "44 27 0:39 /sub /mnt/bind rw,nosuid,nodev,relatime - fuse mountpoint-s3 rw,user_id=0,group_id=0"
S3_BLANK = r"45 27 0:39 / /mnt/m\040sp rw,nosuid,nodev,relatime - fuse mountpoint-s3 rw,user_id=0,group_id=0"
RCLONE = "42 27 0:41 / /mnt/r rw,nosuid,nodev,relatime - fuse.rclone :s3{6KBlL}:b1 rw,user_id=0,group_id=0"
S3FS = "42 27 0:39 / /mnt/s rw,nosuid,nodev,relatime - fuse.s3fs s3fs rw,user_id=0,group_id=0"
SSHFS = "45 27 0:42 / /mnt/h rw,nosuid,nodev,relatime - fuse.sshfs localhost:/data rw,user_id=0,group_id=0"
OVERLAY = "48 27 0:40 / /mnt/ov rw,relatime - overlay overlay rw,lowerdir=/mnt/m,upperdir=/up,workdir=/wk,uuid=on"
LOOP = "43 27 7:0 / /mnt/loop ro,relatime - ext4 /dev/loop0 ro,norecovery"
NFS = "31 27 0:26 / /mnt/nfs rw,relatime - nfs 127.0.0.1:/ rw,vers=3,rsize=1048576,addr=127.0.0.1"
P9_VIRTIO = "25 1 0:22 / / ro,relatime - 9p r ro,sync,dirsync,access=client,msize=262144,trans=virtio"
P9_TCP = "32 30 0:27 / /mnt/9p rw,relatime - 9p 127.0.0.1 rw,aname=/d,access=any,msize=65536,trans=tcp,port=5640"
GVISOR_ROOT = (
    "8 8 0:8 / / ro  - 9p none ro,trans=fd,rfdno=3,wfdno=3,aname=/,dfltuid=4294967294,dfltgid=4294967294,"
    "dcache=1000,cache=fscache,overlayfs_stale_read"
)
GVISOR_VOLUMES = "13 8 0:12 / {} rw  - 9p none rw,trans=fd,rfdno=4,wfdno=4,aname=/,cache=remote_revalidating"
MODAL_MOUNTS = (
    "33 18 0:26 / /__modal/mounts rw,nosuid - 9p none rw,trans=fd,rfdno=6,wfdno=6,dcache=1000,"
    "cache=remote_revalidating,disable_fifo_open,directfs"
)
MODAL = "\n".join((GVISOR_ROOT, GVISOR_VOLUMES.format("/__modal/volumes"), MODAL_MOUNTS))
REAL = (
    *(ROOT, S3, S3_BOUND, S3_BLANK, RCLONE, S3FS, SSHFS, OVERLAY, LOOP, NFS, P9_VIRTIO, P9_TCP, GVISOR_ROOT),
    *(GVISOR_VOLUMES.format("/mnt/vols"), MODAL_MOUNTS),
)

# what statfs says there
DISK = Statfs(0xEF53, 4096, 4096, 25_000_000, 11_000_000, 6_500_000, 6_000_000)
MOUNTPOINT = Statfs(0x01021997, 512, 512, *[(2**64 - 1) // 1024] * 4)
GOOFYS = Statfs(0x65735546, 2**20, 4096, 2**38, 2**38, 10**9, 10**9)
GCSFUSE = Statfs(0x65735546, 2**20, 2**17, 2**33, 2**33, 2**50, 2**50)
S3FS_OLD = Statfs(0x65735546, 2**24, 2**24, 2**40 - 1, 2**40 - 1, 0, 0)
S3FS_NEW = Statfs(0x65735546, 2**24, 2**24, 2**32 - 1, 2**32 - 1, 0, 0)
RCLONE_QUOTA = Statfs(0x65735546, 4096, 4096, 250_000, 100_000, 10**9, 10**9)  # the remote tells its size
SYNTHETIC = (MOUNTPOINT, GOOFYS, GCSFUSE, S3FS_OLD, S3FS_NEW, RCLONE_QUOTA)
PLACEHOLDER = Statfs(0x01021997, 4096, 4096, 100_000_000, 100_000_000, 0, 0)  # a Modal volume: 382 GiB, none of it used


def mounted(fstype: str, source: str, device: str = "0:99", point: str = "/data", options: str = "rw") -> str:
    """Return the line of a mount on the root."""
    return f"70 27 {device} / {point} rw,relatime shared:9 - {fstype} {source} {options}"


PCI = "/sys/devices/pci0000:00/0000:00:1f.2"
VIRTUAL = "/sys/devices/virtual/block"


def disk(number: str, sysfs: str = f"{PCI}/ata1/host0/target0:0:0/0:0:0:0/block/sda", **facts: Any) -> BlockDevice:
    """Return a block device, a SATA disk unless told otherwise."""
    return BlockDevice(number=number, sysfs=sysfs, **facts)


DEVICES = {"254:0": disk("254:0", "/sys/devices/pci0000:00/0000:00:04.0/virtio2/block/vda")}


def look(
    path: str,
    *lines: str,
    real: str | None = None,
    devices: Mapping[str, BlockDevice | None] | None = None,
    paths: Mapping[str, str | None] | None = None,
    **facts: Any,
) -> Seen:
    """Return all that is seen of `path`: what `classify` asks for is looked up, and a path leads to itself."""
    there = DEVICES | dict(devices or {})
    seen = Seen(path=path, real_path=path if real is None else real, mountinfo="\n".join(lines) + "\n", **facts)
    while any(lacks := wanted(seen)):
        seen = replace(
            seen,
            devices=dict(seen.devices) | {key: there.get(key) for key in lacks.devices},
            real_paths=dict(seen.real_paths) | {key: (paths or {}).get(key, key) for key in lacks.paths},
        )
    return seen


def rule(path: str, *lines: str, allow: Sequence[Allow] = (), policy: Sequence[Allow] = (), **facts: Any) -> Verdict:
    """Return the verdict on `path`, with facts as for `look`."""
    return classify(look(path, *lines, **facts), allow=allow, policy=policy)
