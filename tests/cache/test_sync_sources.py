"""Sources of every kind, ways to reach them, and what happens where they or the target cannot be used."""

import json
import os
import socket
import subprocess
import time
import uuid
from pathlib import Path

import fsspec
import pytest

from tests.support.running import META, run, state, tree
from tusz_cache import Access, Filters, populate_cache
from tusz_cache.errors import NoSpace
from tusz_cache.progress import Progress

FILES = {"train/a_s001_t000_windows.npz": 200_000, "dev/b_s001_t000_windows.npz": 20_000, "readme.txt": 10}
ONE = "train/a_s001_t000_windows.npz"
NAME = "a_s001_t000_windows.npz"


@pytest.fixture
def filled(bucket):
    for key, size in FILES.items():
        bucket.put(key, size)
    return bucket


@pytest.fixture
def no_keys(aws, monkeypatch):
    """An environment that names no credentials."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")


# ways to reach a source


def test_an_endpoint(filled, target):
    """--endpoint-url reaches an S3-compatible server; the JSON on stdout and the seal tell what was done."""
    ran = run("sync", filled.url, target, "--endpoint-url", filled.server.url, "--json", "--quiet")
    assert (0, "") == (ran.code, ran.err)
    assert (filled.url, str(target), True) == (ran.json["source"], ran.json["target"], ran.json["sealed"])
    assert (3, 3, 0) == tuple(ran.json["files"][name] for name in ("total", "copied", "failed"))
    assert (220_010, 220_010, 0) == tuple(ran.json["bytes"].values())
    seal = json.loads((target / META / "seal.json").read_text())
    assert (filled.url, 3, 220_010, True) == (seal["source"], seal["files"], seal["bytes"], seal["complete"])
    assert filled.contents() == tree(target)


def test_a_prefix(filled, target):
    """Keys are those below the prefix, with or without a slash at its end."""
    expected = {NAME: filled.contents()[ONE]}
    for suffix in ("/train", "/train/"):
        filled.sync(target, source=filled.url + suffix)
        assert expected == tree(target)


def test_a_prefix_is_a_folder_and_not_the_beginning_of_a_name(filled, target):
    """s3://bucket/train does not take in train2/."""
    filled.put("train2/x.npz", 10)
    filled.put("train.txt", 10)
    filled.sync(target, source=f"{filled.url}/train")
    assert [NAME] == list(tree(target))


