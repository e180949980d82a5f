"""What the guard says of real mounts. Each cache here is whole and sealed: only where it lies speaks against it."""

import os
import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import mounting, rclone
from tests.support.guarded import FILE, accepted, filled, make_source, refused
from tests.support.mounting import Bucket, attached, bind, guard, image, mount, needs, overlay, private_mounts, serving
from tests.support.running import META, tree
from tusz_cache import CacheGuard
from tusz_cache.errors import CacheError, CacheRefused

DISKS = {"ext2", "ext3", "ext4", "xfs", "btrfs"}


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what a cache is made of."""
    return make_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="session")
def sealed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache that a sync has made and sealed."""
    return filled(tmp_path_factory.mktemp("sealed") / "cache", source)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """Return an empty tmpfs in a mount namespace of this test's own."""
    with private_mounts():
        yield mount("tmpfs", "tmpfs", tmp_path / "here", "size=64m")


@pytest.fixture
def cache(here: Path, sealed: Path) -> Path:
    """Return a sealed cache in memory, which the guard accepts."""
    return Path(shutil.copytree(sealed, here / "cache", symlinks=True))


@pytest.fixture
def store(here: Path, sealed: Path) -> Path:
    """Return the folder that the fake bucket serves: a sealed cache too, as a seal travels with the files."""
    return Path(shutil.copytree(sealed, here / "store", symlinks=True))


@pytest.fixture
def bucket(here: Path, store: Path) -> Iterator[Bucket]:
    """Return a fake mountpoint-s3 over the store."""
    with mounting.bucket(store, here / "bucket") as mounted:
        yield mounted


STORE, NETWORK, UNKNOWN = "REFUSE_OBJECT_STORE", "REFUSE_NETWORK", "REFUSE_UNKNOWN"

FAKES = [  # type, source, whose statfs, verdict
    ("fuse", "mountpoint-s3", "mountpoint-s3", STORE),
    ("fuse", "mountpoint-s3", "disk", STORE),
    ("fuse.mountpoint-s3", "tusz", "disk", STORE),
    ("fuse.goofys", "tusz", "goofys", STORE),
    ("fuse.gcsfuse", "tusz", "gcsfuse", STORE),
    ("fuse.s3fs", "s3fs", "s3fs", STORE),
    ("fuse.rclone", ":s3{6KBlL}:tusz", "rclone", STORE),
    ("fuse.juicefs", "JuiceFS:tusz", "disk", STORE),
    ("fuse.sshfs", "host:/tusz", "disk", NETWORK),
    # disguises: nothing in them is a reason to accept, and the counts of a bucket betray it under any name
    ("fuse", "/dev/sda1", "mountpoint-s3", STORE),
    ("fuse.ext4", "/dev/vda", "goofys", STORE),
    ("fuse", "tmpfs", "gcsfuse", STORE),
    ("fuse", "/dev/sda1", "disk", UNKNOWN),
    ("fuse", "ext4", "disk", UNKNOWN),
    ("fuse", "- ext4 /dev/vda rw", "disk", UNKNOWN),
    ("fuse", "#", "disk", UNKNOWN),
    ("fuse.ext4", "/dev/vda", "disk", UNKNOWN),
    ("fuse.x - ext4", "/dev/vda", "disk", UNKNOWN),
    ("fuse.tmpfs", "tmpfs", "disk", UNKNOWN),
    ("fuse.mergerfs", "/dev/vda:/dev/vdb", "disk", UNKNOWN),
]


@pytest.mark.parametrize(("fstype", "origin", "like", "verdict"), FAKES)
def test_a_fuse_mount_is_refused_under_every_name(
    here: Path, store: Path, fstype: str, origin: str, like: str, verdict: str
) -> None:
    """Whatever type, source and counts a FUSE server gives itself, it is refused, and no file on it is opened."""
    with mounting.bucket(store, here / "mnt", fstype=fstype, source=origin, like=like) as mounted:
        done = guard(mounted.path)

        said = refused(done, verdict)
        assert "mount record" in {evidence["layer"] for evidence in said["evidence"] if evidence["says"] == "refuse"}
        assert set() == mounted.opened


