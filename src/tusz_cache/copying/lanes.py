"""Lanes: one part of one object from the source into its place in a partial file, with its checksum on the way.

Three lanes (docs/design.md): HTTP for whatever signs URLs, local files, and fsspec's `cat_file` for the rest. Each
thread has one buffer and its own connections. Nothing here decides about retries.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tusz_cache.checksum import NOTHING, Algorithm, Expectation, crc64nvme, hasher
from tusz_cache.copying.http import get
from tusz_cache.disk_errors import translated as target_errors
from tusz_cache.entry import Entry
from tusz_cache.errors import BadResponse, CacheError, NoSuchSource, SourceChanged
from tusz_cache.ssd import open_existing, open_partial, write_at, write_new
from tusz_cache.stores.base import Facts, Fetch, GenericFetch, HttpFetch, LocalFetch
from tusz_cache.stores.connection import Connections, break_off, connections, drop_connections
from tusz_cache.stores.foreign import translated
from tusz_cache.stores.local import mark_of

BUFFER = 2 * 1024**2  # bytes; larger ones leave the CPU's cache, smaller ones cost system calls and turns of the GIL
TLS_BUFFER = 256 * 1024  # bytes; a read brings 16 KiB at most, and all processes together must stay small
BLOCK = 8 * 1024**2  # bytes; one write to a volume that wants large ones, one request of the generic lane

_REPLAN = "run again: the plan is made anew"

_thread = threading.local()


@dataclass(frozen=True, slots=True)
class Piece:
    """An order: fetch bytes [start, start + length) of an entry into a partial file."""

    ticket: int  # the engine's name for the order
    entry: Entry
    fetch: Fetch
    partial: Path
    start: int
    length: int
    algorithm: Algorithm | None = None  # a second checksum, beside crc64nvme
    create: bool = False  # make the partial file (one part is the whole file)
    preallocate: bool = True
    stall: float = 30.0  # seconds without progress
    pace: float | None = None  # bytes per second
    block: int = BUFFER  # bytes to write at once


@dataclass(frozen=True, slots=True)
class Fetched:
    """A piece that lies in its place."""

    ticket: int
    received: int  # bytes
    crc: int  # crc64nvme
    digest: bytes = b""  # by the piece's algorithm, or the answer's
    expectation: Expectation | None = None  # what an S3 answer with a whole object said of it


@dataclass(frozen=True, slots=True)
class Failed:
    """A piece that did not come."""

    ticket: int
    error: CacheError
    received: int = 0  # bytes, in vain


@dataclass(frozen=True, slots=True)
class Skipped:
    """A piece that was not begun, because one before it in the same order did not come."""

    ticket: int


Result = Fetched | Failed | Skipped


def fetch_all(order: Sequence[Piece]) -> list[Result]:
    """Carry out the pieces of `order` one after the other, up to the first that fails: the next might wait as long."""
    results: list[Result] = []
    for piece in order:
        failed = bool(results) and not isinstance(results[-1], Fetched)
        results.append(Skipped(piece.ticket) if failed else fetch(piece))
    return results


def fetch(piece: Piece) -> Fetched | Failed:
    """Carry out `piece`. Every deliberate error comes back as a value; others are bugs and propagate."""
    received = [0]
    try:
        return _fetch(piece, received)
    except CacheError as error:
        drop_connections()
        return Failed(piece.ticket, error, received[0])


def _fetch(piece: Piece, received: list[int]) -> Fetched:
    with _cuttable(piece.ticket):
        stream = _open(piece)
        # a whole object's checksum comes with the answer; `expectation` says the same to the engine
        expected = stream.expectation
        algorithm = piece.algorithm or (expected.algorithm if not expected.parts else None)
        sums = _Sums(algorithm)
        if piece.create and piece.length <= piece.block:
            view = _buffer(piece.length)
            if view:
                stream.fill(view)
            sums.update(view)
            received[0] = len(view)
            stream.finish()
            write_new(piece.partial, view)
            _keep_pace(piece, received[0], sums.began)
        else:
            _fetch_blocks(piece, stream, sums, received)
    return Fetched(piece.ticket, received[0], sums.crc, sums.digest(), expected if expected is not NOTHING else None)


def _fetch_blocks(piece: Piece, stream: "_Stream", sums: "_Sums", received: list[int]) -> None:
    """Bring a piece into its place block by block."""
    if piece.create:
        descriptor = open_partial(piece.partial, piece.entry.size, preallocate=piece.preallocate)
    else:
        descriptor = open_existing(piece.partial)
    try:
        for block in _blocks(stream, piece):
            sums.update(block)
            write_at(descriptor, block, piece.start + received[0], piece.partial)
            received[0] += len(block)
            _keep_pace(piece, received[0], sums.began)
        stream.finish()
    finally:
        os.close(descriptor)


def crc_at_source(entry: Entry, way: Fetch, stall: float) -> int:
    """Return the crc64nvme of a whole object, which is read and not kept. Raises CacheError."""
    piece = Piece(-1, entry, way, Path(), 0, entry.size, stall=stall)
    try:
        stream, crc = _open(piece), 0
        for block in _blocks(stream, piece):
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


class _Stream(Protocol):
    expectation: Expectation

    def fill(self, view: memoryview) -> None: ...
    def finish(self) -> None: ...


def _open(piece: Piece) -> _Stream:
    match piece.fetch:
        case HttpFetch():
            return get(piece.fetch, piece.entry, piece.start, piece.length, piece.stall)
        case LocalFetch():
            return _LocalStream(piece.entry, piece.fetch.path, piece.start)
        case GenericFetch():
            return _GenericStream(piece)


def _blocks(stream: _Stream, piece: Piece) -> Iterator[memoryview]:
    """Yield the piece's bytes in filled buffers. A yielded view is good until the next one."""
    size = max(piece.block, BLOCK) if isinstance(piece.fetch, GenericFetch) else piece.block
    buffer = _buffer(min(size, max(piece.length, 1)))
    left = piece.length
    while left:
        view = buffer[:left]
        stream.fill(view)
        left -= len(view)
        yield view