def test_a_profile(filled, target, no_keys, tmp_path, monkeypatch, command):
    """--profile takes endpoint and keys from the AWS configuration."""
    config = tmp_path / "config"
    config.write_text(
        f"[profile lab]\naws_access_key_id = lab\naws_secret_access_key = s\nendpoint_url = {filled.server.url}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    filled.configure(credentials=[{"access_key": "lab", "token": None, "expires_at": None}])
    ran = command(filled.url, target, "--profile", "lab", "--processes", 0)
    assert (0, "") == (ran.code, ran.err.partition("error")[1])
    assert filled.contents() == tree(target)


def test_anonymous(filled, target, no_keys, command):
    """--anon reads a public bucket without any credentials."""
    ran = command(filled.url, target, "--endpoint-url", filled.server.url, "--anon", "--part-size", "64KiB")
    assert (0, "") == (ran.code, ran.err.partition("error")[1])
    assert filled.contents() == tree(target)


def test_storage_options(filled, target, no_keys, command):
    """--storage-option hands JSON to the filesystem, keys too, and neither key nor secret shows anywhere."""
    filled.configure(credentials=[{"access_key": "KEYONE", "token": None, "expires_at": None}])
    options = [f"client_kwargs={json.dumps({'endpoint_url': filled.server.url})}", "key=KEYONE", "secret=hush-hush"]
    pairs = [word for option in options for word in ("--storage-option", option)]
    ran = command(filled.url, target, *pairs, "--processes", 0, "--json")
    assert (0, 3) == (ran.code, ran.json["files"]["copied"])
    assert filled.contents() == tree(target)
    written = b"".join(path.read_bytes() for path in (target / META).rglob("*") if path.is_file()).decode()
    assert not [word for word in ("KEYONE", "hush-hush") if word in ran.out + ran.err + written]


def test_http(filled, target, no_keys):
    """An HTML index is walked, and its files are copied in parts."""
    report = filled.sync(target, source=f"{filled.server.url}/_index/{filled.name}/", access=Access())
    assert (0, 3, True) == (report.exit_code, report.files_copied, report.sealed)
    assert filled.contents() == tree(target)
    assert 0 == filled.sync(target, source=f"{filled.server.url}/_index/{filled.name}/", access=Access()).bytes_copied


def test_a_changed_file_behind_http_is_fetched(filled, target):
    """A same-size edit behind an HTTP server shows by its ETag."""
    source = f"{filled.server.url}/_index/{filled.name}/"
    filled.sync(target, source=source, access=Access())
    filled.put(ONE, FILES[ONE])
    assert FILES[ONE] == filled.sync(target, source=source, access=Access()).bytes_copied
    assert filled.contents() == tree(target)


def test_http_without_etags(filled, target):
    """Where an HTTP server has no ETags, Last-Modified tells one version from another."""
    filled.faults(*({"do": "no_etag", "method": method, "times": -1} for method in ("HEAD", "GET")))
    source = f"{filled.server.url}/_index/{filled.name}/"
    report = filled.sync(target, source=source, access=Access())
    assert (0, {"own-crc": 3}) == (report.exit_code, report.verification)
    assert filled.contents() == tree(target)
    filled.put(ONE, FILES[ONE])
    assert FILES[ONE] == filled.sync(target, source=source, access=Access()).bytes_copied
    assert filled.contents() == tree(target)


@pytest.mark.parametrize("kind", ["http", "local"])
@pytest.mark.parametrize("how", ["edited", "gone", "shorter"])
def test_a_change_on_the_way(how, kind, filled, target):
    """A file that is edited or goes between listing and copying is exit 4 for other sources than S3, too."""
    planned = filled.contents()
    act = {
        "edited": lambda: filled.put(ONE, FILES[ONE]),
        "gone": lambda: filled.drop(ONE),
        "shorter": lambda: filled.put(ONE, 100_000),
    }[how]
    source = f"{filled.server.url}/_index/{filled.name}/" if kind == "http" else str(filled.path)
    result = filled.attempt(target, source=source, access=Access(), act=act)
    assert (4, [ONE]) == (result.code, [failure["key"] for failure in result.json["failures"]])
    assert {key: data for key, data in planned.items() if key != ONE} == tree(target)
    assert not (target / META / "seal.json").exists()


@pytest.fixture
def memory():
    """A folder of fsspec's memory filesystem, as a URL."""
    filesystem, folder = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    for key, size in FILES.items():
        filesystem.pipe_file(f"{folder}/{key}", os.urandom(size))
    yield f"memory:/{folder}"
    filesystem.rm(folder, recursive=True)


def held(url: str) -> dict[str, bytes]:
    filesystem, folder = fsspec.filesystem("memory"), url.removeprefix("memory:/")
    return {path.removeprefix(folder + "/"): filesystem.cat_file(path) for path in sorted(filesystem.find(folder))}


def test_memory(memory, bucket, target):
    """Any fsspec filesystem is a source; a same-size edit is seen, and a run without changes copies nothing."""
    access = {"source": memory, "access": Access()}
    report = bucket.sync(target, **access)
    assert (0, {"own-crc": 3}) == (report.exit_code, report.verification)
    assert held(memory) == tree(target)
    assert 0 == bucket.sync(target, **access).bytes_copied
    fsspec.filesystem("memory").pipe_file(f"{memory.removeprefix('memory:/')}/{ONE}", os.urandom(FILES[ONE]))
    assert FILES[ONE] == bucket.sync(target, **access).bytes_copied
    assert held(memory) == tree(target)


@pytest.mark.parametrize("form", ["{}", "file://{}", "local://{}", "{}/"])
def test_a_local_directory(form, filled, target):
    """A path and a file:// URL are sources and targets; our own folder below a source is not copied."""
    source = form.format(filled.path)
    (filled.path / META).mkdir()
    (filled.path / META / "seal.json").write_text("{}")
    report = filled.sync(form.format(target), source=source, access=Access())
    assert (0, 3) == (report.exit_code, report.files_copied)
    assert filled.contents() == tree(target)
    assert 0 == filled.sync(target, source=source, access=Access()).bytes_copied


def test_a_relative_path(filled, tmp_path, monkeypatch, command):
    """Relative paths are of the current directory."""
    monkeypatch.chdir(filled.path)
    assert 0 == command("train", tmp_path / "here").code
    assert [NAME] == list(tree(tmp_path / "here"))
    monkeypatch.chdir(tmp_path)
    assert 0 == command(filled.path, "there").code
    assert filled.contents() == tree(tmp_path / "there")


@pytest.mark.parametrize("kind", ["s3", "http", "local", "file", "memory"])
def test_a_source_of_one_file(kind, filled, memory, target):
    """A source may be one file, which then lies in the target under its own name."""
    url = {
        "s3": f"{filled.url}/{ONE}",
        "http": f"{filled.server.url}/_index/{filled.name}/{ONE}",
        "local": f"{filled.path}/{ONE}",
        "file": f"file://{filled.path}/{ONE}",
        "memory": f"{memory}/{ONE}",
    }[kind]
    access = filled.settings().access if kind == "s3" else Access()
    report = filled.sync(target, source=url, access=access)
    assert (0, 1, True) == (report.exit_code, report.files_copied, report.sealed)
    assert {NAME: (held(memory) if kind == "memory" else filled.contents())[ONE]} == tree(target)
    assert 0 == filled.sync(target, source=url, access=access).bytes_copied


# credentials that end


@pytest.mark.parametrize("lifetime", [60, 86_400], ids=["renewed early", "trusted too long"])
def test_credentials_that_expire_on_the_way_are_renewed(lifetime, filled, target, no_keys, tmp_path, monkeypatch):
    """Temporary credentials that expire while copying are fetched anew, even if their issuer told a later time."""
    filled.put("train/long.npz", 1_000_000)
    calls, expiry, script, config = (tmp_path / name for name in ("calls", "expiry", "issue.sh", "config"))
    script.write_text(
        f"""#!/bin/sh
echo call >> {calls}
key=first token=one
if [ -e {expiry} ] && [ $(date +%s%3N) -ge $(cat {expiry}) ]; then key=second token=two; fi
until=$(date -u -d "+{lifetime} seconds" +%Y-%m-%dT%H:%M:%SZ)
printf '{{"Version": 1, "AccessKeyId": "%s", "SecretAccessKey": "s", ' $key
printf '"SessionToken": "%s", "Expiration": "%s"}}' $token $until
"""
    )
    script.chmod(0o755)
    config.write_text(f"[profile lab]\ncredential_process = {script}\nendpoint_url = {filled.server.url}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    first = {"access_key": "first", "token": "one", "expires_at": None}
    second = {"access_key": "second", "token": "two", "expires_at": None}
    filled.configure(credentials=[first, second], bytes_per_second=200_000, checksum="crc64nvme")

    def expire_soon() -> None:
        end = time.time() + 0.7
        expiry.write_text(str(int(end * 1000)))
        filled.configure(credentials=[{**first, "expires_at": end}, second])

    report = filled.sync(target, access=Access(profile="lab"), processes=0, workers=2, act=expire_soon)
    assert (0, True) == (report.exit_code, report.sealed)
    assert filled.server.stats()["statuses"].get("403", 0) > 0
    assert len(calls.read_text().splitlines()) > 1
    assert filled.contents() == tree(target)


def test_keys_that_expire_for_good_leave_what_is_whole(filled, target, monkeypatch):
    """Keys that nobody renews end in exit 3 with what is whole, and new keys finish the rest."""
    filled.put("train/long.npz", 1_000_000)
    key = {"access_key": "first", "token": "one", "expires_at": None}
    filled.configure(credentials=[key], bytes_per_second=200_000, checksum="crc64nvme")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "first")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "one")

    def expire_soon() -> None:
        filled.configure(credentials=[{**key, "expires_at": time.time() + 1}])

    result = filled.attempt(target, workers=2, act=expire_soon)
    failed = [failure["key"] for failure in result.json["failures"]]
    assert (3, True) == (result.code, "train/long.npz" in failed)
    assert "credential" in result.json["failures"][0]["hint"]
    assert {key: data for key, data in filled.contents().items() if key not in failed} == tree(target)
    assert not (target / META / "seal.json").exists()
    filled.configure(credentials=[key], bytes_per_second=None)
    report = filled.sync(target)
    assert (0, True) == (report.exit_code, report.sealed)
    assert report.bytes_copied < sum(map(len, filled.contents().values()))
    assert filled.contents() == tree(target)


