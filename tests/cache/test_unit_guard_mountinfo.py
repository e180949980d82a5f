"""What the reading of mountinfo must be: true to the kernel's escapes and order, and calm about anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.seeing import GVISOR_ROOT, P9_TCP, P9_VIRTIO, REAL, ROOT, S3, S3_BLANK, S3_BOUND
from tusz_cache.guarding import kinds
from tusz_cache.guarding.kinds import Kind, kind_of
from tusz_cache.guarding.mountinfo import absolute, layers, parse, within
from tusz_cache.guarding.redact import redact


def only(line: str):
    """Return the one mount of a line."""
    table = parse(line)
    assert () == table.unread
    (mount,) = table.mounts
    return mount


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (S3, (42, 27, "0:39", "/mnt/m", "fuse", "mountpoint-s3")),
        (S3_BOUND, (44, 27, "0:39", "/mnt/bind", "fuse", "mountpoint-s3")),
        (S3_BLANK, (45, 27, "0:39", "/mnt/m sp", "fuse", "mountpoint-s3")),
        (P9_VIRTIO, (25, 1, "0:22", "/", "9p", "r")),
        (P9_TCP, (32, 30, "0:27", "/mnt/9p", "9p", "127.0.0.1")),
        (GVISOR_ROOT, (8, 8, "0:8", "/", "9p", "none")),
        (ROOT, (27, 1, "254:0", "/", "ext4", "/dev/vda")),
        (
            "1 0 8:1 / / rw shared:1 master:2 propagate_from:3 - xfs /dev/sda1 rw",
            (1, 0, "8:1", "/", "xfs", "/dev/sda1"),
        ),
        (r"1 0 8:1 / /a\011b\012c\134d rw - xfs /dev/x\040y rw", (1, 0, "8:1", "/a\tb\nc\\d", "xfs", "/dev/x y")),
        ("1 0 8:1 / /a\x0bb\rc\u2028d rw - xfs s rw", (1, 0, "8:1", "/a\x0bb\rc\u2028d", "xfs", "s")),
        ("1 0 0:5 / /a rw - tmpfs  rw", (1, 0, "0:5", "/a", "tmpfs", "")),  # mounted without a source
        ("1 0 0:5 / /a rw - tmpfs", (1, 0, "0:5", "/a", "tmpfs", "")),
        ("1 0 0:5 / /- rw - tmpfs - rw", (1, 0, "0:5", "/-", "tmpfs", "-")),
        ("1 0 0:3 net:[4026531840] /run/netns/a rw - nsfs nsfs rw", (1, 0, "0:3", "/run/netns/a", "nsfs", "nsfs")),
    ],
)
def test_a_line_is_read_as_the_kernel_means_it(line: str, expected: tuple):
    """Escapes, runs of blanks, missing and many optional fields, and names like "-" are understood."""
    mount = only(line)

    assert expected == (mount.id, mount.parent, mount.device, mount.point, mount.fstype, mount.source)


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "1 0 8:1 / /a rw ext4 /dev/sda rw",  # no separator
        "1 0 8:1 / a rw - ext4 /dev/sda rw",  # no absolute path
        "1 0 8 / /a rw - ext4 /dev/sda rw",
        "x 0 8:1 / /a rw - ext4 /dev/sda rw",
        "\u0661 0 8:1 / /a rw - ext4 /dev/sda rw",  # a digit, but not the kernel's
        "1 0 8:1 / /a rw -",
        "1 0 8:1 /",
    ],
)
def test_a_line_that_is_no_mount_is_kept_apart(line: str):
    """Garbage is reported, and the lines around it count."""
    table = parse(f"{ROOT}\n{line}\n{S3}\n")

    assert ((line,), 2) == (table.unread, len(table.mounts))


@pytest.mark.parametrize(
    ("path", "above", "expected"),
    [
        *(("/a", "/", True), ("/a/b", "/a", True), ("/a", "/a", True), ("/", "/", True)),
        *(("/ab", "/a", False), ("/a", "/a/b", False), ("a", "/", False), ("", "/", False)),
    ],
)
def test_a_path_lies_below_another_by_whole_components(path: str, above: str, expected: bool):
    """/ab does not lie below /a."""
    assert expected == within(path, above)


@pytest.mark.parametrize(
    ("path", "expected"), [("/a/", "/a"), ("//a//b/../c/.", "/a/c"), ("/", "/"), ("/../a", "/a"), ("a", "/a")]
)
def test_a_path_is_brought_to_one_form(path: str, expected: str):
    """Slashes and dots make no difference."""
    assert expected == absolute(path)


TREE = """\
22 27 0:21 / /proc rw - proc proc rw
27 1 8:1 / / rw - ext4 /dev/sda1 rw
30 27 8:2 / /data rw - xfs /dev/sdb rw
31 30 0:40 / /data/a rw - tmpfs one rw
32 31 0:41 / /data/a rw - tmpfs two rw
33 27 0:42 / /datax rw - nfs host:/ rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        *(("/", 27), ("/etc", 27), ("/data", 30), ("/data/b", 30), ("/data/a", 32), ("/data/a/b/c", 32)),
        *(("/datax", 33), ("/dataxy", 27), ("/proc/self", 22)),
    ],
)
def test_a_path_lies_on_the_mount_that_reading_it_reaches(path: str, expected: int):
    """The longest mount point counts, and of several mounts on one the last."""
    mount = parse(TREE).find(path)

    assert mount is not None
    assert expected == mount.id