def _buffer(size: int) -> memoryview:
    held: memoryview | None = getattr(_thread, "buffer", None)
    if held is None or len(held) < size:
        held = _thread.buffer = memoryview(bytearray(size))
    return held[:size]


@dataclass(slots=True)
class _LocalStream:
    entry: Entry
    path: Path
    offset: int
    expectation: Expectation = NOTHING
    _descriptor: int = field(default=-1, init=False)

    def __post_init__(self) -> None:
        try:
            with translated(str(self.path)):
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except NoSuchSource as error:
            raise SourceChanged(f"{self.entry.key!r} is gone from the source", hint=_REPLAN) from error
        self._check()

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def fill(self, view: memoryview) -> None:
        while view:
            with translated(str(self.path)):
                count = os.preadv(self._descriptor, [view], self.offset)
            if not count:
                raise SourceChanged(f"{self.entry.key!r} became shorter", hint=_REPLAN)
            self.offset += count
            view = view[count:]

    def finish(self) -> None:
        self._check()  # nothing wrote to it meanwhile

    def _check(self) -> None:
        if mark_of(os.fstat(self._descriptor)) != self.entry.etag:
            raise SourceChanged(f"{self.entry.key!r} was changed after it was listed", hint=_REPLAN)


@dataclass(slots=True)
class _GenericStream:
    piece: Piece
    expectation: Expectation = NOTHING
    _offset: int = field(init=False)

    def __post_init__(self) -> None:
        self._offset = self.piece.start
        whole = self.piece.length == self.piece.entry.size
        if whole or not self._fetch.names_version:
            facts = self._check()
            self.expectation = facts.expectation if whole else NOTHING

    @property
    def _fetch(self) -> GenericFetch:
        assert isinstance(self.piece.fetch, GenericFetch)
        return self.piece.fetch

    def fill(self, view: memoryview) -> None:
        stop = self._offset + len(view)
        view[:] = self._fetch.source.read(self.piece.entry, self._offset, stop, self.piece.stall)
        self._offset = stop

    def finish(self) -> None:
        if not self._fetch.names_version:
            self._check()  # the version before and after is the same, so the bytes between are of it

    def _check(self) -> Facts:
        entry = self.piece.entry
        facts = self._fetch.source.facts(entry, self.piece.stall)
        if (facts.size, facts.etag) != (entry.size, entry.etag):
            raise SourceChanged(f"{entry.key!r} was changed after it was listed", hint=_REPLAN)
        return facts


def read_range(descriptor: int, start: int, length: int, path: Path) -> Iterator[memoryview]:
    """Yield bytes [start, start + length) of an open file, in this thread's buffer. Raises BadResponse if shorter."""
    buffer = _buffer(BUFFER)
    while length:
        with target_errors(path):
            count = os.preadv(descriptor, [buffer[:length]], start)
        if not count:
            raise BadResponse(f"{path} is shorter than it should be", hint="run sync again: it is fetched anew")
        yield buffer[:count]
        start += count
        length -= count
