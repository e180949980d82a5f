"""One process at a time writes a run; what may be repeated; how a start that a platform repeats goes on."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.training import config_of, killed, metrics, record, steps, train, training_cache, write_config
from tests.support.training import run_here as run
from tests.train.test_resume import check_same
from tusz_cache import Durability, UsageError, ssd
from tusz_cache.errors import LockHeld
from tusz_cache.lock import locked
from tusz_train import sinks
from tusz_train.resuming import Resume


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_cache(tmp_path_factory.mktemp("alone") / "cache")


@pytest.fixture(scope="module")
def unbroken(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unbroken")
    run(config_of(cache, output))
    return output


# one at a time


def test_a_second_process_is_refused(cache: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """While a run is under way, another start of its name ends with exit 5 and a way out, and disturbs nothing."""
    config = write_config(tmp_path / "c.yaml", config_of(cache, tmp_path))
    refused: list[Any] = []
    log = sinks.MetricsFile.log

    def logged(self: Any, step: int, values: Any) -> None:
        log(self, step, values)
        if step == 5:
            refused.extend([train(config), train(config, "--resume", "never")])

    monkeypatch.setattr(sinks.MetricsFile, "log", logged)
    run(config_of(cache, tmp_path))

    assert [5, 5] == [ran.code for ran in refused], refused
    assert all(f"process {os.getpid()} on" in ran.err and "another run.name" in ran.err for ran in refused)
    check_same(unbroken, tmp_path)
    assert not list(tmp_path.glob("*/tiny.before-*"))


def test_the_lock_stays_while_outputs_are_set_aside(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run that began anew, and set an earlier one aside, still keeps others out."""
    run(config_of(cache, tmp_path), stop_at=1)
    seen: list[str] = []
    log = sinks.MetricsFile.log

    def logged(self: Any, step: int, values: Any) -> None:
        log(self, step, values)
        with pytest.raises(LockHeld), locked(ssd.Target(tmp_path / "runs" / "tiny", Durability("none"))):
            pass
        seen.append("held")

    monkeypatch.setattr(sinks.MetricsFile, "log", logged)
    run(config_of(cache, tmp_path), stop_at=1, resume=Resume("never"))

    assert ["held"] == seen
    assert 1 == len(metrics(tmp_path, "tiny.before-1"))


def test_a_killed_run_leaves_no_lock(cache: Path, tmp_path: Path):
    """After SIGKILL the same command goes on at once, although worker processes may live for some seconds."""
    config = write_config(tmp_path / "c.yaml", config_of(cache, tmp_path, data={"workers": 2}, loop={"steps": 4}))
    assert -9 == killed(config, 3, "KILL").code

    done = train(config)
    assert 0 == done.code, done.err


def test_the_lock_is_committed_away(cache: Path, tmp_path: Path):
    """With durability `commit`, the last thing that is committed is that the lock is free."""
    notes: list[bytes] = []
    path = tmp_path / "runs" / "tiny" / ".tusz_cache" / "lock"
    durability = Durability("commit", commit=lambda: notes.append(path.read_bytes()))
    run(config_of(cache, tmp_path, loop={"steps": 1}), durability=durability)

    assert (True, b"") == (b"pid" in notes[0], notes[-1])


# requests


def test_a_request_is_carried_out_once(cache: Path, unbroken: Path, tmp_path: Path):
    """`--resume never` that is repeated with its id goes on; with another id, or without one, it begins anew."""
    config = config_of(cache, tmp_path)
    run(config, stop_at=2)
    for stop in (4, 7):
        run(config, stop_at=stop, resume=Resume("never", request="job 1"))
    assert "job 1" == record(tmp_path)["request"]
    assert [0, 4] == [start["step"] for start in record(tmp_path)["starts"]]

    run(config, resume=Resume("never", request="job 1"))
    check_same(unbroken, tmp_path)
    assert [tmp_path / "checkpoints" / "tiny.before-1"] == list(tmp_path.glob("checkpoints/tiny.before-*"))

    for number, request in enumerate(("job 2", None), 2):
        run(config, stop_at=1, resume=Resume("never", request=request))
        assert ([1], True) == (steps(tmp_path), (tmp_path / "runs" / f"tiny.before-{number}").exists())
    assert None is record(tmp_path)["request"]


def test_a_request_that_wrote_no_checkpoint_begins_where_it_was_to(cache: Path, tmp_path: Path):
    """Killed before its first checkpoint, a start from PATH that is repeated with its id begins from PATH again."""
    run(config_of(cache, tmp_path / "other"), stop_at=2)
    path = tmp_path / "other" / "checkpoints" / "tiny" / "step-00000002.pt"
    config = write_config(tmp_path / "c.yaml", config_of(cache, tmp_path, checkpoint={"every_steps": 9}))
    arguments = ("--resume", path, "--request", "a")
    assert -9 == killed(config, 3, "KILL", *arguments).code
    assert [] == steps(tmp_path)

    assert 0 == train(config, *arguments).code
    assert [2, 2] == [start["step"] for start in record(tmp_path)["starts"]]
    assert [3, 4, 4, 5, 6, 7, 8, 8, 9, 9] == [line["step"] for line in metrics(tmp_path)]
    assert not list(tmp_path.glob("runs/tiny.before-*"))


def test_a_request_goes_on_from_its_own_steps(cache: Path, tmp_path: Path):
    """`--resume PATH` within a run, repeated with its id, does not go back to PATH once it came further."""
    config = config_of(cache, tmp_path)
    run(config, stop_at=6)
    back = Resume(str(tmp_path / "checkpoints" / "tiny" / "step-00000003.pt"), request="back")
    for stop in (5, 7):
        assert stop == run(config, stop_at=stop, resume=back).steps

    assert [0, 3, 5] == [start["step"] for start in record(tmp_path)["starts"]]


def test_a_request_needs_a_name():
    """An id that is empty, as an unset variable leaves it, would be everybody's: it is an error."""
    with pytest.raises(UsageError, match="empty"):
        Resume(request="")


# how it ended


def test_the_record_says_how_a_start_ended(cache: Path, tmp_path: Path):
    """run.json has the exit status of the last start: 75 or 0; none while it runs, or if it failed or was killed."""
    config = write_config(tmp_path / "c.yaml", config_of(cache, tmp_path))
    run(config_of(cache, tmp_path), stop_at=2)
    assert (75, 2) == (record(tmp_path)["ended"]["status"], record(tmp_path)["ended"]["step"])

    killed(config, 4, "KILL")
    assert None is record(tmp_path)["ended"]
    run(config_of(cache, tmp_path))
    assert 0 == record(tmp_path)["ended"]["status"]
