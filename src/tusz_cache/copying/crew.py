"""Threads that carry out orders, started when there is work for one more."""

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence

from tusz_cache.copying.lanes import fetch_all
from tusz_cache.copying.pieces import Piece, Result


class Crew:
    """Up to `most` threads. Every order, a list of pieces, is carried out by one of them, piece after piece."""

    def __init__(self, deliver: Callable[[list[Result] | BaseException], None], most: int) -> None:
        """deliver: called from the threads with results of an order, or with a bug."""
        self._deliver, self._most = deliver, most
        self._orders: queue.SimpleQueue[Sequence[Piece] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0  # orders handed over and not yet carried out
        self._counting = threading.Lock()
        self._ending = threading.Event()

    def submit(self, order: Sequence[Piece]) -> None:
        """Have `order` carried out."""
        with self._counting:
            self._busy += 1
            if len(self._threads) < min(self._busy, self._most):
                thread = threading.Thread(target=self._serve, name="copy", daemon=True)
                thread.start()
                self._threads.append(thread)
        self._orders.put(order)

    def _serve(self) -> None:
        while (order := self._orders.get()) is not None:
            left = len(order)
            try:
                for results in fetch_all(order, self._ending.is_set):
                    left -= len(results)
                    if not left:  # before the news are out: they may bring the next order
                        with self._counting:
                            self._busy -= 1
                    self._deliver(results)
            except BaseException as bug:  # noqa: BLE001 - handed on to whoever can raise it
                self._deliver(bug)

    def wind_down(self) -> None:
        """Finish the pieces under way and begin no others of their orders."""
        self._ending.set()

    def close(self) -> None:
        """Forget what nobody began; wait for the pieces under way."""
        self.wind_down()
        with contextlib.suppress(queue.Empty):
            while True:
                self._orders.get_nowait()
        for _ in self._threads:
            self._orders.put(None)
        for thread in self._threads:
            thread.join()
