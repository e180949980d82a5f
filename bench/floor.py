"""The floor: bytes from a socket into files, nothing checked. `python -m bench.floor URL BUCKET/PREFIX TARGET`.

What any copy tool has to do, and no more: a ranged GET over a kept connection, `recv_into` one reused buffer, `pwrite`.
The keys are asked once and their cost is part of the time, as it is for every tool.
"""

import os
import queue
import re
import socket
import sys
import threading
import urllib.request
from pathlib import Path
from urllib.parse import quote, urlsplit

PART = 16 * 1024**2  # bytes
BUFFER = 1024**2  # bytes
THREADS = 8

Part = tuple[str, Path, int, int]  # path of the URL, file, start, length


def main(url: str, prefix: str, target: Path) -> None:
    """Copy every object below `prefix`."""
    bucket, _, below = prefix.partition("/")
    parts: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
    with urllib.request.urlopen(f"{url}/{bucket}?list-type=2&prefix={quote(below)}/") as answer:
        listing = answer.read().decode()
    for key, size in re.findall(r"<Key>([^<]*)</Key>.*?<Size>(\d+)</Size>", listing, re.DOTALL):
        path = target / key.removeprefix(below + "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(int(size))
        for start in range(0, int(size), PART):
            parts.put((f"/{bucket}/{quote(key)}", path, start, min(PART, int(size) - start)))
    threads = [threading.Thread(target=_copy, args=(urlsplit(url).netloc, parts)) for _ in range(THREADS)]
    for thread in threads:
        parts.put(None)
        thread.start()
    for thread in threads:
        thread.join()


def _copy(netloc: str, parts: "queue.SimpleQueue[Part | None]") -> None:
    host, port = netloc.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)))
    view = memoryview(bytearray(BUFFER))
    while (part := parts.get()) is not None:
        path, file, start, length = part
        request = f"GET {path} HTTP/1.1\r\nHost: {netloc}\r\nRange: bytes={start}-{start + length - 1}\r\n\r\n"
        connection.sendall(request.encode())
        descriptor = os.open(file, os.O_WRONLY)
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
        body = head[head.index(b"\r\n\r\n") + 4 :]
        os.pwrite(descriptor, body, start)
        done = len(body)
        while done < length:
            count = connection.recv_into(view[: length - done])
            os.pwrite(descriptor, view[:count], start + done)
            done += count
        os.close(descriptor)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
