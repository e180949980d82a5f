"""What declarations must be worth: under gVisor all mounts look alike, so they count, unless contradicted."""

import pytest

from tests.support.seeing import GVISOR_ROOT, MODAL, MOUNTPOINT, PLACEHOLDER, ROOT, S3, mounted, rule
from tusz_cache.guarding.values import Allow, DeclaredMount, PlatformMount, Ruling, Verdict

LOCAL, DECLARED = Ruling.ACCEPT_LOCAL_BLOCK, Ruling.ACCEPT_DECLARED
STORE, NETWORK = Ruling.REFUSE_OBJECT_STORE, Ruling.REFUSE_NETWORK
UNKNOWN, MIXED = Ruling.REFUSE_UNKNOWN, Ruling.REFUSE_MIXED

VOLUME = DeclaredMount("/data", "volume", "tusz", "vo-1")
UNNAMED = DeclaredMount("/data", "volume", "tusz")  # not hydrated
BUCKET = DeclaredMount("/bucket", "bucket", "raw")
OWN = DeclaredMount("/", "ephemeral")
THEIRS = PlatformMount("/data", "volume", object_id="vo-1")
THEIR_BUCKET = PlatformMount("/bucket", "bucket", "raw")
HOME = "/__modal/volumes/vo-1"


def modal(path: str = "/data/tusz", real: str = f"{HOME}/tusz", **facts) -> Verdict:
    """Return the verdict in a container at Modal, on a volume unless told otherwise."""
    usual = {"declared": (VOLUME,), "platform": (THEIRS,), "statfs": PLACEHOLDER}
    return rule(path, MODAL, real=real, **usual | facts)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, DECLARED),
        ({"platform": None}, DECLARED),  # nothing contradicts
        ({"declared": (UNNAMED,)}, DECLARED),  # the platform knows the id
        ({"path": HOME, "real": HOME}, DECLARED),  # asked for by its real name
        ({"path": "/root/link"}, DECLARED),  # by a symlink of one's own
        ({"path": "/data/", "real": HOME}, DECLARED),
        ({"declared": (DeclaredMount("/data/", "volume", "tusz", "vo-1"),)}, DECLARED),
        ({"declared": (OWN, VOLUME)}, DECLARED),
        ({"declared": (VOLUME, BUCKET), "platform": (THEIRS, THEIR_BUCKET)}, DECLARED),  # a bucket beside it
        ({"declared": None}, UNKNOWN),
        ({"declared": ()}, UNKNOWN),
        ({"declared": (BUCKET,)}, UNKNOWN),
        ({"declared": None, "platform": None}, UNKNOWN),
        ({"declared": (UNNAMED,), "platform": None}, UNKNOWN),  # which volume?
        ({"real": "/__modal/volumes/vo-2/tusz"}, UNKNOWN),
        ({"real": "/__modal/volumes/vo-12/tusz"}, UNKNOWN),
        ({"real": "/__modal/mounts/x"}, UNKNOWN),
        ({"real": "/data/tusz"}, UNKNOWN),  # nothing is mounted there
        ({"platform": ()}, UNKNOWN),
        ({"platform": (PlatformMount("/data", "volume", object_id="vo-2"),)}, UNKNOWN),
        ({"platform": (PlatformMount("/other", "volume", object_id="vo-1"),)}, UNKNOWN),
        ({"statfs": MOUNTPOINT}, STORE),
        ({"deleted": True}, UNKNOWN),
        ({"mount_id": 99}, UNKNOWN),
    ],
)
def test_a_volume_is_accepted_as_declared_unless_something_contradicts(facts: dict, expected: Ruling):
    """A declared volume must lead into itself, and be what the platform mounts there as far as that is known."""
    verdict = modal(**facts)
    assert expected == verdict.ruling
    if expected is DECLARED:
        assert "volume" == verdict.declared_as


@pytest.mark.parametrize("layer", ["declared", "platform"])
@pytest.mark.parametrize(
    ("at", "expected"),
    [
        *((path, STORE) for path in ("/data/tusz", "/data/tusz/", "/data", HOME, f"{HOME}/tusz", "/__modal", "/")),
        *((path, MIXED) for path in ("/data/tusz/raw", f"{HOME}/tusz/raw")),
        *((path, DECLARED) for path in ("/data/other", "/data/tusz2", "/bucket")),
    ],
)
def test_a_bucket_over_or_in_the_cache_refuses_whatever_was_declared(layer: str, at: str, expected: Ruling):
    """Whoever names a bucket there, by whichever name of the directory, it is not read from."""
    table = (VOLUME, DeclaredMount(at, "bucket", "raw")) if layer == "declared" else (VOLUME,)
    theirs = (THEIRS, PlatformMount(at, "bucket", "raw")) if layer == "platform" else (THEIRS,)
    if at == "/data":
        table, theirs = table[::-1], theirs[::-1]

    for path in ("/data/tusz", f"{HOME}/tusz"):
        assert expected == modal(path=path, declared=table, platform=theirs).ruling


