"""Sizes and rates as people write them: "16MiB", "500MB/s", "1.5 GiB"."""

import re
from decimal import Decimal

from tusz_cache.errors import UsageError

_UNITS = {"": 1, "B": 1} | {
    f"{prefix}{suffix}": base ** (power + 1)
    for power, prefix in enumerate("KMGTP")
    for suffix, base in (("", 1000), ("B", 1000), ("IB", 1024))
}
_SIZE = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-z]*)\s*")


def parse_bytes(text: str) -> int:
    """Return the number of bytes that `text` says. Raises UsageError if it says none."""
    match = _SIZE.fullmatch(text)
    unit = match["unit"].upper() if match else None
    if match is None or unit not in _UNITS:
        raise UsageError(f"{text!r} is no size", hint="write sizes like 16MiB, 500MB or 1.5GiB")
    count = Decimal(match["number"]) * _UNITS[unit]
    if count >= 2**63:
        raise UsageError(f"{text!r} is more than any file system holds", hint="write sizes like 16MiB, 500MB or 1.5GiB")
    return int(count)


def parse_rate(text: str) -> int:
    """Return bytes per second; a trailing "/s" is optional. Raises UsageError."""
    return parse_bytes(text.removesuffix("/s"))


def format_bytes(count: float) -> str:
    """Return `count` bytes in decimal units, three digits: "76.4 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def format_seconds(seconds: float) -> str:
    """Return a duration a person reads at a glance: "0.8 s", "2 min 05 s", "1 h 12 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
