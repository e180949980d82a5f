"""What the commands share: arguments, printing, exit codes."""

import argparse
import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn, Protocol

from tusz_cache.errors import (
    EXIT_CODES,
    CacheError,
    Incomplete,
    Interrupted,
    LockHeld,
    Unfinished,
    UsageError,
    exit_status,
)
from tusz_cache.progress import Progress
from tusz_cache.stores.base import Access


class Report(Protocol):
    """What a command returns."""

    @property
    def exit_code(self) -> int:
        """Status of the process."""

    def as_json(self) -> str:
        """One JSON object."""

    def as_text(self) -> str:
        """Lines for a person."""


def parser(verb: str, description: str, *, prog: str | None = None) -> argparse.ArgumentParser:
    """Return a parser whose help ends with the exit codes."""
    codes = "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items())
    made = argparse.ArgumentParser(
        prog=prog or f"python -m tusz_cache.{verb}",
        description=description,
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--json", action="store_true", help="print one JSON object on stdout, and nothing else there")
    made.add_argument("--quiet", action="store_true", help="no progress and no messages")
    return made


def typed(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let argparse report what `convert` raises."""

    def argument(text: str) -> Any:
        try:
            return convert(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(f"{error}; {error.hint}") from error

    return argument


def pair(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE; VALUE may be JSON."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(
            f"{text!r} is not KEY=VALUE", hint="""e.g. --storage-option 'client_kwargs={"region_name": "eu-west-1"}'"""
        )
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def count_pair(text: str) -> tuple[str, int]:
    """Read SPLIT=COUNT."""
    key, value = pair(text)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UsageError(f"{text!r} is not SPLIT=COUNT", hint="e.g. --expect train=4667")
    return key, value


def add_expect(made: argparse._ActionsContainer) -> None:
    """Add the option for what a cache must have; a list of pairs."""
    made.add_argument(
        "--expect",
        metavar="SPLIT=COUNT",
        action="append",
        default=[],
        type=typed(count_pair),
        help="npz files that a split must have",
    )


def add_durability(made: argparse._ActionsContainer) -> None:
    """Add the option that says when written bytes count as safe."""
    made.add_argument("--durability", choices=("fsync", "none"), default="fsync", help="none: for tmpfs and tests")


def add_access(made: argparse.ArgumentParser) -> None:
    """Add the options that say how to reach a source."""
    how = made.add_argument_group("how to reach the source")
    how.add_argument("--endpoint-url", metavar="URL", help="of an S3-compatible server")
    how.add_argument("--anon", action="store_true", help="no credentials: public buckets")
    how.add_argument("--profile", metavar="NAME", help="of the AWS configuration")
    how.add_argument(
        "--storage-option",
        metavar="K=V",
        action="append",
        default=[],
        type=typed(pair),
        help="for the fsspec filesystem; V may be JSON",
    )


def access_of(options: argparse.Namespace) -> Access:
    """Return what `add_access` parsed."""
    return Access(options.endpoint_url, options.anon, options.profile, dict(options.storage_option))


def add_mounts(made: argparse._ActionsContainer) -> None:
    """Add the option that declares mounts."""
    made.add_argument(
        "--mounts",
        metavar="FILE",
        help='declared mounts, as JSON: [{"path", "kind": "volume|bucket|nfs|ephemeral", "name", "object_id"}]',
    )


@contextlib.contextmanager
def stoppable(*, quiet: bool = False) -> Iterator[Progress]:
    """Yield a progress that signals stop gently once, hard twice."""
    progress = Progress("quiet" if quiet else "auto")

    def stop(signum: int, _frame: FrameType | None) -> None:
        if progress.stop_signal is not None:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        progress.stop_signal = signum
        if not quiet:  # straight to the descriptor: this may interrupt a print
            os.write(2, b"stopping: what is in flight is finished; press Ctrl-C again to stop at once\n")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield progress
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(options: argparse.Namespace, work: Callable[[Progress], Report]) -> int:
    """Do `work`, print its report or the error, return the exit status. Signals stop it gently once, hard twice."""
    try:
        with stoppable(quiet=options.quiet) as progress:
            report = work(progress)
    except CacheError as error:
        return fail(error, as_json=options.json)
    show(report.as_json() if options.json else report.as_text())
    return report.exit_code


def attempt(work: Callable[[Progress], Report]) -> int:
    """Do `work` where a platform starts attempts: print its report or the error, return the exit status.

    What another attempt goes on with is raised, so that the platform starts it: Incomplete, Interrupted, LockHeld,
    Unfinished. After SIGINT, by which the platform asks to stop, that is KeyboardInterrupt, as it expects.
    """
    again: CacheError | None = None
    with stoppable() as progress:
        try:
            report = work(progress)
        except CacheError as error:
            status = fail(error, as_json=False)
            if status in _AGAIN or isinstance(error, Interrupted | LockHeld):  # a killed attempt's lock lapses
                again = error
        else:
            show(report.as_text())
            status = report.exit_code
            if status in _AGAIN:
                again = _AGAIN[status](EXIT_CODES[status], hint="run the same command again")
    if again is not None:
        raise KeyboardInterrupt if progress.stop_signal == signal.SIGINT else again
    return status


_AGAIN = {kind.exit_code: kind for kind in (Incomplete, Unfinished)}


def show(text: str) -> None:
    """Print a result on stdout, whatever its encoding, and though nobody may read it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(text, flush=True)  # noqa: T201 - this is the place that prints results
    except BrokenPipeError:
        os.dup2(2, 1)  # the reader has gone; what was done is done, and the last flush must not fail


def fail(error: CacheError, *, as_json: bool) -> int:
    """Print `error` and return its exit status."""
    status = exit_status(error)
    if as_json:
        named = {"error": str(error), "kind": type(error).__name__, "hint": error.hint, "exit_code": status}
        show(json.dumps(named))
    print(f"error: {error}\nhint:  {error.hint}", file=sys.stderr)  # noqa: T201
    return status


def main(module_main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Run a command as the process."""
    status = module_main(None)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # all is closed; taking down what botocore and aiohttp hold would cost another 0.1 s
