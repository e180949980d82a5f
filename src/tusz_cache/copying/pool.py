"""Who carries out pieces: threads here, or worker processes where TLS keeps one interpreter busy."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import tusz_cache
from tusz_cache.copying.crew import Crew
from tusz_cache.copying.lanes import cut
from tusz_cache.copying.pieces import Piece, Result
from tusz_cache.errors import Incomplete

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

GRACE = 5.0  # seconds for a worker process to end


class Pool:
    """Carries out orders in `processes` worker processes, or with 0 in threads of this one. A context manager."""

    def __init__(
        self,
        deliver: Callable[[list[Result] | BaseException], None],
        threads: int,
        processes: int = 0,
        *,
        share: Sequence[int] = (),
    ) -> None:
        """deliver: called from other threads with results, and with what no worker could turn into any.

        threads: in all, at most. share: descriptors that stay open as long as any worker lives (the target's lock).
        """
        self._deliver = deliver
        self._threads, self._processes, self._share = threads, processes, share
        self._crew = Crew(deliver, threads)
        self._workers: list[tuple[Connection, subprocess.Popen[bytes]]] = []
        self._load: list[int] = []  # orders under way, by worker
        self._last: set[int] = set()  # tickets of their last pieces
        self._counting = threading.Lock()
        self._closing = False

    def __enter__(self) -> Self:
        for number in range(self._processes):
            self._workers.append(self._start())
            self._load.append(0)
            threading.Thread(target=self._collect, args=(number,), name="collect", daemon=True).start()
        return self

    def _start(self) -> "tuple[Connection, subprocess.Popen[bytes]]":
        from multiprocessing.connection import Connection  # noqa: PLC0415 - most runs need none, and start sooner

        ours, theirs = socket.socketpair()
        threads = -(-self._threads // self._processes)
        where = str(Path(tusz_cache.__file__).parents[1])
        path = os.pathsep.join(filter(None, [where, os.environ.get("PYTHONPATH")]))
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "tusz_cache.copying.worker", str(theirs.fileno()), str(threads)],
                pass_fds=[theirs.fileno(), *self._share],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )
        return Connection(ours.detach()), process

    def _collect(self, number: int) -> None:
        connection, _ = self._workers[number]
        while True:
            try:
                results: list[Result] = connection.recv()
            except (EOFError, OSError):
                if not self._closing:
                    hint = "it may have run out of memory: run again, with fewer --workers"
                    self._deliver(Incomplete("a worker process ended", hint=hint))
                return
            with self._counting:
                ended = self._last.intersection(result.ticket for result in results)
                self._last -= ended
                self._load[number] -= len(ended)
            self._deliver(results)

    def submit(self, order: Sequence[Piece]) -> None:
        """Have the pieces of `order` carried out, one after the other."""
        if not self._workers:
            self._crew.submit(order)
            return
        with self._counting:
            number = min(range(len(self._load)), key=self._load.__getitem__)
            self._load[number] += 1
            self._last.add(order[-1].ticket)
        with contextlib.suppress(OSError):  # the worker is gone; its collector says so
            self._workers[number][0].send(order)

    def wind_down(self) -> None:
        """Have the pieces under way finished and no others begun."""
        self._crew.wind_down()
        for connection, _ in self._workers:
            with contextlib.suppress(OSError):
                connection.send(None)

    def cut(self, ticket: int) -> None:
        """Cut a piece off: it fails soon, unless it is done by then."""
        if not self._workers:
            cut(ticket)
        for connection, _ in self._workers:
            with contextlib.suppress(OSError):
                connection.send(ticket)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._crew.close()  # nothing may write to the target once its lock is free
        for connection, process in self._workers:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)  # a worker ends with its connection
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            connection.close()
