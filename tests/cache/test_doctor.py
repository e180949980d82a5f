"""doctor: one screen with the place, the state, the speed and the next step, for whatever lies at a path."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.caches import make_cache
from tests.support.running import META, Ran, run, state
from tusz_cache.doctor import main
from tusz_cache.doctoring import examine
from tusz_cache.guarding.guard import CacheGuard
from tusz_cache.guarding.values import Ruling
from tusz_cache.measuring import WINDOW, measure
from tusz_cache.progress import Progress

FILES = {
    "train/a.npz": os.urandom(2 * WINDOW),
    "train/b.npz": b"b" * 5000,
    "dev/c.npz": b"c" * 100,
    "manifest.json": b"{}",
}


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Return a function that runs the command in this process."""

    def go(*arguments: object) -> Ran:
        capsys.readouterr()
        code = main([*map(str, arguments), "--json"])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return go


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return make_cache(tmp_path / "cache", FILES)


def test_a_whole_cache_may_be_trained_from(cache, doctor):
    """Exit 0; counts of each split, seal, speeds of three kinds, and how to train; nothing is written."""
    before = state(cache)
    ran = doctor(cache)
    said = ran.json
    assert (0, True, "sealed") == (ran.code, said["ok"], said["state"]), ran.err
    assert {"train": 2, "dev": 1, ".": 0} == {name: count["npz"] for name, count in said["splits"].items()}
    assert ("s3://bucket/cache", {"source-crc": 4}) == (said["seal"]["source"], said["seal"]["verification"])
    assert ["sequential", "random 4 KiB", "random window"] == [speed["kind"] for speed in said["speeds"]]
    assert all(speed["bytes_per_second"] > 0 and speed["reads"] > 0 for speed in said["speeds"])
    assert {True, False, None} >= {speed["evicted"] for speed in said["speeds"]}
    assert str(cache) in said["next"]
    assert before == state(cache)


def no_seal(cache: Path) -> None:
    (cache / META / "seal.json").unlink()


def begun(cache: Path) -> None:
    from tusz_cache.copying.journal import line

    no_seal(cache)
    (cache / META / "journal").write_bytes(line(["file", 0, "train/z.npz", 10, "e", 4]))


def repairing(cache: Path) -> None:
    (cache / META / "seal.json").rename(cache / META / "repair.json")


def no_records(cache: Path) -> None:
    for path in (cache / META).iterdir():
        path.unlink()
    (cache / META).rmdir()


def empty(cache: Path) -> None:
    no_records(cache)
    for path in [path for path in cache.rglob("*") if path.is_file()]:
        path.unlink()


STATES = {
    no_seal: ("unsealed", "verify {} --level full --against SOURCE"),
    no_records: ("unsealed", "verify {} --level full --against SOURCE"),
    begun: ("interrupted", "sync SOURCE {}"),
    repairing: ("repairing", "verify {} --repair"),
    empty: ("empty", "sync SOURCE {}"),
    lambda cache: (cache / META / "seal.json").write_text("{"): (
        "broken",
        "verify {} --level full --against SOURCE",
    ),
    lambda cache: (cache / META / "manifest.jsonl").write_text(""): (
        "broken",
        "verify {} --level full --against s3://bucket/cache",
    ),
    lambda cache: (cache / "train/b.npz").unlink(): ("damaged", "verify {} --repair"),
    lambda cache: (cache / "train/b.npz").write_bytes(b"short"): ("damaged", "verify {} --repair"),
}


@pytest.mark.parametrize("act", STATES)
def test_what_is_not_whole_has_a_next_step(act: Callable[[Path], Any], cache, doctor):
    """Unsealed, interrupted, empty, broken and damaged caches are exit 7, each with its own command."""
    act(cache)
    ran = doctor(cache)
    name, command = STATES[act]
    assert (7, name, False) == (ran.code, ran.json["state"], ran.json["ok"]), ran.err
    assert f"python -m tusz_cache.{command.format(cache)}" == ran.json["next"]


def test_an_interrupted_run_is_counted(cache, doctor):
    """The journal's files are told."""
    begun(cache)
    assert {"finished": 0, "begun": 1} == doctor(cache).json["journal"]


@pytest.mark.parametrize("kind", ["bucket", "nfs"])
def test_a_remote_mount_is_not_looked_at(kind, cache, tmp_path, doctor):
    """A mount that is declared remote is exit 5: no file of it is touched, and the next step is a copy."""
    mounts = tmp_path / "mounts.json"
    mounts.write_text(json.dumps([{"path": str(cache), "kind": kind, "name": "n"}]))
    ran = doctor(cache, "--mounts", mounts)
    assert (5, "unknown", []) == (ran.code, ran.json["state"], ran.json["speeds"])
    assert "tusz_cache.sync" in ran.json["next"]
    assert None is ran.json["free"]


def test_a_url_is_no_cache(doctor):
    """A URL is exit 5, and the next step copies it."""
    ran = doctor("s3://bucket/tusz")
    assert (5, "REFUSE_OBJECT_STORE") == (ran.code, ran.json["guard"]["verdict"])
    assert "tusz_cache.sync s3://bucket/tusz" in ran.json["next"]


def test_nothing_there_is_exit_2(tmp_path):
    """A path that does not exist is told with the way to make a cache there."""
    ran = run("doctor", tmp_path / "nowhere")
    assert (2, True) == (ran.code, "tusz_cache.sync" in ran.err.partition("hint:")[2])


@pytest.mark.parametrize(("ruling", "placeholder"), [("ACCEPT_LOCAL_BLOCK", False), ("ACCEPT_DECLARED", True)])
def test_free_space_of_a_volume_is_a_placeholder(ruling, placeholder, cache, monkeypatch):
    """What a disk says of its space is a figure; what a declared volume says is a placeholder."""
    verdict = CacheGuard().check(cache)
    monkeypatch.setattr(CacheGuard, "check", lambda *_: replace(verdict, ruling=Ruling(ruling)))
    report = examine(cache, progress=Progress("quiet"))
    assert placeholder == report.as_dict()["free"]["placeholder"]
    assert placeholder == ("placeholder" in report.as_text())


def test_one_screen_for_a_person(cache):
    """Text and HTML begin with the verdict and end with the next step."""
    report = examine(cache, progress=Progress("quiet"))
    lines = report.as_text().splitlines()
    assert ("training may start", "next") == (lines[0], lines[-1].split()[0])
    assert len(lines) < 25
    assert report._repr_html_().startswith("<table>")
    (cache / META / "seal.json").unlink()
    assert "no whole cache" == examine(cache, progress=Progress("quiet")).headline


def test_memory_is_not_sold_as_a_disk():
    """Files on tmpfs cannot be evicted from memory, and the figures never claim that they were."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no /dev/shm")
    path = Path(f"/dev/shm/tusz-cache-test-{os.getpid()}")
    try:
        path.write_bytes(bytes(WINDOW))
        speeds = measure([(path, WINDOW)], lambda: None)
        assert 3 == len(speeds)
        assert all(speed.evicted is not True for speed in speeds)
    finally:
        path.unlink()


def test_small_files_have_no_windows(tmp_path):
    """What no file is large enough for is left out, not made up."""
    (tmp_path / "a").write_bytes(bytes(5000))
    assert ["sequential", "random 4 KiB"] == [speed.kind for speed in measure([(tmp_path / "a", 5000)], lambda: None)]
    assert () == measure([], lambda: None)