def test_a_mount_is_found_by_its_id_where_the_kernel_tells_it():
    """The id of the opened directory beats its name: a name may have been mounted over since."""
    table = parse(TREE)

    assert [30, 31] == [mount.id for mount in (table.find("/data/a", 30), table.find("/", 31)) if mount]
    assert None is table.find("/data", 99)


def test_what_is_mounted_over_a_directory_hides_what_was_mounted_below_it():
    """A disk at /mnt/a says nothing any more once a network file system is mounted over /mnt."""
    over = f"{ROOT}\n40 27 8:2 / /mnt/a rw - ext4 /dev/sdb rw\n41 27 0:50 / /mnt rw - nfs host:/ rw\n"

    assert ["nfs"] == [mount.fstype for mount in (parse(over).find("/mnt/a/b"),) if mount]
    assert ["nfs"] == [mount.fstype for mount in (parse(over.replace("27 1 ", "27 27 ")).find("/mnt/a/b"),) if mount]


def test_a_tree_without_its_root_still_has_branches():
    """In a chroot, the mount at the top may be missing, and what it carried lies on no mount that is shown."""
    table = parse("30 27 8:2 / /data rw - xfs /dev/sdb rw")

    assert ["xfs"] == [mount.fstype for mount in (table.find("/data/a"),) if mount]
    assert None is table.find("/etc")


def test_mounts_that_are_mounted_on_each_other_end_no_search():
    """A table that goes round in circles still names a mount that covers the path."""
    mount = parse("1 2 0:1 / / rw - nfs a rw\n2 1 0:2 / / rw - nfs b rw").find("/x")

    assert mount is not None


@pytest.mark.parametrize(
    ("path", "expected"), [("/data", ["two"]), ("/data/a", []), ("/etc", []), ("/datax", []), ("/da", [])]
)
def test_mounts_below_a_path_are_named_once(path: str, expected: list[str]):
    """Of what is mounted over each other only the last is there."""
    assert expected == [mount.source for mount in parse(TREE).below(path)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("rw,lowerdir=/a,upperdir=/b,workdir=/c", ["/a", "/b"]),
        ("rw,lowerdir=/a:/b:/c", ["/a", "/b", "/c"]),
        ("rw,lowerdir=/a:/b::/data", ["/a", "/b", "/data"]),
        (r"rw,lowerdir=/a\134:b:/c", ["/a:b", "/c"]),
        (r"rw,lowerdir=/a\:b:/c", ["/a:b", "/c"]),
        (r"rw,lowerdir=/a\040b\054c", ["/a b,c"]),
        (r"rw,lowerdir=/a\134\134b", [r"/a\b"]),
        (r"rw,lowerdir=/a,upperdir=/b\134:c", ["/a", "/b:c"]),
        ("rw,lowerdir=mnfs,upperdir=/u", [None, "/u"]),
        ("rw,lowerdir=/a:b", ["/a", None]),
        ("rw,lowerdir+=/a,lowerdir+=/b:c,datadir+=/d", ["/a", "/b:c", "/d"]),
        ("rw,lowerdir=", []),
        ("rw,uuid=on", []),
    ],
)
def test_an_overlay_is_taken_apart(options: str, expected: list[str | None]):
    """Each form in which a kernel names layers is read; a layer that is no absolute path cannot be found."""
    assert expected == layers(only(f"48 27 0:40 / /mnt/ov rw - overlay overlay {options}"))


