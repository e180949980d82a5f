"""What verdicts must be beyond the mount: overrides that expire, files that lie elsewhere, URLs, and an explanation."""

import json

import pytest

from tests.support.seeing import DISK, MOUNTPOINT, NFS, PLACEHOLDER, ROOT, S3, SYNTHETIC, mounted, rule
from tusz_cache.guarding.stages import is_url, judge_files, refused_url, unresponsive
from tusz_cache.guarding.values import Allow, DarwinAnswer, Evidence, Fault, FileFault, FilesSeen, Ruling, Seen, Verdict

NFS_DATA = NFS.replace("/mnt/nfs", "/data")
LUSTRE = mounted("lustre", "10.0.0.1@tcp:/fsx")
FSX = Allow("/data", "lustre", "10.0.0.1@tcp:/fsx", "measured at 2 GB/s")
OVERRIDE = Ruling.ACCEPT_OVERRIDE
STORE, NETWORK, UNKNOWN = Ruling.REFUSE_OBJECT_STORE, Ruling.REFUSE_NETWORK, Ruling.REFUSE_UNKNOWN
MIXED, MISMATCH = Ruling.REFUSE_MIXED, Ruling.REFUSE_SEAL_MISMATCH


def of_policy(verdict: Verdict) -> list[Evidence]:
    return [one for one in verdict.evidence if one.layer == "policy"]


# overrides


@pytest.mark.parametrize(
    ("line", "allow", "expected"),
    [
        (LUSTRE, FSX, OVERRIDE),
        (LUSTRE, Allow("/", "lustre", "10.0.0.1@tcp:/fsx", "x"), OVERRIDE),
        (LUSTRE, Allow("/data/cache/", "lustre", "10.0.0.1@tcp:/fsx", "x"), OVERRIDE),
        (LUSTRE, Allow("/data/other", "lustre", "10.0.0.1@tcp:/fsx", "x"), NETWORK),
        (LUSTRE, Allow("/dat", "lustre", "10.0.0.1@tcp:/fsx", "x"), NETWORK),
        (LUSTRE, Allow("/data", "lustre", "10.0.0.2@tcp:/fsx", "x"), NETWORK),  # another server by now
        (LUSTRE, Allow("/data", "nfs4", "10.0.0.1@tcp:/fsx", "x"), NETWORK),
        (LUSTRE, Allow("/data", "lustre", "10.0.0.1@tcp:/fsx", " "), NETWORK),  # without a reason
        (mounted("newfs", "x"), Allow("/data", "newfs", "x", "local"), OVERRIDE),
        (mounted("fuse.pmxfs", "x"), Allow("/data", "fuse.pmxfs", "x", "local"), OVERRIDE),
        (mounted("cifs", "//u:pw@h/s"), Allow("/data", "cifs", "//***@h/s", "as shown"), OVERRIDE),
        (mounted("autofs", "x"), Allow("/data", "autofs", "x", "y"), UNKNOWN),  # anything may be mounted next
        (mounted("ext4", "/dev/nbd0", "43:0"), Allow("/data", "ext4", "/dev/nbd0", "a ramdisk's"), OVERRIDE),
        (mounted("ext4", "/dev/sda", "8:0"), Allow("/data", "ext4", "/dev/sda", "x"), Ruling.ACCEPT_LOCAL_BLOCK),
    ],
)
def test_an_override_holds_for_one_mount_as_it_is(line: str, allow: Allow, expected: Ruling):
    """Path, type and source must all fit, and a reason be given; another mount ends the override."""
    assert expected == rule("/data/cache", ROOT, line, allow=(allow,)).ruling


def test_an_override_is_recorded():
    """The evidence holds the reason, and the verdict what was overruled."""
    verdict = rule("/data", ROOT, LUSTRE, allow=(FSX,))

    assert NETWORK == verdict.overruled
    assert [True] == ["measured at 2 GB/s" in one.detail for one in of_policy(verdict)]
    assert "measured at 2 GB/s" in verdict.reason


def test_an_override_that_does_not_fit_says_why():
    """Who wonders why an override does nothing reads what it is for and what is there."""
    (why,) = of_policy(rule("/data", ROOT, NFS_DATA, allow=(FSX,)))

    assert "warn" == why.says
    assert "lustre 10.0.0.1@tcp:/fsx" in why.detail
    assert "nfs 127.0.0.1:/" in why.detail