# bad input


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_refused(ran, code: int, target: Path, before: dict | None) -> None:
    """It ended with `code` and a hint, without a traceback, and the target is as it was."""
    assert code == ran.code, ran.err
    assert "\nhint: " in f"\n{ran.err}"
    assert "Traceback" not in ran.err
    assert (before is not None) == target.exists()
    assert before is None or before == quiet(target)


def quiet(target: Path) -> dict:
    """The state of everything but the lock's note, which a run may rewrite."""
    return {path: about for path, about in state(target).items() if not path.endswith("/lock")}


SOURCES = {
    "missing bucket": (2, "s3://nosuchbucket", []),
    "unknown scheme": (2, "nosuch://x/y", []),
    "unknown profile": (2, "BUCKET", ["--profile", "nobody"]),
    "missing local source": (2, "/no/such/dir", []),
    "missing file URL": (2, "file:///no/such/dir", []),
    "missing HTTP page": (2, "SERVER/_index/nosuchbucket/", None),
    "empty prefix": (5, "BUCKET/nothing/here", []),
    "no bucket": (2, "s3://", []),
    "bad bucket": (2, "s3://Not_A_Bucket!/x", []),
    "endpoint for a path": (2, "memory://x", []),
    "bad endpoint": (2, "BUCKET", ["--endpoint-url", "localhost"]),
    "bad storage option": (2, "BUCKET", ["--storage-option", "nosuchoption=1"]),
}


