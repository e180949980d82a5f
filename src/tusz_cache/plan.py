"""Deciding what to do: filters, diff, limits. Pure: no clock, no disk, no network."""

import hashlib
import itertools
import json
import math
from array import array
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import orjson

from tusz_cache.entry import parents
from tusz_cache.errors import DeleteLimit, EmptyListing, ForeignTarget, UsageError
from tusz_cache.keys import folders
from tusz_cache.manifest import BARE, Manifest, SplitCount
from tusz_cache.units import format_bytes

_AT_ONCE = 4096  # rows that are hashed together; part of what a plan's name is made of


@dataclass(frozen=True, slots=True)
class Filters:
    """Which keys take part. A `*` matches across folders, as in `fnmatch`."""

    include: tuple[str, ...] = ()  # empty: all
    exclude: tuple[str, ...] = ()  # wins over include

    def admit(self, key: str) -> bool:
        """Whether `key` takes part."""
        included = not self.include or any(fnmatchcase(key, glob) for glob in self.include)
        return included and not any(fnmatchcase(key, glob) for glob in self.exclude)

    def within(self, manifest: Manifest) -> Manifest:
        """Return the entries of `manifest` that take part."""
        return manifest.where(self.admit) if self.include or self.exclude else manifest

    def beyond(self, manifest: Manifest) -> Manifest:
        """Return the entries of `manifest` that take no part."""
        return manifest.where(lambda key: not self.admit(key)) if self.include or self.exclude else Manifest()

    def as_dict(self) -> dict[str, list[str]]:
        """Return the seal's form: empty when everything takes part."""
        named = {"include": list(self.include), "exclude": list(self.exclude)}
        return {name: globs for name, globs in named.items() if globs}


@dataclass(frozen=True, slots=True)
class Plan:
    """What makes the target equal the source. The manifests are parts of those that were compared."""

    copy: Manifest = field(default_factory=Manifest)  # absent from the target, or of another size
    # a file of that size lies there: adopt it if the source's checksum says so, else copy
    check: Manifest = field(default_factory=Manifest)
    unchanged: Manifest = field(default_factory=Manifest)  # as the target holds them, with proof
    # written by us, no longer in the source; only deleted on request
    delete: Manifest = field(default_factory=Manifest)
    # beyond the filters' reach, of the version that the source lists: sealed with the rest
    outside: Manifest = field(default_factory=Manifest)
    foreign: tuple[str, ...] = ()  # in the target, never written by us, not in the source
    overwrites: tuple[str, ...] = ()  # never written by us, in the way of a copy
    conflicts: tuple[str, ...] = ()  # in the target: a file where a folder must be, or the other way round
    guests: frozenset[str] = frozenset()  # in `check`, never written by us: kept if equal, replaced only on request
    held: int = 0  # files of ours that lay in the target before
    plan_id: str = field(default="", compare=False)

    @property
    def bytes_to_copy(self) -> int:
        """Bytes of `copy`; `check` may add to it."""
        return self.copy.bytes

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to copy and nothing to check."""
        return not len(self.copy) and not len(self.check)

    def splits(self) -> dict[str, SplitCount]:
        """Return counts of what is to be copied, by split."""
        return self.copy.splits()

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
            "bytes": {"copy": self.bytes_to_copy, "check": self.check.bytes},
            "splits": {
                name: {"files": count.files, "npz": count.npz, "bytes": count.bytes}
                for name, count in self.splits().items()
            },
            "copy": self.copy.keys,
            "check": self.check.keys,
            "delete": self.delete.keys if delete else [],
        }

    def as_text(self, *, delete: bool, shown: int = 10) -> str:
        """Return the plan for a person, naming the first `shown` keys of each kind."""
        kinds = [("copy", self.copy), ("check, then keep or copy", self.check)]
        kinds.append(("delete" if delete else "leave (--delete would remove)", self.delete))
        lines = [f"plan {self.plan_id}: {len(self.unchanged)} files unchanged"]
        for title, entries in kinds:
            if len(entries):
                lines.append(f"{title}: {len(entries)} files, {format_bytes(entries.bytes)}")
                lines += [f"  {e.key}  {format_bytes(e.size)}" for e in itertools.islice(entries, shown)]
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
    ours: AbstractSet[str] | None = None,
    filters: Filters | None = None,
    seed: str = "",
) -> Plan:
    """Say what makes `target` equal `source`.

    target: files as they lie there; with proof where this tool wrote them and nothing touched them since.
    ours: keys that this tool wrote; None: all of them. filters: keys outside are neither compared nor deleted.
    seed: what else the plan's identity depends on (part size).
    """
    wanted = filters or Filters()
    in_scope = wanted.within(source)
    rows = _compare(in_scope, target)
    extra = wanted.within(target.select(rows.extra))
    check = in_scope.select(rows.check)
    strangers = frozenset() if ours is None else frozenset(key for key in target.keys if key not in ours)
    return Plan(
        copy=in_scope.select(rows.copy),
        check=check,
        unchanged=target.select(rows.unchanged),
        delete=extra.without(strangers),
        outside=target.select(_compare(wanted.beyond(source), target).unchanged),
        foreign=tuple(key for key in extra.keys if key in strangers),
        overwrites=tuple(key for row in rows.resized if (key := in_scope.keys[row]) in strangers),
        conflicts=_conflicts(in_scope, target),
        guests=frozenset(key for key in check.keys if key in strangers),
        held=len(target) - len(strangers),
        plan_id=plan_id(in_scope, wanted, seed),
    )


def _rows() -> "array[int]":
    return array("q")


@dataclass(frozen=True, slots=True)
class _Rows:
    """Which rows of source and target belong where."""

    copy: "array[int]" = field(default_factory=_rows)  # of the source
    resized: "array[int]" = field(default_factory=_rows)  # of `copy`, those that have a file of another size
    check: "array[int]" = field(default_factory=_rows)  # of the source
    unchanged: "array[int]" = field(default_factory=_rows)  # of the target
    extra: "array[int]" = field(default_factory=_rows)  # of the target, not in the source


def _compare(source: Manifest, target: Manifest) -> _Rows:
    rows = _Rows()
    met = bytearray(len(target))
    for row, there in enumerate(source.rows_in(target)):
        if there < 0:
            rows.copy.append(row)
            continue
        met[there] = 1
        etag = source.etags[row]
        if source.sizes[row] != target.sizes[there]:
            rows.copy.append(row)
            rows.resized.append(row)
        elif target.levels[there] != BARE and etag is not None and etag == target.etags[there]:
            rows.unchanged.append(there)
        else:
            rows.check.append(row)
    rows.extra.extend(row for row, was_met in enumerate(met) if not was_met)
    return rows


def _conflicts(wanted: Manifest, target: Manifest) -> tuple[str, ...]:
    needed = folders(wanted.keys)
    taken = {folder for folder in folders(target.keys) if folder in wanted}  # where a file must be
    return tuple(key for key in target.keys if key in needed or (taken and not taken.isdisjoint(parents(key))))


def plan_id(entries: Manifest, filters: Filters, seed: str = "") -> str:
    """Return 16 hex digits that name what a run makes of the target: rows, filters and `seed`."""
    whole = hashlib.sha256(json.dumps([seed, filters.as_dict()]).encode())
    for start in range(0, len(entries), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        whole.update(orjson.dumps([entries.keys[some], entries.sizes[some].tolist(), entries.etags[some]]))
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
    strangers: Sequence[str] = plan.overwrites
    if not strangers and not target_is_ours:
        strangers = plan.foreign or plan.check.keys
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