def test_a_bucket_that_passes_for_a_block_file_system_is_betrayed_by_its_size(
    here: Path, store: Path, tmp_path: Path
) -> None:
    """The type fuseblk, which ntfs-3g has, does not help a mount that claims a bucket's endless room."""
    with (
        attached(image("ext4", here / "device.img")) as device,
        mounting.bucket(store, here / "mnt", fstype="fuseblk", source=device) as mounted,
    ):
        refused(guard(mounted.path), STORE)
        assert set() == mounted.opened
        subprocess.run(["umount", "-l", mounted.path], check=True)


@pytest.mark.parametrize("options", [(), ("--seal", "ignore"), ("--probe",)])
def test_no_option_opens_a_bucket(bucket: Bucket, options: tuple[str, ...]) -> None:
    """With any option a bucket is refused before one of its files is opened, and never written to."""
    refused(guard(bucket.path, *options), STORE)
    assert set() == bucket.opened


def test_a_bucket_that_lets_nobody_in_is_refused(here: Path, store: Path) -> None:
    """A mount of another user's, which denies even root, is refused for what it is."""
    with mounting.bucket(store, here / "mnt", "--private") as mounted:
        refused(guard(mounted.path), STORE)
        assert set() == mounted.opened


def test_a_folder_of_a_bucket_is_a_bucket(bucket: Bucket) -> None:
    """A cache some folders down in the mount is refused like its root."""
    refused(guard(bucket.path / "train", "--seal", "ignore"), STORE)
    assert set() == bucket.opened


def test_a_mount_point_with_odd_characters_is_found(here: Path, store: Path) -> None:
    """Spaces, tabs, newlines and backslashes, which the mount table escapes, hide no bucket."""
    with mounting.bucket(store, here / "a b\tc\\040d\ne - ext4") as mounted:
        assert str(mounted.path) == refused(guard(mounted.path), STORE)["real_path"]
        assert set() == mounted.opened


def test_dots_after_a_link_lead_where_the_link_does(here: Path, cache: Path, store: Path) -> None:
    """`link/../cache` is beside what the link leads to, not beside the link."""
    shutil.copytree(store, store / "cache")
    with mounting.bucket(store, here / "mnt") as mounted:
        (here / "link").symlink_to(mounted.path / "train")
        refused(guard(f"{here}/link/../cache"), STORE)
        assert set() == mounted.opened
        accepted(guard(f"{here}/store/../cache"), "ACCEPT_MEMORY")


def test_a_sibling_with_a_longer_name_is_another_place(cache: Path, here: Path, store: Path) -> None:
    """A bucket at `cache-s3` or `cac` says nothing about `cache`."""
    with mounting.bucket(store, here / "cache-s3"), mounting.bucket(store, here / "cac"):
        accepted(guard(cache), "ACCEPT_MEMORY")


@pytest.mark.parametrize("url", ["s3://bucket/tusz", "gs://bucket/tusz", "https://host/tusz", "hf://datasets/a/b"])
def test_a_url_is_an_object_store(url: str) -> None:
    """Training reads from directories only."""
    refused(guard(url), STORE)


# clients that others wrote


@pytest.fixture
def served(here: Path, store: Path) -> Iterator[tuple[str, str]]:
    """Return the endpoint of an S3 server, and the name of the bucket on it that holds a sealed cache."""
    (here / "buckets").mkdir()
    store.rename(here / "buckets" / "tusz")
    with rclone.serve_s3(here / "buckets", rclone.KEY, rclone.SECRET) as url:
        yield url, "tusz"


def test_rclone_is_refused(here: Path, served: tuple[str, str]) -> None:
    """A bucket that rclone mounts is an object store, and its keys are in nothing that the guard says."""
    needs("fusermount3", fuse=True)
    url, name = served
    keys = f"access_key_id={rclone.KEY},secret_access_key={rclone.SECRET}"
    remote = f":s3,provider=Other,{keys},endpoint='{url}',force_path_style=true:{name}"
    (here / "mnt").mkdir()
    command = [rclone.program(), "mount", remote, str(here / "mnt"), "--config", os.devnull, "--allow-other"]
    with serving(command, here / "mnt", stderr=subprocess.DEVNULL):
        assert (here / "mnt" / FILE).stat().st_size
        done = guard(here / "mnt")

    refused(done, STORE)
    assert rclone.SECRET not in done.out + done.err