@pytest.mark.parametrize("synced", [False, True], ids=["new", "synced"])
@pytest.mark.parametrize("case", SOURCES)
def test_a_source_that_cannot_be_opened(case, synced, filled, target, command):
    """A source that cannot be opened is told with a hint, and the target is untouched."""
    code, source, options = SOURCES[case]
    source = source.replace("BUCKET", filled.url).replace("SERVER", filled.server.url)
    endpoint = [] if options is None else ["--endpoint-url", filled.server.url]
    if synced:
        filled.sync(target)
    before = quiet(target) if synced else None
    check_refused(command(source, target, *endpoint, *options or []), code, target, before)


def test_a_denied_listing(filled, target, command):
    """A bucket that may not be listed is exit 2."""
    filled.configure(deny_list=True)
    check_refused(command(filled.url, target, "--endpoint-url", filled.server.url), 2, target, None)


def test_no_credentials(filled, target, no_keys, command):
    """Without credentials the hint names the ways to give some, among them --anon."""
    ran = command(filled.url, target, "--endpoint-url", filled.server.url)
    check_refused(ran, 2, target, None)
    assert "--anon" in ran.err


@pytest.mark.parametrize("known", ["other", "test"])
def test_credentials_that_are_not_accepted(known, filled, target, command):
    """Unknown or expired keys are exit 2."""
    filled.configure(credentials=[{"access_key": known, "token": None, "expires_at": 1}])
    check_refused(command(filled.url, target, "--endpoint-url", filled.server.url), 2, target, None)


