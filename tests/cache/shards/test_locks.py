"""Who may work beside whom: shards beside each other, nobody beside a planner, finisher, sync or repair."""

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cache.shards.conftest import Steps
from tests.support.running import META
from tusz_cache import lock
from tusz_cache.errors import LockHeld
from tusz_cache.lock import Holder, locked, locked_shard
from tusz_cache.ssd import Target


def test_shards_share_and_exclude_all_else(steps: Steps, place: Target):
    """While a shard works, others do, too; but not the same one, nor a planner, finisher, sync or repair."""
    steps.plan()
    with locked_shard(place, "1-of-3"):
        steps.shard(2)
        alone = (steps.finish, steps.plan, lambda: steps.shard(1), lambda: steps.bucket.sync(steps.target))
        for step in alone:
            with pytest.raises(LockHeld, match=f"process {os.getpid()}") as caught:
                step()
            assert 5 == caught.value.exit_code


def test_a_shard_does_not_work_beside_a_sync(steps: Steps, place: Target, monkeypatch: pytest.MonkeyPatch):
    """While another run has the target alone, a shard is refused, with a plan and without."""
    monkeypatch.setattr("tusz_cache.sharding.REFUSALS", 1)
    steps.target.joinpath(META).mkdir(parents=True)
    for _ in range(2):
        with locked(place), pytest.raises(LockHeld):
            steps.shard(1)
        steps.plan()


ELSEWHERE = Holder(1, "22222222-0000", "elsewhere")


def leave(path: Path, *, age: float = 0.0, work: str = "") -> None:
    """Leave the note of a process on another machine."""
    path.write_bytes(dataclasses.replace(ELSEWHERE, work=work).as_note())
    os.utime(path, (time.time() - age,) * 2)


@contextlib.contextmanager
def refreshed(path: Path) -> Iterator[None]:
    """Refresh a note all the while, as its holder does that lives."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.3):
            os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_shard_on_another_machine_is_respected(steps: Steps, monkeypatch: pytest.MonkeyPatch):
    """The fresh note of a shard elsewhere keeps a plain sync out, also where the kernel knows nothing of it."""
    steps.plan()
    leave(steps.target / META / "lock-1-of-3")
    with pytest.raises(LockHeld, match="elsewhere"):
        steps.bucket.sync(steps.target)

    steps.shard(2)  # is another one
    leave(steps.target / META / "lock-1-of-3", age=lock.SILENT + 1)
    assert steps.bucket.sync(steps.target).sealed


def test_a_silent_shard_is_waited_out(steps: Steps, monkeypatch: pytest.MonkeyPatch):
    """After a preemption the same shard may start elsewhere while the old note is fresh: it waits until that lapses."""
    steps.plan()
    monkeypatch.setattr(lock, "SILENT", 1.0)
    monkeypatch.setattr(lock, "LOOK", 0.1)
    leave(steps.target / META / "lock-1-of-3")

    assert steps.shard(1).files_copied


def test_a_living_shard_elsewhere_is_not_waited_for(steps: Steps, monkeypatch: pytest.MonkeyPatch):
    """A note that is refreshed is of a process that lives: the shard is refused."""
    steps.plan()
    note = steps.target / META / "lock-1-of-3"
    leave(note)
    monkeypatch.setattr(lock, "SILENT", 30.0)

    with refreshed(note), pytest.raises(LockHeld, match="elsewhere"):
        steps.shard(1)


def test_a_sync_elsewhere_keeps_a_shard_out(steps: Steps, monkeypatch: pytest.MonkeyPatch):
    """The note in the common lock counts for shards as well, and is not overwritten."""
    steps.plan()
    monkeypatch.setattr(lock, "SILENT", 30.0)
    path = steps.target / META / "lock"
    leave(path)
    monkeypatch.setattr(lock, "SILENT", 30.0)

    with refreshed(path), pytest.raises(LockHeld, match="elsewhere"):
        steps.shard(1)

    assert ELSEWHERE.as_note() == path.read_bytes()
