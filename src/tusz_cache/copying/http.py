"""One ranged GET over a kept connection, read into the caller's buffer, every line of the answer checked.

How near to a raw socket that comes is in docs/measurements.md.
"""

import http.client
import re
import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, cast

from tusz_cache.checksum import NOTHING, Expectation, expectation
from tusz_cache.entry import Entry
from tusz_cache.errors import BadResponse, Forbidden, SourceChanged, Stalled, Throttled, TransferError
from tusz_cache.stores.base import HttpFetch
from tusz_cache.stores.connection import drop_connections, request

SLOWEST = 1024  # bytes per second over the stall timeout; below that a connection counts as stalled
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_CODE = re.compile(rb"<Code>([^<]{1,100})</Code>")
_EXPIRED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestExpired", "RequestTimeTooSkewed"}
_AGAIN = "run the same command again: finished parts are kept"
_LARGE = 64 * 1024  # bytes; from here on setting the socket up pays
_IN_A_ROW = 8  # reads between two looks at the clock, where reads are large
_SMALL_READ = 8192  # bytes; half of what a record of TLS holds


@dataclass(slots=True)
class HttpStream:
    """The body of a good answer. Not thread-safe."""

    response: http.client.HTTPResponse
    socket: socket.socket | None  # to read the body from once the response's own small buffer is empty
    key: str
    left: int  # bytes to come
    stall: float  # seconds
    expectation: Expectation  # from the answer's headers; NOTHING for a part of an object
    _buffered: bool = True  # what came along with the headers may lie in the response's own buffer of a few KiB
    _window_ends: float = 0.0
    _window_bytes: int = 0

    def fill(self, view: memoryview) -> None:
        """Read exactly `view`. Raises Stalled, BadResponse, TransferError."""
        filled, wanted = 0, len(view)
        # a chunked or closing body has no other way than through the response
        direct = None if self.socket is None else _reader(self.socket)
        try:
            while filled < wanted:
                if direct is None or self._buffered:
                    count = self._read_response(view[filled:])
                else:
                    count = direct(view[filled:])
                if not count:
                    raise BadResponse(f"{self.key!r}: the body ended {self.left - filled} bytes early", hint=_AGAIN)
                filled += count
                self._watch(count)
        except (OSError, http.client.HTTPException) as error:
            _broken(error, self.key, self.stall)
        self.left -= filled

    def _read_response(self, view: memoryview) -> int:
        if self.response.chunked:
            return self.response.readinto(view)
        count = self.response.fp.readinto1(view)
        self._buffered = count == len(view)
        return count

    def _watch(self, count: int) -> None:
        """Raise Stalled if bytes only trickle: the socket's own timeout sees silence alone."""
        now = time.monotonic()
        self._window_bytes += count
        if now > self._window_ends:
            if self._window_ends and self._window_bytes < SLOWEST * self.stall:
                raise Stalled(f"{self.key!r}: {self._window_bytes} bytes came in {self.stall:.0f} s", hint=_AGAIN)
            self._window_ends, self._window_bytes = now + self.stall, 0

    def finish(self) -> None:
        """Raise BadResponse if more follows; else make the connection ready for the next request."""
        if self.response.chunked or self.response.length is None:
            try:
                surplus = self.response.read(1)
            except (OSError, http.client.HTTPException) as error:
                _broken(error, self.key, self.stall)
            if surplus:
                raise BadResponse(f"{self.key!r}: the body is longer than the object", hint=_AGAIN)
            return
        self.response.length = 0  # we read behind its back
        self.response.read()
        if self.socket is not None and self.socket.gettimeout() is None:
            self.socket.settimeout(self.stall)


def _reader(body: socket.socket) -> Callable[[memoryview], int]:
    """Return what reads from a socket into a buffer, several times in a row: each look at the clock costs."""
    if not isinstance(body, ssl.SSLSocket):
        return partial(_read_plain, body.recv_into)
    # what lies below its `recv_into` spares two calls for each record of 16 KiB (docs/measurements.md)
    below = getattr(body, "_sslobj", None) or body
    return partial(_read_records, cast("Callable[[int, memoryview], int]", below.read))


def _read_plain(read: Callable[[memoryview], int], view: memoryview) -> int:
    filled, wanted = 0, len(view)
    for _ in range(_IN_A_ROW):
        count = read(view[filled:])
        filled += count
        if count < _SMALL_READ or filled == wanted:
            break
    return filled


def _read_records(read: Callable[[int, memoryview], int], view: memoryview) -> int:
    filled, wanted = 0, len(view)
    try:
        for _ in range(_IN_A_ROW):
            count = read(wanted - filled, view[filled:])
            filled += count
            if count < _SMALL_READ or filled == wanted:
                break
    except ssl.SSLEOFError:
        pass  # the other end closed without saying so: an end like any other, which the length judges
    return filled


