"""What must hold of the guard's rulings whatever is seen: no crash, no accept without a reason, no end of questions."""

import random
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.seeing import LOOP, MODAL, REAL, ROOT, S3, SYNTHETIC, look, mounted
from tusz_cache.guarding.classify import classify, wanted
from tusz_cache.guarding.kinds import Kind
from tusz_cache.guarding.mountinfo import parse
from tusz_cache.guarding.stages import is_url, refused_url, unresponsive
from tusz_cache.guarding.values import (
    Allow,
    BlockDevice,
    DeclaredMount,
    PlatformMount,
    Ruling,
    Seen,
    Statfs,
    Verdict,
)

SPEAKING = {Kind.LOCAL, Kind.MEMORY}


def words(text: str) -> st.SearchStrategy[str]:
    """Return a choice of words."""
    return st.sampled_from(text.split())


names = words("/ /data /data/a /data/a/b /mnt/m /mnt /mnt/nfs /up /__modal/volumes/vo-1")
types = words("ext4 tmpfs btrfs overlay nfs4 9p fuse fuse.s3fs autofs new zfs erofs")
sources = words("none /dev/sda1 /dev/nbd0 /data/a mountpoint-s3 h:/x pool/ds")
numbers = words("0:30 8:1 7:0 43:0 253:0")
options = words("rw rw,lowerdir=/data:/mnt/m,upperdir=/up rw,lowerdir=/ rw,lowerdir=x rw,lowerdir+=/mnt")
lines = st.builds(
    "{} {} {} / {} rw - {} {} {}".format, st.integers(1, 6), st.integers(1, 6), numbers, names, types, sources, options
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Draw a real line with a few characters changed."""
    line = draw(st.sampled_from(REAL))
    at, cut = draw(st.integers(0, len(line))), draw(st.integers(0, 8))
    return line[:at] + draw(st.text(st.sampled_from(" -/:\\0134axfuse"), max_size=4)) + line[at + cut :]


tables = st.lists(st.one_of(lines, mutated(), st.sampled_from(REAL), st.text(max_size=30)), max_size=7).map("\n".join)
counts = st.one_of(st.none(), st.sampled_from(SYNTHETIC), st.builds(Statfs, st.none(), *[st.integers(0, 2**70)] * 6))
entries = (names, words("volume bucket nfs ephemeral"), st.just("n"), st.sampled_from(["", "vo-1"]))
declared = st.none() | st.lists(st.builds(DeclaredMount, *entries), max_size=3).map(tuple)
platform = st.none() | st.lists(st.builds(PlatformMount, *entries), max_size=3).map(tuple)
places = words("pci0/block/sda pci0/block/sda/sda1 virtual/block/dm-0 virtual/block/nbd0 virtual/block/loop0")
devices = st.none() | st.builds(
    BlockDevice,
    number=numbers,
    sysfs=places.map(lambda place: f"/sys/devices/{place}"),
    slaves=st.lists(numbers, max_size=2).map(tuple),
    backing_file=st.none() | names | st.just(""),
)


wild = st.builds(
    Seen,
    path=names,
    real_path=names,
    mountinfo=tables,
    mount_id=st.none() | st.integers(0, 50),
    statfs=counts,
    deleted=st.sampled_from([False, False, False, True]),
    devices=st.dictionaries(numbers | sources, devices, max_size=4),
    real_paths=st.dictionaries(names, st.none() | names, max_size=4),
    declared=declared,
    platform=platform,
)
VOLUME = DeclaredMount("/data", "volume", "n", "vo-1")
THEIRS = PlatformMount("/data", "volume", "", "vo-1")
MERGED = mounted("overlay", "overlay", options="rw,lowerdir=/a:/b,upperdir=/c")
IMAGE = BlockDevice(number="7:0", sysfs="/sys/devices/virtual/block/loop0", backing_file="/a/image")
GOOD = (
    look("/data/a", ROOT),
    look("/data", ROOT, S3, MERGED),
    look("/mnt/loop", ROOT, LOOP, devices={"7:0": IMAGE}),
    look("/data/a", ROOT, mounted("tmpfs", "none")),
    look("/data", MODAL, real="/__modal/volumes/vo-1", declared=(VOLUME,), platform=(THEIRS,)),
    look("/data/a", MODAL, declared=(DeclaredMount("/", "ephemeral"),)),
)


@st.composite
def damaged(draw: st.DrawFn) -> Seen:
    """Draw something that is accepted, with some of it replaced, or with lines added to its mounts."""
    good, other = draw(st.sampled_from(GOOD)), draw(wild)
    changed = {name: getattr(other, name) for name in draw(st.sets(words(" ".join(FIELDS)), max_size=2))}
    if draw(st.booleans()):
        changed["mountinfo"] = f"{good.mountinfo}\n{draw(tables)}"
    return replace(good, **changed)


FIELDS = [field.name for field in fields(Seen) if field.name != "answer"]
seen = wild | damaged()


@pytest.mark.parametrize("good", GOOD)
def test_what_the_properties_start_from_is_accepted(good: Seen):
    """The properties below are tried close to what is accepted, not only on nonsense."""
    assert classify(good).admitted


def covers(path: str, above: str) -> bool:
    return path == above or path.startswith(above.rstrip("/") + "/")


@given(seen)
def test_an_accept_has_something_that_speaks_for_it(what: Seen):
    """Without overrides, what is accepted lies on a mount of a local kind or an overlay, or below a declaration."""
    verdict, mount = classify(what), parse(what.mountinfo).find(what.real_path, what.mount_id)
    match verdict.ruling:
        case Ruling.ACCEPT_LOCAL_BLOCK | Ruling.ACCEPT_MEMORY:
            assert mount is not None
            assert mount.kind in SPEAKING or (mount.fstype == "overlay" and what.real_paths)
        case Ruling.ACCEPT_DECLARED:
            assert mount is not None
            assert {"volume", "ephemeral"} & {one.kind for one in what.declared or ()}
            assert mount.kind not in {Kind.OBJECT_STORE, Kind.NETWORK, Kind.NO_DATA, Kind.UNKNOWN}
        case Ruling.ACCEPT_OVERRIDE:
            raise AssertionError("nobody allowed anything")
    if verdict.admitted:
        assert not what.deleted
        assert "accept" in {one.says for one in verdict.evidence}


@given(st.lists(names, max_size=8), st.randoms(use_true_random=False), names)
def test_the_mount_that_is_found_is_the_one_that_is_reached(points: list[str], order: random.Random, path: str):
    """Mounts made one after the other cover what is below them; however they are listed, the last is found."""
    made: list[tuple[int, int, str]] = [(1, 0, "/")]
    for at, point in enumerate(points, 2):
        made.append((at, reached(made, point), point))
    listed = [f"{at} {parent} 0:{at} / {point} rw - tmpfs {at} rw" for at, parent, point in made]
    order.shuffle(listed)
    mount = parse("\n".join(listed)).find(path)

    assert mount is not None
    assert reached(made, path) == mount.id


def reached(made: list[tuple[int, int, str]], path: str) -> int:
    """Return the last mount over a path."""
    return max(at for at, _, point in made if covers(path, point))


@given(seen)
def test_a_bucket_over_the_directory_is_never_accepted(what: Seen):
    """Whatever else was seen: a bucket named at the directory itself refuses, by declaration and by the platform."""
    bucket = DeclaredMount(what.path, "bucket", "b"), PlatformMount(what.real_path, "bucket", "b")

    assert not classify(replace(what, declared=(*(what.declared or ()), bucket[0]))).admitted
    assert not classify(replace(what, platform=(*(what.platform or ()), bucket[1]))).admitted


@given(seen, st.sampled_from(SYNTHETIC))
def test_a_made_up_capacity_is_never_accepted(what: Seen, statfs: Statfs):
    """Whatever else was seen: the counts of an object store mount refuse."""
    assert not classify(replace(what, statfs=statfs)).admitted


@given(seen)
def test_a_bucket_mounted_inside_is_never_accepted(what: Seen):
    """Whatever else was seen: an object store mounted below the directory refuses."""
    inside = f"99 1 0:77 / {what.real_path.rstrip('/')}/inside rw - fuse mountpoint-s3 rw"

    assert not classify(replace(what, mountinfo=f"{what.mountinfo}\n{inside}")).admitted


@given(seen, st.lists(st.builds(Allow, names, types, sources, st.sampled_from(["", "why"])), max_size=3))
def test_overrides_reach_only_what_they_may(what: Seen, allow: list[Allow]):
    """With overrides, a verdict stays as it was or is an accept of one that fits, and never of a bucket by code."""
    before, after = classify(what), classify(what, allow=allow)

    if after.ruling is Ruling.ACCEPT_OVERRIDE:
        assert before.ruling in {Ruling.REFUSE_NETWORK, Ruling.REFUSE_UNKNOWN}
        assert before.ruling is after.overruled
        assert any(covers(place, one.path) and one.reason for one in allow for place in (what.path, what.real_path))
    else:
        assert after.ruling in {before.ruling, Ruling.REFUSE_MIXED}


@given(seen, st.data())
def test_questions_come_to_an_end(what: Seen, data: st.DataObject):
    """However strange the answers, after some rounds nothing more is asked, and nothing is asked twice."""
    for at in range(200):
        lacks = wanted(what)
        if not any(lacks):
            break
        assert not lacks.devices & what.devices.keys()
        assert not lacks.paths & what.real_paths.keys()
        deeper = BlockDevice(number=f"9:{at}", sysfs=f"/sys/devices/virtual/block/dm-{at}", slaves=(f"9:{at + 1}",))
        what = replace(
            what,
            devices=dict(what.devices) | {key: data.draw(devices | st.just(deeper)) for key in lacks.devices},
            real_paths=dict(what.real_paths) | {key: data.draw(st.none() | names) for key in lacks.paths},
        )
    assert ((), ()) == tuple(map(tuple, wanted(what)))


@given(seen)
def test_what_is_not_known_yet_is_never_accepted(what: Seen):
    """As long as something is still to be looked up, nothing is accepted."""
    if any(wanted(what)):
        assert not classify(what).admitted


@given(st.one_of(st.sampled_from([ROOT, S3, MODAL]), tables), st.text(max_size=20))
def test_any_text_gives_a_verdict_that_can_be_shown(mountinfo: str, name: str):
    """No table and no name ends in a traceback, and each verdict can be printed in each form."""
    path = f"/{name}"
    shown: list[Verdict] = [
        classify(Seen(path=path, real_path=path, mountinfo=mountinfo)),
        unresponsive(path, mountinfo, 1),
        refused_url(f"s3://{name}"),
    ]
    for verdict in shown:
        assert verdict.reason
        for form in (verdict.as_text(), verdict.as_json(), verdict._repr_html_()):
            form.encode()
    assert is_url(f"s3://{name}")


SECRET = "hunter2SECRET"


@given(
    st.sampled_from(["nfs4", "cifs", "fuse.rclone", "fuse", "ext4", "9p", "overlay", "new"]),
    words(f"https://u:{SECRET}@h/ :s3,secret_access_key={SECRET}:b u:{SECRET}@h:/x :s3{{{SECRET}}}:b"),
    st.sampled_from([f"rw,password={SECRET}", f"rw,token={SECRET},x=y", f"rw,uid=0,pass={SECRET}"]),
    st.booleans(),
)
def test_no_verdict_shows_a_secret(fstype: str, source: str, option: str, fits: bool):
    """What mounts carry in their sources and options is in no text, hint or evidence."""
    line = f"70 27 0:99 / /data rw - {fstype} {source} {option}"
    allow = (Allow("/data", fstype, source if fits else f"{source}2", "why"),)
    verdict = classify(look("/data", ROOT, line, f"nonsense {option}"), allow=allow)

    assert SECRET not in verdict.as_json() + verdict.as_text() + verdict._repr_html_()
