"""How hard to push: retries with full jitter, fewer requests when the server asks for that, a bandwidth cap. Pure."""

import random
from dataclasses import dataclass, field

BASE = 0.2  # seconds; the first retry waits at most this long
CAP = 20.0  # seconds; no retry waits longer
OUTAGE = 60.0  # seconds in which nothing at all came; then the source counts as gone
STORM = 4  # objects that must fail together before the store is to blame and not they
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


@dataclass(slots=True)
class Weather:
    """Tells a store that fails from single objects that do: in a storm nothing comes, whatever is asked for."""

    at_once: int  # requests under way
    _missed: dict[tuple[str, int], float] = field(default_factory=dict, init=False)  # (key, part) -> when first

    def succeeded(self) -> None:
        """Something came."""
        self._missed.clear()

    def missed(self, key: str, part: int, now: float) -> None:
        """A part of an object did not come, at time `now` (seconds)."""
        self._missed.setdefault((key, part), now)

    def storm(self, now: float) -> float | None:
        """Return how many seconds a storm has lasted; None if there is none, or too few failed to tell."""
        if len(self._missed) < self.at_once or len({key for key, _ in self._missed}) < STORM:
            return None
        return now - min(self._missed.values())


def pace(bandwidth: int | None, at_once: int, remaining: int) -> float | None:
    """Return the bytes per second that one request may take, so that all together keep to `bandwidth`; None: no cap."""
    return None if bandwidth is None else bandwidth / max(1, min(at_once, remaining))
