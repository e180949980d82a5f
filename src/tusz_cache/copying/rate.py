"""How hard to push: retries with full jitter, fewer requests when the server asks for that, a bandwidth cap. Pure."""

import random
from dataclasses import dataclass, field

BASE = 0.2  # seconds; the first retry waits at most this long
CAP = 20.0  # seconds; no retry waits longer
COOLDOWN = 1.0  # seconds in which several refusals count as one


def backoff(attempt: int, uniform: float | None = None) -> float:
    """Return seconds to wait before retry number `attempt`: full jitter below a doubling bound.

    "Full jitter" after M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    uniform: a number in [0, 1), for tests.
    """
    share = random.random() if uniform is None else uniform  # noqa: S311 - no secret
    doublings = min(attempt - 1, 16)  # by then far beyond the cap
    return share * float(min(CAP, BASE * 2.0**doublings))


@dataclass(slots=True)
class Concurrency:
    """How many requests may be under way: additive increase, multiplicative decrease (Chiu and Jain, 1989)."""

    most: int
    limit: float = field(init=False)
    throttled: int = 0
    _last_cut: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        self.limit = float(self.most)

    def refused(self, now: float) -> None:
        """The server asked for fewer requests at time `now` (seconds)."""
        self.throttled += 1
        if now - self._last_cut >= COOLDOWN:
            self._last_cut = now
            self.limit = max(1.0, self.limit / 2)

    def succeeded(self) -> None:
        """A request went well: after `limit` of them there is room for one more."""
        self.limit = min(float(self.most), self.limit + 1.0 / self.limit)


def pace(bandwidth: int | None, at_once: int, remaining: int) -> float | None:
    """Return the bytes per second that one request may take, so that all together keep to `bandwidth`; None: no cap."""
    return None if bandwidth is None else bandwidth / max(1, min(at_once, remaining))
