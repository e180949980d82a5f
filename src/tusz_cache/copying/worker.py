"""A worker process: threads that carry out orders from a connection. Run as `python -m tusz_cache.copying.worker FD THREADS`.

A process of its own program, not a fork or a spawn of the caller's: it never runs the caller's `__main__` again, and ends
by itself when the connection closes, however the parent ended.
"""

import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

from tusz_cache.copying.lanes import Order, carry_out


def main(descriptor: int, threads: int) -> None:
    """Serve orders until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which lets parts in flight finish
    connection = Connection(descriptor)
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    sending = threading.Lock()

    def serve() -> None:
        while True:
            try:
                result = carry_out(orders.get())
                with sending:
                    connection.send(result)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)  # the parent sees the closed connection

    for _ in range(threads):
        threading.Thread(target=serve, daemon=True).start()
    while True:
        try:
            orders.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)  # the parent is gone: stop writing at once


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