def test_s3fs_is_refused(here: Path, served: tuple[str, str]) -> None:
    """A bucket that s3fs mounts is an object store."""
    needs("s3fs", fuse=True)
    url, name = served
    (here / "mnt").mkdir()
    (here / "keys").touch(mode=0o600)
    (here / "keys").write_text(f"{rclone.KEY}:{rclone.SECRET}")
    options = f"passwd_file={here / 'keys'},url={url},use_path_request_style"
    with serving(["s3fs", name, str(here / "mnt"), "-f", "-o", options], here / "mnt", stderr=subprocess.DEVNULL):
        assert (here / "mnt" / FILE).stat().st_size
        refused(guard(here / "mnt"), STORE)


def test_sshfs_is_refused(here: Path, store: Path) -> None:
    """A directory of another machine that sshfs mounts is a network file system, though it does what a disk does."""
    needs("sshfs", fuse=True)
    server = "/usr/lib/openssh/sftp-server"
    if not os.path.exists(server):
        pytest.skip("sftp-server is not installed")
    (here / "mnt").mkdir()
    ours, theirs = socket.socketpair()
    with ours, theirs, serving([server], stdin=theirs, stdout=theirs):
        command = ["sshfs", "-f", "-o", "passive", f"host:{store}", str(here / "mnt")]
        with serving(command, here / "mnt", stdin=ours, stdout=ours):
            assert (here / "mnt" / FILE).stat().st_size
            refused(guard(here / "mnt"), NETWORK)


# ways for a bucket to hide behind another mount


def test_a_bind_mount_of_a_bucket_is_a_bucket(here: Path, bucket: Bucket) -> None:
    """A folder of a bucket mounted elsewhere is refused there, also when its own mount point is gone."""
    bind(bucket.path, here / "whole")
    bind(bucket.path / "train", here / "part")
    refused(guard(here / "whole"), STORE)
    refused(guard(here / "part", "--seal", "ignore"), STORE)
    subprocess.run(["umount", "-l", bucket.path], check=True)
    refused(guard(here / "whole"), STORE)
    assert set() == bucket.opened


Layered = Callable[[Path, Bucket], Path]


def over(here: Path, bucket: Bucket) -> Path:
    return overlay(here / "over", bucket.path)


def twice(here: Path, bucket: Bucket) -> Path:
    return overlay(here / "twice", over(here, bucket))


def among(here: Path, bucket: Bucket) -> Path:
    (here / "plain").mkdir()
    return overlay(here / "among", f"{here / 'plain'}:{bucket.path}")


def relative(here: Path, bucket: Bucket) -> Path:
    return overlay(here / "relative", bucket.path.relative_to(here), cwd=here)


def bound(here: Path, bucket: Bucket) -> Path:
    return overlay(here / "over", bind(bucket.path, here / "bound"))


def escaped(here: Path, bucket: Bucket) -> Path:
    link = bind(bucket.path, here / "a:b, c")
    return overlay(here / "over", str(link).replace(":", "\\:").replace(",", "\\,"))


def for_data(here: Path, bucket: Bucket) -> Path:
    """The bucket holds the contents of files whose names and sizes lie in another layer."""
    names = here / "names"
    for key in tree(here / "store"):
        named = names / key
        named.parent.mkdir(parents=True, exist_ok=True)
        named.touch()
        os.truncate(named, (here / "store" / key).stat().st_size)
        os.setxattr(named, "trusted.overlay.metacopy", b"")
        os.setxattr(named, "trusted.overlay.redirect", f"/{key}".encode())
    found = mount("overlay", "overlay", here / "over", f"ro,metacopy=on,lowerdir={names}::{bucket.path}")
    assert (here / "store" / FILE).read_bytes() == (found / FILE).read_bytes()
    return found


def by_pieces(here: Path, bucket: Bucket) -> Path:
    (here / "plain").mkdir()
    return mounting.stacked(here / "over", ("lowerdir+", here / "plain"), ("lowerdir+", bucket.path))


def moved(here: Path, bucket: Bucket) -> Path:
    found = overlay(here / "over", bind(bucket.path, here / "first"))
    subprocess.run(["umount", "-l", here / "first"], check=True)
    return found


def copied(here: Path, bucket: Bucket) -> Path:
    """A copy of the same cache, times included, lies where the bucket was mounted."""
    found = overlay(here / "over", bind(bucket.path, here / "first"))
    subprocess.run(["umount", "-l", here / "first"], check=True)
    shutil.copytree(here / "store", here / "first", dirs_exist_ok=True)
    return found