def test_a_denied_object_fails_alone(filled, target):
    """An object that may be listed but not read is exit 3; the others arrive."""
    filled.configure(deny=[ONE])
    result = filled.attempt(target)
    assert (3, [ONE]) == (result.code, [failure["key"] for failure in result.json["failures"]])
    assert {key: data for key, data in filled.contents().items() if key != ONE} == tree(target)
    assert not (target / META / "seal.json").exists()


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_an_endpoint_where_nobody_listens(scheme, bucket, target, command, monkeypatch):
    """A server that cannot be reached is exit 3: it may be there later."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    url = f"http://127.0.0.1:{free_port()}"
    source = ("s3://x", "--endpoint-url", url) if scheme == "s3" else (f"{url}/x/",)
    check_refused(command(source[0], target, *source[1:]), 3, target, None)


def test_an_empty_source_may_be_meant(bucket, target):
    """With --allow-empty an empty source is a source."""
    report = bucket.sync(target, allow_empty=True)
    assert (0, 0, True) == (report.exit_code, report.files_total, report.sealed)


def test_a_target_that_is_a_file(filled, target, command):
    """A file is no target."""
    target.write_bytes(b"precious")
    ran = command(filled.url, target, "--endpoint-url", filled.server.url)
    assert (2, True) == (ran.code, "hint: " in ran.err)
    assert b"precious" == target.read_bytes()


def test_a_target_below_a_file(filled, target, command):
    """A directory cannot be made below a file."""
    target.write_bytes(b"precious")
    ran = command(filled.url, target / "below", "--endpoint-url", filled.server.url)
    assert (2, True, False) == (ran.code, "hint: " in ran.err, "Traceback" in ran.err)
    assert b"precious" == target.read_bytes()


def test_a_remote_target(filled, target, command):
    """A remote target is exit 2 for now."""
    ran = command(filled.url, "s3://elsewhere/x", "--endpoint-url", filled.server.url)
    assert (2, True) == (ran.code, "hint: " in ran.err)


@pytest.mark.parametrize("where", ["", "below", ".."])
def test_a_target_that_overlaps_its_source(where, filled, command):
    """A target that is, holds or lies in its source is exit 2, and nothing is made in it."""
    before = state(filled.path)
    ran = command(filled.path, filled.path / where)
    assert (2, True) == (ran.code, "hint: " in ran.err)
    assert before == state(filled.path)


BAD_OPTIONS = {
    "max-delete": ["--max-delete", "lots"],
    "part-size": ["--part-size", "1"],
    "workers": ["--workers", "0"],
    "bwlimit": ["--bwlimit", "fast"],
    "retries": ["--retries", "-1"],
    "stall-timeout": ["--stall-timeout", "0"],
    "durability": ["--durability", "commit"],
    "storage-option": ["--storage-option", "novalue"],
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_options_that_make_no_sense(case, filled, target, command):
    """An option that makes no sense is exit 2, and nothing is made."""
    ran = command(filled.url, target, "--endpoint-url", filled.server.url, *BAD_OPTIONS[case])
    assert (2, False) == (ran.code, target.exists())
    assert "Traceback" not in ran.err


KEYS = {
    "traversal": "../x",
    "traversal inside": "a/../../x",
    "absolute": "/x",
    "empty component": "a//b",
    "dot": "a/./b",
    "NUL": "a\0b",
    "long component": "x" * 256,
    "long component, in bytes": "é" * 128,
    "marker with bytes": "folder/",
}


@pytest.mark.parametrize("case", KEYS)
def test_a_key_that_cannot_be_a_file(case, filled, target, command):
    """A key that is no file below the target is exit 5 before anything is written, and the message names it."""
    filled.configure(objects={KEYS[case]: {"text": "evil"}})
    ran = command(filled.url, target, "--endpoint-url", filled.server.url)
    check_refused(ran, 5, target, None)
    assert repr(KEYS[case]) in ran.err
    assert not (target.parent / "x").exists()


@pytest.mark.parametrize("case", KEYS)
def test_a_bad_key_that_is_left_out_does_no_harm(case, filled, target):
    """A bad key that a filter leaves out does not stop the others."""
    filled.configure(objects={KEYS[case]: {"text": "evil"}})
    report = filled.sync(target, filters=Filters(include=("train/*", "dev/*")))
    assert (0, 2) == (report.exit_code, report.files_copied)


def test_a_key_that_is_also_a_directory(filled, target, command):
    """Two keys that no file system can hold together are exit 5."""
    filled.configure(objects={"both": {"text": "file"}, "both/below": {"text": "file"}})
    ran = command(filled.url, target, "--endpoint-url", filled.server.url)
    check_refused(ran, 5, target, None)
    assert "both" in ran.err


# disks


@pytest.fixture
def mount(tmp_path):
    """A function that mounts a small file system, and mounts it again with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        return place

    yield mount
    while os.path.ismount(place):
        subprocess.run(["umount", str(place)], check=True)


