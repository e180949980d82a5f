"""Progress: a bar on a terminal, a plain line every ten seconds elsewhere, nothing when asked. Always on stderr."""

import signal
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Never, Self, TextIO

from tusz_cache.errors import Interrupted
from tusz_cache.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from tqdm import tqdm

Mode = Literal["auto", "bar", "lines", "quiet"]
EVERY = 10.0  # seconds between two plain lines


class Progress:
    """Counts bytes and files, and carries the wish to stop. Use as a context manager."""

    def __init__(self, mode: Mode = "auto", stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._mode = mode if mode != "auto" else ("bar" if self._stream.isatty() else "lines")
        self.stop_at: float | None = None  # time.monotonic() from which on it is as if SIGTERM had come
        self._stop_signal: int | None = None
        self._bytes = self._files = self._total_bytes = self._total_files = 0
        self._began = self._said = time.monotonic()
        self._bar: tqdm[Never] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @property
    def stop_signal(self) -> int | None:
        """The signal that asked to stop, if any; SIGTERM when it is too late to go on."""
        if self._stop_signal is None and self.stop_at is not None and time.monotonic() >= self.stop_at:
            self._stop_signal = signal.SIGTERM
        return self._stop_signal

    @stop_signal.setter
    def stop_signal(self, signum: int | None) -> None:
        self._stop_signal = signum

    def check_stop(self, where: str) -> None:
        """Raise Interrupted if a signal asked to stop."""
        if self.stop_signal is not None:
            raise Interrupted(where, hint="run the same command again", signum=self.stop_signal)

    def start(self, total_bytes: int, total_files: int) -> None:
        """Begin to count towards these totals."""
        self._total_bytes, self._total_files = total_bytes, total_files
        self._bytes = self._files = 0
        self._began = self._said = time.monotonic()
        if self._bar is not None:
            self._bar.close()
        if self._mode == "bar":
            from tqdm import tqdm  # noqa: PLC0415 - only terminals wait for it

            self._bar = tqdm(
                total=total_bytes, unit="B", unit_scale=True, smoothing=0.1, file=self._stream, dynamic_ncols=True
            )

    def advance(self, received: int, files: int = 0) -> None:
        """Count `received` bytes (negative: they turned out wrong) and `files` finished files."""
        self._bytes += received
        self._files += files
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._files}/{self._total_files} files", refresh=False)
            self._bar.update(received)
        elif self._mode == "lines" and time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            self.say(self._line())

    def show(self, done: int, total: int, unit: str, note: str) -> None:
        """Say that `done` of `total` are done, e.g. steps; the first call begins. note: what else there is to say."""
        if self._bar is None and self._mode == "bar":
            from tqdm import tqdm  # noqa: PLC0415 - only terminals wait for it

            self._bar = tqdm(total=total, initial=done, unit=unit, file=self._stream, dynamic_ncols=True)
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
        elif self._mode == "lines" and time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            self.say(f"{done} of {total} {unit}s, {note}")

    def _line(self) -> str:
        seconds = time.monotonic() - self._began
        rate = self._bytes / seconds if seconds else 0.0
        left = format_seconds((self._total_bytes - self._bytes) / rate) if rate else "unknown"
        done = f"{format_bytes(self._bytes)} of {format_bytes(self._total_bytes)}"
        return f"{done}, {self._files} of {self._total_files} files, {format_bytes(rate)}/s, {left} left"

    def say(self, text: str) -> None:
        """Write one line for a person."""
        if self._mode == "quiet":
            return
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)