def moved_below(here: Path, bucket: Bucket) -> Path:
    return overlay(here / "top", moved(here, bucket))


LAYERED = [over, twice, among, relative, bound, escaped, for_data, by_pieces]


@pytest.mark.parametrize("layered", LAYERED)
def test_an_overlay_over_a_bucket_is_refused(here: Path, bucket: Bucket, layered: Layered) -> None:
    """The upper layer, which statfs shows and writes go to, does not speak for the bucket below it."""
    path = layered(here, bucket)
    assert (path / FILE).stat().st_size
    bucket.forget()

    refused(guard(path), STORE, UNKNOWN, "REFUSE_MIXED")
    assert set() == bucket.opened


@pytest.mark.parametrize("layered", [moved, moved_below, copied])
def test_an_overlay_whose_layer_is_out_of_sight_is_refused(here: Path, bucket: Bucket, layered: Layered) -> None:
    """What lies now where a layer was is not taken for the layer: not its files, or copies of them."""
    path = layered(here, bucket)
    bucket.forget()

    refused(guard(path), UNKNOWN)
    refused(guard(path, "--seal", "ignore"), UNKNOWN)
    assert not bucket.asked() & mounting.fuseserver.WRITING


@pytest.fixture
def image_in_a_bucket(here: Path, cache: Path) -> Iterator[tuple[Path, Bucket]]:
    """Return where an ext4 is mounted whose image lies in a bucket, and the bucket."""
    (here / "images").mkdir()
    image("ext4", here / "images" / "disk.img", holding=cache)
    with mounting.bucket(here / "images", here / "bucket") as mounted:
        found = mount("ext4", mounted.path / "disk.img", here / "disk", "ro,noload,loop")
        assert (found / FILE).stat().st_size
        mounted.forget()
        yield found, mounted
        subprocess.run(["umount", found], check=True)


def test_a_disk_image_in_a_bucket_is_refused(image_in_a_bucket: tuple[Path, Bucket]) -> None:
    """A file system on a loop device reads from where its image lies."""
    found, bucket = image_in_a_bucket

    refused(guard(found), STORE)
    assert not bucket.asked() & mounting.fuseserver.WRITING


def test_a_disk_image_whose_bucket_is_out_of_sight_is_refused(
    here: Path, image_in_a_bucket: tuple[Path, Bucket]
) -> None:
    """When nothing, or another file, lies where an image was, nothing is known of the image."""
    found, bucket = image_in_a_bucket
    subprocess.run(["umount", "-l", bucket.path], check=True)
    refused(guard(found), STORE, UNKNOWN)
    shutil.copy(here / "images" / "disk.img", bucket.path)
    refused(guard(found), STORE, UNKNOWN)


def test_a_file_system_with_one_of_its_devices_in_a_bucket_is_refused(here: Path, sealed: Path) -> None:
    """Of a btrfs over two devices the mount table names one; the other counts as well."""
    needs("mkfs.btrfs", "btrfs")
    (here / "images").mkdir()
    near, far = here / "near.img", here / "images" / "far.img"
    for file in (near, far):
        with file.open("wb") as made:
            made.truncate(mounting.IMAGES["btrfs"][0] * 2**20)
    (here / "disk").mkdir()
    with attached(near) as one, attached(far) as two:
        subprocess.run(["mkfs.btrfs", "-q", "-d", "raid0", "-m", "raid1", one, two], check=True)
        found = mount("btrfs", one, here / "disk", f"device={one},device={two}")
        shutil.copytree(sealed, found / "cache")
        accepted(guard(found / "cache"), "ACCEPT_MEMORY")
        subprocess.run(["umount", found], check=True)
    with (
        mounting.bucket(here / "images", here / "bucket") as mounted,
        attached(near, "-r") as one,
        attached(mounted.path / far.name, "-r") as two,
    ):
        mount("btrfs", one, found, f"ro,device={one},device={two}")
        refused(guard(found / "cache"), STORE)
        subprocess.run(["umount", found], check=True)


# a cache of which a part lies elsewhere


def by_symlink(cache: Path, bucket: Bucket) -> None:
    (cache / FILE).unlink()
    (cache / FILE).symlink_to(bucket.path / FILE)


def by_folder_symlink(cache: Path, bucket: Bucket) -> None:
    shutil.rmtree(cache / "train")
    (cache / "train").symlink_to(bucket.path / "train")


