"""What must hold of the guard's rulings whatever is seen: no crash, no accept without a reason, no end of questions."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.support.seeing import MODAL, REAL, ROOT, S3, SYNTHETIC, look
from tusz_cache.guarding.classify import classify, wanted
from tusz_cache.guarding.kinds import Kind, kind_of
from tusz_cache.guarding.mountinfo import unescaped
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
names = st.sampled_from(
    ["/", "/data", "/data/a", "/data/a/b", "/mnt/m", "/mnt", "/mnt/nfs", "/up", "/__modal/volumes/vo-1"]
)
types = st.sampled_from(
    ["ext4", "tmpfs", "btrfs", "overlay", "nfs4", "9p", "fuse", "fuse.s3fs", "autofs", "new", "zfs", "erofs"]
)
sources = st.sampled_from(["none", "/dev/sda1", "/dev/nbd0", "/data/a", "mountpoint-s3", "h:/x", "pool/ds"])
numbers = st.sampled_from(["0:30", "8:1", "7:0", "43:0", "253:0"])
options = st.sampled_from(
    ["rw", "rw,lowerdir=/data:/mnt/m,upperdir=/up", "rw,lowerdir=/", "rw,lowerdir=x", "rw,lowerdir+=/mnt"]
)
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
kinds = st.sampled_from(["volume", "bucket", "nfs", "ephemeral"])
declared = st.none() | st.lists(
    st.builds(DeclaredMount, names, kinds, st.just("n"), st.sampled_from(["", "vo-1"])), max_size=3
)
platform = st.none() | st.lists(
    st.builds(PlatformMount, names, kinds, st.just("n"), st.sampled_from(["", "vo-1"])), max_size=3
)
devices = st.none() | st.builds(
    lambda name, slaves, file: BlockDevice(
        number="1:1", sysfs=f"/sys/devices/{name}", slaves=slaves, backing_file=file
    ),
    st.sampled_from(
        ["pci0/block/sda", "pci0/block/sda/sda1", "virtual/block/dm-0", "virtual/block/nbd0", "virtual/block/loop0"]
    ),
    st.lists(numbers, max_size=2).map(tuple),
    st.none() | names | st.just(""),
)


@st.composite
def seen(draw: st.DrawFn) -> Seen:
    """Draw anything that might be seen, with some of the facts looked up."""
    path = draw(names)
    return Seen(
        path=path,
        real_path=draw(st.just(path) | names),
        mountinfo=draw(tables),
        mount_id=draw(st.none() | st.integers(0, 50)),
        statfs=draw(counts),
        deleted=draw(st.booleans()) and draw(st.booleans()),
        devices=draw(st.dictionaries(numbers | sources, devices, max_size=4)),
        real_paths=draw(st.dictionaries(names, st.none() | names, max_size=4)),
        declared=draw(declared),
        platform=draw(platform),
    )


def covers(path: str, above: str) -> bool:
    return path == above or path.startswith(above.rstrip("/") + "/")


def speak_for(what: Seen) -> list[Kind]:
    """Return, by a rough reading of one's own, the kinds of all mounts that the directory might lie on."""
    found = []
    for line in what.mountinfo.split("\n"):
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split(" ")
        if len(fields) >= 6 and covers(what.real_path, unescaped(fields[4])):
            found.append(kind_of(unescaped(rest[0]), unescaped(rest[1]) if len(rest) > 1 else ""))
    return found


@given(seen())
def test_an_accept_has_something_that_speaks_for_it(what: Seen):
    """Without overrides, what is accepted lies on a mount of a local kind or an overlay, or below a declaration."""
    verdict = classify(what)
    match verdict.ruling:
        case Ruling.ACCEPT_LOCAL_BLOCK | Ruling.ACCEPT_MEMORY:
            assert {*SPEAKING, Kind.STACKED} & set(speak_for(what))
        case Ruling.ACCEPT_DECLARED:
            assert {"volume", "ephemeral"} & {one.kind for one in what.declared or ()}
            assert speak_for(what)
        case Ruling.ACCEPT_OVERRIDE:
            raise AssertionError("nobody allowed anything")


@given(seen(), names)
def test_a_bucket_over_the_directory_is_never_accepted(what: Seen, path: str):
    """Whatever else was seen: a bucket named at the directory itself refuses, by declaration and by the platform."""
    bucket = DeclaredMount(what.path, "bucket", "b"), PlatformMount(what.real_path, "bucket", "b")

    assert not classify(replace(what, declared=(*(what.declared or ()), bucket[0]))).admitted
    assert not classify(replace(what, platform=(*(what.platform or ()), bucket[1]))).admitted


@given(seen(), st.sampled_from(SYNTHETIC))
def test_a_made_up_capacity_is_never_accepted(what: Seen, statfs: Statfs):
    """Whatever else was seen: the counts of an object store mount refuse."""
    assert not classify(replace(what, statfs=statfs)).admitted


@given(seen())
def test_a_bucket_mounted_inside_is_never_accepted(what: Seen):
    """Whatever else was seen: an object store mounted below the directory refuses."""
    inside = f"99 1 0:77 / {what.real_path.rstrip('/')}/inside rw - fuse mountpoint-s3 rw"

    assert not classify(replace(what, mountinfo=f"{what.mountinfo}\n{inside}")).admitted


@given(seen(), st.lists(st.builds(Allow, names, types, sources, st.sampled_from(["", "why"])), max_size=3))
def test_overrides_reach_only_what_they_may(what: Seen, allow: list[Allow]):
    """With overrides, a verdict stays as it was or is an accept of one that fits, and never of a bucket by code."""
    before, after = classify(what), classify(what, allow=allow)

    if after.ruling is Ruling.ACCEPT_OVERRIDE:
        assert before.ruling in {Ruling.REFUSE_NETWORK, Ruling.REFUSE_UNKNOWN}
        assert before.ruling is after.overruled
        assert any(covers(place, one.path) and one.reason for one in allow for place in (what.path, what.real_path))
    else:
        assert after.ruling in {before.ruling, Ruling.REFUSE_MIXED}


@given(seen(), st.data())
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


@given(seen())
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
    st.sampled_from(
        [f"https://u:{SECRET}@h/", f":s3,secret_access_key={SECRET}:b", f"u:{SECRET}@h:/x", f":s3{{{SECRET}}}:b"]
    ),
    st.sampled_from([f"rw,password={SECRET}", f"rw,token={SECRET},x=y", f"rw,uid=0,pass={SECRET}"]),
    st.booleans(),
)
def test_no_verdict_shows_a_secret(fstype: str, source: str, option: str, fits: bool):
    """What mounts carry in their sources and options is in no text, hint or evidence."""
    line = f"70 27 0:99 / /data rw - {fstype} {source} {option}"
    allow = (Allow("/data", fstype, source if fits else f"{source}2", "why"),)
    verdict = classify(look("/data", ROOT, line, f"nonsense {option}"), allow=allow)

    assert SECRET not in verdict.as_json() + verdict.as_text() + verdict._repr_html_()
