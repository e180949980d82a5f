"""What reading an answer must be: whatever a server sends ahead of the body, bytes are right or there is an error."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tusz_cache.copying.http import get
from tusz_cache.entry import Entry
from tusz_cache.errors import BadResponse, CacheError, TransferError
from tusz_cache.stores.base import HttpFetch
from tusz_cache.stores.connection import drop_connections

BODY = bytes(range(256)) * 40
GOOD = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: %d\r\n\r\n' % len(BODY)

Serve = Callable[[bytes], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a way to have one connection answered with given bytes, whatever is asked."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(answer: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def respond() -> None:
            with listener, listener.accept()[0] as connection:
                connection.settimeout(20)
                connection.recv(65536)
                connection.sendall(answer)

        threads.append(threading.Thread(target=respond, daemon=True))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/k"

    yield start
    drop_connections()
    for thread in threads:
        thread.join(20)


def read(url: str) -> bytes:
    """Fetch an object of BODY's size whole."""
    stream = get(HttpFetch(url), Entry("k", len(BODY), "e"), 0, len(BODY), 5.0)
    data = bytearray(len(BODY))
    stream.fill(memoryview(data))
    stream.finish()
    return bytes(data)


@pytest.mark.parametrize(
    "head",
    [
        GOOD,
        b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + GOOD,
        GOOD.replace(b"ETag", b"X-Long: one\r\n\ttwo\r\n three\r\neTaG"),
        GOOD.replace(b"\r\n", b"\n"),
        GOOD.replace(b"ETag:", b"X-Odd: \xff\xfe\r\nETag:    "),
        b'HTTP/1.0 200 OK\r\nETag: "e"\r\n\r\n',
        b'HTTP/1.1 200 OK\r\nETag: "e"\r\nConnection: close\r\n\r\n',
    ],
)
def test_an_answer_is_read_whatever_its_head_looks_like(serve: Serve, head: bytes):
    """Interim answers, folded lines, bare line feeds, odd bytes, old versions and missing lengths do no harm."""
    assert BODY == read(serve(head + BODY))


def test_a_chunked_body_is_put_together(serve: Serve):
    """A body in chunks is the body."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:1], BODY[1:5000], BODY[5000:]))
    head = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nTransfer-Encoding: chunked\r\n\r\n'

    assert BODY == read(serve(head + chunks + b"0\r\n\r\n"))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", TransferError),
        (b"HTTP/1.1\r\n\r\n", TransferError),
        (b"nonsense\r\n\r\n", TransferError),
        (GOOD.replace(b"ETag", b"no colon here\r\nETag"), TransferError),
        (GOOD.replace(b"ETag", b"X: 1\r\n" * 101 + b"ETag"), TransferError),
        (GOOD.replace(b"ETag", b"X: " + b"y" * 70_000 + b"\r\nETag"), TransferError),
        (GOOD + BODY[:-1], BadResponse),
        (GOOD.replace(b"%d" % len(BODY), b"%d" % (len(BODY) + 1)) + BODY, BadResponse),
        (GOOD.replace(b"%d" % len(BODY), b"9" * 5000) + BODY + b"surplus", BadResponse),
        (GOOD.replace(b"%d" % len(BODY), b"-5") + BODY + b"surplus", BadResponse),
    ],
)
def test_a_broken_answer_is_an_error_of_ours(serve: Serve, answer: bytes, error: type[CacheError]):
    """An answer that breaks off, or cannot be understood, is an error with a hint, and never a bug."""
    with pytest.raises(error) as caught:
        read(serve(answer))

    assert caught.value.hint