def by_file_mount(cache: Path, bucket: Bucket) -> None:
    bind(bucket.path / FILE, cache / FILE)


def by_folder_mount(cache: Path, bucket: Bucket) -> None:
    bind(bucket.path / "train", cache / "train")


def by_records(cache: Path, bucket: Bucket) -> None:
    bind(bucket.path / META, cache / META)


@pytest.mark.parametrize("part", [by_symlink, by_folder_symlink, by_file_mount, by_folder_mount, by_records])
@pytest.mark.parametrize("seal", ["require", "ignore"])
def test_one_file_from_a_bucket_spoils_a_cache(
    cache: Path, bucket: Bucket, part: Callable[[Path, Bucket], None], seal: str
) -> None:
    """A cache in memory, accepted as it is, is refused when a file comes from a bucket, by a link or a mount."""
    accepted(guard(cache, "--seal", seal), "ACCEPT_MEMORY")
    part(cache, bucket)
    bucket.forget()

    refused(guard(cache, "--seal", seal), "REFUSE_MIXED", STORE)
    assert set() == bucket.opened


def test_a_bucket_below_the_cache_spoils_it(here: Path, cache: Path, store: Path) -> None:
    """A bucket mounted somewhere below is refused although no file of the manifest lies in it."""
    with mounting.bucket(store, cache / "extra") as mounted:
        refused(guard(cache), "REFUSE_MIXED", STORE)
        assert set() == mounted.opened


def test_a_link_out_to_another_local_place_spoils_a_cache(here: Path, cache: Path, sealed: Path) -> None:
    """A file that lies elsewhere is refused wherever that is: nothing there was sealed."""
    (cache / FILE).rename(here / "elsewhere.npz")
    (cache / FILE).symlink_to(here / "elsewhere.npz")

    refused(guard(cache), "REFUSE_MIXED")


def test_a_second_mount_on_the_same_place_hides_the_first(cache: Path, bucket: Bucket) -> None:
    """What counts is the mount that answers: a bucket over a tmpfs is a bucket, and a tmpfs over it memory again."""
    bind(bucket.path, cache)
    refused(guard(cache), STORE)
    assert set() == bucket.opened

    mount("tmpfs", "tmpfs", cache, "size=1m")
    refused(guard(cache), "REFUSE_NO_SEAL")
    accepted(guard(cache, "--seal", "ignore"), "ACCEPT_MEMORY")


# servers that do not answer


CHECK_SOON = """
import sys
from tusz_cache import CacheGuard
print(CacheGuard(deadline=1).check(sys.argv[1]).ruling)
"""


def test_a_server_that_hangs_is_refused_and_holds_nobody(cache: Path, bucket: Bucket) -> None:
    """The guard answers although the server does not, and ends with all that it started."""
    before = mounting.beside()
    bucket.stop()

    refused(guard(bucket.path), STORE, "REFUSE_UNRESPONSIVE")
    below = mounting.python("-c", CHECK_SOON, bucket.path / "train")
    assert (0, "REFUSE_UNRESPONSIVE\n") == (below.code, below.out), below.err
    assert set() == mounting.beside() - before


def test_a_link_into_a_server_that_hangs_is_refused(cache: Path, bucket: Bucket) -> None:
    """A cache with a link to a file on a server that does not answer is refused, without asking it."""
    by_symlink(cache, bucket)
    bucket.stop()

    refused(guard(cache), "REFUSE_MIXED", "REFUSE_UNRESPONSIVE")


def test_a_server_that_hangs_elsewhere_harms_nobody(cache: Path, bucket: Bucket) -> None:
    """A cache is accepted while some other mount of the machine does not answer."""
    bucket.stop()

    accepted(guard(cache), "ACCEPT_MEMORY")


def test_a_server_that_died_is_refused(bucket: Bucket) -> None:
    """A mount that is not connected any more is refused."""
    bucket.kill()

    refused(guard(bucket.path), STORE, "REFUSE_UNRESPONSIVE")


# after admission


