"""Deciding what to do: filters, diff, limits. Pure: no clock, no disk, no network."""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tusz_cache.entry import Entry, parents
from tusz_cache.errors import DeleteLimit, EmptyListing, ForeignTarget, UsageError
from tusz_cache.manifest import Manifest, SplitCount, count_splits
from tusz_cache.units import format_bytes


@dataclass(frozen=True, slots=True)
class Filters:
    """Which keys take part. A `*` matches across folders, as in `fnmatch`."""

    include: tuple[str, ...] = ()  # empty: all
    exclude: tuple[str, ...] = ()  # wins over include

    def admit(self, key: str) -> bool:
        """Whether `key` takes part."""
        included = not self.include or any(fnmatchcase(key, glob) for glob in self.include)
        return included and not any(fnmatchcase(key, glob) for glob in self.exclude)

    def as_dict(self) -> dict[str, list[str]]:
        """Return the seal's form: empty when everything takes part."""
        named = {"include": list(self.include), "exclude": list(self.exclude)}
        return {name: globs for name, globs in named.items() if globs}


@dataclass(frozen=True, slots=True)
class Plan:
    """What makes the target equal the source. Every tuple is in the order of the manifest."""

    copy: tuple[Entry, ...] = ()  # absent from the target, or of another size
    check: tuple[
        Entry, ...
    ] = ()  # a file of that size lies there: adopt it if the source's checksum says so, else copy
    unchanged: tuple[Entry, ...] = ()  # as the target holds them, with proof
    delete: tuple[Entry, ...] = ()  # written by us, no longer in the source; only deleted on request
    foreign: tuple[str, ...] = ()  # in the target, never written by us, not in the source
    overwrites: tuple[str, ...] = ()  # never written by us, in the way of a copy
    conflicts: tuple[str, ...] = ()  # in the target: a file where a folder must be, or the other way round
    guests: frozenset[str] = frozenset()  # in `check`, never written by us: kept if equal, replaced only on request
    held: int = 0  # files of ours that lay in the target before
    plan_id: str = field(default="", compare=False)

    @property
    def bytes_to_copy(self) -> int:
        """Bytes of `copy`; `check` may add to it."""
        return sum(entry.size for entry in self.copy)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to copy and nothing to check."""
        return not self.copy and not self.check

    def splits(self) -> dict[str, SplitCount]:
        """Return counts of what is to be copied, by split."""
        return count_splits(self.copy)

    def as_dict(self, *, delete: bool) -> dict[str, Any]:
        """Return the form that `--dry-run --json` prints. delete: whether deletion was asked for."""
        return {
            "plan_id": self.plan_id,
            "files": {
                "copy": len(self.copy),
                "check": len(self.check),
                "unchanged": len(self.unchanged),
                "delete": len(self.delete) if delete else 0,
                "leftover": 0 if delete else len(self.delete),
                "foreign": len(self.foreign),
            },
            "bytes": {"copy": self.bytes_to_copy, "check": sum(entry.size for entry in self.check)},
            "splits": {
                name: {"files": count.files, "npz": count.npz, "bytes": count.bytes}
                for name, count in self.splits().items()
            },
            "copy": [entry.key for entry in self.copy],
            "check": [entry.key for entry in self.check],
            "delete": [entry.key for entry in self.delete] if delete else [],
        }

    def as_text(self, *, delete: bool, shown: int = 10) -> str:
        """Return the plan for a person, naming the first `shown` keys of each kind."""
        kinds: list[tuple[str, tuple[Entry, ...]]] = [("copy", self.copy), ("check, then keep or copy", self.check)]
        kinds.append(("delete" if delete else "leave (--delete would remove)", self.delete))
        lines = [f"plan {self.plan_id}: {len(self.unchanged)} files unchanged"]
        for title, entries in kinds:
            if entries:
                lines.append(f"{title}: {len(entries)} files, {format_bytes(sum(entry.size for entry in entries))}")
                lines += [f"  {entry.key}  {format_bytes(entry.size)}" for entry in entries[:shown]]
                lines += [f"  … and {len(entries) - shown} more"] if len(entries) > shown else []
        for name, count in self.splits().items():
            lines.append(f"{name}: {count.files} files to copy ({count.npz} npz, {format_bytes(count.bytes)})")
        if self.foreign:
            lines.append(f"not ours, left alone: {len(self.foreign)} files, e.g. {self.foreign[0]}")
        return "\n".join(lines)


def diff(
    source: Manifest,
    target: Manifest,
    *,
    ours: frozenset[str] | None = None,
    filters: Filters | None = None,
    seed: str = "",
) -> Plan:
    """Say what makes `target` equal `source`.

    target: files as they lie there; with proof where this tool wrote them and nothing touched them since.
    ours: keys that this tool wrote; None: all of them. filters: keys outside are neither compared nor deleted.
    seed: what else the plan's identity depends on (part size).
    """
    wanted = filters or Filters()
    copy: list[Entry] = []
    check: list[Entry] = []
    unchanged: list[Entry] = []
    overwrites: list[str] = []
    in_scope = [entry for entry in source if wanted.admit(entry.key)]
    for entry in in_scope:
        here = target.files.get(entry.key)
        if here is not None and here.size == entry.size:
            same = here.proof is not None and entry.etag is not None and here.etag == entry.etag
            (unchanged if same else check).append(here if same else entry)
        else:
            copy.append(entry)
            if here is not None and ours is not None and entry.key not in ours:
                overwrites.append(entry.key)
    extra = [entry for entry in target if entry.key not in source.files and wanted.admit(entry.key)]
    return Plan(
        copy=tuple(copy),
        check=tuple(check),
        unchanged=tuple(unchanged),
        delete=tuple(entry for entry in extra if ours is None or entry.key in ours),
        foreign=tuple(entry.key for entry in extra if ours is not None and entry.key not in ours),
        overwrites=tuple(overwrites),
        conflicts=_conflicts(in_scope, target),
        guests=frozenset() if ours is None else frozenset(entry.key for entry in check) - ours,
        held=len(target) if ours is None else len(ours & target.files.keys()),
        plan_id=plan_id(in_scope, wanted, seed),
    )


def _conflicts(wanted: Iterable[Entry], target: Iterable[Entry]) -> tuple[str, ...]:
    files = {entry.key for entry in wanted}
    folders = {folder for key in files for folder in parents(key)}
    return tuple(entry.key for entry in target if entry.key in folders or not files.isdisjoint(parents(entry.key)))


def plan_id(entries: Iterable[Entry], filters: Filters, seed: str = "") -> str:
    """Return 16 hex digits that name what a run makes of the target: rows, filters and `seed`."""
    whole = hashlib.sha256(json.dumps([seed, filters.as_dict()]).encode())
    for entry in entries:
        whole.update(json.dumps([entry.key, entry.size, entry.etag]).encode() + b"\n")
    return whole.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class MaxDelete:
    """The most files that a run may delete: a count, or a percentage of the files held."""

    count: int | None = None
    percent: float | None = 10.0

    @classmethod
    def parse(cls, text: str) -> "MaxDelete":
        """Read "20" or "10%". Raises UsageError."""
        number = text.removesuffix("%")
        try:
            value = float(number) if text.endswith("%") else int(number)
        except ValueError:
            value = -1
        if not 0 <= value <= (100 if text.endswith("%") else math.inf):
            raise UsageError(
                f"--max-delete {text!r} is no limit", hint="write a number of files like 20, or a share like 10%"
            )
        return cls(percent=value) if text.endswith("%") else cls(count=int(value), percent=None)

    def allowed(self, held: int) -> int:
        """Return how many of `held` files may go."""
        return self.count if self.count is not None else int(held * (self.percent or 0) / 100)


def check_limits(
    plan: Plan,
    source: Manifest,
    *,
    delete: bool,
    max_delete: MaxDelete,
    allow_empty: bool,
    adopt: bool,
    target_is_ours: bool,
) -> None:
    """Raise before the first byte changes if a safety rule forbids `plan`.

    source: what it lists, as filtered.
    Raises EmptyListing, ForeignTarget or DeleteLimit.
    """
    if not len(source) and not allow_empty:
        raise EmptyListing(
            "the source lists no objects at all, or none that pass the filters",
            hint="check prefix, --include and --exclude for typing errors; if nothing is meant, pass --allow-empty",
        )
    if plan.conflicts:
        raise ForeignTarget(
            f"{plan.conflicts[0]!r} in the target is in the way: a file where a folder must be, or vice versa",
            hint="move it away, or choose an empty directory",
        )
    strangers = plan.overwrites or ((plan.foreign or tuple(e.key for e in plan.check)) if not target_is_ours else ())
    if strangers and not adopt:
        raise ForeignTarget(
            f"the target holds {len(strangers)} files that this tool never wrote, e.g. {strangers[0]!r}",
            hint="choose an empty directory, or pass --adopt: equal files are then kept, differing ones replaced",
        )
    if delete and len(plan.delete) > (limit := max_delete.allowed(plan.held)):
        raise DeleteLimit(
            f"{len(plan.delete)} of {plan.held} files would be deleted, the limit is {limit}",
            hint="look at --dry-run; if the deletion is meant, raise --max-delete",
        )