def test_a_bucket_is_named_in_the_reason():
    """Who declared a bucket reads its name."""
    verdict = modal(path="/bucket/tusz", real="/bucket/tusz", declared=(VOLUME, BUCKET))

    assert STORE == verdict.ruling
    assert "bucket raw" in verdict.reason


@pytest.mark.parametrize("layer", ["declared", "platform"])
def test_a_shared_volume_is_a_network_file_system(layer: str):
    """The platform's network file system is refused as one."""
    nfs = {"declared": (DeclaredMount("/nfs", "nfs", "sv"),), "platform": ()}
    if layer == "platform":
        nfs = {"declared": (OWN,), "platform": (PlatformMount("/nfs", "nfs", "sv"),)}

    assert NETWORK == modal(path="/nfs/a", real="/__modal/nfs/a", **nfs).ruling


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, DECLARED),
        ({"platform": None}, DECLARED),
        ({"declared": (DeclaredMount("/tmp", "ephemeral"),)}, DECLARED),
        ({"declared": (OWN, VOLUME), "platform": (THEIRS,)}, DECLARED),
        ({"declared": (DeclaredMount("/elsewhere", "ephemeral"),)}, UNKNOWN),
        ({"real": "/__modal/volumes/vo-1/x"}, UNKNOWN),  # a symlink into a volume
        ({"real": "/__modal/new/x"}, UNKNOWN),
        ({"real": "/scratch/x"}, UNKNOWN),  # another 9p mount
        ({"platform": (PlatformMount("/tmp", "volume", object_id="vo-9"),)}, UNKNOWN),
        ({"platform": (PlatformMount("/tmp", "bucket", "b"),)}, STORE),
        ({"path": "/", "real": "/"}, MIXED),  # what is mounted below lies elsewhere
        ({"statfs": MOUNTPOINT}, STORE),
    ],
)
def test_the_containers_own_disk_is_where_nothing_else_is_mounted(facts: dict, expected: Ruling):
    """A declared own disk holds for the root's mount only, and where the platform mounts nothing."""
    usual = {"path": "/tmp/cache", "real": "/tmp/cache", "declared": (OWN,), "platform": ()}
    lines = f"{MODAL}\n{mounted('9p', 'none', point='/scratch').replace('27', '8')}"

    usual |= facts
    verdict = rule(usual.pop("path"), lines, **usual)
    assert expected == verdict.ruling
    if expected is DECLARED:  # which no volume is
        assert "ephemeral" == verdict.declared_as


def test_a_docker_containers_own_disk_can_be_declared():
    """The layers lie on the host, out of sight; declared as the container's own disk they are accepted."""
    root = mounted("overlay", "overlay", point="/", options="rw,lowerdir=/l/A:/l/B,upperdir=/x/diff")
    paths = {"/l/A": None, "/l/B": None, "/x/diff": None}

    assert DECLARED == rule("/data", root, paths=paths, declared=(OWN,)).ruling
    assert UNKNOWN == rule("/data", root, paths=paths).ruling
    assert STORE == rule("/data", root, S3, paths=paths | {"/l/B": "/mnt/m/B"}, declared=(OWN,)).ruling


def test_a_declaration_does_not_outweigh_a_record():
    """What the mount record calls a bucket, a network or unknown stays refused."""
    for fstype, expected in (("fuse.s3fs", STORE), ("nfs4", NETWORK), ("newfs", UNKNOWN)):
        line = mounted(fstype, "x", point=HOME)
        assert expected == rule("/data", GVISOR_ROOT, line, real=HOME, declared=(VOLUME,)).ruling


def test_a_local_disk_needs_no_declaration_but_a_broken_one_refuses():
    """A disk declared as the container's own stays a local disk; one that was to be a volume is not that volume."""
    assert LOCAL == rule("/data", ROOT, declared=(OWN,)).ruling
    assert UNKNOWN == rule("/data", ROOT, declared=(VOLUME,)).ruling


def test_a_declared_bucket_stays_a_bucket_under_an_override():
    """Code that allows the very 9p mount does not thereby allow the bucket on it."""
    allow = (Allow("/bucket", "9p", "none", "fast"),)
    facts = {"declared": (BUCKET,), "platform": (), "real": "/__modal/mounts/b"}

    assert STORE == rule("/bucket/x", MODAL, allow=allow, **facts).ruling
    assert Ruling.ACCEPT_OVERRIDE == rule("/bucket/x", MODAL, policy=allow, **facts).ruling


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"declared": None}, "DeclaredMount(path='/data', kind='volume', name='', object_id='vo-1')"),
        ({"declared": None, "platform": ()}, "DeclaredMount(path='/', kind='ephemeral'"),
        ({"declared": None, "platform": None}, "DeclaredMount(path='/data/tusz', kind='volume'"),
    ],
)
def test_the_hint_is_the_declaration_that_is_missing(facts: dict, expected: str):
    """Who declared nothing reads what to declare, with the values that the platform knows."""
    assert expected in modal(**facts).hint
