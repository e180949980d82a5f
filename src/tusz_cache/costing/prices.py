"""Prices: dated, each with where it is said, from the package's file and from the user's."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from os import PathLike
from pathlib import Path
from typing import Any

from tusz_cache.errors import UsageError

OURS = Path(__file__).with_name("prices.toml")
OLD = 6  # months after which a price is called old

_GIB, _HOUR = 2**30, 3600
_MONTHLY = {"USD/GB-month": 1e-9, "USD/GiB-month": 1 / _GIB, "USD/TiB-month": 1 / 2**40}
_MOVED = {"USD/GB": 1e-9, "USD/GiB": 1 / _GIB, "USD/TiB": 1 / 2**40}
_TIMED = {"USD/s": 1.0, "USD/h": 1 / _HOUR}
UNITS: Mapping[str, Mapping[str, float]] = {  # what each may be given in, and what one of that is for a byte or second
    "s3_storage": _MONTHLY,
    "s3_requests": {"USD/1000": 1e-3, "USD/1000000": 1e-6},
    "s3_egress": _MOVED,
    "s3_egress_same_region": _MOVED,
    "modal_volume": _MONTHLY,
    "modal_volume_free": {"GB": 1e9, "GiB": _GIB, "TB": 1e12, "TiB": 2**40},
    "modal_egress": _MOVED,
    "modal_gpu": _TIMED,
    "modal_cpu": _TIMED,
    "modal_memory": {"USD/GiB-s": 1 / _GIB, "USD/GiB-h": 1 / _GIB / _HOUR},
    "modal_region_pin": {"factor": 1.0},
}
_FORM = 'write sections like [modal_gpu] with value = 2.5, unit = "USD/h", gathered = 2026-11-24 and source = "…"'


@dataclass(frozen=True, slots=True)
class Price:
    """One price, as it is said somewhere."""

    value: float
    unit: str
    gathered: date
    source: str  # the document that says so

    def __str__(self) -> str:
        return f"{self.value:.10f}".rstrip("0").rstrip(".") + f" {self.unit}"

    def months_old(self, today: date) -> int:
        """Return the whole months since it was gathered; below 0: its date lies ahead."""
        gone = (today.year - self.gathered.year) * 12 + today.month - self.gathered.month
        return gone - (today.day < self.gathered.day)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What the platforms ask."""

    s3_storage: Price
    s3_requests: Price  # GET and HEAD
    s3_egress: Price  # out to the internet
    s3_egress_same_region: Price
    modal_volume: Price
    modal_volume_free: Price  # bytes of all volumes together
    modal_egress: Price
    modal_gpu: Price
    modal_cpu: Price  # of a core
    modal_memory: Price
    modal_region_pin: Price  # by what computing costs more in a chosen region

    def usd(self, name: str) -> float:
        """Return a price for one byte, byte and month, second, or request; bytes and factors as they are."""
        price: Price = getattr(self, name)
        return price.value * UNITS[name][price.unit]

    def named(self) -> dict[str, Price]:
        """Return all by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def aged(self, today: date) -> tuple[str, ...]:
        """Return a line for each price that is old, or dated ahead of today."""
        found = []
        for name, price in self.named().items():
            if price.gathered > today:
                found.append(f"the price {name} is dated ahead: {price.gathered}")
            elif (months := price.months_old(today)) >= OLD:
                found.append(f"the price {name} is {months} months old: look it up anew and pass it by --prices")
        return tuple(found)


def read_prices(path: str | PathLike[str] | None = None) -> Prices:
    """Return the package's prices, with those of a TOML file in their place. Raises UsageError."""
    ours = Prices(**_read(OURS))
    return ours if path is None else replace(ours, **_read(Path(path)))


def _read(path: Path) -> dict[str, Price]:
    try:
        with path.open("rb") as file:
            sections = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"{path} is no TOML: {error}", hint=_FORM) from error
    found = {}
    for name, section in sections.items():
        if problem := _problem(name, section):
            raise UsageError(f"{path}, [{name}]: {problem}", hint=_FORM)
        found[name] = Price(**{**section, "value": float(section["value"])})
    return found


def _problem(name: str, section: Any) -> str | None:
    if name not in UNITS:
        return f"there is no such price; there are {', '.join(UNITS)}"
    if not isinstance(section, dict):
        return "it is no section"
    wanted = [field.name for field in fields(Price)]
    if unknown := sorted(section.keys() - set(wanted)):
        return f"unknown key {unknown[0]!r}"
    if missing := [key for key in wanted if key not in section]:
        return f"{missing[0]!r} is missing"
    value, unit, gathered, source = (section[key] for key in wanted)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return f"the value is {value!r}, not a number of 0 or more"
    if not isinstance(unit, str) or unit not in UNITS[name]:
        return f"the unit is {unit!r}, not one of {', '.join(UNITS[name])}"
    if unit == "factor" and value < 1:
        return f"the factor is {value!r}, below 1"
    if not isinstance(gathered, date) or isinstance(gathered, datetime):
        return f"'gathered' is {gathered!r}, not a date like 2026-11-24 without quotes"
    if not isinstance(source, str) or not source.strip():
        return "'source' must be a text that says where the price stands"
    return None
