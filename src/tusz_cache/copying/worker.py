"""A worker process: threads that fetch pieces. Run as `python -m tusz_cache.copying.worker FD THREADS`.

A program of its own, not a fork or spawn of the caller: it never runs the caller's `__main__` again, and ends by itself
when the connection closes, however the parent ended.
"""

import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

from tusz_cache.copying.lanes import Piece, fetch


def main(descriptor: int, threads: int) -> None:
    """Serve pieces until the other end closes."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # they are for the parent, which lets parts in flight finish
    connection = Connection(descriptor)
    pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
    sending = threading.Lock()

    def serve() -> None:
        while True:
            try:
                result = fetch(pieces.get())
                with sending:
                    connection.send(result)
            except BaseException:  # noqa: BLE001 - a bug: shown, and the parent told by the closed connection
                sys.excepthook(*sys.exc_info())
                os._exit(1)

    for _ in range(threads):
        threading.Thread(target=serve, daemon=True).start()
    while True:
        try:
            pieces.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)  # the parent is gone: stop writing at once


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
