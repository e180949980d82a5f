"""Lanes: parts of objects from the source into their places in partial files, with their checksums on the way.

Each thread has one buffer and its own connections. Nothing here decides about retries.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tusz_cache.checksum import NOTHING, Algorithm, crc64nvme, hasher
from tusz_cache.copying.pieces import Failed, Fetched, Piece, Result, Skipped
from tusz_cache.copying.streams import Stream, blocks, buffer, open_stream
from tusz_cache.entry import Entry
from tusz_cache.errors import CacheError
from tusz_cache.ssd import open_existing, open_partial, write_at, write_new
from tusz_cache.stores.base import Fetch, HttpFetch
from tusz_cache.stores.connection import Connections, break_off, connections, drop_connections


def fetch_all(order: Sequence[Piece], ends: Callable[[], bool] = lambda: False) -> Iterator[list[Result]]:
    """Carry out the pieces of `order` one after the other, up to the first that fails: the next might wait as long.

    ends: whether to begin no other piece. Yields a part's result when it is there; those of small files together. Parts
    that follow one another come by one request.
    """
    results: list[Result] = []
    for request in _requests(order):
        for piece in request.pieces:
            failed = bool(results) and not isinstance(results[-1], Fetched)
            if failed or (piece is not order[0] and ends()):
                results.append(Skipped(piece.ticket))
                continue
            if results and not piece.create:
                yield results
                results = []
            results.append(fetch(piece, request))
        if request.stream is not None and isinstance(results[-1], Skipped):
            drop_connections()  # the rest of the answer is not wanted any more
    yield results


@dataclass(slots=True)
class Request:
    """What is asked for at once: pieces that follow one another."""

    pieces: list[Piece]
    stream: Stream | None = None  # once it was asked


def _requests(order: Sequence[Piece]) -> Iterator[Request]:
    """Split an order into requests. Only by HTTP do these bring several pieces.

    The other lanes prove no sooner than at the end of a request that the object is still the same.
    """
    request: Request | None = None
    for piece in order:
        if request is not None and isinstance(piece.fetch, HttpFetch) and _follows(piece, request.pieces[-1]):
            request.pieces.append(piece)
            continue
        if request is not None:
            yield request
        request = Request([piece])
    if request is not None:
        yield request


def _follows(piece: Piece, before: Piece) -> bool:
    return piece.fetch == before.fetch and piece.start == before.start + before.length > 0


def fetch(piece: Piece, request: Request) -> Fetched | Failed:
    """Carry out the next piece of `request`. Every deliberate error comes back as a value; others are bugs."""
    received, began = [0], time.monotonic()
    try:
        return _fetch(piece, request, received, began)
    except CacheError as error:
        drop_connections()
        return Failed(piece.ticket, error, received[0])


def _fetch(piece: Piece, request: Request, received: list[int], began: float) -> Fetched:
    with _cuttable(piece.ticket):
        stream = request.stream = request.stream or open_stream(piece, sum(each.length for each in request.pieces))
        # a whole object's checksum comes with the answer; `expectation` says the same to the engine
        expected = stream.expectation if piece.length == piece.entry.size else NOTHING
        algorithm = piece.algorithm or (expected.algorithm if not expected.parts else None)
        sums = _Sums(algorithm)
        if piece.create and piece.length <= piece.block:
            view = buffer(piece.length)
            if view:
                stream.fill(view)
            sums.update(view)
            received[0] = len(view)
            stream.finish()
            write_new(piece.partial, view)
            _keep_pace(piece, received[0], sums.began)
        else:
            _fetch_blocks(piece, stream, sums, received)
            if piece is request.pieces[-1]:
                stream.finish()
    known = expected if expected is not NOTHING else None
    return Fetched(piece.ticket, received[0], sums.crc, time.monotonic() - began, sums.digest(), known)


def _fetch_blocks(piece: Piece, stream: Stream, sums: "_Sums", received: list[int]) -> None:
    """Bring a piece into its place block by block."""
    if piece.create:
        descriptor = open_partial(piece.partial, piece.entry.size, preallocate=piece.preallocate)
    else:
        descriptor = open_existing(piece.partial)
    try:
        for block in blocks(stream, piece):
            sums.update(block)
            write_at(descriptor, block, piece.start + received[0], piece.partial)
            received[0] += len(block)
            _keep_pace(piece, received[0], sums.began)
    finally:
        os.close(descriptor)


def crc_at_source(entry: Entry, way: Fetch, stall: float) -> int:
    """Return the crc64nvme of a whole object, which is read and not kept. Raises CacheError."""
    piece = Piece(-1, entry, way, Path(), 0, entry.size, stall=stall)
    try:
        stream, crc = open_stream(piece, entry.size), 0
        for block in blocks(stream, piece):
            crc = crc64nvme(block, crc)
        stream.finish()
    except CacheError:
        drop_connections()
        raise
    return crc


def _keep_pace(piece: Piece, received: int, began: float) -> None:
    if piece.pace:
        time.sleep(max(0.0, began + received / piece.pace - time.monotonic()))


class _Sums:
    """The checksums of a piece on its way: crc64nvme, and a second one where the source wants another."""

    def __init__(self, algorithm: Algorithm | None) -> None:
        self.began = time.monotonic()
        self.crc = 0
        self._algorithm = algorithm
        self._second = hasher(algorithm) if algorithm is not None and algorithm != "crc64nvme" else None

    def update(self, block: memoryview) -> None:
        self.crc = crc64nvme(block, self.crc)
        if self._second is not None:
            self._second.update(block)

    def digest(self) -> bytes:
        """By the algorithm; empty if there is none."""
        if self._second is not None:
            return self._second.digest()
        return self.crc.to_bytes(8, "big") if self._algorithm else b""


_live: dict[int, Connections] = {}  # by ticket: what a piece may be using
_living = threading.Lock()


@contextlib.contextmanager
def _cuttable(ticket: int) -> Iterator[None]:
    with _living:
        _live[ticket] = connections()
    try:
        yield
    finally:
        with _living:  # the connection goes to another piece
            del _live[ticket]


def cut(ticket: int) -> None:
    """Cut a piece's connection from another thread: it fails soon, unless it is done by then. HTTP only."""
    with _living:
        if (held := _live.get(ticket)) is not None:
            break_off(held)
