"""What the guard's rulings must be, for what machines really show: an accept only where something speaks for it."""

from dataclasses import replace

import pytest

from tests.support.seeing import (
    DISK,
    GVISOR_ROOT,
    GVISOR_VOLUMES,
    LOOP,
    NFS,
    OVERLAY,
    P9_TCP,
    P9_VIRTIO,
    PLACEHOLDER,
    RCLONE,
    ROOT,
    S3,
    S3_BLANK,
    S3_BOUND,
    S3FS,
    SSHFS,
    SYNTHETIC,
    disk,
    look,
    mounted,
    rule,
)
from tusz_cache.guarding.classify import classify, wanted
from tusz_cache.guarding.values import DarwinAnswer, Ruling, Seen, Statfs, WindowsAnswer

LOCAL, MEMORY = Ruling.ACCEPT_LOCAL_BLOCK, Ruling.ACCEPT_MEMORY
STORE, NETWORK = Ruling.REFUSE_OBJECT_STORE, Ruling.REFUSE_NETWORK
UNKNOWN, MIXED = Ruling.REFUSE_UNKNOWN, Ruling.REFUSE_MIXED


@pytest.mark.parametrize(
    ("line", "path", "expected"),
    [
        (ROOT, "/data", LOCAL),
        *((S3, path, STORE) for path in ("/mnt/m", "/mnt/m/a/b")),
        (S3, "/mnt/mm", LOCAL),  # beside it
        (S3_BOUND, "/mnt/bind", STORE),
        (S3_BLANK, "/mnt/m sp/x", STORE),
        *((RCLONE, "/mnt/r", STORE), (S3FS, "/mnt/s", STORE), (SSHFS, "/mnt/h", NETWORK), (NFS, "/mnt/nfs", NETWORK)),
        *((P9_TCP, "/mnt/9p", UNKNOWN), (GVISOR_VOLUMES.format("/mnt/vols"), "/mnt/vols/vo-1", UNKNOWN)),
        (mounted("nfs4", "127.0.0.1:/", options="rw,vers=4.1,port=20049"), "/data", NETWORK),  # EFS through its tunnel
        (mounted("cifs", "//server/share", options="rw,vers=3.1.1,username=u"), "/data", NETWORK),
        (mounted("lustre", "10.0.0.1@tcp:/fsx"), "/data", NETWORK),
        (mounted("ceph", "admin@1234.cephfs=/"), "/data", NETWORK),
        (mounted("virtiofs", "share"), "/data", UNKNOWN),
        (
            mounted("9p", r"C:\134", options=r"rw,aname=drvfs;path=C:\;uid=0,trans=fd", point="/mnt/c"),
            "/mnt/c/x",
            UNKNOWN,
        ),
        (mounted("drvfs", "C:", point="/mnt/c"), "/mnt/c", UNKNOWN),
        (mounted("autofs", "systemd-1", options="rw,fd=5,pgrp=1,timeout=0,direct"), "/data", UNKNOWN),
        (mounted("fuse", "/dev/sdb1"), "/data", UNKNOWN),  # a program may call its source anything
        (mounted("fuse.drivefs", "drive", point="/content/drive"), "/content/drive/MyDrive", STORE),
        (mounted("fuse.something", "x"), "/data", UNKNOWN),
        (mounted("brandnewfs", "/dev/vda"), "/data", UNKNOWN),
        (mounted("proc", "proc"), "/data", UNKNOWN),
        (mounted("tmpfs", "tmpfs"), "/data", MEMORY),
        (mounted("tmpfs", "s3fs"), "/data", MEMORY),
        (mounted("zfs", "pool/ds"), "/data", LOCAL),
        (mounted("ubifs", "ubi0:data"), "/data", LOCAL),
        (mounted("ext4", "none"), "/data", UNKNOWN),  # on no device that is shown
        (mounted("fuse.mergerfs", "/a:/b"), "/data", UNKNOWN),
        (mounted("aufs", "none", options="rw,si=1"), "/data", UNKNOWN),
    ],
)
def test_a_mount_is_ruled_on_by_its_record(line: str, path: str, expected: Ruling):
    """Each kind of file system, as real machines show it, is accepted or refused as what it is."""
    assert expected == rule(path, ROOT, line).ruling


