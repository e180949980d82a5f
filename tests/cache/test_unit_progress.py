"""What progress must be: a bar on a terminal, a line every ten seconds elsewhere, nothing when asked."""

import io
import types

import pytest

from tusz_cache import progress
from tusz_cache.progress import Progress


class Terminal(io.StringIO):
    """A stream that a person watches."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=made.monotonic))
    return made


def test_a_line_every_ten_seconds(clock: Clock):
    """Without a terminal one line is written every ten seconds, however often progress is made."""
    stream = io.StringIO()
    watcher = Progress(stream=stream)
    watcher.start(100_000, 10)
    for _ in range(400):  # 40 s
        clock.now += 0.1
        watcher.advance(100, 0)

    lines = stream.getvalue().splitlines()
    assert 3 <= len(lines) <= 4
    assert all("\r" not in line for line in lines)


def test_a_line_says_how_far_how_fast_and_how_long(clock: Clock):
    """A line gives bytes, files, the rate since the start, and the time that is left at that rate."""
    stream = io.StringIO()
    watcher = Progress("lines", stream)
    watcher.start(100_000, 10)
    clock.now += 5
    watcher.advance(20_000, 1)
    assert "" == stream.getvalue()

    clock.now += 5
    watcher.advance(20_000, 3)
    assert "40 kB of 100 kB, 4 of 10 files, 4 kB/s, 15.0 s left\n" == stream.getvalue()


def test_bytes_that_turned_out_wrong_are_taken_back(clock: Clock):
    """A negative count takes bytes back, and a rate of nothing leaves the time unknown."""
    stream = io.StringIO()
    watcher = Progress("lines", stream)
    watcher.start(100_000, 10)
    watcher.advance(20_000)
    clock.now += 10
    watcher.advance(-20_000)

    assert "0 B of 100 kB, 0 of 10 files, 0 B/s, unknown left\n" == stream.getvalue()


def test_quiet_is_quiet(clock: Clock):
    """Asked to be quiet, neither progress nor messages are written, on a terminal or not."""
    for stream in (io.StringIO(), Terminal()):
        with Progress("quiet", stream) as watcher:
            watcher.start(100, 1)
            clock.now += 100
            watcher.advance(100, 1)
            watcher.say("hello")
        assert "" == stream.getvalue()


def test_a_terminal_gets_a_bar():
    """On a terminal there is a bar with the files counted, and messages do not tear it."""
    stream = Terminal()
    with Progress(stream=stream) as watcher:
        watcher.start(1000, 2)
        watcher.advance(1000, 2)
        watcher.say("hello")
        watcher.advance(0)

    assert "2/2 files" in stream.getvalue()
    assert "hello\n" in stream.getvalue()


def test_messages_are_lines():
    """Without a bar a message is one line."""
    stream = io.StringIO()
    Progress(stream=stream).say("hello")

    assert "hello\n" == stream.getvalue()


def test_nobody_asks_to_stop_at_first():
    """The wish to stop is absent until someone sets it."""
    assert Progress("quiet").stop_signal is None


def test_a_late_hour_is_a_wish_to_stop(monkeypatch: pytest.MonkeyPatch):
    """From the time on that was set it is as if SIGTERM had come; a signal that came before stays what it was."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    late, asked = Progress("quiet"), Progress("quiet")
    late.stop_at = asked.stop_at = 101.0
    asked.stop_signal = 2
    before = late.stop_signal
    now = 101.0

    assert (None, 15, 2) == (before, late.stop_signal, asked.stop_signal)


def test_steps_are_told_every_ten_seconds(monkeypatch: pytest.MonkeyPatch):
    """Where there is no terminal, a line says how many of all are done, no sooner than ten seconds after the last."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    stream = io.StringIO()
    with Progress("lines", stream) as watcher:
        for step in range(1, 25):
            now += 1.0
            watcher.show(step, 24, "step", "loss 0.5")

    assert ["10 of 24 steps, loss 0.5", "20 of 24 steps, loss 0.5"] == stream.getvalue().splitlines()


def test_steps_are_shown_on_a_bar():
    """On a terminal a bar counts the steps, also those that were done before."""
    stream = io.StringIO()
    with Progress("bar", stream) as watcher:
        for step in (7, 8, 8, 9):
            watcher.show(step, 9, "step", "loss 0.5")

    assert "9/9" in stream.getvalue()
