"""Every error that this package raises on purpose.

CacheError
├── UsageError          2  an option or setting makes no sense
├── SourceError         2  the source cannot be opened
│   ├── NoSuchSource         bucket, prefix or path does not exist
│   ├── AccessDenied         the store said no
│   ├── NoCredentials        nothing to identify ourselves with
│   ├── WrongRegion          the bucket lives elsewhere
│   └── MissingPackage       no fsspec implementation installed for the scheme
├── TargetError         2  the target cannot be used
├── Incomplete          3  some objects or the listing failed after retries; what is whole is kept
│   ├── Unreachable          no connection to the source
│   └── ListingBroken        the listing contradicts itself or ended early
├── TransferError       3  one request failed; `temporary` says whether trying again may help
│   ├── Throttled            503, SlowDown
│   ├── Stalled              no progress for --stall-timeout
│   ├── BadResponse          status, length, range or checksum is not what was asked for
│   └── Forbidden            403 for a signed URL: expired, or denied
├── SourceChanged       4  an object is no longer what the plan saw
├── PlanDiffers         4  a shard is not of the plan that is stored, or of another number of shards
├── Refused             5  a safety rule
│   ├── UnsafeKey, EmptyListing, DeleteLimit, LockHeld, ForeignTarget, PatientOverlap
│   ├── CacheRefused         the guard lets nothing read from there; `verdict` says why
│   └── Unresponsive         a file system does not answer in time
├── NoSpace             6  the target is full
├── Damaged             7  verification found missing or damaged files
│   └── BadRecording         an NPZ file is not what a recording's file must be
├── Unfinished         75  stopped in time; another attempt goes on
└── Interrupted   130/143  stopped by a signal, state kept
"""

from typing import Any, ClassVar


class CacheError(Exception):
    """Base of all errors raised on purpose. `hint` tells the user what to do next."""

    exit_code: ClassVar[int] = 1
    temporary: ClassVar[bool] = False  # True: the same call may succeed later

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), str(self), self.hint)  # keyword-only arguments do not survive pickling by default


def _revive(kind: type[CacheError], message: str, hint: str) -> CacheError:
    return kind(message, hint=hint)


class UsageError(CacheError):
    """An option or setting makes no sense."""

    exit_code = 2


class SourceError(CacheError):
    """The source cannot be opened."""

    exit_code = 2


class NoSuchSource(SourceError):
    """The bucket or path does not exist."""


class AccessDenied(SourceError):
    """The store knows who we are, or that it does not, and says no."""


class NoCredentials(SourceError):
    """There is nothing to identify ourselves with."""


class WrongRegion(SourceError):
    """The bucket lives in another region than the one asked."""


class MissingPackage(SourceError):
    """No fsspec implementation is installed for the URL's scheme."""


class TargetError(CacheError):
    """The target cannot be used."""

    exit_code = 2


class Incomplete(CacheError):
    """Not everything arrived. What is whole is kept; the same command goes on from there."""

    exit_code = 3


class Unreachable(Incomplete):
    """No connection to the source."""

    temporary = True


class ListingBroken(Incomplete):
    """The listing contradicts itself or ended early, so nothing may be concluded from it."""

    temporary = True


class TransferError(CacheError):
    """One request for one object failed."""

    exit_code = 3
    temporary = True


class Throttled(TransferError):
    """The server asks for fewer requests."""


class Stalled(TransferError):
    """The server stopped sending."""


class BadResponse(TransferError):
    """The answer is not what was asked for: status, range, length or checksum."""


class Forbidden(TransferError):
    """The signed URL was refused: it expired, its credentials did, or the object is denied."""


class SourceChanged(CacheError):
    """The object is no longer the one that the plan saw."""

    exit_code = 4


class PlanDiffers(CacheError):
    """A shard, or the run that finishes, is not of the plan that the target has."""

    exit_code = 4


class Refused(CacheError):
    """A safety rule forbids going on."""

    exit_code = 5


class UnsafeKey(Refused):
    """An object's key cannot be a file below the target."""


class EmptyListing(Refused):
    """The source lists no objects."""


class DeleteLimit(Refused):
    """More files would be deleted than allowed."""


class LockHeld(Refused):
    """Another process works on the target."""

    work: str = ""  # what it does, where somebody may wait for it


class ForeignTarget(Refused):
    """The target holds files that this tool never wrote."""


class PatientOverlap(Refused):
    """A patient is in more than one split."""


class CacheRefused(Refused):
    """The guard lets nothing read from there. `verdict` says why."""

    def __init__(self, message: str, *, hint: str, verdict: Any = None) -> None:
        super().__init__(message, hint=hint)
        self.verdict = verdict  # a guarding.values.Verdict

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive_refused, (str(self), self.hint, self.verdict)


def _revive_refused(message: str, hint: str, verdict: Any) -> CacheRefused:
    return CacheRefused(message, hint=hint, verdict=verdict)


class Unresponsive(Refused):
    """A file system does not answer in time."""


class NoSpace(CacheError):
    """The target is full, or will be."""

    exit_code = 6


class Damaged(CacheError):
    """Verification found missing or damaged files, or no seal."""

    exit_code = 7


class BadRecording(Damaged):
    """A recording's NPZ file is broken, or holds something else than windows and labels."""


class Unfinished(CacheError):
    """Stopped on purpose in time, with its state kept: another attempt goes on."""

    exit_code = 75
    temporary = True


class Interrupted(CacheError):
    """A signal asked to stop. Parts in flight were finished and recorded."""

    def __init__(self, message: str, *, hint: str, signum: int = 2) -> None:
        super().__init__(message, hint=hint)
        self.signum = signum

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive_interrupted, (str(self), self.hint, self.signum)

    @property
    def status(self) -> int:
        """Exit status by shell convention: 128 + signal number."""
        return 128 + self.signum


def _revive_interrupted(message: str, hint: str, signum: int) -> Interrupted:
    return Interrupted(message, hint=hint, signum=signum)


EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "a bug: please report the traceback",
    2: "usage, configuration, or a source or target that cannot be opened",
    3: "incomplete: the listing or some objects failed after retries; what is whole is kept, run again",
    4: "the source changed during the run, or a shard is of another plan; run again",
    5: "refused by a safety rule (guard, delete limit, empty listing, unsafe key, lock held, foreign target)",
    6: "no space on the target",
    7: "verification found missing or damaged files, or no seal",
    75: "stopped on purpose in time (training), run again to go on",
    130: "interrupted by Ctrl-C, state kept, run again to go on",
    143: "terminated by SIGTERM, state kept, run again to go on",
}


def exit_status(error: CacheError) -> int:
    """Exit status for `error`: its class decides, except for signals."""
    return error.status if isinstance(error, Interrupted) else error.exit_code