def test_an_object_store_needs_the_policy_file():
    """Code alone cannot allow a bucket; a policy file can."""
    allow = (Allow("/mnt/m", "fuse", "mountpoint-s3", "Express"),)

    assert STORE == rule("/mnt/m", ROOT, S3, allow=allow).ruling
    assert OVERRIDE == rule("/mnt/m", ROOT, S3, policy=allow).ruling
    assert OVERRIDE == rule("/mnt/m", ROOT, S3, policy=allow, statfs=MOUNTPOINT).ruling


def test_no_override_reaches_what_is_mounted_below():
    """A network file system that was allowed does not allow the one inside of it."""
    inner = NFS.replace("/mnt/nfs", "/data/inner")

    for allow in ((FSX,), (FSX, Allow("/data/inner", "nfs", "127.0.0.1:/", "x"))):
        assert MIXED == rule("/data", ROOT, LUSTRE, inner, allow=allow, policy=allow).ruling


def test_no_override_brings_back_a_deleted_directory():
    """What was deleted stays refused."""
    assert UNKNOWN == rule("/data", ROOT, LUSTRE, allow=(FSX,), policy=(FSX,), deleted=True).ruling


def test_no_override_counts_before_everything_was_looked_at():
    """An overlay whose layers are not known yet may be a bucket."""
    from tusz_cache.guarding.classify import classify

    line = mounted("overlay", "overlay", options="rw,lowerdir=/mnt/m")
    bare = Seen(path="/data", real_path="/data", mountinfo=f"{ROOT}\n{S3}\n{line}\n")

    assert UNKNOWN == classify(bare, allow=(Allow("/data", "overlay", "overlay", "x"),)).ruling


def test_an_override_holds_on_macos_too():
    """The type and source that statfs tells there are what it names."""
    allow = (Allow("/Volumes/x", "exfat", "/dev/disk5", "an external SSD"),)

    assert OVERRIDE == rule("/Volumes/x", answer=DarwinAnswer("exfat", "/dev/disk5", True), allow=allow).ruling


@pytest.mark.parametrize("line", [LUSTRE, NFS_DATA, mounted("9p", "none"), mounted("cifs", "//u:p@h/s")])
def test_the_hint_holds_the_override_that_would_do(line: str):
    """What the hint says to allow is accepted when it is given."""
    hint = rule("/data", ROOT, line).hint
    allow = eval(hint[hint.index("Allow(") :], {"Allow": Allow})

    assert OVERRIDE == rule("/data", ROOT, line, allow=(allow,)).ruling


# files

GOOD = rule("/data", ROOT)
ALLOWED = rule("/data", ROOT, LUSTRE, allow=(FSX,))
BUCKET = rule("/mnt/m", ROOT, S3, policy=(Allow("/mnt/m", "fuse", "mountpoint-s3", "Express"),))
REFUSED = rule("/mnt/nfs", ROOT, NFS)


def files(*faults: Fault, statfs: tuple = (DISK,)) -> FilesSeen:
    return FilesSeen(
        9, tuple(FileFault(f"train/{at}.npz", fault, "") for at, fault in enumerate(faults)), statfs, "openat2"
    )


@pytest.mark.parametrize(
    ("verdict", "seen", "expected"),
    [
        (GOOD, files(), Ruling.ACCEPT_LOCAL_BLOCK),
        (GOOD, files(statfs=(DISK, PLACEHOLDER)), Ruling.ACCEPT_LOCAL_BLOCK),
        *((GOOD, files(fault), MIXED) for fault in ("elsewhere", "no file")),
        *((GOOD, files(fault), MISMATCH) for fault in ("missing", "size", "unreadable")),
        (GOOD, files("missing", "elsewhere"), MIXED),
        *((GOOD, files(statfs=(DISK, one)), STORE) for one in SYNTHETIC),
        (GOOD, files("missing", "elsewhere", statfs=(MOUNTPOINT,)), STORE),
        (ALLOWED, files(), OVERRIDE),
        (ALLOWED, files("elsewhere"), MIXED),
        (ALLOWED, files("missing"), MISMATCH),
        (ALLOWED, files(statfs=(DISK, MOUNTPOINT)), STORE),
        (BUCKET, files(statfs=(MOUNTPOINT,)), OVERRIDE),
        (BUCKET, files("elsewhere", statfs=(MOUNTPOINT,)), MIXED),
        (REFUSED, files(), NETWORK),
        (REFUSED, files("missing", statfs=(MOUNTPOINT,)), NETWORK),
    ],
)
def test_files_can_only_take_an_accept_back(verdict: Verdict, seen: FilesSeen, expected: Ruling):
    """Files that lie elsewhere, are not as sealed, or report a made-up capacity refuse; good ones change nothing."""
    judged = judge_files(verdict, seen)

    assert expected == judged.ruling
    assert verdict.evidence == judged.evidence[: len(verdict.evidence)]


