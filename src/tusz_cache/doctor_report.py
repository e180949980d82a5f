"""The report of `examine`, as a value that prints as text, JSON or HTML."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tusz_cache.guarding.values import Ruling, Verdict
from tusz_cache.layout import as_html, as_table
from tusz_cache.manifest import SplitCount
from tusz_cache.measuring import Speed
from tusz_cache.seal import Seal
from tusz_cache.units import format_bytes

State = Literal["sealed", "damaged", "broken", "repairing", "interrupted", "unsealed", "empty", "unknown"]

_SAID: dict[State, str] = {
    "sealed": "whole by its seal, all sizes fit",
    "damaged": "sealed, but files are missing or of another size",
    "broken": "the seal or the manifest is damaged, or they do not fit",
    "repairing": "a repair was interrupted or is under way",
    "interrupted": "a sync was interrupted or is under way",
    "unsealed": "files, but no seal: never completed, or copied by another program",
    "empty": "nothing is there",
    "unknown": "not looked at: the place is refused",
}
_OF_THE_CACHE = {Ruling.REFUSE_NO_SEAL, Ruling.REFUSE_SEAL_MISMATCH}  # all others are of its place


def is_of_place(verdict: Verdict) -> bool:
    """Whether a verdict refuses the place, whatever lies there."""
    return not verdict.admitted and verdict.ruling not in _OF_THE_CACHE


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """Where a cache is, whether it is whole, how fast it is, and what to do next."""

    verdict: Verdict
    state: State
    next_step: str
    free_bytes: int | None = None  # None: not looked at
    free_is_placeholder: bool = False  # the figures of a declared volume mean nothing
    splits: Mapping[str, SplitCount] = field(default_factory=dict)  # of the manifest, or else of what lies there
    seal: Seal | None = None
    journal: tuple[int, int] | None = None  # files that an interrupted run finished, and those that it began
    speeds: tuple[Speed, ...] = ()
    troubles: tuple[str, ...] = ()  # records that cannot be read

    @property
    def exit_code(self) -> int:
        """0 if training may start, 5 if the place is refused, 7 if it is not a whole cache."""
        if self.verdict.admitted:
            return 0
        return 5 if is_of_place(self.verdict) else 7

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `doctor --json` prints."""
        seal = self.seal
        return {
            "path": self.verdict.path,
            "ok": self.verdict.admitted,
            "state": self.state,
            "next": self.next_step,
            "guard": self.verdict.as_dict(),
            "free": None
            if self.free_bytes is None
            else {"bytes": self.free_bytes, "placeholder": self.free_is_placeholder},
            "splits": {name: {"files": c.files, "npz": c.npz, "bytes": c.bytes} for name, c in self.splits.items()},
            "seal": seal
            and {
                "source": seal.source,
                "created": seal.created,
                "files": seal.files,
                "bytes": seal.bytes,
                "complete": seal.complete,
                "verification": dict(seal.verification),
            },
            "journal": self.journal and {"finished": self.journal[0], "begun": self.journal[1]},
            "speeds": [
                {
                    "kind": speed.kind,
                    "read_bytes": speed.size,
                    "reads": speed.reads,
                    "bytes_per_second": round(speed.bytes_per_second),
                    "reads_per_second": round(speed.reads_per_second, 1),
                    "median_ms": round(speed.median * 1000, 3),
                    "evicted": speed.evicted,
                }
                for speed in self.speeds
            ],
            "troubles": list(self.troubles),
        }

    def as_json(self) -> str:
        """Return `as_dict` as one line."""
        return json.dumps(self.as_dict())

    @property
    def headline(self) -> str:
        """One line that says it all."""
        if self.verdict.admitted:
            return "training may start"
        return "training may not read from here" if is_of_place(self.verdict) else "no whole cache"

    def rows(self) -> list[tuple[str, str]]:
        """Return (label, value) for a person."""
        verdict, seal = self.verdict, self.seal
        rows = [("cache", verdict.path), ("place", f"{verdict.ruling.value}: {verdict.reason}")]
        if self.free_bytes is not None:
            placeholder = ", a placeholder: the volume grows" if self.free_is_placeholder else ""
            rows.append(("free", format_bytes(self.free_bytes) + placeholder))
        rows.append(("state", _SAID[self.state]))
        rows += [(name, f"{c.files} files, {c.npz} npz, {format_bytes(c.bytes)}") for name, c in self.splits.items()]
        if seal is not None:
            levels = ", ".join(f"{count} by {level}" for level, count in seal.verification.items())
            part = "" if seal.complete else ", in part (filters)"
            rows.append(("seal", f"{seal.created}, from {seal.source}{part}; verified: {levels or 'nothing'}"))
        if self.journal is not None:
            rows.append(("journal", f"{self.journal[0]} files finished, {self.journal[1]} begun"))
        rows += [("trouble", trouble) for trouble in self.troubles]
        rows += [(speed.kind, _told(speed)) for speed in self.speeds]
        rows.append(("next", self.next_step))
        return rows

    def as_text(self) -> str:
        """Return the headline, then `rows` as a table."""
        return f"{self.headline}\n{as_table(self.rows())}"

    def _repr_html_(self) -> str:
        return as_html(self.headline, self.rows())


_EVICTED = {
    True: "not from memory, one read at a time",
    False: "FROM MEMORY: the pages could not be evicted, the disk may be slower",
    None: "perhaps from memory: the file system does not tell",
}


def _told(speed: Speed) -> str:
    rate = f"{format_bytes(speed.bytes_per_second)}/s"
    each = f", {speed.reads_per_second:.0f} reads/s, median {speed.median * 1000:.2f} ms"
    return f"{rate}{'' if speed.kind == 'sequential' else each} ({_EVICTED[speed.evicted]})"
