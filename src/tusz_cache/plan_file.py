"""The file `plan.jsonl`: what several runs copy together. A header, then one object a line for what the source lists.

It says what is wanted and not what is to be done: that follows from what lies in the target, which grows with the work.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tusz_cache.errors import Damaged, PlanDiffers, TargetError
from tusz_cache.manifest import Draft, Manifest
from tusz_cache.plan import Filters, plan_id

NAME = "plan.jsonl"
FORMAT = 1
_AT_ONCE = 4096  # lines in one piece
_ANEW = "write the plan anew with --plan: work that is done counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """What a source lists, and which of it is wanted."""

    plan_id: str
    source: str  # URL, without credentials
    filters: Filters
    part_size: int  # bytes
    markers: int  # directory markers that were skipped
    listed: Manifest  # all that the source has, beyond the filters' reach, too

    @classmethod
    def of(cls, source: str, listed: Manifest, markers: int, filters: Filters, part_size: int) -> "StoredPlan":
        """Return the plan with its name, which is that of `plan.diff` for these values."""
        named = plan_id(filters.within(listed), filters, str(part_size))
        return cls(plan_id=named, source=source, filters=filters, part_size=part_size, markers=markers, listed=listed)

    @property
    def wanted(self) -> Manifest:
        """What is split into shards."""
        return self.filters.within(self.listed)

    def check(self, source: str, filters: Filters, part_size: int) -> None:
        """Raise PlanDiffers unless a run with these values is of this plan."""
        pairs = {
            "source": (self.source, source),
            "--include": (self.filters.include, filters.include),
            "--exclude": (self.filters.exclude, filters.exclude),
            "--part-size": (self.part_size, part_size),
        }
        for name, (stored, asked) in pairs.items():
            if stored != asked:
                raise PlanDiffers(
                    f"plan {self.plan_id} was made with another {name}: {_shown(stored)}, not {_shown(asked)}",
                    hint=f"use the plan's own, or {_ANEW}",
                )


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def to_lines(plan: StoredPlan) -> Iterator[bytes]:
    """Yield the file a piece at a time, some thousand lines each."""
    whole = hashlib.sha256()
    for piece in _rows(plan.listed):
        whole.update(piece)
    header = {
        "format": FORMAT,
        "plan_id": plan.plan_id,
        "source": plan.source,
        "include": plan.filters.include,
        "exclude": plan.filters.exclude,
        "part_size": plan.part_size,
        "markers": plan.markers,
        "files": len(plan.listed),
        "bytes": plan.listed.bytes,
        "sha256": whole.hexdigest(),
    }
    yield orjson.dumps(header, option=orjson.OPT_APPEND_NEWLINE)
    yield from _rows(plan.listed)


def _rows(listed: Manifest) -> Iterator[bytes]:
    lines: list[bytes] = []
    for key, size, etag in zip(listed.keys, listed.sizes, listed.etags, strict=True):
        lines.append(_line({"key": key, "size": size, "etag": etag}))
        if len(lines) == _AT_ONCE:
            yield b"".join(lines)
            lines.clear()
    yield b"".join(lines)


def _line(row: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a name that is no valid Unicode: nobody copies it, but the source lists it
        return json.dumps(row).encode() + b"\n"


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        return json.loads(line)


def from_lines(lines: Iterable[bytes], *, path: str) -> StoredPlan:
    """Read `plan.jsonl` line by line. path: for the message. Raises Damaged unless it is whole and of this format."""
    rows = iter(lines)
    try:
        header: dict[str, Any] = orjson.loads(next(rows, b""))
        if header["format"] != FORMAT:
            raise Damaged(
                f"{path} has format {header['format']}, this version reads {FORMAT}",
                hint=f"update tusz_cache, or {_ANEW}",
            )
        whole, draft = hashlib.sha256(), Draft()
        for line in rows:
            whole.update(line)
            row = _parsed(line)
            draft.append(row["key"], row["size"], row["etag"])
        filters = Filters(tuple(header["include"]), tuple(header["exclude"]))
        plan = StoredPlan.of(header["source"], draft.latest(), header["markers"], filters, header["part_size"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise Damaged(f"{path} cannot be read: {error}", hint=_ANEW) from error
    if (whole.hexdigest(), plan.plan_id) != (header.get("sha256"), header.get("plan_id")):
        raise Damaged(f"{path} does not hold what it says: rows are missing, or were changed", hint=_ANEW)
    return plan


def read(path: Path) -> StoredPlan | None:
    """Return the plan that is stored at `path`, None if there is none. Raises Damaged, TargetError."""
    try:
        with path.open("rb") as file:
            return from_lines(file, path=str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TargetError(f"cannot read {path}: {error.strerror}", hint="check its permissions and its disk") from error
