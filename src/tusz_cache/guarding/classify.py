"""Rule on a directory by all that was seen of it. Refuses unless something speaks for it and nothing against it."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from tusz_cache.guarding.answers import judge_darwin, judge_windows
from tusz_cache.guarding.capacity import describe, is_synthetic
from tusz_cache.guarding.declarations import judge_declarations, suggested
from tusz_cache.guarding.findings import Finding, found, noted, worst
from tusz_cache.guarding.ground import below, under
from tusz_cache.guarding.kinds import Kind, kind_of
from tusz_cache.guarding.mountinfo import SOURCE, MountTable, absolute, parse
from tusz_cache.guarding.overrides import fingerprint, overrule
from tusz_cache.guarding.redact import redact
from tusz_cache.guarding.values import Allow, DarwinAnswer, Ruling, Seen, Statfs, Verdict, Wanted, WindowsAnswer

_LOCAL_SSD = "/local/ssd/tusz"


def classify(seen: Seen, *, allow: Sequence[Allow] = (), policy: Sequence[Allow] = ()) -> Verdict:
    """Rule on what was seen. `allow` are overrides of the caller, `policy` those of a policy file.

    Any refusal wins. What is accepted has a mount record of a local kind, or a declaration that holds, or an override
    for the very mount; and no override reaches what is mounted below.
    """
    findings = list(_findings(seen))
    decisive = worst(findings) or _nothing_known(seen)
    overruled = None
    if decisive.refuses and not any(_lacking(findings)):
        overrides = list(overrule(seen, decisive, allow, policy))
        findings += overrides
        if accept := next((one for one in overrides if one.ruling), None):
            decisive, overruled = accept, decisive.ruling
    if not decisive.refuses:
        decisive = next((one for one in findings if one.ruling is Ruling.REFUSE_MIXED), decisive)
    assert decisive.ruling is not None
    return Verdict(
        path=seen.path,
        real_path=seen.real_path,
        ruling=decisive.ruling,
        reason=decisive.reason,
        hint=decisive.hint or _hint(seen, decisive.ruling),
        evidence=tuple(dict.fromkeys(finding.evidence for finding in findings)),
        overruled=overruled,
        declared_as=judge_declarations(seen).vouched,
    )


def wanted(seen: Seen) -> Wanted:
    """Return what is still to be looked up before `classify` can rule: nothing, once all of it was."""
    return _lacking(_findings(seen))


def _lacking(findings: Iterable[Finding]) -> Wanted:
    lacks = [finding.lacks for finding in findings]
    return Wanted(
        frozenset(chain.from_iterable(one.devices for one in lacks)),
        frozenset(chain.from_iterable(one.paths for one in lacks)),
    )


def _findings(seen: Seen) -> Iterator[Finding]:
    """Yield all that was seen, and what each comes to."""
    if seen.deleted:
        reason = f"{seen.path} was deleted after it was opened"
        yield found(
            Ruling.REFUSE_UNKNOWN, "containment", "fstat", reason, hint="ask again for a directory that is there"
        )
        return
    declared = judge_declarations(seen)
    yield from declared.findings
    if isinstance(seen.answer, DarwinAnswer):
        yield judge_darwin(seen.path, seen.answer)
    elif isinstance(seen.answer, WindowsAnswer):
        yield judge_windows(seen.path, seen.real_path, seen.answer)
    else:
        table = parse(seen.mountinfo)
        yield from _unread(table)
        yield from under(seen, table, declared.vouched)
        yield from below(seen, table)
    if seen.statfs is not None:
        yield _of_capacity(seen.path, seen.statfs)


def _nothing_known(seen: Seen) -> Finding:
    return found(Ruling.REFUSE_UNKNOWN, "mount record", SOURCE, f"nothing is known of where {seen.path} lies")


def _unread(table: MountTable) -> Iterator[Finding]:
    if table.unread:
        first = redact(table.unread[0])[:100]
        yield noted(
            "mount record", SOURCE, f"lines that make no sense: {len(table.unread)}, the first: {first}", "warn"
        )


def _of_capacity(path: str, statfs: Statfs) -> Finding:
    if is_synthetic(statfs):
        reason = f"{path} reports the made-up capacity of an object store mount, which is read over the network"
        return found(Ruling.REFUSE_OBJECT_STORE, "statfs", "fstatfs", reason, describe(statfs))
    return noted("statfs", "fstatfs", describe(statfs))


def _hint(seen: Seen, ruling: Ruling) -> str:
    """Return what to do next, with the very values where there are any."""
    if ruling.admitted:
        volatile = "; keep the source, memory is gone when the machine stops" if ruling is Ruling.ACCEPT_MEMORY else ""
        return f"training may read from here{volatile}"
    if ruling is Ruling.REFUSE_OBJECT_STORE:
        sync = f"python -m tusz_cache.sync s3://BUCKET/PREFIX {_LOCAL_SSD}"
        return f"copy the bucket to local disk once, and train from there: {sync}"
    sync = f"python -m tusz_cache.sync {shlex.quote(seen.path)} {_LOCAL_SSD}"
    if ruling is Ruling.REFUSE_MIXED:
        return f"unmount what is below, or copy the cache to one disk: {sync}"
    steps = [f"copy it to local disk once, and train from there: {sync}"]
    if mount := fingerprint(seen):
        if kind_of(*mount) in {Kind.SHARED, Kind.STACKED}:
            steps.append(f"or declare what is mounted there: {suggested(seen, own_disk=mount.fstype == 'overlay')!r}")
        allowed = Allow(absolute(seen.path), mount.fstype, redact(mount.source), "WHY IT IS FAST ENOUGH")
        steps.append(f"or allow exactly this mount, if it is as fast as a disk: {allowed!r}")
    return "; ".join(steps)