def get(fetch: HttpFetch, entry: Entry, start: int, length: int, stall: float) -> HttpStream:
    """Ask for bytes [start, start + length) of `entry`, pinned to its version.

    Raises: SourceChanged if it is another version now; Forbidden, Throttled, Stalled, BadResponse, TransferError.
    """
    whole = length == entry.size
    headers = {"Accept-Encoding": "identity", **dict(fetch.headers)}
    if not whole:
        headers["Range"] = f"bytes={start}-{start + length - 1}"
    if entry.etag and fetch.mark == "etag" and not entry.etag.startswith("W/"):
        headers["If-Match"] = f'"{entry.etag}"'
    try:
        response, body = request("GET", fetch, headers, stall)
    except (OSError, http.client.HTTPException) as error:
        _broken(error, entry.key, stall)
    if response.status not in {200, 206}:
        _refused(response, entry)
    _check(response, fetch, entry, start, length)
    facts = {name.lower(): value for name, value in response.getheaders()}
    expected = expectation(entry.etag, facts) if whole and fetch.is_s3 else NOTHING
    if response.chunked:
        body = None
    elif body is not None and length >= _LARGE:
        _let_kernel_wait(body, stall)
    return HttpStream(response, body, entry.key, length, stall, expected)


def _let_kernel_wait(body: socket.socket, stall: float) -> None:
    """Have the kernel time reads out: the interpreter would ask before each one whether there is anything to read.

    A tenth of a client's CPU time. Not for TLS, whose layer would wait on. `finish` takes it back.
    """
    if not isinstance(body, ssl.SSLSocket):
        microseconds = max(1, int(stall % 1 * 1e6))  # none at all would mean for ever
        body.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", int(stall), microseconds))
        body.settimeout(None)


def _check(response: http.client.HTTPResponse, fetch: HttpFetch, entry: Entry, start: int, length: int) -> None:
    """Raise unless the answer is exactly the bytes asked for, of the version asked for."""
    if entry.etag is not None:
        mark = response.getheader(fetch.mark)
        if mark is None:
            raise BadResponse(f"{entry.key!r}: the answer names no version ({fetch.mark} is missing)", hint=_AGAIN)
        if mark.strip('"') != entry.etag:
            _changed(entry)
    announced = response.getheader("Content-Range")
    if announced is not None:
        # some servers send it with status 200, and mean it
        match = _CONTENT_RANGE.fullmatch(announced.strip())
        wanted = (start, start + length - 1, entry.size)
        if match is None or (int(match[1]), int(match[2])) != wanted[:2] or match[3] not in {"*", str(entry.size)}:
            raise BadResponse(
                f"{entry.key!r}: asked for bytes {wanted[0]}-{wanted[1]}/{wanted[2]}, got {announced}", hint=_AGAIN
            )
    elif length != entry.size:
        raise BadResponse(
            f"{entry.key!r}: the server ignores ranges and sends the whole object",
            hint=f"fetch files whole: --part-size {entry.size}",
        )
    if response.length is not None and response.length != length:
        raise BadResponse(f"{entry.key!r}: {response.length} bytes announced instead of {length}", hint=_AGAIN)


def _changed(entry: Entry) -> NoReturn:
    raise SourceChanged(
        f"{entry.key!r} was changed at the source after it was listed", hint="run again: the plan is made anew"
    )


def _refused(response: http.client.HTTPResponse, entry: Entry) -> NoReturn:
    try:
        body = response.read(4096)
    except (OSError, http.client.HTTPException):
        body = b""  # the status says enough
        drop_connections()
    found = _CODE.search(body)
    code = found[1].decode(errors="replace") if found else ""
    said = f"{response.status} {code or response.reason}"
    if response.status in {404, 410, 412, 416} and code != "NoSuchBucket":
        _changed(entry)
    if response.status in {401, 403} or code in _EXPIRED:
        hint = "check s3:GetObject for it, its storage class (archived?), and whether the credentials have expired"
        raise Forbidden(f"{entry.key!r}: {said}", hint=hint)
    if response.status in {429, 503} or code in {"SlowDown", "TooManyRequests"}:
        raise Throttled(f"{entry.key!r}: {said}", hint="the store limits requests: lower --workers, or run again later")
    error = TransferError(f"{entry.key!r}: {said}", hint=_AGAIN)
    raise error


def _broken(error: Exception, key: str, stall: float) -> NoReturn:
    drop_connections()
    if isinstance(error, TimeoutError | BlockingIOError):
        raise Stalled(f"{key!r}: no byte came for {stall:.0f} s", hint=_AGAIN) from error
    raise TransferError(f"{key!r}: connection lost: {error or type(error).__name__}", hint=_AGAIN) from error