def test_a_read_only_disk(mount, filled, command):
    """A target on a read-only disk is exit 2."""
    target = mount("size=1m,ro") / "cache"
    check_refused(command(filled.url, target, "--endpoint-url", filled.server.url), 2, target, None)


def test_more_than_the_disk_holds(mount, filled, command):
    """A source larger than the free space is exit 6 before anything is written."""
    filled.put("train/huge.npz", 3_000_000)
    target = mount("size=2m") / "cache"
    check_refused(command(filled.url, target, "--endpoint-url", filled.server.url), 6, target, None)
    assert 0 == filled.server.stats()["requests"]["GET"]


def test_space_is_counted_for_what_is_missing_only(mount, filled):
    """A disk that the cache nearly fills takes a second run and a small addition."""
    filled.put("train/large.npz", 1_200_000)
    target = mount("size=2m") / "cache"
    filled.sync(target)
    filled.put("train/small.npz", 1000)
    report = filled.sync(target)
    assert (0, 1) == (report.exit_code, report.files_copied)


@pytest.mark.parametrize("part_size", [1 << 16, 1 << 24], ids=["parts", "whole"])
def test_a_disk_that_fills_on_the_way(part_size, mount, filled):
    """A disk that turns out full is exit 6 without a seal; with space again the same call finishes."""
    disk = mount("size=2m")
    target, volume = disk / "cache", {"kind": "volume", "name": "v", "object_id": "vo-1"}
    (disk / "ballast").write_bytes(bytes(1_000_000))
    for number in range(4):
        filled.put(f"train/{number}.npz", 300_000)
    settings = filled.settings(volume=volume, part_size=part_size)
    with pytest.raises(NoSpace) as caught:
        populate_cache(filled.url, target, settings=settings, progress=Progress("quiet"))
    assert caught.value.hint
    here, planned = tree(target), filled.contents()
    assert {key: planned[key] for key in here} == here
    assert not (target / META / "seal.json").exists()
    (disk / "ballast").unlink()
    report = populate_cache(filled.url, target, settings=settings, progress=Progress("quiet"))
    assert (0, True) == (report.exit_code, report.sealed)
    assert planned == tree(target)
    assert volume == json.loads((target / META / "seal.json").read_text())["volume"]
    assert report.bytes_copied <= sum(map(len, planned.values())) - sum(map(len, here.values()))
