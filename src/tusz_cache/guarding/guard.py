"""CacheGuard: say on evidence whether training may read from a directory, and let it through if so."""

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from os import PathLike
from pathlib import Path
from shlex import quote
from typing import Literal, NamedTuple

from tusz_cache.errors import CacheError, CacheRefused, TargetError, Unresponsive, UsageError
from tusz_cache.guarding import files
from tusz_cache.guarding.admitted import AdmittedCache
from tusz_cache.guarding.beneath import windows_answer
from tusz_cache.guarding.classify import classify
from tusz_cache.guarding.identity import declared_volume, judge_counts, judge_seal
from tusz_cache.guarding.layered import judge_layers
from tusz_cache.guarding.reaching import Opened, Reach
from tusz_cache.guarding.seeing import mountinfo, see
from tusz_cache.guarding.stages import is_url, refused_url, unresponsive
from tusz_cache.guarding.stated import read_stated
from tusz_cache.guarding.values import Allow, DeclaredMount, Ruling, Seen, Verdict, WindowsAnswer
from tusz_cache.manifest import Manifest
from tusz_cache.seal import Seal

_DEAD = {errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH}  # of servers


class Found(NamedTuple):
    """What an examination came to. Only a directory that is admitted has the rest."""

    verdict: Verdict
    opened: Opened | None = None
    seal: Seal | None = None
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class CacheGuard:
    """Says on evidence whether training may read from a directory. Refuses what nothing speaks for.

    Raises UsageError for settings that make no sense.
    """

    declared: Sequence[DeclaredMount] = ()  # by the one who configured the mounts
    _: KW_ONLY
    allow: Sequence[Allow] = ()  # mounts to read from although the guard would refuse them
    policy_file: str | PathLike[str] | None = None  # JSON list of such records; only there may a bucket be allowed
    expect: Mapping[str, int] | None = None  # npz files that each split must have, e.g. {"train": 4667, "dev": 1832}
    seal: Literal["require", "ignore"] = "require"  # ignore: judge where the files lie, whole cache or not
    probe: bool = False  # time some cold reads, which may warn but never decide
    deadline: float = 5.0  # seconds of silence after which a file system counts as hung
    volume: Mapping[str, str] | None = None  # {"kind", "name", "object_id"} that the seal must be of

    def __post_init__(self) -> None:
        for name in ("declared", "allow"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.seal not in {"require", "ignore"}:
            raise UsageError(f"seal={self.seal!r} does not exist", hint="use require or ignore")
        if not 0 < self.deadline <= 3600:
            raise UsageError(f"deadline={self.deadline} makes no sense", hint="use seconds above 0, at most an hour")

    def check(self, path: str | PathLike[str]) -> Verdict:
        """Say whether training may read from `path`, and why.

        Raises TargetError if there is no such directory, UsageError if the policy cannot be read.
        """
        return self._examine(path).verdict

    def admit(self, path: str | PathLike[str]) -> AdmittedCache:
        """Return the cache at `path`, held open. Raises CacheRefused, and what `check` raises."""
        verdict, opened, seal, manifest = self._examine(path, keep=True)
        if opened is None or manifest is None:
            raise CacheRefused(verdict.reason, hint=verdict.hint, verdict=verdict)
        return AdmittedCache(self, opened, verdict, seal, manifest)

    def _examine(self, path: str | PathLike[str], *, keep: bool = False) -> Found:
        """keep: leave the descriptor of a directory that is admitted to the caller."""
        text = os.fspath(path)
        if is_url(text):
            return Found(refused_url(text))
        where = _absolute(text.removeprefix("file://"))
        if sys.platform == "win32":
            return self._examine_windows(where)
        with Reach(self.deadline) as reach:
            try:
                found = self._judge(reach, reach.open(where), where)
            except Unresponsive:
                return Found(unresponsive(where, mountinfo(), self.deadline))
            except PermissionError as error:  # another user's mount denies even root; the mount table tells what it is
                told = classify(Seen(path=where, real_path=where, mountinfo=mountinfo()))
                if told.ruling not in {Ruling.REFUSE_OBJECT_STORE, Ruling.REFUSE_NETWORK}:
                    raise _unusable(where, error) from error
                return Found(told)
            except OSError as error:
                if error.errno not in _DEAD:
                    raise _unusable(where, error) from error
                verdict = unresponsive(where, mountinfo(), 0)
                return Found(replace(verdict, reason=f"{where} does not answer: {error.strerror}"))
            if keep and found.opened is not None:
                reach.release(found.opened)
        return found

    def _judge(self, reach: Reach, opened: Opened, where: str) -> Found:
        """Classify first, touch later: no file of a directory that is refused for its place is looked at."""
        policy = self._policy()
        seen, remarks = see(reach, opened, where, tuple(self.declared))
        verdict = classify(seen, allow=tuple(self.allow), policy=policy)
        verdict = replace(verdict, evidence=(*verdict.evidence, *remarks))
        if not verdict.admitted:
            return Found(verdict)
        verdict, seal, manifest = self._judge_content(reach, verdict, seen)
        if not verdict.admitted or manifest is None:
            return Found(files.for_store(reach, verdict))
        if self.probe:
            verdict = files.probe(reach, verdict, manifest)
        return Found(verdict, opened, seal, manifest)

    def _judge_content(self, reach: Reach, verdict: Verdict, seen: Seen) -> files.Records:
        """Rule on what lies there: its records, each of its files, the counts that are expected."""
        records = files.sealed_records if self.seal == "require" else files.bare_records
        verdict, seal, listed = records(reach, verdict)
        if not verdict.admitted:
            return files.Records(verdict)
        verdict, manifest, marks = files.look(reach, verdict, listed)
        verdict = judge_layers(verdict, seen, marks, self.deadline)
        if verdict.admitted and seal is not None:
            verdict = judge_seal(verdict, seal, manifest, self._volume(verdict))
        if verdict.admitted and self.expect:
            verdict = judge_counts(verdict, manifest, self.expect)
        return files.Records(verdict, seal, manifest)

    def _examine_windows(self, where: str) -> Found:
        answer = windows_answer(where)
        seen = Seen(path=where, real_path=os.path.realpath(where), answer=WindowsAnswer(*answer) if answer else None)
        verdict = classify(seen, allow=tuple(self.allow), policy=self._policy())
        if verdict.admitted:
            hint = "use WSL2, with the cache on its own disk"
            raise UsageError("on Windows the place of a cache can be judged, its files cannot be looked at", hint=hint)
        return Found(verdict)

    def _policy(self) -> tuple[Allow, ...]:
        return () if self.policy_file is None else read_stated(self.policy_file, Allow)

    def _volume(self, verdict: Verdict) -> str:
        if self.volume is not None:
            return self.volume.get("object_id", "")
        return declared_volume(tuple(self.declared), verdict.path, verdict.real_path)


def _absolute(text: str) -> str:
    """Return the path that a user names; "~" is home, symbolic links stay as they are."""
    if not text:
        raise UsageError("the path is empty", hint="is a variable unset? Name a directory")
    try:
        path = os.path.join(os.getcwd(), os.path.expanduser(text))  # noqa: PTH109, PTH111, PTH118 - pathlib's differ
    except FileNotFoundError as error:
        raise TargetError("the current directory is gone", hint="change into one that is there") from error
    # after a link, ".." leads elsewhere than the text says
    return path if ".." in Path(path).parts else os.path.normpath(path)


def _unusable(where: str, error: OSError) -> CacheError:
    if error.errno == errno.ENOENT:
        hint = f"check the path for typing errors; python -m tusz_cache.sync SOURCE {quote(where)} makes a cache there"
        return TargetError(f"there is nothing at {where}", hint=hint)
    if error.errno == errno.ENOTDIR:
        return TargetError(f"{where} is no directory", hint="name the directory that holds the cache")
    return TargetError(f"cannot look at {where}: {error.strerror}", hint="check its permissions and its disk")
