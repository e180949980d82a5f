"""What it takes to populate a cache from several containers: told before it begins, and again with the time it took."""

import json
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Self

from tusz_cache.costing.assumptions import CostAssumptions
from tusz_cache.costing.model import estimate_cost
from tusz_cache.costing.prices import Prices
from tusz_cache.layout import as_table
from tusz_cache.plan import Plan
from tusz_cache.units import format_bytes, format_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Time and money of a copy by several containers."""

    files: int  # to copy
    bytes: int
    checks: int  # files that lie there, to be compared with the bucket's
    containers: int
    seconds: float
    measured: bool  # else estimated
    egress: float  # USD, out of the bucket
    requests: float  # USD
    compute: float  # USD, of the containers that copy
    gathered: date  # of the oldest price
    exit_code: int = 0

    @classmethod
    def of(cls, plan: Plan, containers: int, prices: Prices, today: date) -> Self:
        """Return the estimate for a plan."""
        files, size, checks = len(plan.copy), plan.copy.bytes, len(plan.check)
        assumed = CostAssumptions(bytes=max(size, 1), train_files=max(files, 1), dev_files=0, dev_share=0.0)
        way = estimate_cost(replace(assumed, populate_containers=containers), prices, today=today).way("volume-npz")
        return cls(
            files=files,
            bytes=size,
            checks=checks,
            containers=containers,
            seconds=way.populate_seconds.value,
            measured=False,
            egress=way.egress.value,
            requests=(way.requests.value if files else 0.0) + checks * prices.usd("s3_requests"),
            compute=way.populate.value,
            gathered=min(price.gathered for price in prices.named().values()),
        )

    @property
    def has_work(self) -> bool:
        """Whether any container is needed."""
        return bool(self.files or self.checks)

    def took(self, seconds: float) -> Self:
        """Return the same with the time that was measured, as if all containers had run as long."""
        share = seconds / self.seconds if self.seconds else 0.0
        return replace(self, seconds=seconds, compute=self.compute * share, measured=True)

    def as_dict(self) -> dict[str, Any]:
        """Return one object."""
        cost = {"egress": self.egress, "requests": self.requests, "compute": self.compute}
        told = {
            "files": self.files,
            "bytes": self.bytes,
            "checks": self.checks,
            "containers": self.containers,
            "seconds": self.seconds,
        }
        return told | {"measured": self.measured, "usd": cost, "prices": self.gathered.isoformat()}

    def as_json(self) -> str:
        """Return `as_dict` as one line."""
        return json.dumps(self.as_dict())

    def as_text(self) -> str:
        """Return lines for a person."""
        total = self.egress + self.requests + self.compute
        parts = f"${self.egress:.2f} egress, ${self.requests:.2f} requests, ${self.compute:.2f} containers"
        time = f"{format_seconds(self.seconds)} in {self.containers} containers"
        checks = f", and {self.checks} to check" if self.checks else ""
        return as_table(
            [
                ("to copy", f"{self.files} files, {format_bytes(self.bytes)}{checks}"),
                ("took" if self.measured else "estimate", time if self.measured else f"{time}, at an assumed rate"),
                ("cost", f"${total:.2f}: {parts}; list prices of {self.gathered}, unless the bucket is in this region"),
            ]
        )
