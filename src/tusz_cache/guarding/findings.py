"""One thing that was seen of a directory, and what it comes to. The worst decides."""

from collections.abc import Iterable
from typing import NamedTuple

from tusz_cache.guarding.values import Evidence, Layer, Ruling, Says, Wanted

NOTHING = Wanted(frozenset(), frozenset())

# From good to bad. That a volume is declared says more than what it seems to be; an override stands apart.
_WEIGHT = {
    ruling: weight
    for weight, ruling in enumerate(
        (
            Ruling.ACCEPT_LOCAL_BLOCK,
            Ruling.ACCEPT_MEMORY,
            Ruling.ACCEPT_DECLARED,
            Ruling.REFUSE_UNKNOWN,
            Ruling.REFUSE_NETWORK,
            Ruling.REFUSE_OBJECT_STORE,
        )
    )
}


class Finding(NamedTuple):
    """One thing that was seen, and what it comes to."""

    ruling: Ruling | None  # None: it decides nothing
    reason: str  # a sentence on the directory that was asked for
    evidence: Evidence
    hint: str = ""  # what to do, where the ruling alone does not tell
    lacks: Wanted = NOTHING  # facts that were not looked up

    @property
    def refuses(self) -> bool:
        """Whether it forbids reading."""
        return self.ruling is not None and not self.ruling.admitted


def found(
    ruling: Ruling, layer: Layer, source: str, reason: str, detail: str = "", *, hint: str = "", lacks: Wanted = NOTHING
) -> Finding:
    """Return a finding that decides."""
    says: Says = "accept" if ruling.admitted else "refuse"
    return Finding(ruling, reason, Evidence(layer, source, says, detail or reason), hint, lacks)


def noted(layer: Layer, source: str, detail: str, says: Says = "note") -> Finding:
    """Return a finding that decides nothing."""
    return Finding(None, "", Evidence(layer, source, says, detail))


def worst(findings: Iterable[Finding]) -> Finding | None:
    """Return what decides: the first of the worst. None if nothing does."""
    return max((one for one in findings if one.ruling in _WEIGHT), key=_weight, default=None)


def _weight(finding: Finding) -> int:
    return _WEIGHT[finding.ruling] if finding.ruling else -1
