"""How hard to push: retries with full jitter, as many requests as pay, a bandwidth cap. Pure."""

import random
from collections import deque
from dataclasses import dataclass, field

BASE = 0.2  # seconds; the first retry waits at most this long
CAP = 20.0  # seconds; no retry waits longer
OUTAGE = 60.0  # seconds in which nothing at all came; then the source counts as gone
STORM = 4  # objects that must fail together before the store is to blame and not they
COOLDOWN = 1.0  # seconds in which several refusals count as one
WINDOW = 0.25  # seconds over which goodput is measured, at least
GAIN = 0.25  # how much of their share more requests must bring to be kept; less drowns in noise
LOSS = 0.98  # what fewer requests may cost to be kept
HOLD = 16  # windows between two trials of another number
OVERHEAD = 64 * 1024  # bytes that a part weighs beside its own: small files are work, too


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
    """How many requests may be under way. Finds the knee: the fewest that bring what more of them would bring.

    It doubles while goodput grows by GAIN of what it might, steps back when it does not, and tries another number now
    and then, a lower one as well. A server that refuses ends that: from then on additive increase, multiplicative
    decrease (Chiu and Jain, 1989).
    """

    most: int
    start: int = 0  # 0: `most`, and nothing is tried
    limit: float = field(init=False)
    throttled: int = 0
    _last_cut: float = field(default=float("-inf"), init=False)
    _knee: float = field(init=False)  # the best number known
    _best: float = field(default=0.0, init=False)  # goodput there, bytes per second
    _step: float = field(default=2.0, init=False)  # the factor of the trial under way; 1: none
    _hold: int = field(default=0, init=False)  # windows until the next trial
    _falls: bool = field(default=True, init=False)  # the next trial is of a lower number
    _began: float | None = field(default=None, init=False)
    _work: float = field(default=0.0, init=False)
    _count: int = field(default=0, init=False)
    _settling: int = field(init=False)  # parts to come before anything is measured

    def __post_init__(self) -> None:
        self.limit = self._knee = float(min(self.start or self.most, self.most))
        self._settling = int(self.limit)

    def refused(self, now: float) -> None:
        """The server asked for fewer requests at time `now` (seconds)."""
        self.throttled += 1
        if now - self._last_cut >= COOLDOWN:
            self._last_cut = now
            self.limit = max(1.0, self.limit / 2)

    def succeeded(self, received: int, now: float) -> None:
        """A part of `received` bytes came at time `now` (seconds)."""
        if self.throttled:
            self.limit = min(float(self.most), self.limit + 1.0 / self.limit)
        elif self.start:
            self._measure(received + OVERHEAD, now)

    def starved(self) -> None:
        """There were fewer requests to make than allowed: what is measured now says nothing."""
        self._began = None

    def _measure(self, work: int, now: float) -> None:
        if self._settling > 0:  # these were asked for while another number held
            self._settling -= 1
            self._began = None
            return
        if self._began is None:
            self._began, self._work, self._count = now, 0.0, 0
            return
        self._work += work
        self._count += 1
        if now - self._began >= WINDOW and self._count >= self.limit:
            self._judge(self._work / (now - self._began))
            self._began = None

    def _judge(self, goodput: float) -> None:
        """Take in the goodput at the present limit; choose the next."""
        if self._step == 1.0:
            self._best += (goodput - self._best) / 4  # what the knee brings may change slowly
            self._hold -= 1
            if self._hold <= 0:
                self._step = 0.7 if self._falls and self._knee > 1 else 1.4
                self._falls = not self._falls
        elif goodput > self._best * (1 + (self._step - 1) * GAIN if self._step > 1 else LOSS):
            self._knee, self._best = self.limit, max(goodput, self._best)
        else:
            self._step, self._hold = 1.0, HOLD
        wanted = self._knee * self._step
        if self._step > 1:
            wanted = max(wanted, self._knee + 1)  # two times 1.4 is two requests, as before
        wanted = min(float(self.most), max(1.0, wanted))
        if wanted == self._knee and self._step != 1.0:  # no further that way
            self._step, self._hold = 1.0, HOLD
        if wanted != self.limit:
            self.limit, self._settling = wanted, int(max(wanted, self.limit))


STRAGGLER_SAMPLES = 16  # parts
STRAGGLER_LEAST = 2.0  # seconds
SPEED_SAMPLES = 8  # parts


@dataclass(slots=True)
class Pace:
    """How long parts take, to tell a straggler."""

    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=64), init=False)
    _speeds: deque[float] = field(default_factory=lambda: deque(maxlen=64), init=False)  # bytes per second

    def took(self, seconds: float, size: int) -> None:
        """A part of `size` bytes came in so many seconds."""
        self._seconds.append(seconds)
        self._speeds.append(size / max(seconds, 1e-6))

    def speed(self) -> float:
        """Return the bytes per second at which most parts came of late; 0: too few came to tell."""
        return sorted(self._speeds)[len(self._speeds) // 2] if len(self._speeds) >= SPEED_SAMPLES else 0.0

    def patience(self) -> float | None:
        """Return the seconds after which a part counts as a straggler; None: too few came to tell.

        Three times the 95th percentile, as the AWS whitepaper on S3 performance has it ("the slowest 5 percent").
        """
        if len(self._seconds) < STRAGGLER_SAMPLES:
            return None
        return max(STRAGGLER_LEAST, 3 * sorted(self._seconds)[int(len(self._seconds) * 0.95)])


@dataclass(slots=True)
class Weather:
    """Tells a store that fails from single objects that do: in a storm nothing comes, whatever is asked for."""

    _missed: dict[tuple[str, int], float] = field(default_factory=dict, init=False)  # (key, part) -> when first

    def succeeded(self) -> None:
        """Something came."""
        self._missed.clear()

    def missed(self, key: str, part: int, now: float) -> None:
        """A part of an object did not come, at time `now` (seconds)."""
        self._missed.setdefault((key, part), now)

    def storm(self, now: float, at_once: int) -> float | None:
        """Return how many seconds a storm has lasted; None if there is none, or too few failed to tell.

        at_once: requests that may be under way.
        """
        if len(self._missed) < at_once or len({key for key, _ in self._missed}) < STORM:
            return None
        return now - min(self._missed.values())


def pace(bandwidth: int | None, at_once: int, remaining: int) -> float | None:
    """Return the bytes per second that one request may take, so that all together keep to `bandwidth`; None: no cap."""
    return None if bandwidth is None else bandwidth / max(1, min(at_once, remaining))
