"""The report of `verify_cache`, as a value that prints as text, JSON or HTML."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tusz_cache.layout import as_html, as_table
from tusz_cache.report import SHOWN
from tusz_cache.units import format_bytes, format_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What `verify_cache` found."""

    target: str
    level: str
    files: int
    bytes: int
    seconds: float
    missing: tuple[str, ...] = ()  # in the manifest or at the source, and not at the target
    damaged: tuple[str, ...] = ()  # not as the manifest says; while adopting, not as the source has them
    unexpected: tuple[str, ...] = ()  # at the target, not in the manifest
    expected: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # split -> (wanted, there)
    strict: bool = False
    source: str = ""  # that the cache was compared with, or else its seal's
    compared: bool = False  # whether it was compared with the source; if not, the next three are empty
    changed: tuple[str, ...] = ()  # as sealed, but the source has another version (quick), or other bytes (full)
    vanished: tuple[str, ...] = ()  # in the manifest, no longer at the source
    added: tuple[str, ...] = ()  # at the source, not in the manifest; those not at the target are missing, too
    sealed: bool = True
    is_store: bool = False  # a packed store, which has no source to repair it from
    adopted: bool = False  # manifest and seal were written, since the cache had none and is whole
    repaired: tuple[str, ...] = ()  # were missing or damaged
    bytes_fetched: int = 0

    @property
    def ok(self) -> bool:
        """Whether the cache is whole and as expected."""
        counts = all(want == have for want, have in self.expected.values())
        extra = self.strict and (self.unexpected or self.vanished)
        return counts and not (self.missing or self.damaged or self.changed or extra)

    @property
    def exit_code(self) -> int:
        """0 or 7."""
        return 0 if self.ok else 7

    @property
    def bytes_per_second(self) -> float:
        """Rate of reading; with level quick, of looking."""
        return self.bytes / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `verify --json` prints."""
        return {
            "target": self.target,
            "level": self.level,
            "ok": self.ok,
            "files": self.files,
            "bytes": self.bytes,
            "missing": list(self.missing),
            "damaged": list(self.damaged),
            "unexpected": list(self.unexpected),
            "expected": {split: {"want": want, "have": have} for split, (want, have) in self.expected.items()},
            "bytes_per_second": round(self.bytes_per_second),
            "source": self.source,
            "compared": self.compared,
            "changed": list(self.changed),
            "vanished": list(self.vanished),
            "added": list(self.added),
            "sealed": self.sealed,
            "adopted": self.adopted,
            "repaired": list(self.repaired),
            "bytes_fetched": self.bytes_fetched,
        }

    def as_json(self) -> str:
        """Return `as_dict` as one line."""
        return json.dumps(self.as_dict())

    def rows(self) -> list[tuple[str, str]]:
        """Return (label, value) for a person."""
        took = f"in {format_seconds(self.seconds)}"
        if self.level == "full":
            took += f" ({format_bytes(self.bytes_per_second)}/s)"
        rows = [
            ("target", self.target),
            ("checked", f"{self.files} files, {format_bytes(self.bytes)}, level {self.level}, {took}"),
        ]
        rows += [("compared with", self.source)] if self.compared else []
        if self.repaired:
            rows.append(("repaired", f"{len(self.repaired)} files, {format_bytes(self.bytes_fetched)} fetched"))
        for label in ("repaired", "missing", "damaged", "changed", "vanished", "added", "unexpected"):
            keys: tuple[str, ...] = getattr(self, label)
            rows += [(label, key) for key in keys[:SHOWN]]
            rows += [(label, f"… and {len(keys) - SHOWN} more")] if len(keys) > SHOWN else []
        rows += [(split, f"{have} npz files, {want} expected") for split, (want, have) in self.expected.items()]
        rows += [("adopted", "manifest and seal were written")] if self.adopted else []
        rows.append(("verdict", self.verdict))
        return rows

    @property
    def verdict(self) -> str:
        """What it comes to, and what the user does now."""
        if self.ok and self.vanished:
            return f"whole; {len(self.vanished)} of its files are no longer at the source"
        if self.ok:
            return "whole, and as the source has it" if self.compared else "whole"
        return f"NOT {'as the source has it' if self._is_whole else 'whole'}: {self.next_step}"

    @property
    def _is_whole(self) -> bool:
        return not (set(self.missing) - set(self.added) or self.damaged)

    @property
    def next_step(self) -> str:
        """What the user does now."""
        target = shlex.quote(self.target)
        sync = f"python -m tusz_cache.sync {shlex.quote(self.source or 'SOURCE')} {target}"
        if self.ok:
            return f"python -m tusz_cache.doctor {target}"
        if self.is_store:
            return f"python -m tusz_cache.pack CACHE {target}"
        if not self.sealed:
            return f"{sync} --adopt"
        if not self._is_whole:
            against = f" --against {shlex.quote(self.source)}" if self.compared else ""
            return f"python -m tusz_cache.verify {target} --repair{against}"
        if self.changed or self.missing:
            return sync
        if self.strict and self.vanished:
            return f"{sync} --delete"
        if self.strict and self.unexpected:
            return "move the unexpected files away"
        return f"{sync}, or check --expect"

    def as_text(self) -> str:
        """Return `rows` as a table."""
        return as_table(self.rows())

    def _repr_html_(self) -> str:
        return as_html("whole" if self.ok else "not whole", self.rows())