@pytest.mark.parametrize(
    ("fstype", "source", "expected"),
    [
        *((name, "/dev/sda", Kind.LOCAL) for name in ("ext4", "xfs", "btrfs", "zfs", "fuseblk", "squashfs")),
        *((name, name, Kind.MEMORY) for name in ("tmpfs", "ramfs")),
        *((name, "host:/a", Kind.NETWORK) for name in ("nfs4", "cifs", "smb3", "ceph", "lustre", "gpfs", "fuse.sshfs")),
        *((f"fuse.{name}", "x", Kind.OBJECT_STORE) for name in ("s3fs", "rclone", "gcsfuse", "goofys", "juicefs")),
        ("fuse", "mountpoint-s3", Kind.OBJECT_STORE),
        ("fuse", "sshfs", Kind.NETWORK),
        *(("fuse", source, Kind.SHARED) for source in ("", "ext4", "/dev/sda1", "tmpfs", "anything")),
        *((f"fuse.{name}", "x", Kind.SHARED) for name in ("brand-new", "ext4", "portal", "")),
        *((name, "none", Kind.SHARED) for name in ("9p", "virtiofs", "drvfs", "vboxsf")),
        *((name, "x", Kind.STACKED) for name in ("overlay", "aufs", "fuse.mergerfs", "fuse.fuse-overlayfs")),
        *((name, name, Kind.NO_DATA) for name in ("autofs", "proc", "sysfs", "cgroup2")),
        *((name, "/dev/sda", Kind.UNKNOWN) for name in ("", "ext5", "EXT4", "fusectl2", "nfs5", "modalfs", "fusexyz")),
    ],
)
def test_a_type_says_what_it_is(fstype: str, source: str, expected: Kind):
    """What is listed is what it is listed as; a source's name can only speak against a mount; all else is unknown."""
    assert expected is kind_of(fstype, source)


def test_each_type_stands_in_one_class():
    """No type is listed twice: the second would silently win."""
    listed = [name for names in kinds._TYPES.values() for name in names.split()]

    assert len(set(listed)) == len(listed)


SECRET = "hunter2SECRET"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"https://user:{SECRET}@host/dav", "https://***@host/dav"),
        (f"https://user:a/{SECRET}@b@host/dav", "https://***@host/dav"),
        (f"https://{SECRET}@host/dav", "https://***@host/dav"),
        (f"//user:{SECRET}@server/share", "//***@server/share"),
        (f"user:{SECRET}@host:/data", "user:***@host:/data"),
        (":s3{6KBlL}:b1", ":s3{***}:b1"),
        (f":s3,access_key_id={SECRET},secret_access_key='{SECRET},x':b1/p", ":s3,***:b1/p"),
        (f"remote,pass={SECRET}:b1", "remote,pass=***"),
        (f"rw,username=u,password={SECRET},uid=0", "rw,username=u,password=***,uid=0"),
        (f"rw,token='{SECRET},{SECRET}',uid=0", "rw,token=***,uid=0"),
        (f"s3://b/k?X-Amz-Signature={SECRET}&x=1", "s3://b/k?X-Amz-Signature=***&x=1"),
        ("a AKIAABCDEFGHIJKLMNOP b", "a *** b"),
    ],
)
def test_secrets_are_taken_out(text: str, expected: str):
    """Passwords, tokens, keys and connection strings are not shown."""
    assert expected == redact(text)


@pytest.mark.parametrize(
    "text",
    [
        *("/dev/vda", "localhost:/data", "fs-1.efs.eu-west-1.amazonaws.com:/", "mountpoint-s3", "pool/ds@snap"),
        *("10.0.0.1@tcp:10.0.0.2@tcp:/fsx", "10.0.0.1:6789,10.0.0.2:6789:/", "admin@fsid.name=/p", "server:/a@b"),
        *("/dev/a:/dev/b", "rw,vers=3,addr=127.0.0.1", "rw,lowerdir=/a:/b,upperdir=/c"),
    ],
)
def test_what_is_no_secret_is_shown(text: str):
    """An explanation names what it is about, and an override can copy it."""
    assert text == redact(text)


@given(st.text(st.sampled_from("a:/@,='\"{}& \npassword"), min_size=1, max_size=6), st.integers(1, 2000))
def test_taking_secrets_out_ends(text: str, times: int):
    """No text, however repetitive, takes longer than a test may."""
    assert len(redact(text * times)) <= 4 * len(text) * times + 6


@given(st.sampled_from(REAL), st.text(max_size=5), st.integers(0, 200), st.integers(0, 5))
def test_a_damaged_line_is_read_or_kept_apart(line: str, insert: str, at: int, cut: int):
    """Each line of a damaged table is a mount or is reported; none is lost, none ends the reading."""
    text = line[:at] + insert + line[at + cut :]
    table = parse(text)

    assert len([one for one in text.split("\n") if one.strip(" \t")]) == len(table.mounts) + len(table.unread)