def test_faulty_files_are_named_but_not_all():
    """The reason counts, the evidence names the first ten."""
    judged = judge_files(GOOD, files(*["missing"] * 30))

    assert "/data is not what was sealed: 30 files missing, e.g. train/0.npz" == judged.reason
    assert 10 == sum("train/" in one.detail for one in judged.evidence)


# URLs and silence


@pytest.mark.parametrize(
    "text",
    [
        "s3://b/k",
        "gs://b",
        "az://c",
        "HTTPS://h/x",
        "s3:/b/k",
        "sftp://h/x",
        "simplecache::s3://b",
        "memory://x",
        "hf://datasets/a/b",
    ],
)
def test_a_url_is_refused(text: str):
    """Whatever has a scheme is read over the network; also after a path object took a slash."""
    verdict = refused_url(text)

    assert is_url(text)
    assert (STORE, text, 5) == (verdict.ruling, verdict.path, verdict.exit_code)


@pytest.mark.parametrize(
    "text", ["/data", "data/x", "file:///data", "C:/data", r"C:\data", "a:b", "./s3:/x", "", "FILE:///x"]
)
def test_a_path_is_no_url(text: str):
    """Paths, drives and file:// are looked at, not refused unseen."""
    assert not is_url(text)


def test_a_url_keeps_its_secrets():
    """Signatures and passwords in a URL are not repeated."""
    text = refused_url("https://user:hunter2@h/x?X-Amz-Signature=hunter2").as_text()

    assert "hunter2" not in text


def test_silence_is_refused_and_says_of_what():
    """A directory that does not answer is refused with the mount that it lies on."""
    verdict = unresponsive("/mnt/nfs/cache", f"{ROOT}\n{NFS}\n", 5.0)

    assert Ruling.REFUSE_UNRESPONSIVE == verdict.ruling
    assert "/mnt/nfs/cache did not answer in 5 s (nfs 127.0.0.1:/ at /mnt/nfs)" == verdict.reason
    assert Ruling.REFUSE_UNRESPONSIVE == unresponsive("/x", "", 0.5).ruling


# what is shown

SOME = [
    *(GOOD, ALLOWED, BUCKET, REFUSED, judge_files(GOOD, files("missing")), refused_url("s3://b")),
    *(rule("/data", "what is this", mounted("9p", "none")), unresponsive("/x", "", 1), rule("/a", ROOT, real="/b")),
]


@pytest.mark.parametrize("verdict", SOME, ids=lambda one: one.ruling.value)
def test_a_verdict_is_json_text_and_html(verdict: Verdict):
    """JSON has the fields of the contract; text begins with one line that says it all; all end in what to do."""
    told = json.loads(verdict.as_json())
    first, *rest = verdict.as_text().splitlines()

    assert ["path", "real_path", "admitted", "verdict", "reason", "hint", "evidence"] == list(told)
    assert {("layer", "source", "says", "detail")} == {tuple(one) for one in told["evidence"]}
    assert verdict.admitted == told["admitted"] == told["verdict"].startswith("ACCEPT_")
    assert f"{'ADMITTED' if verdict.admitted else 'REFUSED'}: {verdict.reason}" == first
    assert verdict.hint
    assert rest[-1].endswith(verdict.hint)
    assert verdict._repr_html_().startswith("<table>")
    assert (0 if verdict.admitted else 5) == verdict.exit_code


@pytest.mark.parametrize("name", ["/invalid \udcff", "/ünï", "/line\nbreak", "/<script>"])
def test_a_verdict_can_be_shown_whatever_directories_are_called(name: str):
    """A name that is no Unicode ends no explanation, and markup in one stays text."""
    verdict = rule(name, ROOT)

    for form in (verdict.as_text(), verdict.as_json(), verdict._repr_html_()):
        form.encode()
    assert "<script>" not in verdict._repr_html_()


def test_an_accept_has_evidence_that_speaks_for_it():
    """A verdict that admits shows why, and one that refuses shows what is against it."""
    for verdict in SOME:
        wanted = "accept" if verdict.admitted else "refuse"
        assert wanted in {one.says for one in verdict.evidence}