def test_a_root_over_9p_is_refused_whatever_statfs_says():
    """A 9p server passes its own magic number on: that of ext4 proves nothing."""
    assert UNKNOWN == rule("/data", P9_VIRTIO, statfs=DISK).ruling


def test_the_reason_names_what_is_there():
    """The sentence says what the mount is and what it is called."""
    expected = "/mnt/m/x is an object store mount (fuse mountpoint-s3), which is read over the network"
    assert expected == rule("/mnt/m/x", ROOT, S3).reason


@pytest.mark.parametrize(
    ("lines", "path", "mount_id", "expected"),
    [
        ((mounted("tmpfs", "t"), mounted("fuse", "mountpoint-s3").replace("70", "71")), "/data", None, STORE),
        ((mounted("fuse", "mountpoint-s3"), mounted("tmpfs", "t").replace("70", "71")), "/data", None, MEMORY),
        ((mounted("fuse", "mountpoint-s3"), mounted("tmpfs", "t").replace("70", "71")), "/data", 70, STORE),
        ((S3,), "/data", 42, STORE),  # the directory was opened before something else got its name
        ((S3,), "/data", 999, UNKNOWN),
        (("nonsense",), "/data", None, LOCAL),
    ],
)
def test_the_mount_of_the_opened_directory_counts(lines: tuple[str, ...], path: str, mount_id: int, expected: Ruling):
    """The kernel's id says which of several mounts at one place was opened; without it the last is reached."""
    assert expected == rule(path, ROOT, *lines, mount_id=mount_id).ruling


@pytest.mark.parametrize("statfs", SYNTHETIC)
def test_a_made_up_capacity_refuses_whatever_the_mount_says(statfs: Statfs):
    """The counts that object store mounts report refuse even what looks like a local disk."""
    assert STORE == rule("/data", ROOT, statfs=statfs).ruling


@pytest.mark.parametrize(
    "statfs",
    [
        DISK,
        PLACEHOLDER,
        Statfs(None, 4096, 0, 10**9, 0, 10**9, 5),  # 4 TB, full
        Statfs(None, 4096, 4096, 2**37, 2**36, 2**40, 2**39),  # 512 TiB, half full
        Statfs(None, 4096, 4096, 0, 0, 0, 0),
    ],
)
def test_an_ordinary_capacity_is_a_note(statfs: Statfs):
    """Large, full, empty and unknown disks are not taken for object stores."""
    assert LOCAL == rule("/data", ROOT, statfs=statfs).ruling


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        *((mounted(fstype, "x", point="/data/sub"), MIXED) for fstype in ("fuse", "nfs4", "9p", "autofs", "newfs")),
        (mounted("fuse", "mountpoint-s3", point="/data/sub"), MIXED),
        *((mounted("tmpfs", "x", point="/data/sub"), LOCAL), (mounted("ext4", "x", "8:1", "/data/sub"), LOCAL)),
        (mounted("fuse", "mountpoint-s3", point="/data2"), LOCAL),
        (mounted("fuse", "mountpoint-s3", point="/"), STORE),
    ],
)
def test_what_is_mounted_below_counts_too(line: str, expected: Ruling):
    """A cache with another mount inside is refused unless that would pass by itself."""
    assert expected == rule("/data", ROOT, line, devices={"8:1": disk("8:1")}).ruling


def test_a_bucket_inside_is_named():
    """Who mounted a bucket inside of a local cache reads that it is one, and where."""
    verdict = rule("/data", ROOT, mounted("fuse", "mountpoint-s3", point="/data/sub"))

    assert "/data/sub is an object store mount (fuse mountpoint-s3)" in verdict.reason


