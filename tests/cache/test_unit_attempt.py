"""What `cli.attempt` returns to a platform that starts attempts, and what it raises so that there is another."""

import os
import signal
from dataclasses import dataclass

import pytest

from tusz_cache import cli
from tusz_cache.errors import (
    CacheError,
    CacheRefused,
    Incomplete,
    Interrupted,
    LockHeld,
    TransferError,
    Unfinished,
    UsageError,
)
from tusz_cache.progress import Progress


@dataclass(frozen=True)
class Done:
    """A report."""

    exit_code: int = 0

    def as_json(self) -> str:
        return "{}"

    def as_text(self) -> str:
        return "done"


def raising(error: CacheError) -> cli.Report:
    raise error


@pytest.mark.parametrize("status", [0, 2, 4, 5, 6, 7])
def test_what_another_attempt_would_meet_again_is_returned(status: int, capsys: pytest.CaptureFixture[str]):
    """The report is printed, and its status is the result."""
    assert status == cli.attempt(lambda _: Done(status))
    assert "done\n" == capsys.readouterr().out


@pytest.mark.parametrize(("status", "kind"), [(3, Incomplete), (75, Unfinished)])
def test_a_report_of_something_unfinished_is_raised(status: int, kind: type[CacheError]):
    """Incomplete copies and runs stopped in time make the platform start the next attempt."""
    with pytest.raises(kind) as caught:
        cli.attempt(lambda _: Done(status))

    assert status == caught.value.exit_code


@pytest.mark.parametrize("kind", [Incomplete, TransferError, LockHeld, Unfinished])
def test_errors_that_pass_are_raised(kind: type[CacheError], capsys: pytest.CaptureFixture[str]):
    """The error itself is raised, once it was told; the lock of an attempt that was killed lapses."""
    with pytest.raises(kind, match="too bad"):
        cli.attempt(lambda _: raising(kind("too bad", hint="do this")))

    assert "error: too bad\nhint:  do this" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "status"), [(UsageError, 2), (CacheRefused, 5)])
def test_errors_that_stay_are_returned(kind: type[CacheError], status: int, capsys: pytest.CaptureFixture[str]):
    """An error that another attempt would meet again is told, and its status is the result."""
    assert status == cli.attempt(lambda _: raising(kind("too bad", hint="do this")))
    assert "hint:  do this" in capsys.readouterr().err


def test_a_platform_that_asks_to_stop_gets_what_it_expects():
    """After SIGINT the work ends in its own way, and then with KeyboardInterrupt, which counts as no failure."""

    def asked(progress: Progress) -> cli.Report:
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.SIGINT == progress.stop_signal
        return Done(75)

    with pytest.raises(KeyboardInterrupt):
        cli.attempt(asked)


def test_any_other_end_in_time_is_a_failure_that_is_tried_again():
    """Time that is up is told as SIGTERM, and raised like all that another attempt goes on with."""

    def interrupted(_: Progress) -> cli.Report:
        os.kill(os.getpid(), signal.SIGTERM)
        return raising(Interrupted("stopped", hint="again", signum=signal.SIGTERM))

    with pytest.raises(Interrupted):
        cli.attempt(interrupted)


def test_work_that_is_over_when_it_is_asked_to_stop_is_over():
    """Nothing is started again that was done."""

    def asked(_: Progress) -> cli.Report:
        os.kill(os.getpid(), signal.SIGINT)
        return Done(0)

    assert 0 == cli.attempt(asked)
