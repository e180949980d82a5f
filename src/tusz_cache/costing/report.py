"""CostReport: what an estimate came to, each number with its formula, as a value that prints as text, JSON or HTML."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Literal

from tusz_cache.costing.assumptions import CostAssumptions
from tusz_cache.costing.prices import Prices
from tusz_cache.layout import Row, as_html, as_table
from tusz_cache.units import format_bytes, format_seconds

Unit = Literal["bytes", "requests", "times", "windows/s", "s", "USD", "USD/month"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of an estimate."""

    value: float
    unit: Unit
    formula: str  # how it was reckoned, with the numbers that went in

    def __str__(self) -> str:
        return _SHOWN[self.unit](self.value)


_SHOWN: Mapping[Unit, Callable[[float], str]] = {
    "bytes": format_bytes,
    "requests": lambda value: f"{value:,.0f}",
    "times": lambda value: f"{value:.3g}",
    "windows/s": lambda value: f"{value:,.0f}/s",
    "s": format_seconds,
    "USD": lambda value: f"${value:,.2f}",
    "USD/month": lambda value: f"${value:,.2f} a month",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to have the cache: what it moves, how long the GPU waits for it, what it costs."""

    name: str
    once_bytes: Figure  # from the bucket, before training
    once_requests: Figure
    epoch_bytes: Figure  # from the bucket, by an epoch: the mean
    epoch_requests: Figure
    all_bytes: Figure  # from the bucket, before and in all epochs
    all_requests: Figure
    read_bytes: Figure  # by an epoch, wherever from
    reads: Figure  # of the train split in an epoch
    feed: Figure  # windows a second at most
    wait_seconds: Figure  # of the GPU, in all epochs
    populate_seconds: Figure  # packing included
    storage: Figure
    stored: Figure  # for all months
    requests: Figure
    egress: Figure  # out of the bucket
    populate: Figure
    wait: Figure
    pin: Figure  # what the GPU's working hours cost more in the bucket's region
    outputs: Figure
    total: Figure

    def figures(self) -> dict[str, Figure]:
        """Return all figures by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}


_LABELS = {
    "once_bytes": "from the bucket, once",
    "once_requests": "  requests",
    "epoch_bytes": "from the bucket, an epoch",
    "epoch_requests": "  requests",
    "all_bytes": "from the bucket, in all",
    "all_requests": "  requests",
    "read_bytes": "read by training, an epoch",
    "reads": "  reads of the train split",
    "feed": "windows fed, at most",
    "wait_seconds": "the GPU waits, in all",
    "populate_seconds": "populating and packing",
    "storage": "stored",
    "stored": "stored, in all",
    "requests": "requests",
    "egress": "egress from the bucket",
    "populate": "populating and packing",
    "wait": "the GPU's waiting",
    "pin": "the GPU in one region",
    "outputs": "outputs fetched",
    "total": "together",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """What `estimate_cost` reckoned."""

    assumptions: CostAssumptions
    prices: Prices
    today: date
    ways: tuple[Way, ...]
    gpu_seconds: float  # that the GPU works, whatever feeds it
    explain: bool = False  # whether the text says each formula

    @property
    def exit_code(self) -> int:
        """0: what goes wrong is raised."""
        return 0

    def way(self, name: str) -> Way:
        """Return the way of that name: "s3-mount", "volume-npz" or "volume-packed"."""
        return next(way for way in self.ways if way.name == name)

    @property
    def notes(self) -> tuple[str, ...]:
        """What one must know to read the figures."""
        gpu = self.gpu_seconds * self.prices.usd("modal_gpu")
        return (
            *self.prices.aged(self.today),
            f"the GPU's own work, {format_seconds(self.gpu_seconds)} or ${gpu:,.2f}, is the same for each and in none",
            "mount, disk and volume at their ceilings: the GPU waits no less than this, and more where they are slower",
            "an estimate of list prices: what is marked assumed was measured by nobody here, and no bill was seen",
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `cost --json` prints."""
        ways = {}
        for way in self.ways:
            ways[way.name] = {
                name: {"value": figure.value, "unit": figure.unit, "formula": figure.formula}
                for name, figure in way.figures().items()
            }
        prices = {}
        for name, price in self.prices.named().items():
            gathered = price.gathered.isoformat()
            prices[name] = {"value": price.value, "unit": price.unit, "gathered": gathered, "source": price.source}
        assumptions = {}
        for field in fields(self.assumptions):
            basis = self.assumptions.basis(field.name)
            value = getattr(self.assumptions, field.name)
            assumptions[field.name] = {"value": value, "basis": basis.kind, "why": basis.why}
        return {
            "today": self.today.isoformat(),
            "ways": ways,
            "gpu_seconds": self.gpu_seconds,
            "prices": prices,
            "assumptions": assumptions,
            "notes": list(self.notes),
        }

    def as_json(self) -> str:
        """Return `as_dict` as one line."""
        return json.dumps(self.as_dict())

    def rows(self) -> list[Row]:
        """Return a row for each figure, a column for each way."""
        rows: list[Row] = [("", *(way.name for way in self.ways))]
        rows += [(label, *(str(way.figures()[name]) for way in self.ways)) for name, label in _LABELS.items()]
        return rows

    def grounds(self) -> list[Row]:
        """Return a row for each price and each assumption: name, value, what it rests on."""
        rows: list[Row] = []
        for name, price in self.prices.named().items():
            rows.append((name, str(price), price.gathered.isoformat(), price.source))
        for field in fields(self.assumptions):
            basis = self.assumptions.basis(field.name)
            rows.append((field.name, _plain(getattr(self.assumptions, field.name)), basis.kind, basis.why))
        return rows

    def as_text(self) -> str:
        """Return the figures, what they rest on, and notes; with `explain` every formula as well."""
        parts = [as_table(self.rows()), as_table(self.grounds())]
        for way in self.ways if self.explain else ():
            formulas = [(name, str(figure), figure.formula) for name, figure in way.figures().items()]
            parts.append(f"{way.name}\n{as_table(formulas)}")
        return "\n\n".join([*parts, as_table([("note", note) for note in self.notes])])

    def _repr_html_(self) -> str:
        notes = [("note", note) for note in self.notes]
        return as_html("cost", self.rows()) + as_html("what it rests on", self.grounds()) + as_html("notes", notes)


def _plain(value: float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}"