def test_a_deleted_directory_is_refused():
    """What has no name any more is no cache."""
    assert UNKNOWN == rule("/data", ROOT, deleted=True).ruling


@pytest.mark.parametrize("text", ["", "\n\n", "garbage\n", "1 2 3 4 - ext4"])
def test_nothing_known_is_refused(text: str):
    """A table without mounts accepts nothing."""
    assert UNKNOWN == classify(Seen(path="/data", real_path="/data", mountinfo=text, statfs=DISK)).ruling


def test_garbage_in_the_table_is_reported():
    """Lines that are no mounts end nothing, and are seen in the evidence."""
    evidence = rule("/data", "what is this", ROOT).evidence

    assert [True] == ["what is this" in one.detail for one in evidence if one.says == "warn"]


# overlays


def overlay(options: str, point: str = "/data") -> str:
    return mounted("overlay", "overlay", "0:40", point, f"rw,{options}")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("lowerdir=/a,upperdir=/b,workdir=/w", LOCAL),
        ("lowerdir=/a:/b:/c", LOCAL),
        ("lowerdir=/mnt/m,upperdir=/b,workdir=/w", STORE),
        ("lowerdir=/a:/mnt/m/x,upperdir=/b", STORE),
        ("lowerdir=/a,upperdir=/mnt/m,workdir=/w", STORE),
        ("lowerdir+=/a,datadir+=/mnt/m", STORE),
        ("lowerdir=/mnt/nfs:/mnt/m", STORE),  # the worst is named
        ("lowerdir=/mnt/nfs:/a", NETWORK),
        ("lowerdir=/a,upperdir=/dev/shm/u", MEMORY),
        ("lowerdir=mnfs,upperdir=/b", UNKNOWN),
        ("lowerdir=/gone,upperdir=/b", UNKNOWN),
        ("lowerdir=/data/x", UNKNOWN),  # itself
        ("workdir=/w", UNKNOWN),
        (r"lowerdir=/mnt/with\134:colon", NETWORK),
    ],
)
def test_an_overlay_is_its_worst_layer(options: str, expected: Ruling):
    """statfs shows the upper layer only; all layers are followed, and one that cannot be found refuses."""
    lines = (S3, NFS, mounted("tmpfs", "shm", point="/dev/shm"), mounted("nfs", "h:/", point="/mnt/with:colon"))
    paths = {"/gone": None}

    assert expected == rule("/data", ROOT, *lines, overlay(options), paths=paths, statfs=DISK).ruling


def test_a_real_overlay_over_a_bucket_is_refused():
    """An overlay whose lower layer is a bucket mount reads over the network."""
    verdict = rule("/mnt/ov/cache", ROOT, S3, OVERLAY)

    assert STORE == verdict.ruling
    assert "layer /mnt/m is an object store mount (fuse mountpoint-s3)" in verdict.reason


def test_a_layer_is_where_its_symlinks_lead():
    """Docker's layers are symlinks: what counts is the mount at their end."""
    assert STORE == rule("/data", ROOT, S3, overlay("lowerdir=/l/ABC"), paths={"/l/ABC": "/mnt/m/diff"}).ruling


DOCKER = overlay(
    "lowerdir=/var/lib/docker/overlay2/l/AAAA:/var/lib/docker/overlay2/l/BBBB,upperdir=/var/lib/docker/overlay2/x/diff",
    point="/",
)
HOSTS = {f"/var/lib/docker/overlay2/{part}": None for part in ("l/AAAA", "l/BBBB", "x/diff")}


def test_a_containers_own_overlay_is_unknown():
    """A container does not see the host's layers, so its root is refused; a volume mounted into it is what it is."""
    volume = "80 70 8:1 /volumes/v /data rw,relatime master:1 - ext4 /dev/sda1 rw"

    assert UNKNOWN == rule("/data", DOCKER, paths=HOSTS).ruling
    assert LOCAL == rule("/data", DOCKER, volume, paths=HOSTS, devices={"8:1": disk("8:1")}).ruling


