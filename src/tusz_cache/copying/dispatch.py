"""Dispatch: which parts are under way, how many may be, and which take too long."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tusz_cache.copying.line import Line, is_small
from tusz_cache.copying.pieces import BLOCK, BUFFER, TLS_BUFFER, Fetched, Piece, Result
from tusz_cache.copying.pool import Pool
from tusz_cache.copying.rate import Concurrency, Pace, pace
from tusz_cache.copying.transfer import Transfer
from tusz_cache.copying.values import CopySettings
from tusz_cache.stores.base import HttpFetch

SECONDS = 0.5  # that a request for several parts may take
MOST = 128 * 1024**2  # bytes that it may bring
_TICKETS = itertools.count()  # of all runs in this process, since what may be cut off is kept by ticket


@dataclass(slots=True)
class Flight:
    """A piece under way."""

    piece: Piece
    transfer: Transfer
    began: float  # seconds; infinity: not yet, as another part of its order goes before
    following: "Flight | None" = None  # the next of its order
    cut_at: float = float("-inf")  # seconds: when its connection was cut, since it took too long

    @property
    def index(self) -> int:
        """Number of the part within its file."""
        return self.piece.start // self.transfer.part_size

    @property
    def left(self) -> int:
        """How many pieces of its order are to come, this one included."""
        return 1 if self.following is None else 1 + self.following.left


class Dispatch:
    """Hands orders to the workers. Owned by the engine's thread. A context manager."""

    def __init__(
        self,
        deliver: Callable[[list[Result] | BaseException], None],
        settings: CopySettings,
        *,
        front_to_back: bool,
        share: Sequence[int],
    ) -> None:
        """deliver: as Pool. front_to_back: as Line. share: as Pool."""
        self.line = Line(front_to_back=front_to_back)
        self.rate = Concurrency(settings.workers, settings.start)
        self._settings, self._front_to_back = settings, front_to_back
        self._pool = Pool(deliver, settings.workers, settings.processes, share=share)
        self._flying: dict[int, Flight] = {}
        self._orders = 0  # under way
        self._ending = False
        self._pace = Pace()
        self._block = BLOCK if front_to_back else (TLS_BUFFER if settings.processes else BUFFER)

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, error, trace)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._flying

    @property
    def at_once(self) -> int:
        """Orders that may be under way now."""
        return int(self.rate.limit)

    def issue(self, now: float) -> None:
        """Hand out orders, as many as may be under way at time `now` (seconds)."""
        self.line.wake(now)
        while self._orders < self.at_once and (order := self.line.pop(self._bytes_at_once())):
            self._orders += 1
            flights = [self._flight(transfer, index) for transfer, index in order]
            flights[0].began = now
            for flight, following in itertools.pairwise(flights):
                flight.following = following
            self._pool.submit([flight.piece for flight in flights])
        if self._orders < self.at_once:
            self.rate.starved()

    def _bytes_at_once(self) -> int:
        """Return how much one request may bring, if that is more than a part.

        As much as comes in SECONDS: between two requests a connection waits. Towards the end less, so that all
        connections end together (guided self-scheduling: Polychronopoulos and Kuck, 1987).
        """
        fitting = int(min(MOST, self._pace.speed() * SECONDS))
        return min(fitting, self.line.bytes // (2 * self.at_once)) if fitting else 0

    def wind_down(self) -> None:
        """Let the parts under way come, and begin no others."""
        if not self._ending:
            self._ending = True
            self._pool.wind_down()

    def _flight(self, transfer: Transfer, index: int) -> Flight:
        assert transfer.fetch is not None
        settings = self._settings
        at_once, orders = (self.at_once, self._orders + self.line.waiting) if settings.bwlimit else (1, 1)
        piece = Piece(
            ticket=next(_TICKETS),
            entry=transfer.entry,
            fetch=transfer.fetch,
            partial=transfer.partial,
            start=index * transfer.part_size,
            length=transfer.lengths[index],
            algorithm=transfer.algorithm,
            create=transfer.is_single,
            preallocate=not self._front_to_back,
            stall=settings.stall_timeout,
            pace=pace(settings.bwlimit, at_once, orders),
            block=self._block,
        )
        transfer.in_flight += 1
        self._flying[piece.ticket] = flight = Flight(piece, transfer, began=math.inf)
        return flight

    def take(self, results: Sequence[Result], now: float) -> Iterator[tuple[Flight, Result]]:
        """Yield results of an order with what they are results of."""
        for result in results:
            flight = self._flying.pop(result.ticket)
            flight.transfer.in_flight -= 1
            if flight.following is not None:
                flight.following.began = now
            else:
                self._orders -= 1
            if isinstance(result, Fetched):
                self.rate.succeeded(result.received, now)
                if not is_small(flight.transfer.entry.size):
                    self._pace.took(result.seconds, result.received)
            yield flight, result

    def cut_stragglers(self, now: float) -> None:
        """When no part stands in line any more: cut those under way that take far longer than others did.

        Also where all that its request is still to bring would, while other connections have nothing to do. What was
        cut is asked for again, over another connection. Not raced against a second request, as one would within
        memory: two writers of one file must never be alive together (docs/decisions/0006-stragglers.md).
        """
        if self.line or self._settings.bwlimit or (patience := self._pace.patience()) is None:
            return
        for ticket, flight in self._flying.items():
            # small files' results come together, which says nothing of each of them
            if is_small(flight.transfer.entry.size) or flight.index in flight.transfer.cut:
                continue
            late = (now - max(flight.began, flight.cut_at)) * flight.left > patience
            if late and isinstance(flight.piece.fetch, HttpFetch):
                flight.cut_at = now
                self._pool.cut(ticket)
