"""Overrides: what the user allowed although the guard would refuse, for one mount as it is now."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tusz_cache.guarding.findings import Finding, found, noted
from tusz_cache.guarding.kinds import Kind, kind_of
from tusz_cache.guarding.mountinfo import absolute, parse, within
from tusz_cache.guarding.redact import redact
from tusz_cache.guarding.values import Allow, DarwinAnswer, Ruling, Seen, WindowsAnswer

_BY_CALLER = {Ruling.REFUSE_NETWORK, Ruling.REFUSE_UNKNOWN}
_BY_POLICY = {*_BY_CALLER, Ruling.REFUSE_OBJECT_STORE}


class Fingerprint(NamedTuple):
    """What a mount must stay for an override to hold."""

    fstype: str
    source: str

    def __str__(self) -> str:
        return f"{self.fstype} {redact(self.source)}"

    def is_meant_by(self, allowed: Allow) -> bool:
        """Whether an override is for this mount; it may name the source as the guard shows it."""
        return self.fstype == allowed.fstype and allowed.source in {self.source, redact(self.source)}


def fingerprint(seen: Seen) -> Fingerprint | None:
    """Return what an override would have to name; None where none can hold."""
    if seen.deleted or isinstance(seen.answer, WindowsAnswer):
        return None
    if isinstance(seen.answer, DarwinAnswer):
        return Fingerprint(seen.answer.fstype, seen.answer.source)
    mount = parse(seen.mountinfo).find(seen.real_path, seen.mount_id)
    if mount is None or kind_of(mount.fstype, mount.source) is Kind.NO_DATA:
        return None
    return Fingerprint(mount.fstype, mount.source)


def overrule(seen: Seen, refusal: Finding, allow: Sequence[Allow], policy: Sequence[Allow]) -> Iterator[Finding]:
    """Yield what the overrides for this directory come to: an accept, or why they do not count."""
    mount = fingerprint(seen)
    if mount is None:
        return
    given = [("policy file", one, _BY_POLICY) for one in policy] + [("argument", one, _BY_CALLER) for one in allow]
    for source, allowed, may in given:
        if not any(within(place, absolute(allowed.path)) for place in (absolute(seen.path), seen.real_path)):
            continue
        name = f"override for {Fingerprint(allowed.fstype, allowed.source)} at {allowed.path}"
        if not mount.is_meant_by(allowed):
            yield noted("policy", source, f"{name} has expired: the mount is {mount}", "warn")
        elif not allowed.reason.strip():
            yield noted("policy", source, f"{name} does not count: it gives no reason", "warn")
        elif refusal.ruling not in may:
            yield noted("policy", source, f"{name} does not count: an object store needs the policy file", "warn")
        else:
            reason = f"{refusal.reason}; allowed all the same: {allowed.reason}"
            yield found(Ruling.ACCEPT_OVERRIDE, "policy", source, reason, f"{name}: {allowed.reason}")
