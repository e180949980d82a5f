"""The floor: bytes from sockets into files, nothing checked. `python -m bench.floor URL BUCKET/PREFIX TARGET`.

What any copy tool has to do, and no more: a ranged GET over a kept connection, `recv_into` one reused buffer, `pwrite`.
The keys are asked once and their cost is part of the time, as it is for every tool. TLS gets a process for each core.
"""

import os
import re
import socket
import ssl
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
    parts = _parts(url, prefix, target)
    processes = (os.cpu_count() or 1) if url.startswith("https") else 1
    children = []
    for number in range(processes):
        child = os.fork() if processes > 1 else 0
        if child == 0:
            _copy_all(url, parts[number::processes], -(-THREADS // processes))
            if processes > 1:
                os._exit(0)
        children.append(child)
    for child in filter(None, children):
        if os.waitpid(child, 0)[1]:
            sys.exit("a process of the floor failed")


def _parts(url: str, prefix: str, target: Path) -> list[Part]:
    bucket, _, below = prefix.partition("/")
    found: list[Part] = []
    query = f"{url}/{bucket}?list-type=2&prefix={quote(below)}/"
    token: re.Match[str] | None = None
    while True:
        more = f"&continuation-token={quote(token[1])}" if token else ""
        with urllib.request.urlopen(query + more, context=_tls() if url.startswith("https") else None) as answer:
            listing = answer.read().decode()
        for key, size in re.findall(r"<Key>([^<]*)</Key>.*?<Size>(\d+)</Size>", listing, re.DOTALL):
            path = target / key.removeprefix(below + "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            url_path, starts = f"/{bucket}/{quote(key)}", range(0, int(size), PART)
            found += [(url_path, path, start, min(PART, int(size) - start)) for start in starts]
        token = re.search("<NextContinuationToken>([^<]*)<", listing)
        if token is None:
            return found


def _tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))


def _copy_all(url: str, parts: list[Part], count: int) -> None:
    threads = [threading.Thread(target=_copy, args=(url, parts[number::count])) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _copy(url: str, parts: list[Part]) -> None:
    scheme, netloc = urlsplit(url)[:2]
    host, port = netloc.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)))
    if scheme == "https":
        connection = _tls().wrap_socket(connection, server_hostname=host)
    view = memoryview(bytearray(BUFFER))
    for path, file, start, length in parts:
        request = f"GET {path} HTTP/1.1\r\nHost: {netloc}\r\nRange: bytes={start}-{start + length - 1}\r\n\r\n"
        connection.sendall(request.encode())
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o644)
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