def test_what_is_mounted_over_an_admitted_cache_is_noticed_and_never_read(
    cache: Path, store: Path, bucket: Bucket
) -> None:
    """When its path leads to a bucket, an admitted cache's files are read as before; a recheck refuses the bucket."""
    wanted = (cache / FILE).read_bytes()
    (store / FILE).write_bytes(bytes(len(wanted)))
    with CacheGuard().admit(cache) as admitted:
        assert admitted.recheck().admitted
        bind(bucket.path, cache)
        bucket.forget()

        assert wanted == admitted.read_bytes(FILE)
        with pytest.raises(CacheRefused) as refusal:
            admitted.recheck()
        assert (STORE, 5) == (refusal.value.verdict.ruling, refusal.value.exit_code)
        assert wanted == admitted.read_bytes(FILE)
        assert set() == bucket.opened

        subprocess.run(["umount", "-l", cache], check=True)
        assert admitted.recheck().admitted


def test_another_cache_mounted_over_an_admitted_one_is_a_mismatch(here: Path, cache: Path, sealed: Path) -> None:
    """A recheck goes on with the same files on another mount, and refuses other files."""
    with CacheGuard().admit(cache) as admitted:
        same = mount("tmpfs", "tmpfs", here / "same", "size=1m") / "cache"
        bind(Path(shutil.copytree(sealed, same)), cache)
        assert "ACCEPT_MEMORY" == admitted.recheck().ruling

        (here / "other").mkdir()
        (here / "other" / "x.npz").touch()
        bind(filled(here / "another", here / "other"), cache)
        with pytest.raises(CacheRefused) as refusal:
            admitted.recheck()
        assert "REFUSE_SEAL_MISMATCH" == refusal.value.verdict.ruling


def test_a_folder_mounted_into_an_admitted_cache_is_never_read(cache: Path, bucket: Bucket) -> None:
    """Files of an admitted cache over which a bucket was mounted are not found, rather than read from there."""
    with CacheGuard().admit(cache) as admitted:
        by_folder_mount(cache, bucket)
        bucket.forget()

        with pytest.raises(CacheError):
            admitted.read_bytes(FILE)
        assert set() == bucket.opened


def test_an_admitted_cache_that_arrives_where_its_path_is_a_bucket_is_refused(cache: Path, bucket: Bucket) -> None:
    """A worker that sees other mounts than the process that admitted the cache does not read from them."""
    with CacheGuard().admit(cache) as admitted:
        sent = pickle.dumps(admitted)
        with pickle.loads(sent) as received:
            assert (cache / FILE).read_bytes() == received.read_bytes(FILE)
        bind(bucket.path, cache)
        bucket.forget()

        with pytest.raises(CacheRefused):
            pickle.loads(sent)
        assert set() == bucket.opened