def test_overlays_on_overlays_are_followed():
    """A bucket under two overlays is found."""
    upper = mounted("overlay", "overlay", "0:41", "/data", "rw,lowerdir=/mid").replace("70", "71")

    assert STORE == rule("/data", ROOT, S3, overlay("lowerdir=/mnt/m", point="/mid"), upper).ruling


def test_mounts_without_end_are_refused():
    """A tower of overlays is followed only so far."""
    tower = [
        f"{100 + level} 27 0:{100 + level} / /o{level} rw - overlay overlay rw,lowerdir=/o{level + 1}"
        for level in range(30)
    ]
    assert UNKNOWN == rule("/o0", ROOT, *tower).ruling


# images


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        *(("/images/e.img", LOCAL), ("/mnt/m/e.img", STORE), ("/mnt/nfs/e.img", NETWORK), ("/mnt/ov/e.img", STORE)),
        *(("", UNKNOWN), ("/images/e.img (deleted)", UNKNOWN)),
    ],
)
@pytest.mark.parametrize("partition", ["", "/loop0p1"])
def test_a_loop_device_is_as_good_as_its_file(file: str, partition: str, expected: Ruling):
    """ext4 on a loop device lies wherever the image's file lies, however deep that goes."""
    loop = disk("7:0", "/sys/devices/virtual/block/loop0", backing_file=file)
    part = disk("7:0", f"/sys/devices/virtual/block/loop0{partition}")
    devices = {"7:0": part if partition else loop, "/dev/loop0": loop}
    paths = {"/images/e.img (deleted)": None}

    verdict = rule("/mnt/loop", ROOT, S3, NFS, OVERLAY, LOOP, devices=devices, paths=paths)
    assert expected == verdict.ruling


def test_an_images_bucket_is_named():
    """The sentence leads from the cache to the image, and from the image to the bucket."""
    loop = disk("7:0", "/sys/devices/virtual/block/loop0", backing_file="/mnt/m/e.img")
    verdict = rule("/mnt/loop", ROOT, S3, LOOP, devices={"7:0": loop})

    expected = "/mnt/loop is on loop0, whose file lies in /mnt/m, which is an object store mount (fuse mountpoint-s3)"
    assert verdict.reason.startswith(expected)


def test_a_loop_device_that_cannot_be_seen_is_unknown():
    """Without /sys the number alone tells that it is a loop device, and that its file is hidden."""
    assert UNKNOWN == rule("/mnt/loop", ROOT, LOOP, devices={"7:0": None}).ruling


@pytest.mark.parametrize(("file", "expected"), [("/images/e.erofs", LOCAL), ("/mnt/m/e.erofs", STORE)])
def test_an_image_without_a_loop_device_is_as_good_as_its_file(file: str, expected: Ruling):
    """erofs mounts a file by itself; the mount's source says which."""
    assert expected == rule("/data", ROOT, S3, mounted("erofs", file)).ruling


# file systems with devices of their own


@pytest.mark.parametrize(
    ("fstype", "source", "bad", "expected"),
    [
        ("btrfs", "/dev/sda2", None, LOCAL),
        ("btrfs", "/dev/nbd0", "/dev/nbd0", NETWORK),
        ("btrfs", "/dev/disk/by-path/pci-0000:00:1f.2-ata-1", None, LOCAL),
        ("bcachefs", "/dev/sda2:/dev/sdb2", None, LOCAL),
        ("bcachefs", "/dev/sda2:/dev/sdb2", "/dev/sdb2", NETWORK),
    ],
)
def test_a_file_system_without_a_number_is_found_by_its_source(fstype: str, source: str, bad: str, expected: Ruling):
    """btrfs and bcachefs name their devices; a colon joins devices, and means no host."""
    devices = {part: disk("8:2") for part in [source, *source.split(":")]}
    if bad:
        devices[bad] = disk("43:0", "/sys/devices/virtual/block/nbd0")

    assert expected == rule("/data", ROOT, mounted(fstype, source, "0:45"), devices=devices).ruling


