"""A worker process: threads that fetch pieces. Run as `python -m tusz_cache.copying.worker FD THREADS`.

A program of its own, not a fork or spawn of the caller: it never runs the caller's `__main__` again, and ends by itself
when the connection closes, however the parent ended.
"""

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

from tusz_cache.copying.crew import Crew
from tusz_cache.copying.lanes import cut
from tusz_cache.copying.pieces import Result


def main(descriptor: int, threads: int) -> None:
    """Serve orders until the other end closes: pieces to fetch, a ticket to cut off, None to begin no other."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # they are for the parent, which lets parts in flight finish
    connection = Connection(descriptor)
    sending = threading.Lock()

    def deliver(results: list[Result] | BaseException) -> None:
        if isinstance(results, BaseException):  # a bug: shown, and the parent told by the closed connection
            sys.excepthook(type(results), results, results.__traceback__)
            os._exit(1)
        with sending:
            connection.send(results)

    crew = Crew(deliver, threads)
    while True:
        try:
            order = connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # the parent is gone: stop writing at once
        if order is None:
            crew.wind_down()
        elif isinstance(order, int):
            cut(order)
        else:
            crew.submit(order)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