ADMIT_AND_WAIT = """
import sys
from tusz_cache import CacheGuard
from tusz_cache.errors import CacheRefused
from tusz_cache.guarding.values import Allow

allowed = Allow(sys.argv[1], "fuse", "lab", "a test")
admitted = CacheGuard(allow=[allowed], deadline=1).admit(sys.argv[1])
print(admitted.recheck().ruling, flush=True)
sys.stdin.readline()
try:
    print(admitted.recheck().ruling)
except CacheRefused as error:
    print(error.verdict.ruling)
"""


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_a_server_that_fails_after_admission_is_noticed(here: Path, store: Path, way: str) -> None:
    """A mount that an override let through stops answering, or dies: a recheck refuses it, and the process can end."""
    with mounting.bucket(store, here / "mnt", source="lab", like="disk") as mounted:
        command = [sys.executable, "-c", ADMIT_AND_WAIT, str(mounted.path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            try:
                assert "ACCEPT_OVERRIDE\n" == process.stdout.readline()
                getattr(mounted, way)()
                said, _ = process.communicate("\n", timeout=mounting.PATIENCE)
            finally:
                process.kill()

        assert (0, "REFUSE_UNRESPONSIVE\n") == (process.returncode, said)


# what is accepted


def on_disk(path: Path) -> None:
    """Skip the test if pytest's directory is not on a disk."""
    asked = ["findmnt", "-n", "-o", "FSTYPE", "-T", str(path)]
    fstype = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if fstype not in DISKS:
        pytest.skip(f"pytest's directory is on {fstype}, not on a disk: --basetemp DIR")


def judged(root: Path, source: Path, verdict: str) -> None:
    """Check that a cache below `root` is accepted when it is sealed, and without a seal if that is to be ignored."""
    accepted(guard(filled(root / "cache", source)), verdict)
    shutil.copytree(source, root / "bare")
    refused(guard(root / "bare"), "REFUSE_NO_SEAL")
    accepted(guard(root / "bare", "--seal", "ignore"), verdict)


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs"])
def test_a_disk_is_accepted(here: Path, tmp_path: Path, source: Path, fstype: str) -> None:
    """ext4, xfs and btrfs on a device of this machine are local."""
    on_disk(tmp_path)
    made = image(fstype, tmp_path / "disk.img")
    found = mount(fstype, made, here / "disk", "loop")
    judged(found, source, "ACCEPT_LOCAL_BLOCK")
    subprocess.run(["umount", found], check=True)
    made.unlink()


def test_the_machine_s_own_disk_is_accepted(tmp_path: Path, source: Path) -> None:
    """A directory as it comes, with nothing mounted for it, is local."""
    on_disk(tmp_path)
    judged(tmp_path, source, "ACCEPT_LOCAL_BLOCK")


def test_a_subvolume_is_accepted(here: Path, tmp_path: Path, sealed: Path) -> None:
    """Subvolumes of btrfs, whose device numbers are in no mount table, are part of the cache."""
    needs("btrfs")
    on_disk(tmp_path)
    made = image("btrfs", tmp_path / "disk.img")
    found = mount("btrfs", made, here / "disk", "loop") / "cache"
    found.mkdir()
    subprocess.run(["btrfs", "-q", "subvolume", "create", found / "train"], check=True, stdout=subprocess.DEVNULL)
    shutil.copytree(sealed, found, dirs_exist_ok=True)

    accepted(guard(found), "ACCEPT_LOCAL_BLOCK")


def test_memory_is_accepted_for_what_it_is(here: Path, source: Path) -> None:
    """A tmpfs is accepted, and named memory: it is gone with the machine."""
    judged(here, source, "ACCEPT_MEMORY")


def test_a_disk_mounted_a_second_time_is_accepted(here: Path, tmp_path: Path, source: Path) -> None:
    """A bind mount of a disk's directory is what the disk is."""
    on_disk(tmp_path)
    (tmp_path / "data").mkdir()
    judged(bind(tmp_path / "data", here / "bound"), source, "ACCEPT_LOCAL_BLOCK")


def test_an_overlay_over_a_disk_is_accepted(here: Path, tmp_path: Path, sealed: Path, source: Path) -> None:
    """An overlay whose layers are all on disks is local, whether files come from the lower or the upper one."""
    on_disk(tmp_path)
    shutil.copytree(sealed, tmp_path / "lower" / "old")
    found = overlay(tmp_path / "over", tmp_path / "lower")
    accepted(guard(found / "old"), "ACCEPT_LOCAL_BLOCK")
    os.chmod(found / "old" / FILE, 0o444)  # copied up: its number stays the lower one's
    accepted(guard(found / "old"), "ACCEPT_LOCAL_BLOCK")
    judged(found, source, "ACCEPT_LOCAL_BLOCK")
    subprocess.run(["umount", found], check=True)


def test_a_folder_of_overlays_on_overlays_is_accepted(here: Path, cache: Path, sealed: Path) -> None:
    """Files are found in whichever layer has them, also below several overlays and by another mount of one."""
    low = overlay(here / "low", cache.parent)
    shutil.copytree(sealed, low / "added")
    top = overlay(here / "top", low)
    accepted(guard(top / "cache"), "ACCEPT_MEMORY")
    accepted(guard(bind(top / "added", here / "bound")), "ACCEPT_MEMORY")


def test_a_cache_may_be_reached_by_a_link(here: Path, cache: Path) -> None:
    """A symlink as the cache's path, as volumes have it, is followed once."""
    (here / "link").symlink_to("cache")

    assert str(cache) == accepted(guard(here / "link"), "ACCEPT_MEMORY")["real_path"]


def test_a_path_with_odd_characters_is_accepted(here: Path, sealed: Path) -> None:
    """Spaces, newlines and signs in a path, and in a mount's, are no hindrance."""
    for path in (here / "a b\tc\\040d\ne: - f", mount("tmpfs", "tmp fs", here / "m \\ n\n", "size=1m") / "cache"):
        shutil.copytree(sealed, path)
        assert str(path) == accepted(guard(path), "ACCEPT_MEMORY")["real_path"]


def test_hard_links_are_files_of_the_cache(here: Path, cache: Path) -> None:
    """A file with a second name elsewhere on the same disk is where it must be."""
    (here / "second.npz").hardlink_to(cache / FILE)

    accepted(guard(cache), "ACCEPT_MEMORY")