# other systems


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (DarwinAnswer("apfs", "/dev/disk3s5", True), LOCAL),
        (DarwinAnswer("hfs", "/dev/disk4", True), LOCAL),
        (DarwinAnswer("apfs", "/dev/disk3s5", False), NETWORK),
        (DarwinAnswer("smbfs", "//u@server/share", False), NETWORK),
        (DarwinAnswer("nfs", "server:/a", False), NETWORK),
        (DarwinAnswer("macfuse", "s3fs", True), UNKNOWN),  # mounted with -o local
        (DarwinAnswer("exfat", "/dev/disk5", True), UNKNOWN),
    ],
)
def test_macos_needs_a_disks_type_that_is_local(answer: DarwinAnswer, expected: Ruling):
    """FUSE may call itself local on macOS; so the type must be one of a disk as well."""
    assert expected == rule("/Volumes/x", answer=answer).ruling


@pytest.mark.parametrize(
    ("path", "answer", "expected"),
    [
        (r"C:\data", WindowsAnswer(3, False), LOCAL),
        (r"\\?\C:\data", WindowsAnswer(3, False), LOCAL),
        (r"R:\data", WindowsAnswer(6, False), MEMORY),
        (r"Z:\data", WindowsAnswer(4, True), NETWORK),
        (r"C:\link", WindowsAnswer(3, True), NETWORK),
        (r"\\server\share\data", WindowsAnswer(3, False), NETWORK),
        ("//server/share/data", WindowsAnswer(3, False), NETWORK),
        (r"\\?\UNC\server\share", WindowsAnswer(3, False), NETWORK),
        *((r"D:\data", WindowsAnswer(kind, False), UNKNOWN) for kind in (0, 1, 2, 5)),
    ],
)
def test_windows_needs_a_fixed_drive_that_is_not_remote(path: str, answer: WindowsAnswer, expected: Ruling):
    """A mapped drive, a link to another machine and a UNC path are all network."""
    assert expected == rule(path, answer=answer).ruling


# what is asked for


def test_what_is_needed_is_asked_for_step_by_step():
    """The overlay's layers, then their devices, then what those stand on, then the image's file."""
    bare = Seen(path="/data", real_path="/data", mountinfo=f"{ROOT}\n{LOOP}\n{overlay('lowerdir=/mnt/loop')}\n")
    layer = replace(bare, real_paths={"/mnt/loop": "/mnt/loop"})
    loop = disk("7:0", "/sys/devices/virtual/block/loop0", backing_file="/e.img")
    image = replace(layer, devices={"7:0": loop})
    file = replace(image, real_paths={"/mnt/loop": "/mnt/loop", "/e.img": "/e.img"})

    asked = [wanted(seen) for seen in (bare, layer, image, file)]
    assert [(set(), {"/mnt/loop"}), ({"7:0"}, set()), (set(), {"/e.img"}), ({"254:0"}, set())] == asked
    assert [UNKNOWN] * 4 == [classify(seen).ruling for seen in (bare, layer, image, file)]
    assert LOCAL == rule("/data", ROOT, LOOP, overlay("lowerdir=/mnt/loop"), devices={"7:0": loop}).ruling


@pytest.mark.parametrize("line", [S3, NFS, SSHFS, P9_TCP, GVISOR_ROOT])
def test_nothing_is_looked_up_where_the_record_tells(line: str):
    """A bucket's or a server's mount is refused without touching anything."""
    point = line.split()[4]

    assert ((), ()) == tuple(map(tuple, wanted(Seen(path=point, real_path=point, mountinfo=line))))


def test_looking_at_the_same_again_changes_nothing():
    """A verdict is a function of what was seen."""
    seen = look("/mnt/ov", ROOT, S3, OVERLAY)

    assert classify(seen) == classify(seen)
