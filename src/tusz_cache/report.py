"""Reports: what a run did, as a value that prints as text, JSON or HTML."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tusz_cache.entry import LEVELS
from tusz_cache.errors import CacheError, SourceChanged, exit_status
from tusz_cache.layout import as_html, as_table
from tusz_cache.manifest import SplitCount
from tusz_cache.units import format_bytes, format_seconds

SHOWN = 10  # failures and files named in a text


@dataclass(frozen=True, slots=True)
class Failure:
    """One object that did not arrive."""

    key: str
    error: str
    hint: str
    exit_code: int

    @classmethod
    def of(cls, key: str, error: CacheError) -> "Failure":
        """Describe `error`."""
        return cls(key, str(error), error.hint, exit_status(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What `populate_cache` did."""

    source: str
    target: str
    plan_id: str
    shard: str = ""  # "3/16", if this is of a shard: all counts are of its own files
    files_total: int  # of the source, as filtered
    files_copied: int = 0
    files_resumed: int = 0  # of the copied: begun by an earlier run
    files_unchanged: int = 0
    files_adopted: int = 0  # lay there already, proven equal
    files_deleted: int = 0
    bytes_total: int = 0
    bytes_copied: int = 0  # received, each byte once
    bytes_refetched: int = 0  # received again
    seconds: float = 0.0
    sealed: bool = False
    seal: str = ""  # where it is
    splits: Mapping[str, SplitCount] = field(default_factory=dict)
    verification: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    retries: int = 0
    throttled: int = 0
    markers: int = 0  # directory markers skipped
    leftovers: int = 0  # ours, no longer in the source, left there
    unexpected: int = 0  # in the target, never written by this tool
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or what the failures amount to: changed at the source, refused, or incomplete."""
        codes = {failure.exit_code for failure in self.failures}
        return next((code for code in (4, 5, 3) if code in codes), 3 if codes else 0)

    @property
    def bytes_per_second(self) -> float:
        """Rate of the whole run, listing and sealing included."""
        return self.bytes_copied / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `sync --json` prints."""
        return {
            "source": self.source,
            "target": self.target,
            "plan_id": self.plan_id,
            "shard": self.shard or None,
            "files": {
                "total": self.files_total,
                "copied": self.files_copied,
                "resumed": self.files_resumed,
                "unchanged": self.files_unchanged,
                "adopted": self.files_adopted,
                "deleted": self.files_deleted,
                "failed": len(self.failures),
                "leftover": self.leftovers,
                "unexpected": self.unexpected,
                "markers": self.markers,
            },
            "bytes": {"total": self.bytes_total, "copied": self.bytes_copied, "refetched": self.bytes_refetched},
            "seconds": round(self.seconds, 3),
            "bytes_per_second": round(self.bytes_per_second),
            "sealed": self.sealed,
            "seal": self.seal or None,
            "splits": {name: {"files": c.files, "npz": c.npz, "bytes": c.bytes} for name, c in self.splits.items()},
            "verification": {level: self.verification.get(level, 0) for level in LEVELS},
            "failures": [{"key": f.key, "error": f.error, "hint": f.hint} for f in self.failures],
            "retries": self.retries,
            "throttled": self.throttled,
            "notes": list(self.notes),
        }

    def as_json(self) -> str:
        """Return `as_dict` as one line."""
        return json.dumps(self.as_dict())

    def rows(self) -> list[tuple[str, str]]:
        """Return (label, value) for a person."""
        copied = f"{self.files_copied} files, {format_bytes(self.bytes_copied)} in {format_seconds(self.seconds)}"
        if self.bytes_copied:
            copied += f" ({format_bytes(self.bytes_per_second)}/s)"
        also = [("resumed", self.files_resumed), ("adopted", self.files_adopted), ("unchanged", self.files_unchanged)]
        also += [("deleted", self.files_deleted), ("left over", self.leftovers), ("not ours", self.unexpected)]
        rows = [("source", self.source), ("target", self.target), ("copied", copied)]
        rows += [("shard", f"{self.shard} of plan {self.plan_id}, {self.files_total} files")] if self.shard else []
        rows += [(label, f"{count} files") for label, count in also if count]
        rows += [("fetched twice", format_bytes(self.bytes_refetched))] if self.bytes_refetched else []
        rows += [(name, f"{c.files} files, {c.npz} npz, {format_bytes(c.bytes)}") for name, c in self.splits.items()]
        rows.append(
            ("verified", ", ".join(f"{count} by {level}" for level, count in self.verification.items()) or "nothing")
        )
        rows.append(("seal", self.seal if self.sealed else "none"))
        rows += [("failed", f"{failure.key}: {failure.error}") for failure in self.failures[:SHOWN]]
        rows += [("failed", f"… and {len(self.failures) - SHOWN} more")] if len(self.failures) > SHOWN else []
        rows += [("note", note) for note in self.notes]
        rows.append(("next", self.next_step))
        return rows

    @property
    def next_step(self) -> str:
        """What the user does now."""
        if self.shard and self.exit_code == SourceChanged.exit_code:  # its plan says what is no more
            return "the same command with --plan instead of --shard, then the shards again: what is whole is kept"
        if self.failures:
            return f"{self.failures[0].hint}; then run the same command again: what is whole is kept"
        if self.shard:
            return "the other shards, then the same command with --finish instead of --shard"
        return f"python -m tusz_cache.verify {self.target}"

    def as_text(self) -> str:
        """Return `rows` as a table."""
        return as_table(self.rows())

    def _repr_html_(self) -> str:
        return as_html("sealed" if self.sealed else "not sealed", self.rows())


def together(reports: Sequence[SyncReport]) -> SyncReport:
    """Return what several shards did, as one."""
    splits: dict[str, SplitCount] = {}
    for report in reports:
        for name, count in report.splits.items():
            splits[name] = splits.get(name, SplitCount()) + count
    counted = ("total", "copied", "resumed", "unchanged", "adopted")
    sums = {f"files_{name}": sum(getattr(report, f"files_{name}") for report in reports) for name in counted}
    return replace(
        reports[0],
        shard="",
        **sums,
        bytes_total=sum(report.bytes_total for report in reports),
        bytes_copied=sum(report.bytes_copied for report in reports),
        bytes_refetched=sum(report.bytes_refetched for report in reports),
        splits=splits,
        verification=sum((Counter(report.verification) for report in reports), Counter()),
        failures=tuple(failure for report in reports for failure in report.failures),
        retries=sum(report.retries for report in reports),
        throttled=sum(report.throttled for report in reports),
        notes=tuple(dict.fromkeys(note for report in reports for note in report.notes)),
    )
